"""Shape of a section: the ellipse with the same second moments, and solidity.

The definitions are those of `sct_process_segmentation` of the Spinal Cord Toolbox, which takes them from
`skimage.measure.regionprops`, but in millimetres and without resampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-9


@dataclass(frozen=True)
class Ellipse:
    """Ellipse with the second moments of a section.

    Args:
        ap_mm: Length of the axis that lies nearer to the front-back direction.
        rl_mm: Length of the other axis.
        eccentricity: 0 for a circle, below 1; NaN for a single point.
        orientation_deg: Angle from 0 to 90 between the longer axis and the right-left direction, 0 for a circle.
    """

    ap_mm: float
    rl_mm: float
    eccentricity: float
    orientation_deg: float


def ellipse(covariance_mm2: np.ndarray) -> Ellipse:
    """Ellipse of a section.

    Args:
        covariance_mm2: (2, 2), covariance of its points, axes to the left and to the front.

    >>> ellipse(np.diag([9.0, 4.0]) / 4)
    Ellipse(ap_mm=4.0, rl_mm=6.0, eccentricity=0.7453559924999299, orientation_deg=0.0)
    """
    (to_left, across), (_, to_front) = covariance_mm2.tolist()
    middle, half = (to_left + to_front) / 2, math.hypot((to_left - to_front) / 2, across)
    major, minor = middle + half, max(0.0, middle - half)
    is_circle = half <= ROUNDING * middle
    # The longer axis is at half the angle of this vector from the axis to the left.
    orientation_deg = 0.0 if is_circle else abs(math.degrees(math.atan2(2 * across, to_left - to_front))) / 2
    longer_mm, shorter_mm = 4 * math.sqrt(major), 4 * math.sqrt(minor)
    ap_mm, rl_mm = (shorter_mm, longer_mm) if orientation_deg < 45 else (longer_mm, shorter_mm)
    eccentricity = math.sqrt(1 - minor / major) if major else math.nan
    return Ellipse(ap_mm, rl_mm, 0.0 if is_circle and major else eccentricity, orientation_deg)


def solidity(mask: np.ndarray) -> float:
    """Pixels of a mask divided by those whose centres lie in the convex hull of its pixels.

    The hull goes through the middles of the pixels' edges. The ratio does not depend on the size of the pixels.

    Args:
        mask: Boolean, two axes.

    Returns:
        Above 0, up to 1; NaN for an empty mask.

    >>> solidity(np.array([[True, True, True], [True, False, False], [True, False, False]]))
    0.8333333333333334
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return math.nan
    n_columns = mask.shape[1]
    first = mask[rows].argmax(axis=1)
    last = n_columns - 1 - mask[rows][:, ::-1].argmax(axis=1)
    # In half pixels, so that all corners are whole numbers and the hull is exact.
    lower, upper = _half_hull(rows, first), _half_hull(rows, -last)
    inside = 2 * np.arange(rows[0], rows[-1] + 1)
    start = np.ceil(np.interp(inside, *lower) / 2 - ROUNDING)
    stop = np.floor(-np.interp(inside, *upper) / 2 + ROUNDING)
    return float(np.count_nonzero(mask) / (stop - start + 1).sum())


def _half_hull(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower convex hull of diamonds around pixels, (row, column) in half pixels: Andrew's monotone chain."""
    lowest: dict[int, int] = {}
    for row, column in zip((2 * rows).tolist(), (2 * columns).tolist(), strict=True):
        for at, value in ((row - 1, column), (row, column - 1), (row + 1, column)):
            lowest[at] = min(value, lowest.get(at, value))
    hull: list[tuple[int, int]] = []
    for x, y in sorted(lowest.items()):
        while len(hull) > 1:
            (ax, ay), (bx, by) = hull[-2:]
            if (bx - ax) * (y - ay) > (by - ay) * (x - ax):
                break
            hull.pop()
        hull.append((x, y))
    points = np.array(hull)
    return points[:, 0], points[:, 1]
