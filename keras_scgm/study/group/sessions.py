"""Differences between the sessions of one participant."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from keras_scgm.evaluation.bland_altman import LIMIT_STDS
from keras_scgm.evaluation.paired_tests import signed_rank_p
from keras_scgm.evaluation.summary import mean_interval
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import ACQUISITION_TIME, CohortTable
from keras_scgm.study.group.tables import (
    MEASURE,
    OF_MEASURE,
    P_HOLM,
    PARTICIPANT,
    REGION,
    UNIT,
    Column,
    GroupTable,
    table_of_tests,
    with_units,
    yes_no,
)

FIRST_SESSION = Column("first_session", "First session of the participant.")
LATER_SESSION = Column("later_session", "Later session, which is compared with the first.")
SAME_SCANNER = Column(
    "same_scanner", "Whether both sessions were on the same scanner; n/a if it is not known of both."
)
OF_SESSION = ["participant_id", "session_id"]

COLUMNS = (
    PARTICIPANT,
    FIRST_SESSION,
    LATER_SESSION,
    SAME_SCANNER,
    Column("years", "Time between the sessions; n/a without acq_time.", "year"),
    REGION,
    MEASURE,
    UNIT,
    Column("first_value", "Mean over the images of the first session.", OF_MEASURE),
    Column("later_value", "Mean over the images of the later session.", OF_MEASURE),
    Column("difference", "Later minus first.", OF_MEASURE),
    Column("percent", "Difference, of the first value.", "%"),
    Column(
        "beyond_repeatability",
        "Whether the difference exceeds what single runs explain in 95 % of cases: 1.96 times within_sd of "
        "test_retest.tsv, times the square root of 1 / n + 1 / m for means of n and m runs. n/a without repeated runs "
        "and between scanners. The variation from day to day is not in it.",
    ),
)

TEST_COLUMNS = (
    FIRST_SESSION,
    LATER_SESSION,
    SAME_SCANNER,
    REGION,
    MEASURE,
    UNIT,
    Column("n_participants", "Number of participants with both sessions."),
    Column("difference", "Mean over participants of later minus first.", OF_MEASURE),
    Column("sd", "Standard deviation of the differences (n - 1).", OF_MEASURE),
    Column(
        "low",
        "Lower 95 % confidence limit of the mean, Student's t over participants; n/a for one, or equal differences.",
        OF_MEASURE,
    ),
    Column("high", "Upper 95 % confidence limit of the mean.", OF_MEASURE),
    Column("percent", "Mean over participants of the difference in percent of the first value.", "%"),
    Column("p", "P value of the Wilcoxon signed-rank test, two-sided."),
    P_HOLM,
)

DAYS_PER_YEAR = 365.25


def session_differences(cohort: CohortTable, repeatability: GroupTable | None) -> GroupTable | None:
    """Differences between each later session of a participant and the first; None if nobody has several.

    Runs are averaged. Acquisitions of a session, such as two resolutions, are compared each with its like, and the mean
    of their differences counts.

    Args:
        cohort: What is analysed.
        repeatability: Result of `keras_scgm.study.group.repeats.reliability`.
    """
    order = cohort.session_order
    images = cohort.values[cohort.values["session_id"].isin(order)]
    runs = images.groupby([*OF_SESSION, "acquisition", "region", "measure"], observed=True)["value"]
    values = runs.agg(value="mean", n="size").reset_index()
    first = values.groupby("participant_id")["session_id"].agg(
        lambda names: min(names, key=order.__getitem__)
    )
    is_first = values["session_id"] == values["participant_id"].map(first)
    rows = values[~is_first].merge(
        values[is_first],
        on=["participant_id", "acquisition", "region", "measure"],
        suffixes=("_later", "_first"),
    )
    if rows.empty:
        return None
    rows = rows.rename(columns={"session_id_first": "first_session", "session_id_later": "later_session"})
    rows["variance"] = 1 / rows["n_first"] + 1 / rows["n_later"]
    by = ["participant_id", "first_session", "later_session", "measure", "region"]
    rows = rows.groupby(by, observed=True, as_index=False).agg(
        first_value=("value_first", "mean"),
        later_value=("value_later", "mean"),
        variance=("variance", lambda each: each.sum() / each.size**2),
    )
    rows["difference"] = rows["later_value"] - rows["first_value"]
    rows["percent"] = 100 * rows["difference"] / rows["first_value"].where(rows["first_value"] != 0)
    scanners = images.groupby(OF_SESSION)["scanner"].agg(lambda names: tuple(sorted(set(names))))
    times = cohort.used.groupby(OF_SESSION)[ACQUISITION_TIME].mean()
    pairs = [
        [(person, session) for person, session in rows[["participant_id", name]].itertuples(index=False)]
        for name in ("first_session", "later_session")
    ]
    rows["same_scanner"] = [
        UNKNOWN if UNKNOWN in scanners[a] + scanners[b] else "yes" if scanners[a] == scanners[b] else "no"
        for a, b in zip(*pairs, strict=True)
    ]
    rows["years"] = [(times[b] - times[a]).days / DAYS_PER_YEAR for a, b in zip(*pairs, strict=True)]
    rows["beyond_repeatability"] = _beyond(rows, repeatability)
    rows = rows.sort_values(
        ["participant_id", "later_session", "measure", "region"],
        key=lambda column: column.map(order) if column.name == "later_session" else column,
        ignore_index=True,
    )
    return GroupTable("session_differences", COLUMNS, with_units(rows, cohort.measures))


def session_tests(differences: GroupTable, cohort: CohortTable) -> GroupTable:
    """Whether differences between sessions have a common direction, for each pair of sessions, region and measure.

    Participants whose scanner changed are tested apart: with them a test tells the scanners apart, not the sessions.

    Args:
        differences: Result of `session_differences`.
        cohort: What is analysed.
    """
    by = ["first_session", "later_session", "same_scanner", "measure", "region"]
    rows = []
    for key, group in differences.rows.groupby(by, observed=True):
        difference = group["difference"].to_numpy()
        low, high = mean_interval(difference)
        rows.append(
            dict(zip(by, key, strict=True))
            | {"n_participants": len(group), "difference": difference.mean(), "low": low, "high": high}
            | {"sd": difference.std(ddof=1) if len(group) > 1 else math.nan}
            | {"percent": group["percent"].mean(), "p": signed_rank_p(difference)}
        )
    return table_of_tests("session_tests", TEST_COLUMNS, rows, cohort.measures)


def _beyond(rows: pd.DataFrame, repeatability: GroupTable | None) -> np.ndarray:
    if repeatability is None:
        return np.full(len(rows), UNKNOWN)
    known = repeatability.rows[["region", "measure", "within_sd"]]
    within_sd = rows[["region", "measure"]].merge(known, on=["region", "measure"], how="left")["within_sd"]
    limit = LIMIT_STDS * within_sd.to_numpy() * np.sqrt(rows["variance"].to_numpy())
    is_known = ~np.isnan(limit) & (rows["same_scanner"] != "no").to_numpy()
    return np.where(is_known, yes_no(rows["difference"].abs().to_numpy() > limit), UNKNOWN)
