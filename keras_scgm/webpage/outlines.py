"""Outlines of masks in a slice."""

from __future__ import annotations

import numpy as np
from skimage.measure import find_contours

PAGE_HALF_WIDTH_MM = 10.0
"""Half width of the square part of a slice that a page shows, unless the outlines need more."""


def outlines(section: np.ndarray) -> list[np.ndarray]:
    """Closed outlines of a mask, between the centres of its voxels and those beside them.

    Args:
        section: Boolean slice (right-left, posterior-anterior).

    Returns:
        For each outline its points (point, 2) in voxels from the edge of the first voxel; the last is the first.

    >>> outlines(np.array([[True]]))[0].tolist()
    [[1.0, 0.5], [0.5, 0.0], [0.0, 0.5], [0.5, 1.0], [1.0, 0.5]]
    """
    marked = np.argwhere(section)
    if not len(marked):
        return []
    low, high = marked.min(axis=0), marked.max(axis=0) + 1
    padded = np.pad(section[low[0] : high[0], low[1] : high[1]], 1).astype(float)
    # From the centre of a padded voxel to the edge of the first voxel.
    return [line - 0.5 + low for line in find_contours(padded, 0.5)]
