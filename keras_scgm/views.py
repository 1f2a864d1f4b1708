"""The part of a slice that a picture shows, and its gray scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.ndimage import binary_dilation, label

MARGIN_MM = 1.0
"""Least distance of the gray matter from the edge of a picture."""
RIM_MM = 1.0
"""Width of the white matter around the gray matter that sets the gray scale."""
RIM_PERCENTILES = (2, 85)
"""Of the brightness of both: the upper one leaves out fluid that the rim reaches at the tips of the dorsal horns."""


def fitting_half_width_mm(
    marked: Iterable[np.ndarray], spacing_mm: tuple[float, float], least_mm: float
) -> float:
    """Half width of square pictures that hold all marked voxels.

    Args:
        marked: Voxels (voxel, 2) of each slice; their mean is the centre of its picture.
        spacing_mm: Voxel spacing in the order of the axes, mm.
        least_mm: Smallest half width, mm.

    >>> fitting_half_width_mm([np.array([[0, 0], [40, 0]])], (1.0, 1.0), least_mm=16.0)
    21.5
    """
    reaches = [(np.abs(points - points.mean(axis=0)).max(axis=0) + 0.5) * spacing_mm for points in marked]
    return float(max([least_mm - MARGIN_MM, *np.ravel(reaches)])) + MARGIN_MM


def centred_squares(
    marked: Mapping[int, np.ndarray], shape: tuple[int, int], spacing_mm: tuple[float, float], least_mm: float
) -> tuple[np.ndarray, float]:
    """Squares of one size that hold the marked voxels of their slices.

    A slice without any is shown where its neighbours have theirs, and the whole field if no slice has any.

    Args:
        marked: Slice -> marked voxels (voxel, 2).
        shape: Shape of a slice.
        spacing_mm: Voxel spacing in the order of the axes, mm.
        least_mm: Smallest half width, mm.

    Returns:
        Centres (slice, 2) in voxels, in the order of `marked`, and half of the width, mm.
    """
    filled = {k: points for k, points in marked.items() if len(points)}
    if not filled:
        centers = np.tile((np.array(shape) - 1) / 2, (len(marked), 1))
        return centers, float(max(np.multiply(shape, spacing_mm))) / 2
    known = np.transpose([points.mean(axis=0) for points in filled.values()])
    centers = np.transpose([np.interp(list(marked), list(filled), along) for along in known])
    return centers, fitting_half_width_mm(filled.values(), spacing_mm, least_mm)


def shown_region(center: np.ndarray, half: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Voxels of a slice that a picture shows, at least one along each axis.

    Args:
        center: Centre of the picture (2,), in voxels.
        half: Half of its sides (2,), in voxels.
        shape: Shape of the slice.
    """
    low = np.clip(np.floor(center - half), 0, np.array(shape) - 1).astype(int)
    high = np.clip(np.ceil(center + half) + 1, low + 1, shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def brightness_range(
    crop: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[float, float]:
    """Darkest and brightest value of a gray scale that shows gray against white matter; fluid may saturate.

    Args:
        crop: Part of a slice.
        mask: Gray matter in it; only the largest piece counts, since another may lie in bone or muscle.
        spacing_mm: Voxel spacing in the order of the axes, mm.
    """
    if not mask.any():
        darkest, brightest = np.percentile(crop, (1, 99.5))
    else:
        pieces, _ = label(mask, np.ones((3, 3)))
        largest = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
        cord = binary_dilation(largest, iterations=max(1, round(RIM_MM / max(spacing_mm))))
        low, high = np.percentile(crop[cord], RIM_PERCENTILES)
        darkest, brightest = low - 1.2 * (high - low), high + 0.6 * (high - low)
    return float(darkest), float(max(brightest, darkest + np.spacing(np.float32(abs(darkest)))))
