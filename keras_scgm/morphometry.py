"""Cross-sectional areas: gray matter, cord and white matter by slice and by vertebral level.

Areas are perpendicular to the cord when a cord mask or a centreline tells its direction: a slice that cuts it
at an angle cuts too large a section, by the inverse of that angle's cosine.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import replaced
from keras_scgm.grids import canonical_grid, grid_difference
from keras_scgm.volume import Volume

DIRECTION_SIGMA_MM = 10.0
"""Reach of the local line fit to the centreline; neighbouring slices always count."""

LISTED_SLICES = 10

INTERVAL = 0.95
"""Share of further raters or passes that an interval is to hold."""


@dataclass(frozen=True)
class SliceArea:
    """Gray matter of one axial slice, as segmented.

    Args:
        slice: index along the axial axis of the file, from 0.
        position_mm: distance of the slice from the most inferior one, along the slice normal.
        area_mm2: voxels of the mask times the voxel's area in the axial plane.
        soft_area_mm2: sum of the probabilities times the voxel's area.
        n_voxels: voxels of the mask.
        mean_probability: over the mask's voxels, NaN without any.
        warning: reason of a verdict other than "pass", empty if none.
        contrast: brightness of the gray matter minus that of its rim, in the image's own unit; NaN without
            gray matter.
        noise: standard deviation of the noise around the gray matter, in the same unit.
        predicted_dsc: what agreement with a reference is to be expected (`keras_scgm.quality`); NaN without
            gray matter.
        verdict: "pass", "review" or "fail".
        area_sd_mm2: standard deviation (n - 1) of the soft area over the passes of `keras_scgm.uncertainty`;
            NaN without passes.
        uncertainty: sum of the slice's uncertainty map divided by that of its probabilities, 0 where all passes
            agree; NaN without passes or gray matter.
    """

    slice: int
    position_mm: float
    area_mm2: float
    soft_area_mm2: float
    n_voxels: int
    mean_probability: float
    warning: str
    contrast: float = math.nan
    noise: float = math.nan
    predicted_dsc: float = math.nan
    verdict: str = ""
    area_sd_mm2: float = math.nan
    uncertainty: float = math.nan

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the circle with the same area."""
        return 2 * math.sqrt(self.area_mm2 / math.pi)


@dataclass(frozen=True)
class CrossSection:
    """Tissue areas of one axial slice; what was not given is NaN.

    Args:
        slice: index along the axial axis of the file, from 0.
        position_mm: distance of the slice from the most inferior one, along the slice normal.
        level: vertebral level, None without one.
        angle_deg: between the slice normal and the cord; areas are multiplied by its cosine.
        gray_matter_mm2: inside the cord if a cord mask is given.
        white_matter_mm2: cord without gray matter; NaN in a slice without gray matter, where it was not found.
        cord_mm2: gray plus white matter.
        gray_matter_outside_cord_mm2: left out of the other areas.
        low_mm2: lower end of the interval in which a further rater's or pass's gray matter area is expected,
            widened to hold `gray_matter_mm2`.
        high_mm2: its upper end.
    """

    slice: int
    position_mm: float
    level: int | None
    angle_deg: float
    gray_matter_mm2: float
    white_matter_mm2: float
    cord_mm2: float
    gray_matter_outside_cord_mm2: float
    low_mm2: float
    high_mm2: float


@dataclass(frozen=True)
class LevelSection:
    """Mean cross-section of a vertebral level, over its slices with gray matter.

    Args:
        level: vertebral level, as numbered in the level map.
        n_slices: slices with gray matter.
        gray_matter_mm2: mean over the slices.
        gray_matter_sd_mm2: standard deviation over the slices (n - 1), NaN for one slice.
        white_matter_mm2: mean, NaN without a cord mask.
        cord_mm2: mean, NaN without a cord mask.
    """

    level: int
    n_slices: int
    gray_matter_mm2: float
    gray_matter_sd_mm2: float
    white_matter_mm2: float
    cord_mm2: float


