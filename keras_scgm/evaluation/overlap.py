"""Metrics that count voxels: the overlap metrics of the paper's Table 2 and all of Table 3.

Every ratio without a denominator is NaN, never 0 or 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Value = Any
"""A number for a volume, an array (slice,) for its slices."""


@dataclass(frozen=True)
class Counts:
    """Voxels of a prediction sorted by the reference; numbers, or arrays (slice,).

    Args:
        TP: gray matter in both.
        FP: in the prediction only.
        FN: in the reference only.
        TN: in neither.
    """

    TP: Value
    FP: Value
    FN: Value
    TN: Value

    @classmethod
    def of_slices(cls, prediction: np.ndarray, reference: np.ndarray) -> Counts:
        """Counts of each slice of two boolean arrays of the same shape, slice axis last."""
        in_plane = tuple(range(prediction.ndim - 1))
        overlap = np.count_nonzero(prediction & reference, axis=in_plane)
        predicted = np.count_nonzero(prediction, axis=in_plane)
        wanted = np.count_nonzero(reference, axis=in_plane)
        n_voxels = math.prod(prediction.shape[:-1])
        return cls(overlap, predicted - overlap, wanted - overlap, n_voxels - predicted - wanted + overlap)

    @property
    def total(self) -> Counts:
        """Counts of all slices together."""
        return Counts(*(int(np.sum(part)) for part in (self.TP, self.FP, self.FN, self.TN)))


def overlap_metrics(counts: Counts) -> dict[str, Value]:
    """The overlap metrics of Table 2.

    Returns:
        DSC and JI as fractions; TPR, TNR, PPV and CC (1 - (FP + FN) / TP, Chang et al. 2009; below 0 where
        DSC is below 2/3) in percent.
    """
    TP, FP, FN, TN = counts.TP, counts.FP, counts.FN, counts.TN
    return {
        "DSC": _ratio(2 * TP, 2 * TP + FP + FN),
        "TPR": 100 * _ratio(TP, TP + FN),
        "TNR": 100 * _ratio(TN, TN + FP),
        "PPV": 100 * _ratio(TP, TP + FP),
        "JI": _ratio(TP, TP + FP + FN),
        "CC": 100 * (1 - _ratio(FP + FN, TP)),
    }


def table3_metrics(counts: Counts) -> dict[str, Value]:
    """The metrics of Table 3, with background and gray matter as the two classes of Long et al. (2015).

    Returns:
        dice, recall and precision of gray matter, pixel_accuracy, mean_accuracy, mean_iu and fw_iu
        (frequency weighted intersection over union), all as fractions.
    """
    TP, FP, FN, TN = counts.TP, counts.FP, counts.FN, counts.TN
    gray, other = TP + FN, TN + FP
    gray_iu, other_iu = _ratio(TP, TP + FP + FN), _ratio(TN, TN + FP + FN)
    recall = _ratio(TP, gray)
    # A class that the reference does not have weighs nothing, even where its own IU is undefined.
    weighted = np.where(gray == 0, 0.0, gray * gray_iu) + np.where(other == 0, 0.0, other * other_iu)
    return {
        "dice": _ratio(2 * TP, 2 * TP + FP + FN),
        "mean_accuracy": (recall + _ratio(TN, other)) / 2,
        "pixel_accuracy": _ratio(TP + TN, gray + other),
        "recall": recall,
        "precision": _ratio(TP, TP + FP),
        "fw_iu": _ratio(weighted, gray + other),
        "mean_iu": (gray_iu + other_iu) / 2,
    }


def _ratio(numerator: Value, denominator: Value) -> Value:
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)[()]
