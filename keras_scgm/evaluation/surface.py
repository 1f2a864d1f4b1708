"""Contours and the distances between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree


@dataclass(frozen=True, eq=False)
class DirectedDistances:
    """Distances from the points of each mask to the nearest point of the other, mm; both empty if a mask is empty.

    Args:
        to_reference: Distances of the points of the prediction.
        to_prediction: Distances of the points of the reference.
    """

    to_reference: np.ndarray
    to_prediction: np.ndarray

    @classmethod
    def between(cls, prediction: np.ndarray, reference: np.ndarray) -> DirectedDistances:
        """Euclidean distances between two sets of points (point, coordinate) in mm."""
        if not len(prediction) or not len(reference):
            return cls(np.empty(0), np.empty(0))
        to_reference, _ = KDTree(reference).query(prediction)
        to_prediction, _ = KDTree(prediction).query(reference)
        return cls(to_reference, to_prediction)

    @property
    def is_defined(self) -> bool:
        """Whether both masks have points."""
        return self.to_reference.size > 0

    @property
    def maximum(self) -> float:
        """Largest distance in either direction (Hausdorff), NaN if undefined."""
        return max(self.directed_maxima)

    @property
    def mean(self) -> float:
        """Mean over the pooled distances of both directions (ASSD), NaN if undefined."""
        return float(np.concatenate(self._both).mean()) if self.is_defined else np.nan

    @property
    def directed_means(self) -> tuple[float, float]:
        """Mean distance (prediction to reference, reference to prediction), NaN if undefined."""
        if not self.is_defined:
            return np.nan, np.nan
        return float(self.to_reference.mean()), float(self.to_prediction.mean())

    @property
    def directed_maxima(self) -> tuple[float, float]:
        """Largest distance (prediction to reference, reference to prediction), NaN if undefined."""
        if not self.is_defined:
            return np.nan, np.nan
        return float(self.to_reference.max()), float(self.to_prediction.max())

    @property
    def larger_median(self) -> float:
        """The larger directed median of the distances that are not zero, NaN if undefined.

        A direction in which all distances are zero counts as zero, as in the Spinal Cord Toolbox.
        """
        if not self.is_defined:
            return np.nan
        return max(float(np.median(part[part > 0])) if part.any() else 0.0 for part in self._both)

    @property
    def _both(self) -> tuple[np.ndarray, np.ndarray]:
        return self.to_reference, self.to_prediction


def contour(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a face neighbour outside it; beyond the array's edge is outside."""
    return mask & ~binary_erosion(mask)