def cross_sections(
    gray_matter: Volume,
    cord: Volume | None = None,
    centreline: Volume | None = None,
    levels: Volume | None = None,
    samples: Sequence[Volume] = (),
) -> tuple[CrossSection, ...]:
    """Areas of every axial slice.

    Args:
        gray_matter: mask, or probabilities in [0, 1], which count as fractions of a voxel.
        cord: mask or probabilities of the whole cord on the same grid.
        centreline: marks the middle of the cord in its slices, on the same grid; only for the angle, for
            which it comes before the cord mask.
        levels: vertebral level of every voxel as a whole number, 0 where there is none, on the same grid;
            a slice has the level of most of its voxels, inside the cord if that is given.
        samples: masks or probabilities of the gray matter by several raters, networks or dropout passes,
            for the interval; none, or at least 2.

    Returns:
        One per slice, in the order of the file.

    Raises:
        InputError: volumes on different grids, values that no mask holds, or a single sample.
    """
    given = checks.instance(Volume, "a Volume, as read_volume returns")
    given("gray_matter", gray_matter)
    for name, value in (("cord", cord), ("centreline", centreline), ("levels", levels)):
        checks.optional(given)(name, value)
    samples = checks.several(given, "Volume objects, as read_volume returns")("samples", samples)
    if len(samples) == 1:
        raise InputError(f"{samples[0].source}: an interval needs at least 2 samples; give more, or none")
    for other in (cord, centreline, levels, *samples):
        if other is not None:
            _check_same_grid(gray_matter, other)
    gray = _fractions(gray_matter)
    whole = None if cord is None else _fractions(cord)
    inside = gray if whole is None else np.minimum(gray, whole)
    cosines = np.ones(len(gray))
    middle = whole if centreline is None else _fractions(centreline)
    if middle is not None:
        cosines = _cosines(gray_matter, middle)
    unit_mm2 = gray_matter.voxel_area_mm2 * cosines

    unknown = np.full(len(gray), np.nan)
    gray_mm2 = inside.sum(axis=(1, 2)) * unit_mm2
    cord_mm2 = unknown if whole is None else whole.sum(axis=(1, 2)) * unit_mm2
    outside_mm2 = unknown if whole is None else (gray - inside).sum(axis=(1, 2)) * unit_mm2
    low_mm2, high_mm2 = unknown, unknown
    if samples:
        per_sample = [
            (_fractions(sample) if whole is None else np.minimum(_fractions(sample), whole)).sum(axis=(1, 2))
            for sample in samples
        ]
        low_mm2, high_mm2 = _interval(np.array(per_sample) * unit_mm2)
        low_mm2, high_mm2 = np.minimum(low_mm2, gray_mm2), np.maximum(high_mm2, gray_mm2)
    level_of = [None] * len(gray) if levels is None else _levels(levels, whole)
    known_angle = middle is not None
    rows = [
        CrossSection(
            slice=gray_matter.stored_slice_index(k),
            position_mm=k * gray_matter.slice_spacing_mm,
            level=level_of[k],
            angle_deg=math.degrees(math.acos(cosines[k])) if known_angle else math.nan,
            gray_matter_mm2=float(gray_mm2[k]),
            white_matter_mm2=float(cord_mm2[k] - gray_mm2[k]) if gray_mm2[k] else math.nan,
            cord_mm2=float(cord_mm2[k]),
            gray_matter_outside_cord_mm2=float(outside_mm2[k]),
            low_mm2=float(low_mm2[k]),
            high_mm2=float(high_mm2[k]),
        )
        for k in range(len(gray))
    ]
    return tuple(sorted(rows, key=lambda row: row.slice))


def outside_cord(rows: Sequence[CrossSection]) -> str:
    """What was left out because it lies outside the cord, in one line; empty if nothing was.

    >>> row = CrossSection(4, 0.0, None, 0.0, 15.0, 55.0, 70.0, 5.0, math.nan, math.nan)
    >>> outside_cord([row])
    'gray matter outside the cord mask, left out: 25.0 % (5.0 of 20.0 mm2, summed over slices), in slices 4'
    """
    left_out = [row for row in rows if row.gray_matter_outside_cord_mm2 > 0]
    if not left_out:
        return ""
    outside_mm2 = sum(row.gray_matter_outside_cord_mm2 for row in left_out)
    all_mm2 = outside_mm2 + sum(row.gray_matter_mm2 for row in rows)
    listed = ", ".join(str(row.slice) for row in left_out[:LISTED_SLICES])
    more = ", ..." if len(left_out) > LISTED_SLICES else ""
    return (
        f"gray matter outside the cord mask, left out: {100 * outside_mm2 / all_mm2:.1f} % "
        f"({outside_mm2:.1f} of {all_mm2:.1f} mm2, summed over slices), "
        f"in slices {listed}{more}"
    )


def level_sections(rows: Iterable[CrossSection]) -> tuple[LevelSection, ...]:
    """Means per vertebral level, from the lowest number; slices without gray matter are left out.

    >>> from dataclasses import replace
    >>> row = CrossSection(0, 0.0, 3, 0.0, 14.0, 60.0, 74.0, 0.0, 13.0, 15.0)
    >>> level_sections([row, replace(row, slice=1, gray_matter_mm2=16.0)])[0].gray_matter_mm2
    15.0
    """
    by_level: dict[int, list[CrossSection]] = {}
    for row in rows:
        if row.level is not None and row.gray_matter_mm2 > 0:
            by_level.setdefault(row.level, []).append(row)
    return tuple(
        LevelSection(
            level=level,
            n_slices=len(members),
            gray_matter_mm2=_mean([row.gray_matter_mm2 for row in members]),
            gray_matter_sd_mm2=float(np.std([row.gray_matter_mm2 for row in members], ddof=1))
            if len(members) > 1
            else math.nan,
            white_matter_mm2=_mean([row.white_matter_mm2 for row in members]),
            cord_mm2=_mean([row.cord_mm2 for row in members]),
        )
        for level, members in sorted(by_level.items())
    )


