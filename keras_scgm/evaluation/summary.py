"""Mean and standard deviation of the defined values, and the confidence interval of a mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import sem, t

CONFIDENCE = 0.95

ROUNDING = 1e-9
"""Values whose range is a smaller share of the largest differ by rounding alone."""


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of the defined values.

    Args:
        mean: Mean of the defined values, NaN without any.
        std: Standard deviation with n - 1, NaN below two values.
        n: Number of defined values.
        n_undefined: Number of values left out.
    """

    mean: float
    std: float
    n: int
    n_undefined: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summary of numbers; NaN means undefined."""
        all_values = np.fromiter(values, float)
        defined = all_values[~np.isnan(all_values)]
        return cls(
            mean=float(defined.mean()) if defined.size else float("nan"),
            std=float(defined.std(ddof=1)) if defined.size > 1 else float("nan"),
            n=defined.size,
            n_undefined=all_values.size - defined.size,
        )


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the mean, by Student's t distribution.

    The mean of a few strongly skewed values is outside more often than in 5 % of cases.

    Args:
        values: Independent values (n,), none NaN.

    Returns:
        (low, high); NaN below 2 values. Equal values have none either: they do not tell how much others would vary,
        and an interval of width 0 would claim that the mean is known exactly.

    >>> low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    if values.size < 2 or np.ptp(values) <= ROUNDING * np.abs(values).max():
        return float("nan"), float("nan")
    low, high = t.interval(CONFIDENCE, values.size - 1, loc=values.mean(), scale=sem(values))
    return float(low), float(high)
