"""Areas of gray matter, white matter and cord in every axial slice, from masks or probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError, first_of
from keras_scgm.grids import check_same_grid
from keras_scgm.morphometry.discs import between_discs
from keras_scgm.morphometry.inputs import fractions, slice_levels
from keras_scgm.morphometry.tissue_areas import Slices, TissueAreas, tissue_areas
from keras_scgm.volume import Volume

LISTED_SLICES = 10

COVERAGE = 0.95
"""Coverage of the prediction interval."""


@dataclass(frozen=True)
class CrossSection(TissueAreas):
    """Tissue areas of one axial slice; NaN where the volumes for it were not given.

    Args:
        slice: Index along the axial axis of the file, from 0.
        position_mm: Distance of the slice from the most inferior one, along the slice normal.
        level: Vertebral level, None without one.
        area_mm2: Gray matter, inside the cord if a cord mask is given; NaN if the cord alone was.
        gm_outside_cord_mm2: Gray matter outside the cord mask, not part of the other areas.
        low_mm2: Lower end of the prediction interval of `area_mm2`, for one more sample; the interval is widened to
            contain it.
        high_mm2: Upper end of the prediction interval.
    """

    slice: int
    position_mm: float
    level: int | None
    area_mm2: float
    gm_outside_cord_mm2: float = math.nan
    low_mm2: float = math.nan
    high_mm2: float = math.nan

    @property
    def has_tissue(self) -> bool:
        """Whether there is gray matter, or cord if that alone was given."""
        return (self.cord_area_mm2 if math.isnan(self.area_mm2) else self.area_mm2) > 0


def cross_sections(
    gray_matter: Volume | None,
    cord: Volume | None = None,
    centreline: Volume | None = None,
    levels: Volume | None = None,
    samples: Sequence[Volume] = (),
    discs: Volume | None = None,
) -> tuple[CrossSection, ...]:
    """Areas of every axial slice.

    Args:
        gray_matter: Mask, or probabilities in [0, 1], which count as fractions of a voxel; None to measure the cord
            alone, and what needs gray matter is NaN then.
        cord: Mask or probabilities of the whole cord on the same grid.
        centreline: Mask of the middle of the cord on the same grid; it is used for the angle instead of the
            cord mask.
        levels: Vertebral level of every voxel as a whole number, 0 where there is none, on the same grid;
            a slice has the level of most of its voxels, inside the cord if that is given.
        samples: Masks or probabilities of the gray matter by several raters, networks or passes, for the
            prediction interval; none, or at least 2.
        discs: In place of `levels`, labels of discs on any grid in the same coordinates, each voxel with the number of
            the vertebra below the disc; levels as `between_discs` finds them.

    Returns:
        One cross-section per slice, in the order of the file.

    Raises:
        InputError: volumes on different grids, values outside 0 to 1, a single sample, both levels and discs, neither
            gray matter nor cord, or what `between_discs` refuses.
    """
    given = checks.instance(Volume, "a Volume, as read_volume returns")
    volumes = {
        "gray_matter": gray_matter,
        "cord": cord,
        "centreline": centreline,
        "levels": levels,
        "discs": discs,
    }
    for name, value in volumes.items():
        checks.optional(given)(name, value)
    samples = checks.several(given, "Volume objects, as read_volume returns")("samples", samples)
    if len(samples) == 1:
        raise InputError(f"{samples[0].source}: an interval needs at least 2 samples; give more, or none")
    measured = cord if gray_matter is None else gray_matter
    if measured is None:
        raise InputError("neither gray matter nor cord to measure; give one of the two, or both")
    if levels and discs:
        raise InputError("levels come from a level map or from labels of discs; give one of the two")
    if gray_matter is None and samples:
        raise InputError("samples of the gray matter need the gray matter itself; give it, too")
    for other in (cord, centreline, levels, *samples):
        if other is not None:
            check_same_grid(measured, other)
    whole = None if cord is None else fractions(cord)
    gray = np.full((measured.n_slices, 1, 1), np.nan) if gray_matter is None else fractions(gray_matter)
    middle = None if centreline is None else fractions(centreline)
    inside = gray if whole is None else np.minimum(gray, whole)
    voxel_mm2 = measured.voxel_area_mm2

    gray_mm2 = inside.sum(axis=(1, 2)) * voxel_mm2
    unknown = np.full(len(gray), np.nan)
    outside_mm2 = unknown if whole is None else (gray - inside).sum(axis=(1, 2)) * voxel_mm2
    low_mm2, high_mm2 = unknown, unknown
    if samples:
        per_sample = [
            (fractions(sample) if whole is None else np.minimum(fractions(sample), whole)).sum(axis=(1, 2))
            for sample in samples
        ]
        low_mm2, high_mm2 = prediction_interval(np.array(per_sample) * voxel_mm2)
        low_mm2, high_mm2 = np.minimum(low_mm2, gray_mm2), np.maximum(high_mm2, gray_mm2)
    level_of: list[int | None] = [None] * len(gray)
    if levels is not None:
        level_of = slice_levels(levels, whole)
    elif discs is not None:
        level_of = between_discs(measured, gray if whole is None else whole, discs)
    tissues = tissue_areas(
        measured,
        None if gray_matter is None else _slices(inside),
        None if whole is None else _slices(whole),
        None if middle is None else _slices(middle),
    )
    rows = [
        CrossSection(
            slice=measured.stored_slice_index(k),
            position_mm=k * measured.slice_spacing_mm,
            level=level_of[k],
            area_mm2=float(gray_mm2[k]),
            gm_outside_cord_mm2=float(outside_mm2[k]),
            low_mm2=float(low_mm2[k]),
            high_mm2=float(high_mm2[k]),
            **asdict(tissues[k]),
        )
        for k in range(len(gray))
    ]
    return tuple(sorted(rows, key=lambda row: row.slice))


def _slices(sections: np.ndarray) -> Slices:
    return lambda start, stop: sections[start:stop]


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

    >>> row = CrossSection(4, 0.0, None, 15.0, 5.0)
    >>> outside_cord([row])
    'gray matter outside the cord mask, left out: 25.0 % (5.0 of 20.0 mm2, summed over slices), in slices 4'
    """
    left_out = [row for row in rows if row.gm_outside_cord_mm2 > 0]
    if not left_out:
        return ""
    outside_mm2 = sum(row.gm_outside_cord_mm2 for row in left_out)
    all_mm2 = outside_mm2 + sum(row.area_mm2 for row in rows)
    return (
        f"gray matter outside the cord mask, left out: {100 * outside_mm2 / all_mm2:.1f} % "
        f"({outside_mm2:.1f} of {all_mm2:.1f} mm2, summed over slices), "
        f"in slices {first_of([row.slice for row in left_out], LISTED_SLICES)}"
    )
