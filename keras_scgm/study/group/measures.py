"""What the group statistics measure, and the order of regions along the cord."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from keras_scgm.morphometry.regions import ALL

_LEVEL = re.compile(r"\d+")
_RANGE = re.compile(r"(-?[\d.]+):(-?[\d.]+)")


@dataclass(frozen=True)
class Measure:
    """A column of `summary.tsv` that is analysed.

    Args:
        column: Name of the column.
        label: Name in figures and texts.
        unit: Unit as BIDS writes it; empty for a ratio.
    """

    column: str
    label: str
    unit: str = ""

    @property
    def title(self) -> str:
        """Label with unit, for an axis."""
        return f"{self.label}, {self.unit.replace('mm^2', 'mm²')}" if self.unit else self.label


SHOWN = (
    Measure("gm_perpendicular_mm2", "gray matter", "mm^2"),
    Measure("wm_perpendicular_mm2", "white matter", "mm^2"),
    Measure("cord_perpendicular_mm2", "cord", "mm^2"),
    Measure("gm_cord_ratio", "gray matter / cord"),
)
"""Measures of the figures: areas perpendicular to the cord, and their ratio."""

IN_SLICE = Measure("area_mm2", "gray matter in the slice", "mm^2")
"""Takes the place of the first of `SHOWN` where the direction of the cord is not known."""

FURTHER = (
    Measure("cord_ap_mm", "cord, front to back", "mm"),
    Measure("cord_rl_mm", "cord, right to left", "mm"),
    Measure("contrast_to_noise", "contrast to noise"),
)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Key that sorts numbers in texts by their value.

    >>> sorted(["ses-10", "ses-2", "baseline"], key=natural_key)
    ['baseline', 'ses-2', 'ses-10']
    """
    parts = re.findall(r"\d+|\D+", text)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def ordered_regions(regions: Iterable[str]) -> list[str]:
    """The whole image, then levels, then ranges, each along the cord.

    >>> ordered_regions(["2:3", "10", "all", "-10:0", "3"])
    ['all', '3', '10', '-10:0', '2:3']
    """

    def key(region: str) -> tuple[int, float, tuple[tuple[int, int, str], ...]]:
        if region == ALL:
            return 0, 0.0, ()
        if is_level(region):
            return 1, float(region), ()
        ends = _RANGE.fullmatch(region)
        return (2, float(ends[1]), natural_key(region)) if ends else (3, 0.0, natural_key(region))

    return sorted(set(regions), key=key)


def is_level(region: str) -> bool:
    """Whether a region is one vertebral level."""
    return _LEVEL.fullmatch(region) is not None


def along_cord(regions: Iterable[str]) -> tuple[list[str], str]:
    """Regions for the horizontal axis of a figure, and its label.

    Single levels where there are any, otherwise positions, otherwise all regions. A range of levels has its levels
    beside it, so ranges alone are positions.
    """
    ordered = ordered_regions(regions)
    if levels := [region for region in ordered if is_level(region)]:
        return levels, "vertebral level"
    if positions := [region for region in ordered if _RANGE.fullmatch(region)]:
        return positions, "position from the middle of the slices, mm"
    return ordered, "region"
