"""Mean areas of every vertebral level."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from keras_scgm.morphometry.sections import CrossSection
from keras_scgm.morphometry.tissue_areas import TissueAreas


@dataclass(frozen=True)
class LevelSection(TissueAreas):
    """Mean cross-section of a vertebral level, over its slices with gray matter, or with cord if that alone was given.

    The measurements of `TissueAreas` are means over the slices in which they are known.

    Args:
        level: Vertebral level, as numbered in the level map.
        n_slices: Number of these slices.
        area_mm2: Mean gray matter area over the slices.
        area_slices_sd_mm2: Standard deviation over the slices (n - 1), NaN for one slice.
    """

    level: int
    n_slices: int
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
        if row.level is not None and row.has_tissue:
            by_level.setdefault(row.level, []).append(row)
    return tuple(
        LevelSection(
            level=level,
            n_slices=len(members),
            area_mm2=float(np.mean([row.area_mm2 for row in members])),
            area_slices_sd_mm2=float(np.std([row.area_mm2 for row in members], ddof=1))
            if len(members) > 1
            else math.nan,
            **{item.name: _mean(members, item.name) for item in fields(TissueAreas)},
        )
        for level, members in sorted(by_level.items())
    )


def _mean(rows: Iterable[CrossSection], name: str) -> float:
    known = [value for row in rows if not math.isnan(value := getattr(row, name))]
    return float(np.mean(known)) if known else math.nan
