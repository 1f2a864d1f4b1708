"""CSV tables of cross-sections and vertebral levels."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

from keras_scgm.files import replaced
from keras_scgm.morphometry.sections import CrossSection
from keras_scgm.morphometry.vertebral_levels import LevelSection

Row = TypeVar("Row", CrossSection, LevelSection)


def write_table(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """CSV table with units in the column names; unknown values are empty.

    Args:
        path: Path of the file.
        kind: Class of the rows; its fields are the columns, even without rows.
        rows: Rows in their order.

    Raises:
        InputError: the file cannot be written.
    """
    with replaced(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(item.name for item in fields(kind))
        table.writerows([_cell(value) for value in asdict(row).values()] for row in rows)


def _cell(value: float | int | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
