"""Spread over participants, by region."""

from __future__ import annotations

import pandas as pd

from keras_scgm.study.group.cohort_table import CohortTable, per_participant
from keras_scgm.study.group.tables import MEASURE, OF_MEASURE, REGION, UNIT, Column, GroupTable, with_units

N_PARTICIPANTS = Column("n_participants", "Number of participants.")
SPREAD = (
    Column("mean", "Mean over participants; each counts once, by the mean of its sessions.", OF_MEASURE),
    Column("sd", "Standard deviation over participants (n - 1).", OF_MEASURE),
    Column("cov_percent", "Coefficient of variation: standard deviation divided by mean.", "%"),
)

COLUMNS = (
    REGION,
    MEASURE,
    UNIT,
    N_PARTICIPANTS,
    *SPREAD,
    Column("min", "Lowest value of a participant.", OF_MEASURE),
    Column("q25", "Lower quartile.", OF_MEASURE),
    Column("median", "Median.", OF_MEASURE),
    Column("q75", "Upper quartile.", OF_MEASURE),
    Column("max", "Highest value of a participant.", OF_MEASURE),
)


def spread(cohort: CohortTable) -> GroupTable:
    """Mean, standard deviation and quartiles over participants, for every region and measure.

    Runs are averaged within a session and sessions within a participant, so that each participant counts once.
    """
    people = per_participant(cohort.values)
    quantiles = people.groupby(["measure", "region"], observed=True)["value"].describe()
    rows = spread_within(people).join(
        quantiles.rename(columns={"25%": "q25", "50%": "median", "75%": "q75"})[
            ["min", "q25", "median", "q75", "max"]
        ]
    )
    return GroupTable("by_level", COLUMNS, with_units(rows.reset_index(), cohort.measures))


def spread_within(people: pd.DataFrame, *factors: str) -> pd.DataFrame:
    """The columns `N_PARTICIPANTS` and `SPREAD`, indexed by the factors, measure and region.

    Args:
        people: One `value` per participant within the factors, measure and region.
        factors: Columns of what is described apart, such as groups.
    """
    values = people.groupby([*factors, "measure", "region"], observed=True)["value"]
    rows = values.agg(n_participants="size", mean="mean", sd="std")
    rows["cov_percent"] = 100 * rows["sd"] / rows["mean"]
    return rows
