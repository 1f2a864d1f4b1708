"""Test-retest reliability, where runs of one session repeat an image."""

from __future__ import annotations

import math
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from keras_scgm.evaluation.bland_altman import LIMIT_STDS, bland_altman
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import CohortTable
from keras_scgm.study.group.measures import natural_key
from keras_scgm.study.group.tables import MEASURE, OF_MEASURE, REGION, UNIT, Column, GroupTable, with_units

MIN_FOR_ICC = 3
"""Participants that an intraclass correlation needs."""

COLUMNS = (
    REGION,
    MEASURE,
    UNIT,
    Column("n_participants", "Number of participants with repeated runs."),
    Column(
        "n_runs",
        "Number of their runs: of a participant with repeated runs in several sessions or acquisitions, those of the "
        "first.",
    ),
    Column("mean", "Mean over participants of the mean of their runs.", OF_MEASURE),
    Column(
        "within_sd",
        "Standard deviation within participants, from the pooled variance of their runs. Runs of one session tell "
        "nothing of the variation from day to day.",
        OF_MEASURE,
    ),
    Column("cov_percent", "Root mean square over participants of their coefficient of variation.", "%"),
    Column(
        "repeatability",
        "Repeatability coefficient, 1.96 times the square root of 2 times within_sd: two runs of one participant "
        "differ by less in 95 % of cases.",
        OF_MEASURE,
    ),
    Column(
        "icc",
        "Intraclass correlation ICC(A,1) of the first two runs: two-way random effects, absolute agreement.",
    ),
    Column("icc_low", "Lower 95 % confidence limit of icc, two decimals."),
    Column("icc_high", "Upper 95 % confidence limit of icc, two decimals."),
    Column("bias", "Mean of second minus first run.", OF_MEASURE),
    Column(
        "limit_low", "Lower 95 % limit of agreement of second and first run (Bland and Altman).", OF_MEASURE
    ),
    Column("limit_high", "Upper 95 % limit of agreement.", OF_MEASURE),
)


def repeated_runs(cohort: CohortTable) -> pd.DataFrame:
    """Values of runs that repeat an image.

    Runs repeat each other if participant, session and acquisition are equal. Of a participant with several such groups
    the first counts, in the order of sessions and acquisitions.

    Returns:
        Rows of `cohort.values` with at least two runs for each participant, region and measure, in the order of runs.
    """
    order = cohort.session_order
    images = cohort.used[cohort.used["run"] != UNKNOWN]
    keyed = [
        (
            row.participant_id,
            order.get(row.session_id, 0),
            row.acquisition,
            natural_key(row.run),
            row.image,
        )
        for row in images.itertuples()
    ]
    chosen: dict[str, list[str]] = {}
    for (participant, *_), runs in groupby(sorted(keyed), itemgetter(0, 1, 2)):
        names = [name for *_, name in runs]
        if len(names) > 1:
            chosen.setdefault(participant, names)
    place = {name: number for names in chosen.values() for number, name in enumerate(names)}
    values = cohort.values[cohort.values["image"].isin(place)]
    values = values.assign(order=values["image"].map(place)).sort_values(
        ["participant_id", "order"], kind="stable"
    )
    n_runs = values.groupby(["participant_id", "region", "measure"], observed=True)["value"].transform("size")
    return values[n_runs > 1]


def reliability(cohort: CohortTable) -> GroupTable | None:
    """Within-participant variation, intraclass correlation and limits of agreement; None without repeated runs.

    The coefficient of variation is the root mean square of those of the participants (Gluer et al., Osteoporosis
    International 1995), the repeatability coefficient that of Bland and Altman (Lancet 1986), the intraclass
    correlation that of McGraw and Wong (Psychological Methods 1996).
    """
    values = repeated_runs(cohort)
    if values.empty:
        return None
    rows = [
        {"measure": measure, "region": region, **_reliability(group)}
        for (measure, region), group in values.groupby(["measure", "region"], observed=True)
    ]
    return GroupTable("test_retest", COLUMNS, with_units(pd.DataFrame(rows), cohort.measures))


def first_pairs(values: pd.DataFrame) -> pd.DataFrame:
    """First and second run of each participant, of the rows of one region and measure: columns `first`, `second`."""
    runs = values.groupby("participant_id")["value"]
    return pd.DataFrame(
        {"first": runs.nth(0).to_numpy(), "second": runs.nth(1).to_numpy()}, index=sorted(runs.groups)
    )


def _reliability(values: pd.DataFrame) -> dict[str, Any]:
    people = values.groupby("participant_id")["value"].agg(["size", "mean", "var"])
    freedom = people["size"] - 1
    within_sd = math.sqrt((freedom * people["var"]).sum() / freedom.sum())
    pairs = first_pairs(values)
    agreement = bland_altman(zip(pairs["second"], pairs["first"], strict=True))
    icc, icc_low, icc_high = _intraclass_correlation(pairs)
    return {
        "n_participants": len(people),
        "n_runs": int(people["size"].sum()),
        "mean": people["mean"].mean(),
        "within_sd": within_sd,
        "cov_percent": 100 * math.sqrt((people["var"] / people["mean"] ** 2).mean()),
        "repeatability": LIMIT_STDS * math.sqrt(2) * within_sd,
        "icc": icc,
        "icc_low": icc_low,
        "icc_high": icc_high,
        "bias": agreement.bias,
        "limit_low": agreement.low,
        "limit_high": agreement.high,
    }


def _intraclass_correlation(pairs: pd.DataFrame) -> tuple[float, float, float]:
    if len(pairs) < MIN_FOR_ICC or np.ptp(pairs.to_numpy()) == 0:
        return math.nan, math.nan, math.nan
    from pingouin import intraclass_corr  # slow to import, and needed with repeats only

    long = pairs.rename_axis("participant").reset_index().melt("participant", var_name="run")
    # Runs that are equal have no variance within participants.
    with np.errstate(divide="ignore", invalid="ignore"):
        table = intraclass_corr(long, "participant", "run", "value").set_index("Type")
    row = table.loc["ICC(A,1)"]
    low, high = row["CI95"]
    return float(row["ICC"]), float(low), float(high)
