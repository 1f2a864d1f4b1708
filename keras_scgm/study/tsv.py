"""Tables of BIDS: tab-separated, with n/a for what is not known."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_scgm.errors import InputError, counted
from keras_scgm.files import read_text, replaced, write_text
from keras_scgm.study.columns import UNKNOWN, describe

DIGITS = 10
"""Significant digits of a number."""

UNKNOWN_TEXTS = ("", UNKNOWN, "na", "nan", "null")
"""What people and their programs write for a value that is not known, in any case of letters."""

Row = dict[str, str]


def cell(value: object) -> str:
    """A cell: n/a for what is not known or empty, no tab or line end, and no quote at its start.

    >>> cell(None), cell(float("nan")), cell(0.1), cell("a\\tb")
    ('n/a', 'n/a', '0.1', 'a b')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    text = " ".join(str(value).split())
    # Spreadsheets and pandas would take all up to the next quote, lines too, for one cell.
    return (text.replace('"', "'") if text.startswith('"') else text) or UNKNOWN


def number(text: str) -> float:
    """The number of a cell, NaN if it is not known.

    >>> number("2.5"), number("n/a")
    (2.5, nan)
    """
    return math.nan if text == UNKNOWN else float(text)


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by a table; what a row lacks is n/a.

    Raises:
        keras_scgm.errors.InputError: It cannot be written; the file is unchanged.
    """
    with replaced(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        table.writerow(columns)
        table.writerows([cell(row.get(name)) for name in columns] for row in rows)


def write_described(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    of_participants: Mapping[str, object] | None = None,
) -> list[Path]:
    """As `write_tsv`, with the data dictionary of the columns beside it; returns both files."""
    write_tsv(path, columns, rows)
    sidecar = path.with_suffix(".json")
    write_text(sidecar, json.dumps(describe(columns, of_participants), indent=2, ensure_ascii=False) + "\n")
    return [path, sidecar]


def read_tsv(path: Path, *needed: str) -> list[Row]:
    """Rows of a table; quotes and spaces around a cell are left out, and `UNKNOWN_TEXTS` are n/a.

    Args:
        path: TSV file in UTF-8, with or without a byte order mark.
        needed: Columns that it must have.

    Raises:
        keras_scgm.errors.InputError: It cannot be read, has no such column, two of one name or one without, or a row
            has other columns.
    """
    lines = read_text(path).splitlines()
    names = _cells(lines[0]) if lines else []
    if missing := [name for name in needed if name not in names]:
        raise InputError(
            f"{path}: no column {missing[0]}; the first line names the columns, separated by tabs"
        )
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise InputError(f"{path}: two columns {twice[0]}; keep one of them")
    rows = []
    for index, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = _cells(line)
        if len(cells) != len(names):
            raise InputError(
                f"{path}: line {index} has {counted(len(cells), 'column')}, the first line {len(names)}"
            )
        if nameless := [text for name, text in zip(names, cells, strict=True) if text and not name]:
            raise InputError(
                f"{path}: line {index} has {nameless[0]!r} in a column without a name; name it in the first line"
            )
        known = (UNKNOWN if text.casefold() in UNKNOWN_TEXTS else text for text in cells)
        rows.append({name: text for name, text in zip(names, known, strict=True) if name})
    return rows


def _cells(line: str) -> list[str]:
    """Cells of a line without what is around them.

    >>> _cells('"participant_id" \\tage ')
    ['participant_id', 'age']
    """
    texts = (text.strip() for text in line.split("\t"))
    return [text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text for text in texts]
