"""Mean areas of every vertebral level."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_scgm.morphometry.sections import CrossSection


@dataclass(frozen=True)
class LevelSection:
    """Mean cross-section of a vertebral level, over its slices with gray matter.

    Args:
        level: Vertebral level, as numbered in the level map.
        n_slices: Number of slices with gray matter.
        gray_matter_mm2: Mean over the slices.
        gray_matter_sd_mm2: Standard deviation over the slices (n - 1), NaN for one slice.
        white_matter_mm2: Mean, NaN without a cord mask.
        cord_mm2: Mean, NaN without a cord mask.
    """

    level: int
    n_slices: int
    gray_matter_mm2: float
    gray_matter_sd_mm2: float
    white_matter_mm2: float
    cord_mm2: float


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


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
