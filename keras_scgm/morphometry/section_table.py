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
    """CSV table with units in the column names; what is not known stays empty.

    Args:
        path: of the file.
        kind: of the rows, whose fields are the columns, with or without rows.
        rows: in their order.

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