Row = TypeVar("Row", CrossSection, LevelSection)


def write_table(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """CSV table with units in the column names; what is not known stays empty.

    Args:
        path: of the file.
        kind: of the rows, whose fields are the columns, with or without rows.
        rows: in their order.

    Raises:
        InputError: the file cannot be written.
    """
    with replaced(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(item.name for item in fields(kind))
        table.writerows([_cell(value) for value in asdict(row).values()] for row in rows)


def _cell(value: float | int | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _check_same_grid(volume: Volume, other: Volume) -> None:
    difference = grid_difference(other.voxels.shape, other.affine, volume.voxels.shape, volume.affine)
    if difference:
        raise InputError(
            f"{other.source}: not on the grid of {volume.source}, {difference}; resample it to that grid"
        )


def _fractions(volume: Volume) -> np.ndarray:
    """float64 (slice, right-left, posterior-anterior) in [0, 1]."""
    values, n_replaced = volume.read_slices(0, volume.n_slices)
    if n_replaced:
        raise InputError(f"{volume.source}: {n_replaced} voxels are NaN or infinite; make the mask again")
    if values.min() < 0 or values.max() > 1 + 1e-6:
        raise InputError(
            f"{volume.source}: holds values from {values.min():g} to {values.max():g}; "
            "a mask is 0 and 1, and probabilities lie between"
        )
    return values


def _cosines(volume: Volume, middle: np.ndarray) -> np.ndarray:
    """Of the angle between slice normal and cord at every slice, from a local line through its centres."""
    sums = middle.sum(axis=(1, 2))
    present = np.flatnonzero(sums)
    if len(present) < 2:
        raise InputError(
            f"{volume.source}: the cord is marked in fewer than 2 slices; its direction is unknown"
        )
    rows, columns = (np.arange(n, dtype=float) for n in middle.shape[1:])
    centers = np.stack(
        [
            (middle[present].sum(axis=2) * rows).sum(axis=1) / sums[present],
            (middle[present].sum(axis=1) * columns).sum(axis=1) / sums[present],
            present,
        ],
        axis=1,
    )
    right_left, anterior_posterior, inferior_superior = _axial_steps_mm(volume)
    points_mm = centers @ np.stack([right_left, anterior_posterior, inferior_superior])
    normal = np.cross(right_left, anterior_posterior)
    normal /= np.linalg.norm(normal)
    heights_mm = points_mm @ normal
    sigma_mm = max(DIRECTION_SIGMA_MM, volume.slice_spacing_mm)
    cosines = np.empty(len(middle))
    for k in range(len(middle)):
        nearest = np.argmin(np.abs(present - k))
        distance_mm = heights_mm - heights_mm[nearest]
        weights = np.exp(-0.5 * (distance_mm / sigma_mm) ** 2)
        weights /= weights.sum()
        offsets_mm = points_mm - weights @ points_mm
        heights = heights_mm - weights @ heights_mm
        # How far the centre moves, in world coordinates, per mm along the normal.
        direction = (weights * heights) @ offsets_mm / (weights @ heights**2)
        cosines[k] = min(1.0, abs(direction @ normal) / np.linalg.norm(direction))
    return cosines


def _axial_steps_mm(volume: Volume) -> np.ndarray:
    """(3, 3): world vector of one step along each axis of the axial view."""
    _, affine = canonical_grid(volume.voxels.shape, volume.affine)
    return affine[:3, :3].T


def _interval(areas_mm2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where one more sample's area is to be expected; Student's t, since the samples are few."""
    # Slow to import, and only this needs it.
    from scipy.special import stdtrit

    n = len(areas_mm2)
    reach = stdtrit(n - 1, 0.5 + INTERVAL / 2) * np.std(areas_mm2, axis=0, ddof=1)
    reach *= math.sqrt(1 + 1 / n)
    mean = areas_mm2.mean(axis=0)
    return np.maximum(mean - reach, 0), mean + reach


def _levels(levels: Volume, cord: np.ndarray | None) -> list[int | None]:
    values, n_replaced = levels.read_slices(0, levels.n_slices)
    whole = np.rint(values).astype(int)
    if n_replaced or np.abs(values - whole).max() > 1e-3 or whole.min() < 0:
        raise InputError(
            f"{levels.source}: vertebral levels must be whole numbers from 0; give the level map, not the image"
        )
    found: list[int | None] = []
    for k, section in enumerate(whole):
        marked = section[section > 0]
        if cord is not None and np.any(section[cord[k] > 0.5]):
            in_cord = section[cord[k] > 0.5]
            marked = in_cord[in_cord > 0]
        found.append(int(np.bincount(marked).argmax()) if len(marked) else None)
    return found
