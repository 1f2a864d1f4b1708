"""Checks and reads the volumes that areas are measured in."""

from __future__ import annotations

import numpy as np

from keras_scgm.errors import InputError, counted
from keras_scgm.volume import Volume


def fractions(volume: Volume) -> np.ndarray:
    """float64 (slice, right-left, posterior-anterior) in [0, 1]."""
    values, n_replaced = volume.read_slices(0, volume.n_slices)
    if n_replaced:
        raise InputError(
            f"{volume.source}: {counted(n_replaced, 'voxel')} NaN or infinite; make the mask again"
        )
    if values.min() < 0 or values.max() > 1 + 1e-6:
        raise InputError(
            f"{volume.source}: holds values from {values.min():g} to {values.max():g}; "
            "a mask is 0 and 1, and probabilities lie between"
        )
    return values


def slice_levels(levels: Volume, cord: np.ndarray | None) -> list[int | None]:
    values, n_replaced = levels.read_slices(0, levels.n_slices)
    whole = np.rint(values).astype(int)
    if n_replaced or np.abs(values - whole).max() > 1e-3 or whole.min() < 0:
        raise InputError(
            f"{levels.source}: vertebral levels must be whole numbers from 0; give the level map, not the image"
        )
    counts = np.bincount(whole.ravel())[1:]
    if np.count_nonzero(counts) > 1 and counts.max() == 1:
        raise InputError(
            f"{levels.source}: one voxel of each number, points of discs and not levels; give a map in which all "
            "voxels of a level have its number"
        )
    found: list[int | None] = []
    for k, section in enumerate(whole):
        marked = section[section > 0]
        if cord is not None and np.any(section[cord[k] > 0.5]):
            in_cord = section[cord[k] > 0.5]
            marked = in_cord[in_cord > 0]
        found.append(int(np.bincount(marked).argmax()) if len(marked) else None)
    return found
