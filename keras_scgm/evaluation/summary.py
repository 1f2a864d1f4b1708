"""Mean and standard deviation of the defined values, and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 9999
CONFIDENCE = 0.95

MIN_RESAMPLED = 6
"""Minimum number of values for a bootstrap interval; intervals from fewer are far too narrow."""


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


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean by the bootstrap, NaN below `MIN_RESAMPLED` values."""
    if values.size < MIN_RESAMPLED:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(values.size, size=(RESAMPLES, values.size))].mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, (tail, 100 - tail))
    return float(low), float(high)
