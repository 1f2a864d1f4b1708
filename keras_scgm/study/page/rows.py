"""Rows of a quality page, from the tables of a study."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_scgm.errors import InputError
from keras_scgm.quality.verdicts import VERDICTS, Verdict
from keras_scgm.study.page.marks import UNKNOWN

SUMMARY, AREAS = "summary.tsv", "areas.tsv"
WHOLE = "all"
"""`region` of the rows that hold a whole image."""

Cells = Mapping[str, str]


@dataclass(frozen=True)
class ImageRow:
    """An image of a study with its values.

    Args:
        summary: Cells of the row of `summary.tsv` on the whole image; unknown ones are left out.
        slices: Cells of its rows of `areas.tsv`, by the number of the slice in the file.
    """

    summary: Cells
    slices: Mapping[int, Cells]

    @property
    def image(self) -> str:
        return self.summary["image"]

    @property
    def verdict(self) -> Verdict | None:
        """None if the image could not be segmented."""
        return verdict_in(self.summary)

    @property
    def verdicts(self) -> dict[int, Verdict]:
        """Verdicts of its slices that have one."""
        found = {place: verdict_in(cells) for place, cells in self.slices.items()}
        return {place: verdict for place, verdict in found.items() if verdict}


def read_rows(folder: Path) -> list[ImageRow]:
    """All images of a study, the worst first.

    Images that could not be segmented come before those that fail, those to be reviewed and those that pass; of the
    same verdict, the lowest predicted Dice coefficient is first.

    Args:
        folder: Folder of the study with `summary.tsv` and `areas.tsv`.

    Raises:
        InputError: There is no `summary.tsv`, or it is no table of images.
    """
    slices: defaultdict[str, dict[int, Cells]] = defaultdict(dict)
    if (folder / AREAS).exists():
        for cells in _read(folder / AREAS, ("image", "slice")):
            if not cells["slice"].isdecimal():
                raise InputError(
                    f"{folder / AREAS}: slice {cells['slice']!r} is no number; run participant again"
                )
            slices[cells["image"]][int(cells["slice"])] = cells
    summaries = [row for row in _read(folder / SUMMARY, ("image", "region")) if row["region"] == WHOLE]
    order = {None: 0, "fail": 1, "review": 2, "pass": 3}
    rows = [ImageRow(row, slices.get(row["image"], {})) for row in summaries]
    return sorted(
        rows,
        key=lambda row: (order[row.verdict], number(row.summary, "predicted_dsc", -1.0), row.image),
    )


def verdict_in(cells: Cells) -> Verdict | None:
    """Verdict of an image or a slice, None if it has none."""
    return next((one for one in VERDICTS if one == cells.get("verdict")), None)


def number(cells: Cells, name: str, unknown: float = math.nan) -> float:
    """A cell as a number, `unknown` if there is none."""
    try:
        return float(cells[name])
    except (KeyError, ValueError):
        return unknown


def _read(path: Path, needed: Sequence[str]) -> list[Cells]:
    """Rows of a TSV table without their unknown cells."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            names = table.fieldnames or ()
            rows: list[Cells] = [
                {name: cell for name, cell in row.items() if cell not in ("", None, UNKNOWN)} for row in table
            ]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such table; run the step participant first") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); write it again with the step participant"
        ) from error
    for name in needed:
        if name not in names or not all(name in row for row in rows):
            raise InputError(
                f"{path}: column {name} is missing or has gaps; write it again with the step participant"
            )
    return rows
