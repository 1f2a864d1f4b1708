"""Studies in the Brain Imaging Data Structure, read by ancpbids (optional extra `study`)."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras_scgm import checks
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import is_visible, nifti_stem
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.images import (
    Metadata,
    Problem,
    Study,
    StudyImage,
    checked,
    read_dictionary,
    read_participants,
    sidecar,
)
from keras_scgm.study.tsv import Row, read_tsv

SUFFIX = "T2starw"
"""Suffix of T2*-weighted images."""

COMMON_SHARE = 0.5
"""Share of the participants from which on a session is missing where it is not."""

NOT_MAGNITUDE = ("phase", "real", "imag")
LEFT_OUT = (".*", "*/.*", "derivatives", "sourcedata", "code")


def is_bids(folder: Path) -> bool:
    """Whether a folder has a description of a data set, or folders of subjects."""
    return (folder / "dataset_description.json").exists() or any(folder.glob("sub-*/"))


def read_bids(folder: str | Path, suffix: str = SUFFIX, *, validate: bool = True) -> Study:
    """Images of a data set with one suffix, and what is missing in it.

    Derivatives, hidden folders, and phase, real and imaginary images are left out. A participant without
    such an image, and one without a session that at least half of the participants have, is a problem. The tables
    `sessions.tsv` and `scans.tsv` of participants are read, too, the latter for the time of an acquisition.

    Args:
        folder: Root of the data set.
        suffix: Suffix of the images.
        validate: Whether to refuse a data set without a valid dataset_description.json.

    Raises:
        InputError: ancpbids is not installed, the description or a table cannot be used, or no participant has such an
            image.
    """
    folder = checks.path("folder", folder)
    if find_spec("ancpbids") is None:
        raise InputError("a folder in BIDS is read by ancpbids; pip install 'keras-scgm[study]'")
    from ancpbids import DatasetOptions, load_dataset

    if validate:
        check_description(folder)
    # A pickled index could hold any program.
    dataset = load_dataset(str(folder), DatasetOptions(ignore=list(LEFT_OUT), ignore_pickle_file=True))
    images, seen = [], Counter[str]()
    found: list[Any] = dataset.query(extension=[".nii.gz", ".nii"], scope="raw")
    for artifact in found:
        path = Path(artifact.get_relative_path())
        entities = artifact.get_entities()
        if not path.parts[0].startswith("sub-") or not all(map(is_visible, path.parts)):
            continue
        seen[artifact.suffix] += 1
        if artifact.suffix == suffix and entities.get("part") not in NOT_MAGNITUDE:
            images.append(_image(folder, path, entities, partial(_metadata, folder, path)))
    if not images:
        there = first_of([name for name, _ in seen.most_common()]) or "no image"
        raise InputError(
            f"{folder}: no image has the suffix {suffix}; there is {there}; give another --suffix"
        )
    participants, (dictionary, warnings) = read_participants(folder), read_dictionary(folder)
    problems, columns = _missing(folder, images, suffix), _image_columns(folder, images)
    return checked(Study(folder, tuple(images), tuple(problems), participants, columns, dictionary, warnings))


def check_description(folder: Path) -> None:
    """Refuse a folder whose dataset_description.json lacks what BIDS requires.

    Raises:
        InputError: It is missing, cannot be read, or names no data set or no version of BIDS.
    """
    path = folder / "dataset_description.json"
    if not path.is_file():
        raise InputError(f"{folder}: no dataset_description.json; add it, or give --skip-bids-validation")
    description = sidecar(path)
    if missing := [key for key in ("Name", "BIDSVersion") if not isinstance(description.get(key), str)]:
        raise InputError(f"{path}: no {' and no '.join(missing)}; add it, or give --skip-bids-validation")


def _image(folder: Path, path: Path, entities: dict[str, Any], metadata: Any) -> StudyImage:
    session = entities.get("ses")
    stem, _, _ = nifti_stem(path).rpartition("_")
    run = re.search(r"_run-([A-Za-z0-9]+)", stem)
    return StudyImage(
        folder / path,
        path.as_posix(),
        f"sub-{entities['sub']}",
        f"ses-{session}" if session is not None else "",
        run[1] if run else "",
        stem,
        metadata,
    )


def _metadata(folder: Path, path: Path) -> Metadata:
    """What the JSON files that apply to an image say, by the inheritance principle of BIDS; the nearest counts.

    ancpbids leaves out files without entities, such as T2starw.json.
    """
    *entities, suffix = nifti_stem(path).split("_")
    metadata: dict[str, Any] = {}
    for parent in reversed(path.parents):
        applying = [
            (names, other)
            for other in (folder / parent).glob(f"*{suffix}.json")
            for *names, last in [other.stem.split("_")]
            if last == suffix and set(names) <= set(entities)
        ]
        for _, other in sorted(applying, key=lambda item: len(item[0])):
            metadata |= sidecar(other)
    return metadata


def _image_columns(folder: Path, images: list[StudyImage]) -> dict[str, Row]:
    """Columns of sessions.tsv and, of the time alone, of scans.tsv, by image; a scan's own time counts."""
    sessions, scans = cache(partial(_rows, "session_id")), cache(partial(_rows, "filename"))
    image_columns = {}
    for image in images:
        name, session = image.participant_id, image.session_id
        of_subject = folder / name
        of_session = of_subject / session
        scan = scans(of_session / f"{'_'.join(filter(None, (name, session)))}_scans.tsv").get(
            image.path.relative_to(of_session).as_posix(), {}
        )
        own_time = {key: text for key, text in scan.items() if key == "acq_time" and text != UNKNOWN}
        image_columns[image.image] = sessions(of_subject / f"{name}_sessions.tsv").get(session, {}) | own_time
    return image_columns


def _rows(key: str, path: Path) -> dict[str, Row]:
    """Rows of a table by a column, without it; nothing if there is no table."""
    if not path.is_file():
        return {}
    rows = read_tsv(path, key)
    return {row[key]: {name: text for name, text in row.items() if name != key} for row in rows}


def _missing(folder: Path, images: list[StudyImage], suffix: str) -> list[Problem]:
    """Participants without images, and sessions without images or that others have."""
    having: dict[str, set[str]] = {}
    for image in images:
        having.setdefault(image.participant_id, set()).add(image.session_id)
    folders = {
        path.name: {session.name for session in path.glob("ses-*") if session.is_dir()}
        for path in sorted(folder.glob("sub-*"))
        if path.is_dir()
    }
    of_session = Counter(session for sessions in having.values() for session in sessions if session)
    common = {name for name, count in of_session.items() if count >= COMMON_SHARE * len(having)}
    problems = []
    for participant, sessions in folders.items():
        there = having.get(participant, set())
        for session in sorted((sessions | common if there or sessions else set()) - there):
            what = f"no image with the suffix {suffix}" if session in sessions else "session missing"
            problems.append(
                Problem(
                    participant, session, f"{what}; other participants have it" if session in common else what
                )
            )
        if not there and not sessions:
            problems.append(Problem(participant, "", f"no image with the suffix {suffix}"))
    return problems
