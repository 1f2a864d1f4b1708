"""Areas of gray matter, white matter and cord in every axial slice.

Areas are perpendicular to the cord if a cord mask or a centreline gives its direction: the section of a slice that
cuts the cord at an angle is too large by the inverse of that angle's cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.morphometry.cord_direction import slice_cosines
from keras_scgm.morphometry.inputs import check_same_grid, fractions, slice_levels
from keras_scgm.volume import Volume

LISTED_SLICES = 10

COVERAGE = 0.95
"""Coverage of the prediction interval."""


@dataclass(frozen=True)
class CrossSection:
    """Tissue areas of one axial slice; NaN where the volumes for it were not given.

    Args:
        slice: Index along the axial axis of the file, from 0.
        position_mm: Distance of the slice from the most inferior one, along the slice normal.
        level: Vertebral level, None without one.
        angle_deg: Between the slice normal and the cord; areas are multiplied by its cosine.
        gray_matter_mm2: Inside the cord if a cord mask is given.
        white_matter_mm2: Cord without gray matter; NaN in a slice without gray matter.
        cord_mm2: Gray plus white matter.
        gray_matter_outside_cord_mm2: Gray matter outside the cord mask, not part of the other areas.
        low_mm2: Lower end of the prediction interval of the gray matter area, for one more sample; the interval
            is widened to contain `gray_matter_mm2`.
        high_mm2: Upper end of the prediction interval.
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


def cross_sections(
    gray_matter: Volume,
    cord: Volume | None = None,
    centreline: Volume | None = None,
    levels: Volume | None = None,
    samples: Sequence[Volume] = (),
) -> tuple[CrossSection, ...]:
    """Areas of every axial slice.

    Args:
        gray_matter: Mask, or probabilities in [0, 1], which count as fractions of a voxel.
        cord: Mask or probabilities of the whole cord on the same grid.
        centreline: Mask of the middle of the cord on the same grid; it is used for the angle instead of the
            cord mask.
        levels: Vertebral level of every voxel as a whole number, 0 where there is none, on the same grid;
            a slice has the level of most of its voxels, inside the cord if that is given.
        samples: Masks or probabilities of the gray matter by several raters, networks or passes, for the
            prediction interval; none, or at least 2.

    Returns:
        One cross-section per slice, in the order of the file.

    Raises:
        InputError: volumes on different grids, values outside 0 to 1, or a single sample.
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
            check_same_grid(gray_matter, other)
    gray = fractions(gray_matter)
    whole = None if cord is None else fractions(cord)
    inside = gray if whole is None else np.minimum(gray, whole)
    cosines = np.ones(len(gray))
    middle = whole if centreline is None else fractions(centreline)
    if middle is not None:
        cosines = slice_cosines(gray_matter, middle)
    unit_mm2 = gray_matter.voxel_area_mm2 * cosines

    unknown = np.full(len(gray), np.nan)
    gray_mm2 = inside.sum(axis=(1, 2)) * unit_mm2
    cord_mm2 = unknown if whole is None else whole.sum(axis=(1, 2)) * unit_mm2
    outside_mm2 = unknown if whole is None else (gray - inside).sum(axis=(1, 2)) * unit_mm2
    low_mm2, high_mm2 = unknown, unknown
    if samples:
        per_sample = [
            (fractions(sample) if whole is None else np.minimum(fractions(sample), whole)).sum(axis=(1, 2))
            for sample in samples
        ]
        low_mm2, high_mm2 = prediction_interval(np.array(per_sample) * unit_mm2)
        low_mm2, high_mm2 = np.minimum(low_mm2, gray_mm2), np.maximum(high_mm2, gray_mm2)
    level_of = [None] * len(gray) if levels is None else slice_levels(levels, whole)
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


def prediction_interval(areas_mm2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prediction interval of the area of one more sample, by Student's t distribution."""
    # Imported here because it is slow to import.
    from scipy.special import stdtrit

    n = len(areas_mm2)
    reach = stdtrit(n - 1, 0.5 + COVERAGE / 2) * np.std(areas_mm2, axis=0, ddof=1)
    reach *= math.sqrt(1 + 1 / n)
    mean = areas_mm2.mean(axis=0)
    return np.maximum(mean - reach, 0), mean + reach


def outside_cord(rows: Sequence[CrossSection]) -> str:
    """Message on gray matter outside the cord, empty if there is none.

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
