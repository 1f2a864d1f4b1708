"""Rows of `summary.tsv`: the regions of an image, and without levels its positions."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from keras_scgm.morphometry.regions import Range, missing_levels, pooled, regions
from keras_scgm.study.columns import MEASUREMENTS, UNKNOWN
from keras_scgm.study.tsv import Row, number

BIN_MM = 10
"""Length of the regions by position, for images without levels."""


def pool(
    rows: Sequence[Row],
    level_ranges: Sequence[Range] = (),
    slices: Range | None = None,
    left_out: Collection[str] = (),
) -> list[dict[str, Any]]:
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
    levels = [None if row["level"] == UNKNOWN else int(row["level"]) for row in rows]
    found = regions([int(row["slice"]) for row in rows], levels, level_ranges, slices)
    if not level_ranges and all(level is None for level in levels):
        found |= _positions(rows)
    return [
        _summary(region, [(rows[k], values[k]) for k in members if rows[k].get("verdict") not in left_out])
        for region, members in found.items()
    ]


def missing_levels_of(region: str, levels: str) -> list[int]:
    """Levels of a range without a slice with gray matter, so that its mean is not that of the range.

    Args:
        region: Cell of `region`; any region but a range of levels lacks none.
        levels: Cell of `levels`.

    >>> missing_levels_of("2:4", "2, 4"), missing_levels_of("-10:0", "n/a")
    ([3], [])
    """
    ends = re.fullmatch(r"(\d+):(\d+)", region)
    if not ends or levels == UNKNOWN:
        return []
    return missing_levels((int(ends[1]), int(ends[2])), [*map(int, levels.split(", "))])


def _summary(region: str, slices: Sequence[tuple[Row, Mapping[str, float]]]) -> dict[str, Any]:
    levels = {int(row["level"]) for row, one in slices if row["level"] != UNKNOWN and one["area_mm2"] > 0}
    values = [one for _, one in slices]
    return {
        "region": region,
        "levels": ", ".join(map(str, sorted(levels))) or UNKNOWN,
        **pooled(values, MEASUREMENTS),
        "n_voxels": sum(int(one["n_voxels"]) for one in values if one["n_voxels"] > 0),
    }


def _positions(rows: Sequence[Row]) -> dict[str, list[int]]:
    positions_mm = [number(row["position_mm"]) for row in rows]
    if not positions_mm:
        return {}
    middle_mm = (min(positions_mm) + max(positions_mm)) / 2
    # The middle of a stack lies between two bins; rounding must not choose one.
    bins = [math.floor(round((at_mm - middle_mm) / BIN_MM, 6)) for at_mm in positions_mm]
    return {
        f"{start * BIN_MM}:{(start + 1) * BIN_MM}": [k for k, other in enumerate(bins) if other == start]
        for start in sorted(set(bins))
    }
