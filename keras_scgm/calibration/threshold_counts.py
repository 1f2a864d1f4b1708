"""Voxel counts of a volume at every threshold."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from keras_scgm.dice import dice_of_counts

THRESHOLDS = np.unique([float(f"{value:.5g}") for value in expit(np.arange(-100, 101) / 10)])
"""About evenly spaced in the logit, from 0.00005 to 0.99995: most probabilities are close to 0 or 1. Rounded, as cards
have them."""

RELIABILITY_BINS = 10


class ThresholdCounts:
    """Voxel counts of one volume at all thresholds, from one histogram per slice and rater."""

    def __init__(self, probabilities: np.ndarray, truths: np.ndarray, voxel_area_mm2: float) -> None:
        """Probabilities (slice, rows, columns) and masks (rater, slice, rows, columns)."""
        bins = np.searchsorted(THRESHOLDS, probabilities)
        self.found = np.stack([_above(section) for section in bins])
        self.hits = np.stack([_above(bins[truth]) for truth in truths])
        self.truth = truths.sum(axis=(1, 2, 3))
        self.areas_mm2 = self.found * voxel_area_mm2
        self.true_areas_mm2 = truths.sum(axis=(2, 3)).mean(axis=0) * voxel_area_mm2
        part = np.minimum((probabilities * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1).ravel()
        share = truths.mean(axis=0).ravel()
        weights = (np.ones(share.size), probabilities.ravel(), share)
        self.bins = np.stack([np.bincount(part, weight, RELIABILITY_BINS) for weight in weights])

    @property
    def rates(self) -> np.ndarray:
        """(3, t): Dice coefficient, precision and recall, mean over raters."""
        found, truth = self.found.sum(axis=0), self.truth[:, np.newaxis]
        precision = np.where(found > 0, self.hits / np.maximum(found, 1), np.nan)
        return np.stack([dice_of_counts(self.hits, found, truth), precision, self.hits / truth]).mean(axis=1)


def _above(bins: np.ndarray) -> np.ndarray:
    """(t,) number of values above each threshold, from the number of thresholds below each value."""
    counts = np.bincount(bins.ravel(), minlength=len(THRESHOLDS) + 1)
    return counts[::-1].cumsum()[::-1][1:]


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis without NaN, NaN where all are NaN."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
