"""Skeletons of slices by the thinning of Zhang and Suen (Communications of the ACM 27(3), 1984).

Thinning deletes a lone block of 2 x 2 pixels, so that a mask may have no skeleton.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

RESOLUTION_MM = 0.1
"""Pixel size at which slices are thinned (the Spinal Cord Toolbox's default)."""

STACK_PIXELS = 2**24
"""Maximum number of pixels that are thinned at once."""

NEIGHBOURS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""P2 to P9 of the paper: clockwise from the one above."""


def slice_skeletons(mask: np.ndarray, spacing_mm: tuple[float, float]) -> list[np.ndarray]:
    """Skeletons at `RESOLUTION_MM`, after nearest-neighbour resampling in the plane of the slice.

    Args:
        mask: Boolean (rows, columns, slice).
        spacing_mm: Pixel spacing of rows and columns, mm.

    Returns:
        For each slice the points (point, 2) of its skeleton in mm.
    """
    skeletons = [np.empty((0, 2))] * mask.shape[2]
    present = np.flatnonzero(mask.any(axis=(0, 1)))
    if not present.size:
        return skeletons
    rows, columns = (
        _finer(np.asarray(mask.any(axis=(1 - axis, 2))), spacing_mm[axis], RESOLUTION_MM) for axis in (0, 1)
    )
    for part in _chunks(present, len(rows.source) * len(columns.source)):
        stack = np.moveaxis(mask[np.ix_(rows.source, columns.source, part)], 2, 0)
        for k, thinned in zip(part, thin(stack), strict=True):
            skeletons[k] = np.add(np.argwhere(thinned), (rows.start, columns.start)) * RESOLUTION_MM
    return skeletons


def thin(slices: np.ndarray) -> np.ndarray:
    """Skeletons of slices, boolean (slice, rows, columns)."""
    padded = np.pad(slices, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    flat, width = padded.reshape(-1), padded.shape[2]
    steps = [row * width + column for row, column in NEIGHBOURS]
    pixels = np.flatnonzero(flat)
    n_before = -1
    while pixels.size != n_before:
        n_before = pixels.size
        for deletable in DELETABLE:
            surroundings = np.zeros(pixels.size, np.uint8)
            for bit, step in enumerate(steps):
                surroundings |= flat[pixels + step] << bit
            deleted = deletable[surroundings]
            flat[pixels[deleted]] = 0
            pixels = pixels[~deleted]
    return padded[:, 1:-1, 1:-1].astype(bool)


def _deletable() -> np.ndarray:
    """For the two passes of an iteration, which of the 256 surroundings of a pixel delete it."""
    surroundings = (np.arange(256)[:, np.newaxis] >> np.arange(8)) & 1
    above, right, below, left = surroundings.T[::2]
    n_neighbours = surroundings.sum(axis=1)
    n_rises = np.count_nonzero((surroundings == 0) & (np.roll(surroundings, -1, axis=1) == 1), axis=1)
    at_border = (n_neighbours >= 2) & (n_neighbours <= 6) & (n_rises == 1)
    lower_right = (above * right * below == 0) & (right * below * left == 0)
    upper_left = (above * right * left == 0) & (above * below * left == 0)
    return np.stack([at_border & lower_right, at_border & upper_left])


DELETABLE = _deletable()


class _Finer(NamedTuple):
    """Part of the finer grid along one axis: its first pixel, and the voxel that each pixel lies in."""

    start: int
    source: np.ndarray


def _finer(present: np.ndarray, spacing_mm: float, pixel_mm: float) -> _Finer:
    """Pixels of the finer grid from the first to the last voxel that is present."""
    n_voxels = len(present)
    n_pixels = round(n_voxels * spacing_mm / pixel_mm)
    source = np.floor(np.arange(n_pixels) * n_voxels / n_pixels + 0.5).astype(int).clip(max=n_voxels - 1)
    first, last = np.flatnonzero(present)[[0, -1]]
    start, stop = np.searchsorted(source, [first, last + 1])
    return _Finer(int(start), source[start:stop])


def _chunks(slices: np.ndarray, pixels_each: int) -> Iterator[np.ndarray]:
    step = max(1, STACK_PIXELS // max(1, pixels_each))
    for start in range(0, len(slices), step):
        yield slices[start : start + step]
