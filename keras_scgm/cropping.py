"""Less work for the same mask: probabilities in the part of a window around the cord.

Gray matter takes 15 of a window's 50 mm, and what lies far from it reaches the network in one way only, through the
features pooled over the window. With those of the whole window, the part around the cord gives the mask that the whole
gives (`benchmarks/smaller_windows.py`), in two thirds of the time. A slice whose gray matter is not well inside its
part, or that shows none there, is computed whole.
"""

from __future__ import annotations

import numpy as np

from keras_scgm.runtimes.folding import PredictCrops
from keras_scgm.slices import ROUNDING_TOLERANCE

CROP_MM = 38.0
"""Side of the part."""
MARGIN_MM = 10.0
"""Gray matter closer to the end of the part than this is computed again in the whole window."""


def predict_around(
    predict: PredictCrops, slices: np.ndarray, centers: np.ndarray, spacing_mm: float, threshold: float
) -> np.ndarray:
    """Probabilities in whole windows, 0 far from the cord.

    Args:
        predict: the network.
        slices: normalised, float32 (slice, rows, columns, 1).
        centers: of the cord, (slice, 2) pixels of the windows.
        spacing_mm: of the pixels.
        threshold: probability above which a pixel is gray matter.

    Returns:
        float32 (slice, rows, columns).
    """
    window, size = np.array(slices.shape[1:3]), round(CROP_MM / spacing_mm)
    if size >= window.min():
        return predict(slices)
    starts = np.clip(np.rint(centers - (size - 1) / 2 + ROUNDING_TOLERANCE).astype(int), 0, window - size)
    regions = [
        (k, slice(row, row + size), slice(column, column + size)) for k, (row, column) in enumerate(starts)
    ]
    found = predict(slices, np.stack([slices[region] for region in regions]))
    probabilities = np.zeros(slices.shape[:3], np.float32)
    for region, values in zip(regions, found, strict=True):
        probabilities[region] = values
    unsure = np.array(
        [_is_unsure(*case, window, spacing_mm) for case in zip(found > threshold, starts, strict=True)]
    )
    if unsure.any():
        probabilities[unsure] = predict(slices[unsure])
    return probabilities


def _is_unsure(mask: np.ndarray, start: np.ndarray, window: np.ndarray, spacing_mm: float) -> bool:
    """Whether there is nothing, or something near an end of the part that is no end of the window."""
    margin = round(MARGIN_MM / spacing_mm)
    for axis, length in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(axis=1 - axis))
        if not len(occupied):
            return True
        first, last = occupied[0], occupied[-1]
        if (start[axis] > 0 and first < margin) or (
            start[axis] + length < window[axis] and last >= length - margin
        ):
            return True
    return False
