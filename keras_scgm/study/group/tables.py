"""A table of the group, and how it is written: TSV with a data dictionary, as BIDS wants them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_scgm.evaluation.paired_tests import holm
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.measures import Measure

OF_MEASURE = "unit of the measure"
"""Units of a column whose rows have different ones; the column `unit` says which."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: Its name.
        description: What it holds.
        units: Units of its numbers; empty for texts, counts and ratios.
    """

    name: str
    description: str
    units: str = ""


PARTICIPANT = Column("participant_id", "Participant.")
SESSION = Column("session_id", "Session.")
REGION = Column("region", "Region of the cord, as in summary.tsv.")
MEASURE = Column("measure", "Measured column of summary.tsv.")
UNIT = Column("unit", "Unit of the measure.")
P_HOLM = Column("p_holm", "P value with the correction of Holm for all tests of this table.")


@dataclass(frozen=True)
class GroupTable:
    """A table of the group.

    Args:
        name: Stem of the names of its files.
        columns: Its columns, in order.
        rows: The rows, with these columns and possibly others, which are not written.
    """

    name: str
    columns: tuple[Column, ...]
    rows: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write `NAME.tsv` and its data dictionary `NAME.json`."""
        rows = self.rows[[column.name for column in self.columns]]
        rows.to_csv(
            folder / f"{self.name}.tsv",
            sep="\t",
            na_rep=UNKNOWN,
            index=False,
            float_format="%.8g",
            quoting=csv.QUOTE_NONE,
            lineterminator="\n",
        )
        dictionary = {
            column.name: {"LongName": column.name.replace("_", " "), "Description": column.description}
            | ({"Units": column.units} if column.units else {})
            for column in self.columns
        }
        text = json.dumps(dictionary, indent=2, ensure_ascii=False) + "\n"
        (folder / f"{self.name}.json").write_text(text, encoding="utf-8")


def with_units(rows: pd.DataFrame, measures: Iterable[Measure]) -> pd.DataFrame:
    """Add the column `unit`."""
    units = {measure.column: measure.unit or UNKNOWN for measure in measures}
    return rows.assign(unit=rows["measure"].astype(str).map(units))


def table_of_tests(
    name: str, columns: tuple[Column, ...], rows: Sequence[Mapping[str, Any]], measures: Iterable[Measure]
) -> GroupTable:
    """A table of tests, whose rows have the P value `p`, with the columns `p_holm` and `unit` added."""
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy(float))
    return GroupTable(name, columns, with_units(table, measures))


def yes_no(values: Iterable[bool]) -> np.ndarray:
    """Texts `yes` and `no`."""
    return np.where(np.asarray(values, bool), "yes", "no")
