"""Spread of the cohort, by region."""

from __future__ import annotations

from keras_scgm.study.group.cohort_table import CohortTable, per_participant
from keras_scgm.study.group.tables import MEASURE, OF_MEASURE, REGION, UNIT, Column, GroupTable, with_units

COLUMNS = (
    REGION,
    MEASURE,
    UNIT,
    Column("n_participants", "Number of participants."),
    Column("mean", "Mean over participants; each counts once, by the mean of its sessions.", OF_MEASURE),
    Column("sd", "Standard deviation over participants (n - 1).", OF_MEASURE),
    Column("cov_percent", "Coefficient of variation: standard deviation divided by mean.", "%"),
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
    groups = per_participant(cohort.values).groupby(["measure", "region"], observed=True)["value"]
    rows = groups.describe().rename(
        columns={"count": "n_participants", "std": "sd", "25%": "q25", "50%": "median"}
    )
    rows = rows.rename(columns={"75%": "q75"}).astype({"n_participants": int}).reset_index()
    rows["cov_percent"] = 100 * rows["sd"] / rows["mean"]
    return GroupTable("by_level", COLUMNS, with_units(rows, cohort.measures))
