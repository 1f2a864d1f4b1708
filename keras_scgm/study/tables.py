"""The tables of a study: rows of each participant in files of its own, and all of them in `areas.tsv` and
`summary.tsv`.

Runs that share a study, such as the tasks of an array, write the files of their own participants only; the
tables are put together from these at the end of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_scgm.errors import InputError
from keras_scgm.morphometry.regions import sd_column
from keras_scgm.study.between_images import NEEDED as BETWEEN_IMAGES
from keras_scgm.study.between_images import warn_of_others
from keras_scgm.study.columns import (
    AREA_COLUMNS,
    KEYS,
    MEASUREMENTS,
    SUMMARY_COLUMNS,
    UNKNOWN,
    WITH_SD,
)
from keras_scgm.study.images import with_labels
from keras_scgm.study.tsv import Row, cell, number, read_tsv, write_described, write_tsv

AREAS, SUMMARY = "areas.tsv", "summary.tsv"

NUMBERS = {
    "slice",
    "position_mm",
    "n_slices",
    "n_cord_slices",
    "predicted_dsc",
    *MEASUREMENTS,
    *map(sd_column, WITH_SD),
}
"""Columns of numbers in tables of the program."""


def summary_of(output: Path, participant: str) -> Path:
    """File of the rows of `summary.tsv` of a participant."""
    return output / participant / f"{participant}_summary.tsv"


class ParticipantTables:
    """Rows of one participant.

    Args:
        output: Folder of the results.
        participant: Label with "sub-".
        sessions: Labels of the sessions whose rows are made anew; those of other sessions stay. None given means all.
    """

    def __init__(self, output: Path, participant: str, sessions: Iterable[str] = ()) -> None:
        summary = summary_of(output, participant)
        self._files = (summary.with_name(f"{participant}_areas.tsv"), summary)
        chosen = set(with_labels("ses-", sessions))
        self._rows: tuple[list[Mapping[str, Any]], ...] = tuple(
            [row for row in read_own_table(path, *KEYS) if row["session_id"] not in chosen]
            if chosen and path.exists()
            else []
            for path in self._files
        )

    def add(self, areas: Iterable[Mapping[str, Any]], summary: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of `areas.tsv` and of `summary.tsv`."""
        for rows, new in zip(self._rows, (areas, summary), strict=True):
            rows.extend(new)

    def write(self) -> None:
        """Write the rows in the order of the images.

        Raises:
            keras_scgm.errors.InputError: A file cannot be written.
        """
        for path, rows, columns in zip(self._files, self._rows, (AREA_COLUMNS, SUMMARY_COLUMNS), strict=True):
            ordered = sorted(rows, key=lambda row: (cell(row.get("session_id")), cell(row.get("image"))))
            write_tsv(path, [*columns, *_others(ordered, columns)], ordered)

    def remove(self) -> None:
        """Remove the files of the participant."""
        for path in self._files:
            path.unlink(missing_ok=True)


def write_study_tables(output: Path, of_participants: Mapping[str, object] | None = None) -> list[Path]:
    """Put the rows of all participants together: `areas.tsv`, `summary.tsv` and their data dictionaries.

    Args:
        output: Folder of the results.
        of_participants: What participants.json says of its columns.

    Returns:
        The files.

    Raises:
        keras_scgm.errors.InputError: A file cannot be read or written.
    """
    areas, summary = (
        [
            row
            for path in sorted(output.glob(f"sub-*/sub-*_{kind}.tsv"))
            for row in read_own_table(path, *needed)
        ]
        for kind, needed in (("areas", (*KEYS, "slice")), ("summary", (*KEYS, *BETWEEN_IMAGES)))
    )
    warn_of_others(summary, output)
    columns = [*SUMMARY_COLUMNS, *_others(summary, SUMMARY_COLUMNS)]
    return [
        *write_described(output / AREAS, AREA_COLUMNS, areas),
        *write_described(output / SUMMARY, columns, summary, of_participants),
    ]


def read_own_table(path: Path, *needed: str, again: str = "delete it and run participant again") -> list[Row]:
    """Rows of a table that the program wrote, and that another one may have saved since.

    Args:
        path: Its file.
        needed: Columns that it must have.
        again: What to do about a table that cannot be used.

    Raises:
        keras_scgm.errors.InputError: It cannot be read, or a number is none, such as one with a decimal comma.
    """
    try:
        rows = read_tsv(path, *needed)
    except InputError as error:
        raise InputError(f"{error}; {again}") from error
    if wrong := [
        (name, text)
        for row in rows
        for name, text in row.items()
        if name in NUMBERS and not _is_number(name, text)
    ]:
        name, text = wrong[0]
        raise InputError(f"{path}: column {name} has {text!r}, not a number; {again}")
    return rows


def _is_number(column: str, text: str) -> bool:
    try:
        value = int(text) if column == "slice" else number(text)
    except ValueError:
        return False
    return text == UNKNOWN or math.isfinite(value)


def read_study_table(path: Path, *needed: str) -> list[Row]:
    """Rows of a table of the study.

    Args:
        path: Its file.
        needed: Columns of which every row must have a known cell, but for the image of a row that says what is missing.

    Raises:
        keras_scgm.errors.InputError: There is no such file, it cannot be read, or a cell is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table; run participant first")
    rows = read_tsv(path, *needed)
    for name in needed:
        if any(
            row[name] == UNKNOWN and not (name == "image" and row.get("status") == "failed") for row in rows
        ):
            raise InputError(f"{path}: column {name} has gaps; run participant again")
    return rows


def image_name(row: Mapping[str, str]) -> str:
    """Path of the image of a row; participant and session where there is no image."""
    if row.get("image", UNKNOWN) != UNKNOWN:
        return row["image"]
    return ", ".join(
        name for key in ("participant_id", "session_id") if (name := row.get(key, UNKNOWN)) != UNKNOWN
    )


def _others(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Columns of the rows that are not among the given ones, in the order in which they appear."""
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name not in columns]
