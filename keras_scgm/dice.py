"""The Dice coefficient of two masks."""

from __future__ import annotations

from typing import Any

import numpy as np

Value = Any
"""A number for a volume, an array (slice,) for its slices."""


def ratio(numerator: Value, denominator: Value) -> Value:
    """Quotient, NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)[()]


def dice_of_counts(n_common: Value, n_one: Value, n_other: Value) -> Value:
    """Dice coefficient from numbers of voxels: of both masks together, and of each; NaN if both are empty."""
    return ratio(2 * n_common, n_one + n_other)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice coefficient of two boolean masks of the same shape, NaN if both are empty.

    >>> dice(np.array([True, True, True]), np.array([True, False, False]))
    0.5
    """
    return float(dice_of_counts(*map(np.count_nonzero, (one & other, one, other))))
