"""Features of the cord around the gray matter of a slice, which tell more about how good its mask is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_scgm.quality.features import SliceFeatures, principal_extents

MIN_DEPTH_PX = 1.0
"""A line of pixels is a pixel deep."""
AROUND_MM = 2.0
"""Width of the border around the box that holds the cord, in which probabilities count for `cord_agreement`: those far
away say nothing about the outline."""


def with_cord(
    one: SliceFeatures,
    cord: np.ndarray,
    spacing_mm: float,
    *,
    threshold: float = 0.5,
    origin: Sequence[int] = (0, 0),
    near_edge: bool = False,
) -> SliceFeatures:
    """Features of a slice with those of its cord, without the comparison with the neighbours.

    Args:
        one: Features of the gray matter, with its pixels; without gray matter, the features that compare it with the
            cord stay NaN.
        cord: Cord probabilities in [0, 1], (rows, columns).
        spacing_mm: Pixel spacing of the window, mm.
        threshold: Probability above which a pixel is in the cord.
        origin: First pixel of the window on the grid that all slices share.
        near_edge: Whether the cord is near an edge.
    """
    mask = cord > threshold
    pixels = np.argwhere(mask)
    n = len(pixels)
    if not n:
        return replace(one, cord_area_mm2=0.0)
    border_px = round(AROUND_MM / spacing_mm)
    around = cord[
        tuple(
            slice(max(low - border_px, 0), high + border_px + 1)
            for low, high in zip(pixels.min(axis=0), pixels.max(axis=0), strict=True)
        )
    ]
    width_px, depth_px, _ = principal_extents(pixels)
    of_cord = replace(
        one,
        cord_area_mm2=n * spacing_mm**2,
        cord_near_edge=near_edge,
        cord_agreement=float(2 * cord[mask].sum(dtype=np.float64) / (around.sum(dtype=np.float64) + n)),
        cord_aspect=width_px / max(depth_px, MIN_DEPTH_PX),
    )
    if one.pixels is None:
        return of_cord
    to_gray_matter = one.pixels - np.array(origin) - pixels.mean(axis=0)
    # Pixels that the midline cuts count for both sides, so that rounding errors choose for none.
    sides = np.clip(2 * to_gray_matter[:, 0], -1, 1)
    return replace(
        of_cord,
        gm_cord_ratio=len(to_gray_matter) / n,
        cord_offset=float(np.linalg.norm(to_gray_matter.mean(axis=0))) / math.sqrt(n / math.pi),
        cord_balance=1 - abs(float(sides.mean())),
    )
