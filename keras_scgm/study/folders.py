"""Studies outside BIDS: a folder with images, or a list of files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import nifti_stem, read_text
from keras_scgm.images import find_images
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.images import (
    PREFIXES,
    Study,
    StudyImage,
    checked,
    label_of,
    read_dictionary,
    read_participants,
    sidecar,
)
from keras_scgm.study.tsv import read_tsv

BIDS_NAME = re.compile(r"(?P<stem>(?P<sub>sub-[A-Za-z0-9]+)(?:_(?P<ses>ses-[A-Za-z0-9]+))?.*)_[A-Za-z0-9]+")
RUN = re.compile(r"_run-(\d+)")
LIST_COLUMNS = ("image", *PREFIXES)


def read_folder(folder: str | Path, suffix: str | None = None) -> Study:
    """Images of a folder and those below it, whatever their names.

    A name as in BIDS gives participant, session and run. Otherwise every image is a participant, whose
    label is the path of the image from the folder without all but letters and digits. participants.tsv is
    read as in BIDS.

    Args:
        folder: The folder.
        suffix: Suffix of the images to take; None takes all that are not named like labels.

    Raises:
        InputError: There is no image, a name has no label, or participants.tsv cannot be read.
    """
    folder = checks.path("folder", folder)
    found = find_images([folder], suffix)
    if found.problems:
        raise InputError(found.problems[0])
    images = [_image(file.path, folder) for file in found.images]
    participants, (dictionary, warnings) = read_participants(folder), read_dictionary(folder)
    return checked(
        Study(folder, tuple(images), participants=participants, dictionary=dictionary, warnings=warnings)
    )


def read_list(path: str | Path) -> Study:
    """Images that a file lists: .txt with a path in each line, or .tsv with the column image.

    Paths start at the folder of the list, or at `~`, the home folder. The columns participant_id, session_id and run
    count if they are there; further columns go into the summary, such as age and acq_time, each with its own image.

    Raises:
        InputError: The list cannot be read, names no image or one twice, or has no label of BIDS for one.
    """
    path = checks.path("path", path)
    if path.suffix.lower() not in (".txt", ".tsv"):
        raise InputError(
            f"{path}: neither .txt nor .tsv; give a folder, or a list of files: .txt with a path in each line, or .tsv "
            "with the column image"
        )
    if path.suffix.lower() == ".tsv":
        rows = read_tsv(path, "image")
    else:
        entries = map(str.strip, read_text(path).splitlines())
        rows = [{"image": entry} for entry in entries if entry and not entry.startswith("#")]
    if not rows:
        raise InputError(f"{path}: names no image")
    images = []
    for row in rows:
        labels = {
            name: label_of(path, name, row[name]) for name in PREFIXES if row.get(name, UNKNOWN) != UNKNOWN
        }
        images.append(_image(path.parent / checks.path("image", row["image"]), path.parent, labels))
    image_columns = {
        image.image: {name: text for name, text in row.items() if name not in LIST_COLUMNS}
        for image, row in zip(images, rows, strict=True)
    }
    if len(image_columns) < len(images):
        ((twice, _),) = Counter(image.image for image in images).most_common(1)
        raise InputError(f"{path}: names {twice} twice; keep one of them")
    return checked(Study(path.parent, tuple(images), image_columns=image_columns))


def _image(path: Path, root: Path, labels: Mapping[str, str] = MappingProxyType({})) -> StudyImage:
    name, image = nifti_stem(path), Path(os.path.relpath(path, root)).as_posix()
    match = BIDS_NAME.fullmatch(name)
    run = RUN.search(name)
    label = re.sub(r"[^A-Za-z0-9]", "", nifti_stem(Path(image.replace("/", ""))))
    values = {
        "participant_id": match["sub"] if match else f"sub-{label}",
        "session_id": (match and match["ses"]) or "",
        "run": run[1] if match and run else "",
    }
    if not (match or label or "participant_id" in labels):
        raise InputError(
            f"{path}: its name has no letter (A to Z) and no digit for a label; give a list: .tsv with "
            "the columns image and participant_id"
        )
    stem = match["stem"] if match else values["participant_id"]
    if labels:
        values |= labels
        parts = [
            values["participant_id"],
            values["session_id"],
            f"run-{values['run']}" if values["run"] else "",
        ]
        stem = "_".join(filter(None, parts))
    beside = partial(sidecar, path.with_name(f"{name}.json"))
    return StudyImage(
        path, image, values["participant_id"], values["session_id"], values["run"], stem, beside
    )
