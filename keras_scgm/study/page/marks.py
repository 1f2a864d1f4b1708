"""Marks that people gave to the masks of a study on its quality page: `qc.yml` or a TSV table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import read_text, sha256_of
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.tsv import read_tsv

MarkName = Literal["pass", "fail", "artefact"]
MARKS: tuple[MarkName, ...] = get_args(MarkName)


@dataclass(frozen=True)
class Mark:
    """What a person says of the mask of an image.

    Args:
        mark: "pass", "fail" or "artefact".
        comment: One line, empty if there is none.
        mask_sha256: First 12 digits of the SHA-256 of the mask that was marked, empty if it is not known.
    """

    mark: MarkName
    comment: str = ""
    mask_sha256: str = ""

    @property
    def is_excluded(self) -> bool:
        """Whether the image stays out of the statistics of the group."""
        return self.mark != "pass"


def mask_id(mask: Path) -> str:
    """First 12 digits of the SHA-256 of a mask, by which a mark knows it; empty if there is no such file."""
    return sha256_of(mask)[:12] if mask.is_file() else ""


def read_marks(path: str | Path) -> dict[str, Mark]:
    """Marks by image, from a file that a quality page has exported or a person has written.

    Args:
        path: A TSV table with the columns `image`, `mark` and, if there are any, `comment` and `mask_sha256`, if its
            name ends in `.tsv`; else YAML: a list `marks` of mappings with these keys.

    Returns:
        Path of the image as in `summary.tsv` -> its mark, in the order of the file.

    Raises:
        InputError: The file cannot be read, or a mark in it is none of "pass", "fail" and "artefact".
    """
    path = checks.path("path", path)
    marks: dict[str, Mark] = {}
    for place, entry in (_table if path.suffix.lower() == ".tsv" else _list)(path):
        image, mark, *known = (entry.get(name) for name in ("image", "mark", "comment", "mask_sha256"))
        if not isinstance(image, str) or image in ("", UNKNOWN):
            raise InputError(f"{path}: {place}: no image; each mark needs the path of its image")
        if mark not in MARKS:
            shown = repr(mark) if isinstance(mark, str) else "none" if mark is None else type(mark).__name__
            raise InputError(f"{path}: {place}: mark must be one of {', '.join(MARKS)}, received {shown}")
        if image in marks and marks[image].mark != mark:
            raise InputError(
                f"{path}: {place}: {image} is marked {marks[image].mark} and {mark}; keep one of them"
            )
        if not all(isinstance(text, str | None) for text in known):
            raise InputError(f"{path}: {place}: comment and mask_sha256 must be texts")
        marks[image] = Mark(mark, *("" if text in (None, "~", "null", UNKNOWN) else text for text in known))
    return marks


def _table(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a TSV table, each with its place in the file."""
    for number, row in enumerate(read_tsv(path, "image", "mark"), start=1):
        yield f"row {number}", row


def _list(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Entries of a YAML file, each with its place in the file."""
    text = read_text(path)
    try:
        # All scalars as they are written: a hash of digits alone is no number, and a comment "no" is not false.
        content = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        line = f" (line {place.line + 1})" if place else ""
        raise InputError(f"{path}: not YAML{line}; give the qc.yml or qc.tsv of a page") from error
    entries = content.get("marks") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: no list of marks; give the qc.yml or qc.tsv of a page")
    for number, entry in enumerate(entries, start=1):
        yield f"entry {number}", entry
