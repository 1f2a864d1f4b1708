"""Means over regions of an image: vertebral levels, ranges of them, slices, or positions.

As in `sct_process_segmentation` of the Spinal Cord Toolbox, a range of levels is the mean over all its slices, not
over the means of its levels. A slice without a tissue does not count for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence

from keras_scgm.morphometry import CORD_MEASUREMENTS, mean_and_sd
from keras_scgm.study.columns import ALL, MEASUREMENTS, UNKNOWN, WITH_SD, sd_column
from keras_scgm.study.tsv import Row, number

BIN_MM = 10
"""Length of the regions by position, for images without levels."""

Range = tuple[int, int]
Values = dict[str, float]


def pool(
    rows: Sequence[Row],
    level_ranges: Sequence[Range] = (),
    slices: Range | None = None,
    left_out: Collection[str] = (),
) -> list[dict]:
    """Rows of the regions of one image: all slices, then levels and ranges of levels or, without levels, positions.

    Args:
        rows: Rows of its slices, with the cells of `areas.tsv`.
        level_ranges: First and last level of further regions.
        slices: First and last slice, as indexed in the file, of a further region.
        left_out: Verdicts of slices that count in no region.

    Returns:
        Region, its levels, number of slices and measurements by column.
    """
    values = [{name: number(row[name]) for name in MEASUREMENTS} for row in rows]
    counts = [row.get("verdict") not in left_out for row in rows]
    regions = (
        (region, [index for index in members if counts[index]])
        for region, members in _regions(rows, level_ranges, slices)
    )
    return [
        {
            "region": region,
            "levels": _levels([rows[index] for index in members]),
            **_pooled([values[index] for index in members]),
        }
        for region, members in regions
    ]


def missing_levels(region: str, levels: str) -> list[int]:
    """Levels of a range without a slice with gray matter, so that its mean is not that of the range.

    Args:
        region: Cell of `region`; any region but a range of levels lacks none.
        levels: Cell of `levels`.

    >>> missing_levels("2:4", "2, 4"), missing_levels("-10:0", "n/a")
    ([3], [])
    """
    ends = re.fullmatch(r"(\d+):(\d+)", region)
    if not ends or levels == UNKNOWN:
        return []
    found = set(map(int, levels.split(", ")))
    return [level for level in range(int(ends[1]), int(ends[2]) + 1) if level not in found]


def _levels(rows: Sequence[Row]) -> str:
    """Levels of the slices with gray matter; n/a if none is known."""
    levels = {int(row["level"]) for row in rows if row["level"] != UNKNOWN and number(row["area_mm2"]) > 0}
    return ", ".join(map(str, sorted(levels))) or UNKNOWN


def _regions(
    rows: Sequence[Row], level_ranges: Sequence[Range], slices: Range | None
) -> Iterator[tuple[str, list[int]]]:
    yield ALL, list(range(len(rows)))
    if slices:
        first, last = slices
        yield (
            f"slices {first}:{last}",
            [index for index, row in enumerate(rows) if first <= int(row["slice"]) <= last],
        )
    levels = [None if row["level"] == UNKNOWN else int(row["level"]) for row in rows]
    for level in sorted({level for level in levels if level is not None}):
        yield str(level), [index for index, other in enumerate(levels) if other == level]
    for first, last in level_ranges:
        yield (
            f"{first}:{last}",
            [index for index, level in enumerate(levels) if level is not None and first <= level <= last],
        )
    if not level_ranges and all(level is None for level in levels):
        yield from _positions(rows)


def _positions(rows: Sequence[Row]) -> Iterator[tuple[str, list[int]]]:
    positions_mm = [number(row["position_mm"]) for row in rows]
    if not positions_mm:
        return
    middle_mm = (min(positions_mm) + max(positions_mm)) / 2
    # The middle of a stack lies between two bins; rounding must not choose one.
    bins = [math.floor(round((at_mm - middle_mm) / BIN_MM, 6)) for at_mm in positions_mm]
    for start in sorted(set(bins)):
        yield (
            f"{start * BIN_MM}:{(start + 1) * BIN_MM}",
            [index for index, other in enumerate(bins) if other == start],
        )


def _pooled(slices: Sequence[Values]) -> Values:
    with_gray = [one for one in slices if one["area_mm2"] > 0]
    with_cord = [one for one in slices if one["cord_area_mm2"] > 0]
    pooled: Values = {"n_slices": len(with_gray), "n_cord_slices": len(with_cord)}
    for name in MEASUREMENTS:
        members = with_cord if name in CORD_MEASUREMENTS else with_gray
        if name == "n_voxels":
            pooled[name] = sum(int(one[name]) for one in members if not math.isnan(one[name]))
            continue
        pooled[name], sd = mean_and_sd(one[name] for one in members)
        if name in WITH_SD:
            pooled[sd_column(name)] = sd
    return pooled
