"""Differences between sites and between vendors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import CohortTable
from keras_scgm.study.group.linear_models import (
    ADJUSTED_FOR,
    MIN_PARTICIPANTS,
    N_LEFT_OUT,
    complete_cases,
    first_known,
    formula,
    people_of,
)
from keras_scgm.study.group.spread import N_PARTICIPANTS, SPREAD, spread_within
from keras_scgm.study.group.tables import (
    MEASURE,
    P_HOLM,
    REGION,
    UNIT,
    Column,
    GroupTable,
    table_of_tests,
    with_units,
)

MIN_SHARE_IN_SEVERAL = 0.5
"""Share of the participants scanned in several groups from which on participants are compared with themselves."""

FACTORS = ("site", "vendor")
FACTOR = Column("factor", "What distinguishes the groups: site, or vendor of the scanner.")

COLUMNS = (
    FACTOR,
    Column("name", "Name of the site or vendor."),
    REGION,
    MEASURE,
    UNIT,
    N_PARTICIPANTS,
    Column("n_sites", f"Number of sites with at least {MIN_PARTICIPANTS} participants."),
    *SPREAD,
    Column(
        "between_sites_cov_percent",
        f"Coefficient of variation of the means of the sites of a vendor that have at least {MIN_PARTICIPANTS} "
        "participants.",
        "%",
    ),
)

EFFECT_COLUMNS = (
    FACTOR,
    REGION,
    MEASURE,
    UNIT,
    Column("n_groups", f"Number of sites or vendors, each with at least {MIN_PARTICIPANTS} participants."),
    Column(
        "counted",
        "What counts as one observation: participant, or the mean of a site where a vendor has several sites.",
    ),
    Column("n", "Number of observations."),
    Column(
        "adjusted_for",
        f"What the model has beside the groups: age, sex and group {ADJUSTED_FOR}; or the participant, if at least "
        f"{100 * MIN_SHARE_IN_SEVERAL:.0f} % were scanned in several groups, and only those count. Where fewer were, "
        "each counts in the first.",
    ),
    N_LEFT_OUT,
    Column("f", "F value of the groups, sums of squares of type II."),
    Column("df_groups", "Degrees of freedom of the groups."),
    Column("df_residual", "Degrees of freedom of the residuals."),
    Column(
        "p", "P value of the F test; n/a if the groups cannot be told from what the model is adjusted for."
    ),
    P_HOLM,
    Column("partial_eta_squared", "Share of the groups in the variation that the rest of the model leaves."),
)


def site_values(cohort: CohortTable) -> GroupTable | None:
    """Mean and variation at every site and for every vendor; None if neither is known."""
    tables = []
    for factor in _known_factors(cohort):
        rows = spread_within(people_of(cohort, factor), factor)
        rows["n_sites"], rows["between_sites_cov_percent"] = np.nan, np.nan
        if factor == "vendor" and "site" in _known_factors(cohort):
            means = _site_means(cohort).groupby(["vendor", "measure", "region"], observed=True)["value"]
            rows["n_sites"] = means.size()
            rows["between_sites_cov_percent"] = 100 * means.std() / means.mean()
        tables.append(rows.reset_index().rename(columns={factor: "name"}).assign(factor=factor))
    if not tables:
        return None
    rows = pd.concat(tables, ignore_index=True)
    rows["n_sites"] = rows["n_sites"].astype("Int64")
    return GroupTable("sites", COLUMNS, with_units(rows, cohort.measures))


def site_effects(cohort: CohortTable) -> GroupTable | None:
    """F tests of sites and vendors in linear models, for every region and measure; None if there is nothing to compare.

    Sites are compared by their participants. Vendors are compared by the means of their sites (Cohen-Adad et al.,
    Scientific Data 2021), because participants of one site are more alike than those of different sites; by
    participants where sites are not known. Vendors of one site each are not compared: they cannot be told from the
    sites.
    """
    rows = []
    for factor in _known_factors(cohort):
        observations, counted, covariates = _compared(cohort, factor)
        for (measure, region), group in observations.groupby(["measure", "region"], observed=True):
            if effect := _effect(
                group, factor, covariates, MIN_PARTICIPANTS if counted == "participant" else 1
            ):
                rows.append(
                    {"factor": factor, "measure": measure, "region": region, "counted": counted, **effect}
                )
    return table_of_tests("site_effects", EFFECT_COLUMNS, rows, cohort.measures) if rows else None


def _known_factors(cohort: CohortTable) -> list[str]:
    return [factor for factor in FACTORS if (cohort.values[factor] != UNKNOWN).any()]


def _site_means(cohort: CohortTable) -> pd.DataFrame:
    groups = people_of(cohort, "site", "vendor").groupby(
        ["site", "vendor", "measure", "region"], observed=True
    )["value"]
    means = groups.agg(value="mean", n="size").reset_index()
    return means[means["n"] >= MIN_PARTICIPANTS]


def _compared(cohort: CohortTable, factor: str) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """Observations of a factor, none if nothing can be compared; what they are; what a model may be adjusted for."""
    if factor == "vendor" and "site" in _known_factors(cohort):
        means = _site_means(cohort)
        has_several = means["site"].nunique() > means["vendor"].nunique()
        return means if has_several else means.head(0), "site", ()
    people = people_of(cohort, factor)
    n_groups = people.groupby("participant_id")[factor].transform("nunique")
    is_within = people[n_groups > 1]["participant_id"].nunique() >= MIN_SHARE_IN_SEVERAL * (
        people["participant_id"].nunique()
    )
    if is_within:
        people = people[n_groups > 1]
    else:
        people = people[people[factor] == people["participant_id"].map(first_known(cohort, factor))]
    return people, "participant", ("participant_id",) if is_within else tuple(cohort.participants)


def _of_large_groups(rows: pd.DataFrame, factor: str, least: int) -> pd.DataFrame:
    return rows[rows.groupby(factor)["value"].transform("size") >= least]


def _effect(
    rows: pd.DataFrame, factor: str, covariates: tuple[str, ...], least: int
) -> dict[str, Any] | None:
    """F test of a factor; None with one group of at least so many observations, or without residual freedom."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rows = _of_large_groups(rows, factor, least)
    known, adjusted = complete_cases(rows, covariates)
    complete, adjusted = complete_cases(_of_large_groups(known, factor, least), adjusted)
    n_groups = complete[factor].nunique()
    if n_groups < 2:
        return None
    model = ols(formula(f"C({factor})", adjusted), complete)
    if len(complete) <= model.exog.shape[1]:
        return None
    result = {
        "n_groups": n_groups,
        "n": len(complete),
        "n_left_out": len(rows) - len(known),
        "adjusted_for": ", ".join(adjusted).replace("participant_id", "participant") or UNKNOWN,
    }
    if np.linalg.matrix_rank(model.exog) < model.exog.shape[1] or np.ptp(complete["value"]) == 0:
        return result | dict.fromkeys(("f", "df_groups", "df_residual", "p", "partial_eta_squared"), math.nan)
    table = anova_lm(model.fit(), typ=2)
    row, residual = table.loc[f"C({factor})"], table.loc["Residual"]
    return result | {
        "f": row["F"],
        "df_groups": int(row["df"]),
        "df_residual": int(residual["df"]),
        "p": row["PR(>F)"],
        "partial_eta_squared": row["sum_sq"] / (row["sum_sq"] + residual["sum_sq"]),
    }
