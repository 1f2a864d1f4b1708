"""Groups of participants, such as patients and controls: their values and differences."""

from __future__ import annotations

import math
from itertools import combinations
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
    OF_MEASURE,
    P_HOLM,
    REGION,
    UNIT,
    Column,
    GroupTable,
    table_of_tests,
    with_units,
)

GROUP = Column("group", "Group, as participants.tsv names it.")

COLUMNS = (
    GROUP,
    REGION,
    MEASURE,
    UNIT,
    N_PARTICIPANTS,
    *SPREAD,
)

DIFFERENCE_COLUMNS = (
    GROUP,
    Column("compared_with", f"Other group; both have at least {MIN_PARTICIPANTS} participants."),
    REGION,
    MEASURE,
    UNIT,
    Column("n", "Number of participants of the group."),
    Column("n_compared_with", "Number of participants of the other group."),
    Column("adjusted_for", f"What the linear model has beside the group: age, sex and site {ADJUSTED_FOR}."),
    N_LEFT_OUT,
    Column("difference", "Group minus the other group, adjusted.", OF_MEASURE),
    Column("low", "Lower 95 % confidence limit of the difference, by Student's t.", OF_MEASURE),
    Column("high", "Upper 95 % confidence limit of the difference.", OF_MEASURE),
    Column(
        "hedges_g", "Difference of the means, not adjusted, divided by the pooled SD, without bias (Hedges)."
    ),
    Column(
        "p", "P value of the t test; n/a if the groups cannot be told from what the model is adjusted for."
    ),
    P_HOLM,
)


def group_values(cohort: CohortTable) -> GroupTable | None:
    """Mean and variation in every group; None below two groups."""
    people = _people(cohort)
    if people is None:
        return None
    rows = spread_within(people, "group").reset_index()
    return GroupTable("groups", COLUMNS, with_units(rows, cohort.measures))


def group_differences(cohort: CohortTable) -> GroupTable | None:
    """Differences between every two groups in linear models; None if there is nothing to compare."""
    people = _people(cohort)
    if people is None:
        return None
    covariates = [name for name in ("age", "sex", "site") if name in people]
    rows = []
    for (measure, region), values in people.groupby(["measure", "region"], observed=True):
        for other, group in combinations(sorted(values["group"].unique()), 2):
            both = values[values["group"].isin((group, other))]
            complete, adjusted = complete_cases(both, covariates)
            is_group = complete["group"] == group
            if min(is_group.sum(), (~is_group).sum()) >= MIN_PARTICIPANTS:
                rows.append(
                    {"group": group, "compared_with": other, "measure": measure, "region": region}
                    | {"n_left_out": len(both) - len(complete)}
                    | _difference(complete.assign(is_group=is_group.astype(float)), adjusted)
                )
    return table_of_tests("group_differences", DIFFERENCE_COLUMNS, rows, cohort.measures) if rows else None


def _people(cohort: CohortTable) -> pd.DataFrame | None:
    if "group" not in cohort.participants or cohort.participants["group"].nunique() < 2:
        return None
    people = people_of(cohort).dropna(subset=["group"])
    return people.merge(first_known(cohort, "site"), left_on="participant_id", right_index=True, how="left")


def _difference(rows: pd.DataFrame, adjusted: list[str]) -> dict[str, Any]:
    from pingouin import compute_effsize  # slow to import
    from statsmodels.formula.api import ols

    is_group = rows["is_group"] == 1
    values, others = rows.loc[is_group, "value"], rows.loc[~is_group, "value"]
    model = ols(formula("is_group", adjusted), rows)
    result = {
        "n": len(values),
        "n_compared_with": len(others),
        "adjusted_for": ", ".join(adjusted) or UNKNOWN,
        **dict.fromkeys(("difference", "low", "high", "hedges_g", "p"), math.nan),
    }
    if np.ptp(rows["value"]) == 0:
        return result | {"difference": 0.0}
    result["hedges_g"] = compute_effsize(values, others, eftype="hedges")
    if len(rows) <= model.exog.shape[1] or np.linalg.matrix_rank(model.exog) < model.exog.shape[1]:
        return result
    fitted = model.fit()
    low, high = fitted.conf_int().loc["is_group"]
    return result | {
        "difference": fitted.params["is_group"],
        "low": low,
        "high": high,
        "p": fitted.pvalues["is_group"],
    }
