"""Angle between the cord and the slice normal."""

from __future__ import annotations

import numpy as np

from keras_scgm.errors import InputError
from keras_scgm.grids import canonical_grid
from keras_scgm.volume import Volume

DIRECTION_SIGMA_MM = 10.0
"""Standard deviation of the weights of the local line fit; at least the distance of two slices."""


def slice_cosines(volume: Volume, middle: np.ndarray) -> np.ndarray:
    """Cosines of the angle between slice normal and cord, from a local line through the centres of the cord."""
    sums = middle.sum(axis=(1, 2))
    present = np.flatnonzero(sums)
    if len(present) < 2:
        raise InputError(
            f"{volume.source}: the cord is marked in fewer than 2 slices; its direction is unknown"
        )
    rows, columns = (np.arange(n, dtype=float) for n in middle.shape[1:])
    centers = np.stack(
        [
            (middle[present].sum(axis=2) * rows).sum(axis=1) / sums[present],
            (middle[present].sum(axis=1) * columns).sum(axis=1) / sums[present],
            present,
        ],
        axis=1,
    )
    right_left, anterior_posterior, inferior_superior = _axial_steps_mm(volume)
    points_mm = centers @ np.stack([right_left, anterior_posterior, inferior_superior])
    normal = np.cross(right_left, anterior_posterior)
    normal /= np.linalg.norm(normal)
    heights_mm = points_mm @ normal
    sigma_mm = max(DIRECTION_SIGMA_MM, volume.slice_spacing_mm)
    cosines = np.empty(len(middle))
    for k in range(len(middle)):
        nearest = np.argmin(np.abs(present - k))
        distance_mm = heights_mm - heights_mm[nearest]
        weights = np.exp(-0.5 * (distance_mm / sigma_mm) ** 2)
        weights /= weights.sum()
        offsets_mm = points_mm - weights @ points_mm
        heights = heights_mm - weights @ heights_mm
        # Movement of the centre, in world coordinates, per mm along the normal.
        direction = (weights * heights) @ offsets_mm / (weights @ heights**2)
        cosines[k] = min(1.0, abs(direction @ normal) / np.linalg.norm(direction))
    return cosines


def _axial_steps_mm(volume: Volume) -> np.ndarray:
    """(3, 3): world vector of one step along each axis of the axial view."""
    _, affine = canonical_grid(volume.voxels.shape, volume.affine)
    return affine[:3, :3].T
