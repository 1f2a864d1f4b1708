"""Direction of the cord in every slice, from the centres of its sections."""

from __future__ import annotations

import numpy as np

from keras_scgm.morphometry.patient_axes import plane_axes, slice_normal

WINDOW_MM = 15.0
"""Standard deviation of the weights of neighbouring slices; at least the distance of two slices."""

CENTRE_SD_MM = 0.15
"""Standard deviation of the centre of a section around a smooth centreline."""

SLOPE_SD = 0.4
"""Standard deviation of the movement of the centre per mm along the normal: 20 degrees are common."""

CURVATURE_SD_PER_MM = 1 / 150
"""Standard deviation of the curvature; cervical lordosis has radii from about 100 mm."""

OUTLIER_SD = 2.0
"""Distance from the fit, in standard deviations, at which a centre has a quarter of its weight."""

MAD_TO_SD = 1.4826
"""Standard deviation of normal numbers divided by the median of their absolute values."""

LEAST_PRIOR = 1e-12
"""Weight of the prior where a header puts slices metres apart; less would vanish beside that of the points."""

PASSES = 4
AT_ONCE = 128


def cord_tangents(steps_mm: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Tangent of a smooth curve through the centres of the cord.

    Around every slice, a parabola is fitted to the centres by least squares, with less weight for distant slices
    and, after the first pass, for outliers. Slope and curvature are shrunk to 0 by as much as so few or so near
    slices leave them undetermined.

    Args:
        steps_mm: (3, 3), world vectors of one step along the axes of the axial view, see `axial_steps_mm`.
        centers: (slice, 2), centre of the cord in voxels along the first two of these axes; NaN where it has none.

    Returns:
        (slice, 3): unit vectors in world coordinates, up; in slices without a centre that of the nearest slice with
        one. NaN if fewer than 2 slices have a centre.

    >>> tangents = cord_tangents(np.diag([-0.5, 0.5, 5.0]), np.array([[10.0, 10.0], [10.0, 12.0]]))
    >>> tangents.round(2) + 0.0
    array([[0.  , 0.19, 0.98],
           [0.  , 0.19, 0.98]])
    """
    present = np.flatnonzero(np.isfinite(centers).all(axis=1))
    if len(present) < 2:
        return np.full((len(centers), 3), np.nan)
    normal = slice_normal(steps_mm)
    axes = np.vstack([plane_axes(normal), normal])
    points_mm = np.column_stack([centers[present], present]) @ steps_mm @ axes.T
    slopes = _slopes(points_mm[:, 2], points_mm[:, :2])
    tangents = slopes @ axes[:2] + normal
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    distance = np.abs(np.arange(len(centers))[:, np.newaxis] - present)
    return tangents[np.argmin(distance, axis=1)]


def _slopes(heights_mm: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Movement of the points (slice, 2) per mm of height, at the height of each of them; heights ascend."""
    window_mm = max(WINDOW_MM, float(np.diff(heights_mm).min()))
    trust = np.ones(len(points_mm))
    for _ in range(PASSES):
        fitted = np.concatenate(
            [
                _parabolas(heights_mm[start : start + AT_ONCE], heights_mm, points_mm, trust, window_mm)
                for start in range(0, len(heights_mm), AT_ONCE)
            ]
        )
        residuals_mm = np.linalg.norm(points_mm - fitted[:, 0], axis=1)
        reach_mm = OUTLIER_SD * max(CENTRE_SD_MM, MAD_TO_SD * float(np.median(residuals_mm)))
        trust = 1 / (1 + (residuals_mm / reach_mm) ** 2) ** 2
    return fitted[:, 1]


def _parabolas(
    at_mm: np.ndarray, heights_mm: np.ndarray, points_mm: np.ndarray, trust: np.ndarray, window_mm: float
) -> np.ndarray:
    """(height, 3, 2): place, slope and curvature at some heights, from the weighted points around them."""
    reach_mm = 4 * window_mm
    start, stop = np.searchsorted(heights_mm, [at_mm[0] - reach_mm, at_mm[-1] + reach_mm])
    offsets = (heights_mm[start:stop] - at_mm[:, np.newaxis]) / window_mm
    terms = np.stack([np.ones_like(offsets), offsets, offsets**2 / 2], axis=2)
    weights = np.exp(-0.5 * offsets**2) * trust[start:stop]
    weighted = weights[..., np.newaxis] * terms
    # Ridge regression: the mean of a Gaussian model whose place is free.
    units = np.array([1.0, window_mm, window_mm**2])
    deviations = np.array([SLOPE_SD, CURVATURE_SD_PER_MM]) * units[1:]
    prior = np.diag([0.0, *np.maximum((CENTRE_SD_MM / deviations) ** 2, LEAST_PRIOR)])
    solution = np.linalg.solve(
        np.einsum("kja,kjb->kab", weighted, terms) + prior,
        np.einsum("kja,jd->kad", weighted, points_mm[start:stop]),
    )
    return solution / units[:, np.newaxis]
