"""Means over regions of an image: all its slices, a range of slices, vertebral levels and ranges of them.

As in `sct_process_segmentation` of the Spinal Cord Toolbox, a range of levels is the mean over all its slices, not
over the means of its levels. A slice without a tissue does not count for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_scgm import checks
from keras_scgm.morphometry.sections import CrossSection
from keras_scgm.morphometry.tissue_areas import CORD_MEASUREMENTS, TISSUE_COLUMNS

ALL = "all"
"""Region of all slices of an image."""

Range = tuple[int, int]
"""First and last number, both included."""

FROM_THE_TOP = "the file begins at the top: its slices are counted from there, not from below"
"""Warning on a range of slices."""


def region_means(
    rows: Sequence[CrossSection], level_ranges: Sequence[Range] = (), slices: Range | None = None
) -> list[dict[str, Any]]:
    """Mean cross-sections of the regions of one image, those of `regions` in their order.

    Args:
        rows: Its slices.
        level_ranges: First and last level of further regions, such as (2, 3).
        slices: First and last slice, as indexed in the file, of a further region.

    Returns:
        By column: region; levels, those of its slices with gray matter, or with cord if that alone was measured; and
        what `pooled` gives of the area of gray matter and `TISSUE_COLUMNS`.

    Raises:
        InputError: a range whose first number is above its last.

    >>> rows = [CrossSection(0, 0.0, 3, 14.0), CrossSection(1, 5.0, 3, 16.0), CrossSection(2, 10.0, 2, 12.0)]
    >>> [(row["region"], row["area_mm2"]) for row in region_means(rows, [(2, 3)])]
    [('all', 14.0), ('2', 12.0), ('3', 15.0), ('2:3', 14.0)]
    """
    found = regions([row.slice for row in rows], [row.level for row in rows], level_ranges, slices)
    return [
        {
            "region": region,
            "levels": sorted(
                {rows[k].level for k in members if rows[k].has_tissue and rows[k].level is not None}
            ),
            **pooled([vars(rows[k]) for k in members], ("area_mm2", *TISSUE_COLUMNS)),
        }
        for region, members in found.items()
    ]


def regions(
    slices: Sequence[int],
    levels: Sequence[int | None],
    level_ranges: Sequence[Range] = (),
    slice_range: Range | None = None,
) -> dict[str, list[int]]:
    """Indices of the rows of each region: all slices, the range of slices, each level, and the ranges of levels.

    Args:
        slices: Index of the slice of each row, in the file.
        levels: Its vertebral level.
        level_ranges: First and last level of further regions.
        slice_range: First and last slice of a further region.

    Raises:
        InputError: a range whose first number is above its last.

    >>> regions([0, 1, 2], [4, 3, 3], [(3, 4)], (0, 1))
    {'all': [0, 1, 2], 'slices 0:1': [0, 1], '3': [1, 2], '4': [0], '3:4': [0, 1, 2]}
    """
    check_ranges(level_ranges, slice_range)
    found = {ALL: list(range(len(slices)))}
    if slice_range:
        first, last = slice_range
        found[f"slices {first}:{last}"] = [k for k, one in enumerate(slices) if first <= one <= last]
    for level in sorted({level for level in levels if level is not None}):
        found[str(level)] = [k for k, other in enumerate(levels) if other == level]
    for first, last in level_ranges:
        found[f"{first}:{last}"] = [
            k for k, level in enumerate(levels) if level is not None and first <= level <= last
        ]
    return found


def check_ranges(level_ranges: Sequence[Range], slices: Range | None) -> None:
    """Refuse a range whose first number is above its last.

    Raises:
        InputError: Which one.
    """
    for name, ends in (*(("level_ranges", one) for one in level_ranges), ("slices", slices)):
        if ends and ends[0] > ends[1]:
            checks.refuse(name, "a first and a last number, such as 2:3", f"{ends[0]}:{ends[1]}")


def missing_levels(ends: Range, levels: Collection[int]) -> list[int]:
    """Levels of a range that none of its slices has, so that its mean is not that of the range.

    >>> missing_levels((2, 4), [2, 4])
    [3]
    """
    return [level for level in range(ends[0], ends[1] + 1) if level not in levels]


def pooled(slices: Sequence[Mapping[str, float]], measurements: Iterable[str]) -> dict[str, float]:
    """Means over the slices of a region with gray matter, and of `CORD_MEASUREMENTS` over those with cord.

    Args:
        slices: Values by measurement, NaN where one is not known; such a slice does not count for it.
        measurements: Which of them.

    Returns:
        n_slices with gray matter, n_cord_slices with cord; each measurement, and the standard deviation of those
        `has_sd` names.
    """
    with_gray = [one for one in slices if one["area_mm2"] > 0]
    with_cord = [one for one in slices if one["cord_area_mm2"] > 0]
    means: dict[str, float] = {"n_slices": len(with_gray), "n_cord_slices": len(with_cord)}
    for name in measurements:
        members = with_cord if name in CORD_MEASUREMENTS else with_gray
        means[name], sd = mean_and_sd(one[name] for one in members)
        if has_sd(name):
            means[sd_column(name)] = sd
    return means


def mean_and_sd(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard deviation of a measurement over slices, as `sct_process_segmentation` has them.

    Every slice in which it is known counts the same, whatever its area. The standard deviation divides by the number
    of these slices, n, so it is 0 for one slice.

    Args:
        values: The measurement in each slice, NaN where it is not known.

    Returns:
        Both, NaN if it is known in no slice.

    >>> mean_and_sd([14.0, 16.0, math.nan]), mean_and_sd([14.0])
    ((15.0, 1.0), (14.0, 0.0))
    """
    known = [value for value in values if not math.isnan(value)]
    return (float(np.mean(known)), float(np.std(known))) if known else (math.nan, math.nan)


def has_sd(name: str) -> bool:
    """Whether tables of regions have the standard deviation of a measurement: of areas, lengths and their ratio.

    >>> has_sd("cord_area_mm2"), has_sd("cord_angle_deg"), has_sd("area_sd_mm2")
    (True, False, False)
    """
    is_size = name.endswith(("_mm2", "_mm")) and "_sd_" not in name
    return is_size or name == "gm_cord_ratio"


def sd_column(name: str) -> str:
    """Column of the standard deviation of a measurement.

    >>> sd_column("area_mm2")
    'area_mm2_sd'
    """
    return f"{name}_sd"


def with_sd_columns(measurements: Iterable[str]) -> list[str]:
    """Columns of measurements in tables of regions, each followed by that of its standard deviation.

    >>> with_sd_columns(["area_mm2", "cord_angle_deg"])
    ['area_mm2', 'area_mm2_sd', 'cord_angle_deg']
    """
    return [
        column for name in measurements for column in ((name, sd_column(name)) if has_sd(name) else (name,))
    ]
