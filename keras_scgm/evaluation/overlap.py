"""Metrics that count voxels: the overlap metrics of the paper's Table 2 and all of Table 3.

Every ratio without a denominator is NaN, never 0 or 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from keras_scgm.dice import Value, dice_of_counts, ratio


@dataclass(frozen=True)
class Counts:
    """Voxels of a prediction sorted by the reference; numbers, or arrays (slice,).

    Args:
        TP: Number of voxels of gray matter in both.
        FP: Number in the prediction only.
        FN: Number in the reference only.
        TN: Number in neither.
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
        "DSC": dice_of_counts(TP, TP + FP, TP + FN),
        "TPR": 100 * ratio(TP, TP + FN),
        "TNR": 100 * ratio(TN, TN + FP),
        "PPV": 100 * ratio(TP, TP + FP),
        "JI": ratio(TP, TP + FP + FN),
        "CC": 100 * (1 - ratio(FP + FN, TP)),
    }


def table3_metrics(counts: Counts) -> dict[str, Value]:
    """The metrics of Table 3, with background and gray matter as the two classes of Long et al. (2015).

    Returns:
        dice, recall and precision of gray matter, pixel_accuracy, mean_accuracy, mean_iu and fw_iu
        (frequency weighted intersection over union), all as fractions.
    """
    TP, FP, FN, TN = counts.TP, counts.FP, counts.FN, counts.TN
    gray, other = TP + FN, TN + FP
    gray_iu, other_iu = ratio(TP, TP + FP + FN), ratio(TN, TN + FP + FN)
    recall = ratio(TP, gray)
    # A class that the reference does not contain has weight 0, even if its IU is undefined.
    weighted = np.where(gray == 0, 0.0, gray * gray_iu) + np.where(other == 0, 0.0, other * other_iu)
    return {
        "dice": dice_of_counts(TP, TP + FP, TP + FN),
        "mean_accuracy": (recall + ratio(TN, other)) / 2,
        "pixel_accuracy": ratio(TP + TN, gray + other),
        "recall": recall,
        "precision": ratio(TP, TP + FP),
        "fw_iu": ratio(weighted, gray + other),
        "mean_iu": (gray_iu + other_iu) / 2,
    }
