"""Images of a study and what is wrong with it, before anything is segmented."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keras_scgm.errors import InputError, first_of, one_line, printable
from keras_scgm.files import read_text
from keras_scgm.study.columns import KEYS
from keras_scgm.study.tsv import Row, read_tsv

Metadata = Mapping[str, Any]

PREFIXES = {"participant_id": "sub-", "session_id": "ses-", "run": ""}
"""Columns with labels as in BIDS, and the prefix of each."""


@dataclass(frozen=True)
class StudyImage:
    """An image of a study.

    Args:
        path: The file.
        image: Its path from the folder of the images, with slashes.
        participant_id: Label with prefix, such as "sub-01".
        session_id: Likewise, such as "ses-A"; empty without sessions.
        run: Index of the run as written, empty without runs.
        stem: Name of the results, without ending: the image's name in BIDS without its suffix.
        metadata: Reads what the JSON sidecars say of it; an `InputError` if one cannot be read.
    """

    path: Path
    image: str
    participant_id: str
    session_id: str
    run: str
    stem: str
    metadata: Callable[[], Metadata] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Problem:
    """Something of a study that cannot be segmented, as a row of the summary.

    Args:
        participant_id: As in `StudyImage`.
        session_id: As in `StudyImage`.
        error: What is wrong, in one line.
        image: Path from the folder of the images, empty if there is none.
        run: As in `StudyImage`.
    """

    participant_id: str
    session_id: str
    error: str
    image: str = ""
    run: str = ""


@dataclass(frozen=True)
class Study:
    """Images, problems and participants.

    Args:
        root: Folder of the images.
        images: Images by participant, session and run.
        problems: What cannot be segmented.
        participants: Columns of participants.tsv by participant, None without that file.
        image_columns: Columns of sessions.tsv and scans.tsv, or of a list, by `StudyImage.image`.
        dictionary: What participants.json says of its columns.
        warnings: What may be wrong with it beside the images, one line each.
    """

    root: Path
    images: tuple[StudyImage, ...]
    problems: tuple[Problem, ...] = ()
    participants: Mapping[str, Row] | None = None
    image_columns: Mapping[str, Row] = field(default_factory=dict)
    dictionary: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def chosen(self, participants: Iterable[str] = (), sessions: Iterable[str] = ()) -> Study:
        """The study with some participants and sessions only; none given means all.

        Args:
            participants: Labels, with or without "sub-".
            sessions: Labels, with or without "ses-".

        Raises:
            InputError: No image and no problem has the label.
        """
        known: list[StudyImage | Problem] = [*self.images, *self.problems]
        wanted = _labels("participant", "sub-", participants, {item.participant_id for item in known})
        wanted_sessions = _labels("session", "ses-", sessions, {item.session_id for item in known})

        def is_chosen(item: StudyImage | Problem) -> bool:
            return (not wanted or item.participant_id in wanted) and (
                not wanted_sessions or item.session_id in wanted_sessions
            )

        return replace(
            self,
            images=tuple(filter(is_chosen, self.images)),
            problems=tuple(filter(is_chosen, self.problems)),
        )


def with_labels(prefix: str, labels: Iterable[str]) -> list[str]:
    """Labels with their prefix; several may be in one text, parted by spaces or commas.

    >>> with_labels("sub-", ["01 sub-02", "03,04"])
    ['sub-01', 'sub-02', 'sub-03', 'sub-04']
    """
    names = [name for text in labels for name in re.split(r"[\s,]+", text) if name]
    return [prefix + name.removeprefix(prefix) for name in names]


def label_of(path: Path, column: str, text: str) -> str:
    """The label of a cell with its prefix.

    Args:
        path: The table.
        column: One of `PREFIXES`.
        text: The cell.

    Raises:
        InputError: It is no label of BIDS, and could not be part of a file's name there.
    """
    prefix = PREFIXES[column]
    label = text.removeprefix(prefix)
    if not re.fullmatch(r"[A-Za-z0-9+]+", label):
        raise InputError(
            f"{path}: {column} {text!r} is no label; write letters (A to Z) and digits alone, such as {prefix}01"
        )
    return prefix + label


def _labels(what: str, prefix: str, labels: Iterable[str], known: set[str]) -> set[str]:
    wanted = with_labels(prefix, labels)
    if unknown := [name for name in wanted if name not in known]:
        there = sorted(filter(None, known))
        raise InputError(
            f"no {what} {first_of(unknown)}; there are {first_of(there)}" if there else f"no {what}s"
        )
    return set(wanted)


def sidecar(path: Path) -> Metadata:
    """A JSON file as a dictionary, empty if there is none.

    Raises:
        InputError: It cannot be read, or is not a JSON object.
    """
    if not path.exists():
        return {}
    text = read_text(path)
    try:
        read = json.loads(text)
    # JSON that is nested too deep is a RecursionError.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({one_line(error)}); mend it") from error
    if not isinstance(read, dict):
        raise InputError(f"{path}: {type(read).__name__}, not a JSON object; mend it")
    return read


def read_dictionary(root: Path) -> tuple[Metadata, tuple[str, ...]]:
    """What participants.json says of the columns of participants.tsv, and a warning if it cannot be read."""
    try:
        return sidecar(root / "participants.json"), ()
    except InputError as error:
        return {}, (f"{error}; columns of participants.tsv have no description",)


def read_participants(root: Path) -> dict[str, Row] | None:
    """participants.tsv by participant; None if there is no such file.

    Raises:
        InputError: participants.tsv cannot be read, names a participant twice, or has no label of BIDS for one.
    """
    path = root / "participants.tsv"
    if not path.exists():
        return None
    participants: dict[str, Row] = {}
    for row in read_tsv(path, "participant_id"):
        name = label_of(path, "participant_id", row.pop("participant_id"))
        if name in participants:
            raise InputError(f"{path}: {name} has two rows; keep one of them")
        participants[name] = row
    return participants


def checked(study: Study) -> Study:
    """The study with further problems: names that tables cannot hold, results of one name, participants without images.

    Images whose results would have the same name are problems, all of them: it is not known which one is meant.
    """
    images, problems = [], list(study.problems)
    by_result: dict[tuple[str, str, str], list[StudyImage]] = {}
    for image in study.images:
        if not _is_utf8(image.image):
            problems.append(_problem(image, "its name is not UTF-8; rename the file"))
            continue
        run = image.run.lstrip("0") or image.run
        stem = re.sub(r"_run-0+(?=\d)", "_run-", image.stem)
        by_result.setdefault((image.participant_id, stem, run), []).append(image)
    for same in by_result.values():
        if len(same) == 1:
            images += same
            continue
        names = " and ".join(one.image for one in same)
        problems += [_problem(one, f"{names} are one run by their names; keep one") for one in same]
    there = {one.participant_id for one in images} | {problem.participant_id for problem in problems}
    problems += [
        Problem(name, "", "in participants.tsv, but there is no image of this participant")
        for name in study.participants or ()
        if name not in there
    ]
    order = sorted(images, key=lambda image: (image.participant_id, image.session_id, image.stem))
    shown = (
        replace(problem, **{name: printable(getattr(problem, name)) for name in KEYS}) for problem in problems
    )
    return replace(study, images=tuple(order), problems=tuple(shown))


def _is_utf8(name: str) -> bool:
    return name.encode("utf-8", "ignore").decode() == name


def _problem(image: StudyImage, error: str) -> Problem:
    return Problem(image.participant_id, image.session_id, error, image.image, image.run)
