"""CSV tables of cross-sections and of regions, and the columns that all tables of areas share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from keras_scgm.files import csv_cell, write_rows
from keras_scgm.morphometry.regions import with_sd_columns
from keras_scgm.morphometry.sections import CrossSection
from keras_scgm.morphometry.tissue_areas import TISSUE_COLUMNS

SECTION_COLUMNS = (
    *(item.name for item in fields(CrossSection) if item.name not in TISSUE_COLUMNS),
    *TISSUE_COLUMNS,
)
"""Columns of the table of slices: what is its own, and the measurements of the tissues."""

_MEANS = with_sd_columns(("area_mm2", *TISSUE_COLUMNS))

REGION_COLUMNS = ("region", "levels", "n_slices", "n_cord_slices", *_MEANS)
"""Columns of the table of regions, as `summary.tsv` of a study has them."""

DIGITS = {"gm_cord_ratio": 4, "cord_eccentricity": 4, "cord_solidity": 4}
"""Digits after the point; 3 in other columns."""

SUMS = (
    ("area_mm2", "wm_area_mm2", "cord_area_mm2"),
    ("gm_perpendicular_mm2", "wm_perpendicular_mm2", "cord_perpendicular_mm2"),
    ("gm_left_mm2", "gm_right_mm2", "area_mm2"),
    ("gm_ventral_mm2", "gm_dorsal_mm2", "area_mm2"),
)
"""Two columns whose sum is the third, in the digits of the table too: the second is what the first leaves. Means of a
region over different slices have no such sum."""


def tissue_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Cells of `TISSUE_COLUMNS` by their names; unknown values are empty.

    Args:
        row: Values by column, area_mm2 among them.

    >>> row = CrossSection(0, 0.0, None, 1.0004, cord_area_mm2=2.0008, wm_area_mm2=1.0004)
    >>> cells = tissue_cells(vars(row))
    >>> cells["cord_area_mm2"], cells["wm_area_mm2"], cells["cord_ap_mm"]
    ('2.001', '1.001', '')
    """
    shown = {name: round(row[name], DIGITS.get(name, 3)) for name in ("area_mm2", *TISSUE_COLUMNS)}
    for part, rest, whole in SUMS:
        if math.isclose(row[part] + row[rest], row[whole], abs_tol=1e-6):
            shown[rest] = shown[whole] - shown[part]
    return {name: _number(name, shown[name]) for name in TISSUE_COLUMNS}


def write_sections(path: Path, rows: Sequence[CrossSection]) -> None:
    """CSV table of slices with units in the names of the columns, `SECTION_COLUMNS`; unknown values are empty.

    Raises:
        InputError: the file cannot be written.
    """
    own = [name for name in SECTION_COLUMNS if name not in TISSUE_COLUMNS]
    cells = [
        {name: csv_cell(row[name], ".3f" if isinstance(row[name], float) else "") for name in own}
        | tissue_cells(row)
        for row in map(vars, rows)
    ]
    write_rows(path, cells, SECTION_COLUMNS)


def write_regions(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """CSV table of `region_means`, with the columns `REGION_COLUMNS`; unknown values are empty.

    Raises:
        InputError: the file cannot be written.
    """
    cells = [
        {
            **row,
            "levels": ", ".join(map(str, row["levels"])),
            **{name: _number(name.removesuffix("_sd"), row[name]) for name in _MEANS},
            **tissue_cells(row),
        }
        for row in rows
    ]
    write_rows(path, cells, REGION_COLUMNS)


def _number(name: str, value: float) -> str:
    return csv_cell(value, f".{DIGITS.get(name, 3)}f")
