"""Directions of the patient in the planes of slices and of sections, in world coordinates (RAS+, mm)."""

from __future__ import annotations

import numpy as np

from keras_scgm.grids import canonical_grid
from keras_scgm.volume import Volume

LEFT = np.array([-1.0, 0.0, 0.0])


def axial_steps_mm(volume: Volume) -> np.ndarray:
    """(3, 3): world vector of one step along each axis of the axial view, to the left, the front and up."""
    _, affine = canonical_grid(volume.voxels.shape, volume.affine)
    return affine[:3, :3].T


def slice_normal(steps_mm: np.ndarray) -> np.ndarray:
    """(3,): unit normal of the slices, up.

    Args:
        steps_mm: Result of `axial_steps_mm`.

    >>> slice_normal(np.diag([-0.5, 0.5, 5.0]))
    array([0., 0., 1.])
    """
    normal = np.cross(steps_mm[1], steps_mm[0])
    # Adding 0 makes -0 a 0.
    return normal / np.linalg.norm(normal) + 0.0


def plane_axes(normal: np.ndarray) -> np.ndarray:
    """(2, 3): unit vectors to the patient's left and to the front in the plane with this unit normal.

    The first is the patient's right-left axis projected onto the plane, the second is perpendicular to it.

    >>> plane_axes(np.array([0.0, 0.0, 1.0]))
    array([[-1.,  0.,  0.],
           [ 0.,  1.,  0.]])
    """
    left = LEFT - (LEFT @ normal) * normal
    left /= np.linalg.norm(left)
    return np.stack([left, np.cross(left, normal)]) + 0.0
