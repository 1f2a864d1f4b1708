"""Computes a network in a region of interest around the cord, in less time and with the same mask.

Gray matter takes 15 of a window's 50 mm, and distant pixels affect the output only through global pooling. With the
pooled features of the whole window, the region around the cord gives the gray matter that the whole window gives, and
the cord but for one voxel in a thousand at its border (`benchmarks/smaller_windows.py`), in two thirds of the time. A
slice whose gray matter or cord is near the border of its region, or that shows no cord there (no gray matter, if the
network does not know the cord), is computed whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from keras_scgm.predict import in_cord
from keras_scgm.slices import ROUNDING_TOLERANCE

REGION_MM = 38.0
"""Side of the region."""
MARGINS_MM = (10.0, 5.0)
"""Gray matter, and cord, closer to the border of the region than this are computed again in the whole window."""


class Compute(Protocol):
    """A network in one runtime."""

    def __call__(self, slices: np.ndarray, regions: np.ndarray | None = None, /) -> np.ndarray:
        """Probabilities of whole slices, or of regions of them, as the network gives them.

        Args:
            slices: Z-scored slices, float32 (slice, rows, columns, 1), or (stack, slice, rows, columns, 1) if a
                network of the runtime sees stacks.
            regions: Equally large parts of them, one per slice; their probabilities, computed with the pooled
                features of the whole slices, are returned instead. Folded networks only.

        Returns:
            float32 (slice, rows, columns, tissue), or (stack, slice, rows, columns, tissue).
        """


@dataclass(frozen=True)
class Predictor:
    """`keras_scgm.predict.Predict` of one network or of the mean of several.

    Args:
        compute: The network.
        takes_regions: Whether `compute` takes regions.
        spacing_mm: Pixel spacing of the slices, mm.
        thresholds: Probability above which a pixel is of a tissue, for each tissue of the network.
    """

    compute: Compute
    takes_regions: bool
    spacing_mm: float
    thresholds: tuple[float, ...]

    def __call__(self, slices: np.ndarray, centers: np.ndarray | None = None, /) -> np.ndarray:
        size = round(REGION_MM / self.spacing_mm)
        window = np.array(slices.shape[1:3])
        if centers is None or not self.takes_regions or size >= window.min():
            return self.probabilities(slices)
        starts = np.clip(np.rint(centers - (size - 1) / 2 + ROUNDING_TOLERANCE).astype(int), 0, window - size)
        regions = [
            (k, slice(row, row + size), slice(column, column + size))
            for k, (row, column) in enumerate(starts)
        ]
        found = self.probabilities(slices, np.stack([slices[region] for region in regions]))
        probabilities = np.zeros((*slices.shape[:3], found.shape[-1]), np.float32)
        for region, values in zip(regions, found, strict=True):
            probabilities[region] = values
        masks = found > np.array(self.thresholds, np.float32)
        unsure = np.array([self._is_unsure(*case, window) for case in zip(masks, starts, strict=True)])
        if unsure.any():
            probabilities[unsure] = self.probabilities(slices[unsure])
        return probabilities

    def probabilities(self, slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        """What `compute` gives, with gray matter no more probable than the cord."""
        return in_cord(self.compute(slices, regions))

    def mirrored(self) -> Predictor:
        """The same network, applied to the left-right mirrored slices."""
        return replace(self, compute=_mirrored(self.compute))

    def _is_unsure(self, masks: np.ndarray, start: np.ndarray, window: np.ndarray) -> bool:
        """Whether a region has nothing of the last tissue, or a tissue near a border inside the window.

        Args:
            masks: (rows, columns, tissue) in the region.
            start: First row and column of the region in the window.
            window: Rows and columns of the window.
        """
        if not masks[..., -1].any():
            return True
        for tissue, margin_mm in enumerate(MARGINS_MM[: masks.shape[-1]]):
            margin = round(margin_mm / self.spacing_mm)
            for axis, length in enumerate(masks.shape[:2]):
                occupied = np.flatnonzero(masks[..., tissue].any(axis=1 - axis))
                if not len(occupied):
                    break
                first, last = occupied[0], occupied[-1]
                if (start[axis] > 0 and first < margin) or (
                    start[axis] + length < window[axis] and last >= length - margin
                ):
                    return True
        return False


def mean_of(predictors: Sequence[Predictor], mirror: bool) -> Predictor:
    """The mean of several networks.

    Args:
        predictors: The networks, with the same tissues, spacing and thresholds.
        mirror: Whether the mean includes each network applied to the mirrored slices.
    """
    computes = []
    for predictor in predictors:
        computes.append(predictor.compute)
        if mirror:
            computes.append(_mirrored(predictor.compute))

    def compute(slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        return np.mean([each(slices, regions) for each in computes], axis=0)

    takes_regions = all(predictor.takes_regions for predictor in predictors)
    return replace(predictors[0], compute=compute, takes_regions=takes_regions)


def gray_matter_of(predictor: Predictor) -> Predictor:
    """The first tissue of a network alone."""

    def compute(slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        return predictor.compute(slices, regions)[..., :1]

    return replace(predictor, compute=compute)


def with_cord_of(predictor: Predictor, other: Predictor) -> Predictor:
    """The gray matter of a network, and the cord that another sees in the same slices."""

    def compute(slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        gray_matter, cord = (each.compute(slices, regions) for each in (predictor, other))
        return np.concatenate([gray_matter[..., :1], cord[..., -1:]], axis=-1)

    return replace(predictor, compute=compute, takes_regions=predictor.takes_regions and other.takes_regions)


def _mirrored(compute: Compute) -> Compute:
    def mirrored(slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        # Rows, with columns and channels behind them; slices may stand in stacks.
        flipped = (..., slice(None, None, -1), slice(None), slice(None))
        return compute(slices[flipped], None if regions is None else regions[flipped])[flipped]

    return mirrored
