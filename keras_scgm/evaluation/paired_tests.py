"""Paired tests between models on the same cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import wilcoxon

from keras_scgm.evaluation.challenge import CHALLENGE_METRICS
from keras_scgm.evaluation.groups import of_cases
from keras_scgm.evaluation.scores import Evaluation
from keras_scgm.evaluation.summary import mean_interval

MIN_SIGNIFICANT = 6
"""Fewest values from which the signed-rank test can have p below 0.05: the smallest p of n values is 2 / 2**n."""

DIGITS = 9
"""Of a difference as a share of the largest; what is equal in them has the same rank."""


@dataclass(frozen=True)
class PairedTest:
    """Comparison of two models on their common cases, in one metric.

    Args:
        first: Name of the first model.
        second: Name of the second model.
        metric: Name of a metric of Table 2.
        n_cases: Number of cases in which the metric is defined for both.
        difference: Mean over cases of first minus second.
        interval: 95 % confidence interval of the difference over cases, as `mean_interval` has it.
        p_value: P value of the Wilcoxon signed-rank test, two-sided; 1 if no case differs, NaN without cases.
        p_holm: P value with the correction of Holm for all tests.
    """

    first: str
    second: str
    metric: str
    n_cases: int
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float


def compare_models(evaluation: Evaluation) -> list[PairedTest]:
    """Test every pair of models in every metric of Table 2, case by case.

    Args:
        evaluation: Evaluation of at least two models; otherwise the list is empty.
    """
    tests = []
    for first, second in combinations(evaluation.models, 2):
        for metric in CHALLENGE_METRICS:
            values, others = (of_cases(evaluation.of_model(name), metric) for name in (first, second))
            differences = np.array([values[case] - others[case] for case in values if case in others])
            differences = differences[~np.isnan(differences)]
            tests.append(
                PairedTest(
                    first=first,
                    second=second,
                    metric=metric,
                    n_cases=differences.size,
                    difference=float(differences.mean()) if differences.size else float("nan"),
                    interval=mean_interval(differences),
                    p_value=signed_rank_p(differences),
                    p_holm=float("nan"),
                )
            )
    corrected = holm(np.array([test.p_value for test in tests]))
    return [replace(test, p_holm=float(p)) for test, p in zip(tests, corrected, strict=True)]


def signed_rank_p(differences: np.ndarray) -> float:
    """P value of the Wilcoxon signed-rank test, two-sided; 1 if all differences are 0, NaN without any."""
    if not differences.size:
        return float("nan")
    largest = np.abs(differences).max()
    if largest == 0:
        return 1.0
    # Areas are whole numbers of voxels, so that differences are often equal but for rounding.
    shares = np.round(differences / largest, DIGITS)
    # The test leaves zeros out; some versions of SciPy are exact only if there are none.
    return float(wilcoxon(shares[shares != 0]).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P values with the correction of Holm; NaN stays, and does not count as a test."""
    corrected = np.full(p_values.shape, np.nan)
    order = [i for i in np.argsort(p_values) if not np.isnan(p_values[i])]
    largest = 0.0
    for position, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - position) * p_values[i]))
        corrected[i] = largest
    return corrected
