"""Removes what is found away from the cord: in muscle, in a vertebral body, in the brain stem."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label

NEAR_MM = 10.0
"""Tissue so close to the line on which the cord was found tells the centre of the cord in its slice. Where the
line is steep it is less certain, and its distance from one slice to the next is added."""
REACHES_MM = (6.0, 4.0)
"""A piece of gray matter, or of the cord, stays if it comes as close to that centre. Gray matter reaches 5.5 mm; the
spinal canal ends at some 7. The cord lies over its centre."""
ROUNDING_PX = 1e-6
"""Distances are often whole numbers of pixels, where rounding errors must not choose."""


def remove_detached(
    probabilities: np.ndarray,
    centers: np.ndarray,
    steps: np.ndarray,
    threshold: float,
    spacing_mm: float,
    reach_mm: float = REACHES_MM[0],
) -> tuple[np.ndarray, np.ndarray]:
    """Set the probabilities of pieces away from the cord to 0.

    Args:
        probabilities: float32 (slice, rows, columns) in [0, 1] of one tissue; not changed.
        centers: Centres of the cord, (slice, 2) pixels.
        steps: Distances from the centre of the cord to that in a neighbouring slice, (slice,) pixels.
        threshold: Probability above which a pixel is of the tissue.
        spacing_mm: Pixel spacing, mm.
        reach_mm: Distance from the centre within which a piece stays, mm; one of `REACHES_MM`.

    Returns:
        The probabilities, and the number of pixels removed in every slice.
    """
    removed = np.zeros(len(probabilities), int)
    cleaned = probabilities
    for k, mask in enumerate(probabilities > threshold):
        pixels = np.argwhere(mask)
        near = _within(pixels, centers[k], NEAR_MM / spacing_mm + steps[k])
        core = _within(pixels, pixels[near].mean(axis=0), reach_mm / spacing_mm) if near.any() else near
        if core.all():
            continue
        pieces, _ = label(mask, np.ones((3, 3)))
        of_pixel = pieces[mask]
        detached = pixels[~np.isin(of_pixel, of_pixel[core])]
        if cleaned is probabilities:
            cleaned = probabilities.copy()
        cleaned[k, detached[:, 0], detached[:, 1]] = 0
        removed[k] = len(detached)
    return cleaned, removed


def _within(pixels: np.ndarray, center: np.ndarray, radius: float) -> np.ndarray:
    return np.sum((pixels - center) ** 2, axis=1) <= (radius + ROUNDING_PX) ** 2
