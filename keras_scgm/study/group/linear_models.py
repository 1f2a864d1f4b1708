"""What the linear models of the group have in common: observations, and what they are adjusted for."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import CohortTable, per_participant
from keras_scgm.study.group.tables import Column

MIN_PARTICIPANTS = 3
"""Participants that a group needs to be compared."""

MIN_KNOWN = 0.8
"""Share of the observations of which a covariate must be known; those without it are then left out."""

ADJUSTED_FOR = (
    f"where at least {100 * MIN_KNOWN:.0f} % of the participants have them; those who lack one are left out"
)
N_LEFT_OUT = Column("n_left_out", "Number of participants left out because a covariate is not known of them.")


def people_of(cohort: CohortTable, *factors: str) -> pd.DataFrame:
    """One value per participant within groups, region and measure, with the participant's covariates.

    Args:
        cohort: What is analysed.
        factors: Columns of `cohort.values` that must be known, and within which sessions are averaged.
    """
    values = cohort.values[(cohort.values[list(factors)] != UNKNOWN).all(axis=1)]
    return per_participant(values, *factors).merge(
        cohort.participants, left_on="participant_id", right_index=True, how="left"
    )


def first_known(cohort: CohortTable, factor: str) -> pd.Series:
    """Value of a column in the first session in which it is known, by participant."""
    values = cohort.values[cohort.values[factor] != UNKNOWN]
    values = values.assign(order=values["session_id"].map(cohort.session_order))
    return values.sort_values(["order", "image"]).groupby("participant_id")[factor].first()


def complete_cases(rows: pd.DataFrame, covariates: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Observations of which all usable covariates are known, and those that distinguish any of them."""
    usable = [
        name for name in covariates if rows[name].notna().mean() >= MIN_KNOWN and rows[name].nunique() > 1
    ]
    complete = rows.dropna(subset=usable)
    return complete, [name for name in usable if complete[name].nunique() > 1]


def formula(factor: str, covariates: Sequence[str]) -> str:
    """Formula of a linear model of `value`; all covariates but age are categories."""
    return " + ".join(
        [f"value ~ {factor}", *(name if name == "age" else f"C({name})" for name in covariates)]
    )
