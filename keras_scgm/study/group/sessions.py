"""Differences between the sessions of one participant."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from keras_scgm.evaluation.paired_tests import holm, signed_rank_p
from keras_scgm.evaluation.summary import mean_interval
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import CohortTable, per_session, sorted_sessions
from keras_scgm.study.group.tables import (
    MEASURE,
    OF_MEASURE,
    P_HOLM,
    PARTICIPANT,
    REGION,
    UNIT,
    Column,
    GroupTable,
    with_units,
    yes_no,
)

FIRST_SESSION = Column("first_session", "First session of the participant.")
LATER_SESSION = Column("later_session", "Later session, which is compared with the first.")

COLUMNS = (
    PARTICIPANT,
    FIRST_SESSION,
    LATER_SESSION,
    Column("same_scanner", "Whether both sessions were on the same scanner."),
    REGION,
    MEASURE,
    UNIT,
    Column("first_value", "Mean over the images of the first session.", OF_MEASURE),
    Column("later_value", "Mean over the images of the later session.", OF_MEASURE),
    Column("difference", "Later minus first.", OF_MEASURE),
    Column("percent", "Difference, of the first value.", "%"),
    Column(
        "beyond_repeatability",
        "Whether the difference exceeds the repeatability coefficient of test_retest.tsv; n/a without repeated runs.",
    ),
)

TEST_COLUMNS = (
    FIRST_SESSION,
    LATER_SESSION,
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


def session_differences(cohort: CohortTable, repeatability: GroupTable | None) -> GroupTable | None:
    """Differences between each later session of a participant and the first; None if nobody has several.

    Args:
        cohort: What is analysed.
        repeatability: Result of `keras_scgm.study.group.repeats.reliability`.
    """
    values = cohort.values[cohort.values["session_id"] != UNKNOWN]
    sessions = values.groupby("participant_id")["session_id"].unique().map(sorted_sessions)
    first = sessions.str[0].rename("first_session")
    scanners = values.groupby(["participant_id", "session_id"])["scanner"].agg(
        lambda names: tuple(sorted(set(names)))
    )
    means = per_session(values).merge(first, on="participant_id")
    baseline = means[means["session_id"] == means["first_session"]]
    rows = means[means["session_id"] != means["first_session"]].merge(
        baseline.drop(columns="session_id"),
        on=["participant_id", "first_session", "region", "measure"],
        suffixes=("_later", "_first"),
    )
    if rows.empty:
        return None
    rows = rows.rename(
        columns={"session_id": "later_session", "value_later": "later_value", "value_first": "first_value"}
    )
    pairs = zip(rows["participant_id"], rows["first_session"], rows["later_session"], strict=True)
    rows["same_scanner"] = yes_no([scanners[person, a] == scanners[person, b] for person, a, b in pairs])
    rows["difference"] = rows["later_value"] - rows["first_value"]
    rows["percent"] = _percent(rows["difference"], rows["first_value"])
    rows["beyond_repeatability"] = _beyond(rows, repeatability)
    by = ["participant_id", "later_session", "measure", "region"]
    order = {name: number for number, name in enumerate(sorted_sessions(list(values["session_id"])))}
    rows = rows.sort_values(
        by,
        key=lambda column: column.map(order) if column.name == "later_session" else column,
        ignore_index=True,
    )
    return GroupTable("session_differences", COLUMNS, with_units(rows, cohort.measures))


def session_tests(differences: GroupTable, cohort: CohortTable) -> GroupTable:
    """Whether differences between sessions have a common direction, for each pair of sessions, region and measure.

    Args:
        differences: Result of `session_differences`.
        cohort: What is analysed.
    """
    by = ["first_session", "later_session", "measure", "region"]
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
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    return GroupTable("session_tests", TEST_COLUMNS, with_units(table, cohort.measures))


def _percent(difference: pd.Series, first: pd.Series) -> pd.Series:
    return 100 * difference / first.where(first != 0)


def _beyond(rows: pd.DataFrame, repeatability: GroupTable | None) -> np.ndarray:
    if repeatability is None:
        return np.full(len(rows), UNKNOWN)
    known = repeatability.rows[["region", "measure", "repeatability"]]
    limit = (
        rows[["region", "measure"]]
        .merge(known, on=["region", "measure"], how="left")["repeatability"]
        .to_numpy()
    )
    return np.where(np.isnan(limit), UNKNOWN, yes_no(np.abs(rows["difference"].to_numpy()) > limit))
