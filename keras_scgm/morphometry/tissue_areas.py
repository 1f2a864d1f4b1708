"""Gray matter, white matter and cord of every axial slice, from masks of gray matter and cord."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from keras_scgm.morphometry.cord_direction import cord_tangents
from keras_scgm.morphometry.patient_axes import axial_steps_mm, plane_axes, slice_normal
from keras_scgm.morphometry.section_shape import ellipse, solidity
from keras_scgm.volume import Volume, bounding_box

Slices = Callable[[int, int], np.ndarray]
"""Slices [start, stop) from the inferior end, (slice, right-left, posterior-anterior): a mask of 0 and 1, or
fractions of a voxel between."""

SLICES_AT_ONCE = 16

ROUND_ASPECT = 0.9
"""Depth over width from which on a section is too round to tell how it is turned."""


@dataclass(frozen=True, kw_only=True)
class TissueAreas:
    """Gray matter, white matter and cord of one axial slice; NaN where it is not known.

    Areas are sums of voxels times the area of a voxel in the axial plane, and 0 in a slice of a cord mask without
    cord; what needs the cord's section is NaN there. White matter is cord without gray matter. Diameters,
    eccentricity and orientation are those of the ellipse with the second moments of the cord's section perpendicular
    to the cord, as in the Spinal Cord Toolbox; in the plane of the slice where the direction is not known.

    Args:
        cord_area_mm2: Gray and white matter.
        wm_area_mm2: White matter.
        gm_cord_ratio: Gray matter divided by cord.
        cord_angle_deg: Between the slice normal and the cord, from 0 to 90; NaN where less than two slices have cord.
        gm_perpendicular_mm2: Gray matter of the section perpendicular to the cord: area times the angle's cosine.
        wm_perpendicular_mm2: White matter, likewise.
        cord_perpendicular_mm2: Cord, likewise.
        cord_ap_mm: Length of the ellipse's axis that lies nearer to the front-back direction.
        cord_rl_mm: Length of the other axis.
        cord_eccentricity: Eccentricity of the ellipse, 0 for a circle.
        cord_orientation_deg: From 0 to 90, between the ellipse's longer axis and the patient's right-left axis.
        cord_solidity: Cord divided by its convex hull.
        gm_left_mm2: Gray matter on the patient's left of the line through the cord's centre, in the plane of the
            slice and along the cord's own axes, see `halving_axes`; a voxel on the line counts on both sides by its
            parts.
        gm_right_mm2: On the patient's right.
        gm_ventral_mm2: In front of the cord's centre.
        gm_dorsal_mm2: Behind it.
    """

    cord_area_mm2: float = math.nan
    wm_area_mm2: float = math.nan
    gm_cord_ratio: float = math.nan
    cord_angle_deg: float = math.nan
    gm_perpendicular_mm2: float = math.nan
    wm_perpendicular_mm2: float = math.nan
    cord_perpendicular_mm2: float = math.nan
    cord_ap_mm: float = math.nan
    cord_rl_mm: float = math.nan
    cord_eccentricity: float = math.nan
    cord_orientation_deg: float = math.nan
    cord_solidity: float = math.nan
    gm_left_mm2: float = math.nan
    gm_right_mm2: float = math.nan
    gm_ventral_mm2: float = math.nan
    gm_dorsal_mm2: float = math.nan

    @property
    def cord_aspect(self) -> float:
        """Width of the cord divided by its depth; infinite for a line of voxels."""
        return self.cord_rl_mm / self.cord_ap_mm if self.cord_ap_mm else math.inf


TISSUE_COLUMNS = tuple(item.name for item in fields(TissueAreas))

CORD_MEASUREMENTS = tuple(name for name in TISSUE_COLUMNS if name.startswith("cord_"))
"""Pooled over slices with cord; all others are pooled over those with gray matter."""


@dataclass(frozen=True)
class _Cord:
    """Cord of a slice, in voxels.

    Args:
        box: Part of the slice that it lies in.
        area: Gray and white matter.
        center: Its centre.
        covariance: (2, 2), of its places.
        solidity: See `solidity`.
    """

    box: tuple[slice, ...]
    area: float
    center: np.ndarray
    covariance: np.ndarray
    solidity: float


@dataclass(frozen=True)
class _GrayMatter:
    """Gray matter in the cord of a slice, in voxels; NaN where it is not known.

    Args:
        area: All of it.
        left: What is on the left of the cord's centre.
        ventral: What is in front of it.
    """

    area: float
    left: float
    ventral: float


def tissue_areas(
    volume: Volume,
    gray_matter: Slices | None,
    cord: Slices | None = None,
    centreline: Slices | None = None,
) -> tuple[TissueAreas, ...]:
    """Measurements of every axial slice.

    Args:
        volume: The grid.
        gray_matter: Gray matter; only what is in the cord counts, if that is given. None if it is not known, and what
            needs it is NaN then.
        cord: The whole cord.
        centreline: Middle of the cord, used for its direction instead of the cord.

    Returns:
        One for each slice, from the inferior end; all is NaN without cord and centreline.
    """
    n_slices, voxel_mm2, steps_mm = volume.n_slices, volume.voxel_area_mm2, axial_steps_mm(volume)
    gray_sections: Iterator[np.ndarray | None] = (
        itertools.repeat(None, n_slices) if gray_matter is None else _each(gray_matter, n_slices)
    )
    if cord is None:
        if centreline is None:
            return (TissueAreas(),) * n_slices
        cosines, angles_deg = _angles(steps_mm, _tangents(steps_mm, centreline, n_slices))
        sums = [math.nan if gray is None else float(gray.sum(dtype=np.float64)) for gray in gray_sections]
        return tuple(
            TissueAreas(cord_angle_deg=angle_deg, gm_perpendicular_mm2=gray * voxel_mm2 * cosine)
            for angle_deg, gray, cosine in zip(angles_deg, sums, cosines, strict=True)
        )
    cords = [_cord(section) for section in _each(cord, n_slices)]
    axes = halving_axes(steps_mm, np.array([each.covariance for each in cords if each.area]))
    pairs = zip(gray_sections, _each(cord, n_slices), cords, strict=True)
    grays = [_gray_matter(gray, section, found, axes) for gray, section, found in pairs]
    if centreline is None:
        tangents = cord_tangents(steps_mm, np.array([each.center for each in cords]))
    else:
        tangents = _tangents(steps_mm, centreline, n_slices)
    cosines, angles_deg = _angles(steps_mm, tangents)
    rows = zip(cords, grays, tangents, cosines, angles_deg, strict=True)
    return tuple(_areas(*row, steps_mm, voxel_mm2) for row in rows)


def halving_axes(steps_mm: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Directions along which the cord is halved: its own, so that a rolled head has the halves of a straight one.

    They are the axes of the mean section of all slices, which tells the roll better than a single one. A section that
    is nearly round, or deeper than wide, does not tell it; the patient's axes are taken then.

    Args:
        steps_mm: Result of `axial_steps_mm`.
        covariances: (slices, 2, 2), of the places of the cord in voxels, along right-left and posterior-anterior.

    Returns:
        (2, 2) mm: how far a step along right-left and posterior-anterior goes to the left and to the front.
    """
    patient = plane_axes(slice_normal(steps_mm)) @ steps_mm[:2].T
    if not len(covariances):
        return patient
    mean_mm2 = patient @ covariances.mean(axis=0) @ patient.T
    shape = ellipse(mean_mm2)
    if shape.ap_mm > ROUND_ASPECT * shape.rl_mm:
        return patient
    roll = math.atan2(2 * mean_mm2[0, 1], mean_mm2[0, 0] - mean_mm2[1, 1]) / 2
    cosine, sine = math.cos(roll), math.sin(roll)
    return np.array([[cosine, sine], [-sine, cosine]]) @ patient


