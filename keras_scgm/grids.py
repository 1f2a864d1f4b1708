"""Comparison of voxel grids: whether two images have the same voxels at the same places, in any storage order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.orientations import inv_ornt_aff

from keras_scgm.errors import InputError
from keras_scgm.volume import Volume, to_canonical

TOLERANCE_MM = 0.05
"""Largest distance between the corner voxels of two images on one grid.

Headers round, and programs keep the same affine as a matrix or as a quaternion. A tenth of a voxel of 0.5 mm does
not change what is measured of gray matter.
"""

Shape = Sequence[int]


def grid_difference(shape: Shape, affine: np.ndarray, other_shape: Shape, other_affine: np.ndarray) -> str:
    """How one grid differs from another, empty if it does not.

    Args:
        shape: Number of voxels along the three stored axes.
        affine: 4x4 matrix from voxel indices to millimetres in RAS+ world coordinates.
        other_shape: Shape of the other grid.
        other_affine: Affine of the other grid.

    >>> grid_difference((4, 4, 2), np.eye(4), (4, 4, 3), np.eye(4))
    '4 x 4 x 2 voxels, not 4 x 4 x 3'
    >>> grid_difference((4, 4, 2), np.eye(4), (2, 4, 4), np.eye(4)[[2, 1, 0, 3]])
    ''
    """
    # An oblique grid between two orientations could fall to either by its rounding alone.
    if not _difference(shape, affine, other_shape, other_affine):
        return ""
    return _difference(*canonical_grid(shape, affine), *canonical_grid(other_shape, other_affine))


def check_same_grid(volume: Volume, other: Volume) -> None:
    """Refuse a volume that does not lie on the grid of another one.

    Raises:
        InputError: How the grid of `other` differs.
    """
    difference = grid_difference(other.voxels.shape, other.affine, volume.voxels.shape, volume.affine)
    if difference:
        raise InputError(
            f"{other.source}: not on the grid of {volume.source}, {difference}; resample it to that grid"
        )


def canonical_grid(shape: Shape, affine: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of the same voxels in the order of `CANONICAL_AXES`."""
    transform = to_canonical(affine)
    order = np.argsort(transform[:, 0])
    return tuple(int(shape[axis]) for axis in order), affine @ inv_ornt_aff(transform, shape)


def shape_text(shape: Shape) -> str:
    """A shape for messages, such as "320 x 320 x 11"."""
    return " x ".join(map(str, shape))


def _difference(shape: Shape, affine: np.ndarray, other_shape: Shape, other_affine: np.ndarray) -> str:
    if tuple(shape) != tuple(other_shape):
        return f"{shape_text(shape)} voxels, not {shape_text(other_shape)}"
    corners = np.array([[*index, 1] for index in np.ndindex(2, 2, 2)]) * [*np.subtract(shape, 1), 1]
    apart_mm = np.linalg.norm((corners @ np.subtract(affine, other_affine).T)[:, :3], axis=1).max()
    return "" if apart_mm <= TOLERANCE_MM else f"lies up to {apart_mm:.3g} mm elsewhere"
