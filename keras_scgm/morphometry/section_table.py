"""CSV tables of cross-sections and vertebral levels, and the columns that all tables of areas share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from keras_scgm.files import csv_cell, write_rows
from keras_scgm.morphometry.sections import CrossSection
from keras_scgm.morphometry.slice_area import SliceArea
from keras_scgm.morphometry.tissue_areas import TissueAreas
from keras_scgm.morphometry.vertebral_levels import LevelSection

TISSUE_COLUMNS = tuple(item.name for item in fields(TissueAreas))

DIGITS = {"gm_cord_ratio": 4, "cord_eccentricity": 4, "cord_solidity": 4}
"""Digits after the point; 3 in other columns."""

SUMS = (
    ("area_mm2", "wm_area_mm2", "cord_area_mm2"),
    ("gm_perpendicular_mm2", "wm_perpendicular_mm2", "cord_perpendicular_mm2"),
    ("gm_left_mm2", "gm_right_mm2", "area_mm2"),
    ("gm_ventral_mm2", "gm_dorsal_mm2", "area_mm2"),
)
"""Two columns whose sum is the third, in the digits of the table too: the second is what the first leaves. Means of a
level over different slices have no such sum."""


def tissue_cells(row: SliceArea | CrossSection | LevelSection) -> dict[str, str]:
    """Cells of `TISSUE_COLUMNS` by their names; unknown values are empty.

    >>> cells = tissue_cells(CrossSection(0, 0.0, None, 1.0004, cord_area_mm2=2.0008, wm_area_mm2=1.0004))
    >>> cells["cord_area_mm2"], cells["wm_area_mm2"], cells["cord_ap_mm"]
    ('2.001', '1.001', '')
    """
    shown = {name: round(getattr(row, name), DIGITS.get(name, 3)) for name in ("area_mm2", *TISSUE_COLUMNS)}
    for part, rest, whole in SUMS:
        if math.isclose(getattr(row, part) + getattr(row, rest), getattr(row, whole), abs_tol=1e-6):
            shown[rest] = shown[whole] - shown[part]
    return {name: csv_cell(shown[name], f".{DIGITS.get(name, 3)}f") for name in TISSUE_COLUMNS}


def write_table(
    path: Path, kind: type[CrossSection | LevelSection], rows: Sequence[CrossSection | LevelSection]
) -> None:
    """CSV table with units in the column names; the measurements of the tissues follow what is the rows' own.

    Unknown values are empty.

    Args:
        path: Path of the file.
        kind: Class of the rows; its fields are the columns, even without rows.
        rows: Rows in their order.

    Raises:
        InputError: the file cannot be written.
    """
    own = [item.name for item in fields(kind) if item.name not in TISSUE_COLUMNS]
    cells = [{name: _cell(getattr(row, name)) for name in own} | tissue_cells(row) for row in rows]
    write_rows(path, cells, [*own, *TISSUE_COLUMNS])


def _cell(value: float | int | None) -> str:
    return csv_cell(value, ".3f" if isinstance(value, float) else "")