def _each(slices: Slices, n_slices: int) -> Iterator[np.ndarray]:
    for start in range(0, n_slices, SLICES_AT_ONCE):
        yield from slices(start, min(start + SLICES_AT_ONCE, n_slices))


def _tangents(steps_mm: np.ndarray, middle: Slices, n_slices: int) -> np.ndarray:
    centers = [_moments(section, bounding_box(section))[1] for section in _each(middle, n_slices)]
    return cord_tangents(steps_mm, np.array(centers))


def _angles(steps_mm: np.ndarray, tangents: np.ndarray) -> tuple[list[float], list[float]]:
    """Cosine and angle in degrees between the slice normal and each tangent."""
    cosines = np.minimum(1.0, tangents @ slice_normal(steps_mm))
    return cosines.tolist(), np.degrees(np.arccos(cosines)).tolist()


def _moments(section: np.ndarray, box: tuple[slice, ...]) -> tuple[float, np.ndarray, np.ndarray]:
    """Sum, centre (2,) and covariance (2, 2) in voxels; centre and covariance are NaN for an empty section."""
    weights = section[box].astype(np.float64)
    total = float(weights.sum())
    if not total:
        return 0.0, np.full(2, np.nan), np.full((2, 2), np.nan)
    places = [np.arange(part.start, part.stop, dtype=np.float64) for part in box]
    center = np.array([weights.sum(axis=1) @ places[0], weights.sum(axis=0) @ places[1]]) / total
    row, column = places[0] - center[0], places[1] - center[1]
    across = row @ weights @ column
    covariance = np.array([[weights.sum(axis=1) @ row**2, across], [across, weights.sum(axis=0) @ column**2]])
    return total, center, covariance / total


