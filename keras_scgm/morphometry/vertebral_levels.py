"""Mean areas of every vertebral level."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from keras_scgm.morphometry.sections import CrossSection
from keras_scgm.morphometry.tissue_areas import CORD_MEASUREMENTS, TissueAreas


@dataclass(frozen=True)
class LevelSection(TissueAreas):
    """Mean cross-section of a vertebral level: what begins with cord_ over its slices with cord, all else over those
    with gray matter.

    Slices in which a measurement is not known do not count for it.

    Args:
        level: Vertebral level, as numbered in the level map.
        n_slices: Number of its slices with gray matter.
        n_cord_slices: Number of its slices with cord.
        area_mm2: Mean gray matter area.
        area_slices_sd_mm2: Standard deviation over these slices, divided by their number, n.
    """

    level: int
    n_slices: int
    n_cord_slices: int
    area_mm2: float
    area_slices_sd_mm2: float


def level_sections(rows: Iterable[CrossSection]) -> tuple[LevelSection, ...]:
    """Means per vertebral level, from the lowest number; slices without tissue are left out.

    >>> row = CrossSection(0, 0.0, 3, 14.0)
    >>> level_sections([row, CrossSection(1, 5.0, 3, 16.0)])[0].area_mm2
    15.0
    """
    by_level: dict[int, list[CrossSection]] = {}
    for row in rows:
        if row.level is not None and (row.area_mm2 > 0 or row.cord_area_mm2 > 0):
            by_level.setdefault(row.level, []).append(row)
    return tuple(_pooled(level, members) for level, members in sorted(by_level.items()))


def _pooled(level: int, rows: Sequence[CrossSection]) -> LevelSection:
    with_gray = [row for row in rows if row.area_mm2 > 0]
    with_cord = [row for row in rows if row.cord_area_mm2 > 0]
    area_mm2, area_slices_sd_mm2 = mean_and_sd(row.area_mm2 for row in with_gray)
    return LevelSection(
        level=level,
        n_slices=len(with_gray),
        n_cord_slices=len(with_cord),
        area_mm2=area_mm2,
        area_slices_sd_mm2=area_slices_sd_mm2,
        **{
            item.name: mean_and_sd(
                getattr(row, item.name)
                for row in (with_cord if item.name in CORD_MEASUREMENTS else with_gray)
            )[0]
            for item in fields(TissueAreas)
        },
    )


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
