"""Vertebral level of every slice from labels of the discs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import center_of_mass

from keras_scgm.errors import InputError
from keras_scgm.grids import canonical_grid
from keras_scgm.morphometry.cord_direction import cord_tangents
from keras_scgm.morphometry.patient_axes import axial_steps_mm, slice_normal
from keras_scgm.volume import Volume, as_array

NO_DISCS = (49, 50)
"""Labels of the Spinal Cord Toolbox for the pontomedullary junction and groove, which its files of discs may hold."""

OF_SLICE = 0.25
"""A slice so far below a disc, as a share of the slice spacing, is still that of the disc."""


def between_discs(volume: Volume, cord: np.ndarray, discs: Volume) -> list[int | None]:
    """Level of every slice from the inferior end.

    As in the Spinal Cord Toolbox, a disc counts where the cord is nearest to its label, a slice has the level below the
    nearest disc above it, and the slice of a disc is above it. Unlike there, a slice has no level below the lowest
    disc, where its vertebra may have ended.

    Args:
        volume: The grid of the slices.
        cord: Cord, or its gray matter (slice, right-left, posterior-anterior) in [0, 1].
        discs: Labels, on any grid in the same coordinates: each the number of the vertebra below the disc.

    Raises:
        InputError: Fewer than two discs, labels that are no whole numbers, one missing between others, or not in the
            order of the spine.
    """
    labels, places_mm = _labels(discs)
    found = _slices(volume, cord, places_mm)
    slices = {int(label): float(found[labels == label].mean()) for label in np.unique(labels)}
    missing = sorted(set(range(min(slices), max(slices))) - set(slices))
    if missing:
        raise InputError(
            f"{discs.source}: no label {missing[0]} between {min(slices)} and {max(slices)}; label every disc"
        )
    from_top = sorted(slices.items(), key=lambda item: -item[1])
    if [label for label, _ in from_top] != sorted(slices):
        raise InputError(f"{discs.source}: labels of discs must rise from top to bottom; check them")
    return [
        next((level for (level, top), (_, end) in pairwise(from_top) if end <= k + OF_SLICE < top), None)
        for k in range(volume.n_slices)
    ]


def _labels(discs: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Label and place in world coordinates, mm, of every labelled voxel."""
    values = as_array(discs.voxels).astype(np.float64) * discs.slope + discs.intercept
    indices = np.argwhere(values)
    labels = np.rint(values[tuple(indices.T)])
    if np.abs(values[tuple(indices.T)] - labels).max(initial=0) > 1e-3 or labels.min(initial=1) < 1:
        raise InputError(f"{discs.source}: labels of discs must be whole numbers from 1")
    is_disc = ~np.isin(labels, NO_DISCS)
    if len(np.unique(labels[is_disc])) < 2:
        raise InputError(f"{discs.source}: a level lies between two discs; label at least two")
    places_mm = indices[is_disc] @ discs.affine[:3, :3].T + discs.affine[:3, 3]
    return labels[is_disc].astype(int), places_mm


def _slices(volume: Volume, cord: np.ndarray, places_mm: np.ndarray) -> np.ndarray:
    """Where the cord is nearest to places (place, 3): in fractions of slices from the inferior end.

    It is where the plane perpendicular to the cord holds the place; without a cord in two slices, the plane of slices.
    """
    steps_mm = axial_steps_mm(volume)
    normal = slice_normal(steps_mm)
    _, affine = canonical_grid(volume.voxels.shape, volume.affine)
    spacing_mm = steps_mm[2] @ normal
    centers = np.array([center_of_mass(section) if section.any() else (np.nan, np.nan) for section in cord])
    present = np.flatnonzero(np.isfinite(centers[:, 0]))
    if len(present) < 2:
        return (places_mm - affine[:3, 3]) @ normal / spacing_mm
    tangents = cord_tangents(steps_mm, centers)[present]
    centers_mm = np.column_stack([centers[present], present]) @ steps_mm + affine[:3, 3]
    ahead_mm = np.einsum("psx,sx->ps", places_mm[:, np.newaxis] - centers_mm, tangents)
    nearest = np.abs(ahead_mm).argmin(axis=1)
    return (
        present[nearest]
        + ahead_mm[np.arange(len(nearest)), nearest] * (tangents @ normal)[nearest] / spacing_mm
    )