def _cord(section: np.ndarray) -> _Cord:
    box = bounding_box(section)
    return _Cord(box, *_moments(section, box), solidity(section[box] > 0.5))


def _gray_matter(gray: np.ndarray | None, section: np.ndarray, cord: _Cord, axes: np.ndarray) -> _GrayMatter:
    """Measure the gray matter of a slice.

    Args:
        gray: Gray matter, if it is known.
        section: Cord.
        cord: What was measured of it.
        axes: Result of `halving_axes`.
    """
    if gray is None:
        return _GrayMatter(math.nan, math.nan, math.nan)
    inside = np.minimum(gray[cord.box], section[cord.box]).astype(np.float64)
    rows, columns = (
        np.arange(part.start, part.stop) - middle for part, middle in zip(cord.box, cord.center, strict=True)
    )
    left, ventral = (
        float((inside * _beyond(step[0] * rows[:, np.newaxis] + step[1] * columns, step)).sum())
        for step in axes
    )
    return _GrayMatter(float(inside.sum()), left, ventral)


def _beyond(offsets_mm: np.ndarray, steps_mm: np.ndarray) -> np.ndarray:
    """Part of each voxel beyond a line, from the distance of its centre and the steps between voxels across it."""
    return np.clip(0.5 + offsets_mm / np.abs(steps_mm).max(), 0.0, 1.0)


def _areas(
    cord: _Cord,
    gray_matter: _GrayMatter,
    tangent: np.ndarray,
    cosine: float,
    angle_deg: float,
    steps_mm: np.ndarray,
    voxel_mm2: float,
) -> TissueAreas:
    gray_mm2, cord_mm2 = gray_matter.area * voxel_mm2, cord.area * voxel_mm2
    white_mm2 = (cord.area - gray_matter.area) * voxel_mm2
    if not cord.area:
        return TissueAreas(cord_area_mm2=0.0, wm_area_mm2=white_mm2)
    normal = tangent if math.isfinite(cosine) else slice_normal(steps_mm)
    # Along the cord, the section of the slice falls onto that perpendicular to it.
    to_plane = plane_axes(normal) @ steps_mm[:2].T
    shape = ellipse(to_plane @ cord.covariance @ to_plane.T)
    left_mm2, ventral_mm2 = gray_matter.left * voxel_mm2, gray_matter.ventral * voxel_mm2
    return TissueAreas(
        cord_area_mm2=cord_mm2,
        wm_area_mm2=white_mm2,
        gm_cord_ratio=gray_matter.area / cord.area,
        cord_angle_deg=angle_deg,
        gm_perpendicular_mm2=gray_mm2 * cosine,
        wm_perpendicular_mm2=white_mm2 * cosine,
        cord_perpendicular_mm2=cord_mm2 * cosine,
        cord_ap_mm=shape.ap_mm,
        cord_rl_mm=shape.rl_mm,
        cord_eccentricity=shape.eccentricity,
        cord_orientation_deg=shape.orientation_deg,
        cord_solidity=cord.solidity,
        gm_left_mm2=left_mm2,
        gm_right_mm2=gray_mm2 - left_mm2,
        gm_ventral_mm2=ventral_mm2,
        gm_dorsal_mm2=gray_mm2 - ventral_mm2,
    )
