"""Rows of a quality page, from the tables of a study."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_scgm.errors import InputError
from keras_scgm.morphometry.regions import ALL
from keras_scgm.quality.verdicts import VERDICTS, Verdict
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.tables import AREAS, SUMMARY, image_name, read_study_table

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
        return image_name(self.summary)

    @property
    def is_missing(self) -> bool:
        """Whether a participant or a session has no image."""
        return "image" not in self.summary

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

    Participants and sessions without an image come first, then images that could not be segmented, those that fail,
    those to be reviewed and those that pass; of the same verdict, the lowest predicted Dice coefficient is first.

    Args:
        folder: Folder of the study with `summary.tsv` and `areas.tsv`.

    Raises:
        InputError: There is no `summary.tsv`, or it is no table of images.
    """
    slices: defaultdict[str, dict[int, Cells]] = defaultdict(dict)
    if (folder / AREAS).exists():
        for cells in _known(folder / AREAS, "image", "slice"):
            if not cells["slice"].isdecimal():
                raise InputError(
                    f"{folder / AREAS}: slice {cells['slice']!r} is no number; run participant again"
                )
            slices[cells["image"]][int(cells["slice"])] = cells
    summaries = [row for row in _known(folder / SUMMARY, "image", "region") if row["region"] == ALL]
    order = {None: 0, "fail": 1, "review": 2, "pass": 3}
    rows = [ImageRow(row, slices.get(row.get("image", ""), {})) for row in summaries]
    return sorted(
        rows,
        key=lambda row: (
            not row.is_missing,
            order[row.verdict],
            number(row.summary, "predicted_dsc", -1.0),
            row.image,
        ),
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


def _known(path: Path, *needed: str) -> list[Cells]:
    """Rows of a table of the study without their unknown cells."""
    return [
        {name: cell for name, cell in row.items() if cell != UNKNOWN}
        for row in read_study_table(path, *needed)
    ]
