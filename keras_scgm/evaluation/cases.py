"""Finds which predictions, reference masks and images belong to one case."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_scgm.datasets.scgm_challenge import IMAGE_NAME, MASK_NAME
from keras_scgm.errors import InputError
from keras_scgm.files import RESULT_SUFFIX, nifti_files, nifti_stem

CHALLENGE_CASE = re.compile(r"(site(\d+)-sc\d+)(?:\D|$)")


@dataclass(frozen=True)
class Case:
    """A volume with the masks of models and raters.

    Args:
        case_id: Common part of the names of its files.
        site_id: Site in the challenge's layout, None in others.
        predictions: Mask of each model.
        references: Mask of each rater, by the name of the rater.
        image: The volume, None if it was not found.
    """

    case_id: str
    site_id: str | None
    predictions: Mapping[str, Path]
    references: Mapping[str, Path]
    image: Path | None = None


@dataclass
class _Found:
    """The files of a case while they are collected."""

    predictions: dict[str, Path] = field(default_factory=dict)
    references: dict[str, Path] = field(default_factory=dict)
    image: Path | None = None


def find_cases(
    predictions: Mapping[str, Path], references: Sequence[Path], images: Path | None = None
) -> tuple[list[Case], list[str]]:
    """Pair the masks of models and raters.

    Two single files always belong together. In folders, which are searched recursively, names decide:
    `site1-sc01` in the challenge's layout, otherwise the prediction's name without `_gmseg` is the beginning of
    the reference's. Of a folder that holds files named `*_gmseg` only these are predictions.

    Args:
        predictions: A file or a folder for each model.
        references: Files or folders. Several are one rater each; in one folder the masks of a case are one
            rater each, in the order of their names.
        images: File or folder of the volumes; the challenge's are found beside its masks.

    Returns:
        Cases with at least one prediction and one reference, by name; and files without a partner, one line each.

    Raises:
        InputError: a path does not exist, a name occurs twice, or no files belong together.
    """
    found: defaultdict[str, _Found] = defaultdict(_Found)
    if all(path.is_file() for path in predictions.values()):
        files = [*references, *predictions.values()]
        case_id = _key(next(path for path in files if path.is_file()))
        found[case_id].predictions.update(predictions)
    else:
        for model, place in predictions.items():
            for path in _predictions_in(place):
                _add(found[_key(path)].predictions, model, path)
    keys = list(found)
    taken = {path for case in found.values() for path in case.predictions.values()}
    strays = []
    names = _rater_names(references)
    for place, name in zip(references, names, strict=True):
        if place.is_file() and len(keys) == 1:
            _add(found[keys[0]].references, name, place)
            continue
        for path in _files(place):
            if path in taken or IMAGE_NAME.fullmatch(path.name):
                continue
            key = _owner(path, keys)
            if key is None:
                strays.append(path)
                continue
            rater = name if len(references) > 1 else _rater_of(path, found[key].references)
            _add(found[key].references, rater, path)
    _add_images(found, references, images)

    complete = [
        Case(case_id, _site(case_id), case.predictions, case.references, case.image)
        for case_id, case in sorted(found.items())
        if case.predictions and case.references
    ]
    if not complete:
        raise InputError(
            f"{next(iter(predictions.values()))}: no prediction has the name of a reference in "
            f"{', '.join(map(str, references))}; name them alike, or give two files"
        )
    return complete, list(_missing(found, predictions, strays))


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.exists():
        raise InputError(f"{place}: no such file or folder; check the path")
    found = nifti_files(place)
    if not found:
        raise InputError(f"{place}: no .nii or .nii.gz file in it; check the path")
    return found


def _predictions_in(place: Path) -> list[Path]:
    files = [path for path in _files(place) if not MASK_NAME.fullmatch(path.name)]
    results = [path for path in files if nifti_stem(path).endswith(RESULT_SUFFIX)]
    if not files:
        raise InputError(f"{place}: holds raters' masks only; give the folder of the predictions")
    return results or files


def _key(path: Path) -> str:
    match = CHALLENGE_CASE.match(path.name)
    return match[1] if match else nifti_stem(path).removesuffix(RESULT_SUFFIX)


def _owner(path: Path, keys: Sequence[str]) -> str | None:
    """The longest key that the file's name begins with, at the end of a word."""
    match = CHALLENGE_CASE.match(path.name)
    if match:
        return match[1] if match[1] in keys else None
    stem = nifti_stem(path)
    fitting = [key for key in keys if stem == key or stem.startswith((f"{key}_", f"{key}-"))]
    return max(fitting, key=len, default=None)


def _site(case_id: str) -> str | None:
    match = CHALLENGE_CASE.match(case_id)
    return match[2] if match else None


def _rater_names(references: Sequence[Path]) -> list[str]:
    if not references:
        raise InputError("no reference; give at least one file or folder")
    folders = [place.name for place in references if place.is_dir()]
    if len(set(folders)) == len(references):
        return folders
    return [f"r{number}" for number in range(1, len(references) + 1)]


def _rater_of(path: Path, others: Mapping[str, Path]) -> str:
    match = MASK_NAME.fullmatch(path.name)
    return f"r{int(match[3])}" if match else f"r{len(others) + 1}"


def _add(owners: dict[str, Path], name: str, path: Path) -> None:
    if name in owners:
        raise InputError(f"{path}: belongs to the same case as {owners[name]}; keep one of them")
    owners[name] = path


def _add_images(found: dict[str, _Found], references: Sequence[Path], images: Path | None) -> None:
    keys = list(found)
    if images is not None and images.is_file() and len(keys) == 1:
        found[keys[0]].image = images
        return
    candidates = _files(images) if images is not None else []
    if images is None:
        candidates = [
            path
            for place in references
            if place.is_dir()
            for path in _files(place)
            if IMAGE_NAME.fullmatch(path.name)
        ]
    for path in candidates:
        key = _key(path) if CHALLENGE_CASE.match(path.name) else nifti_stem(path)
        if key in found and not MASK_NAME.fullmatch(path.name):
            found[key].image = path


def _missing(found: Mapping[str, _Found], models: Mapping[str, Path], strays: Sequence[Path]) -> list[str]:
    """Files without a partner, one line for each kind."""
    lines = []
    without = [case.predictions for case in found.values() if case.predictions and not case.references]
    paths = [path for predictions in without for path in predictions.values()]
    if paths:
        lines.append(f"no reference for {_listed(paths)}")
    if strays:
        lines.append(f"no prediction for {_listed(strays)}")
    for model in models:
        lacking = [name for name, case in found.items() if case.references and model not in case.predictions]
        if lacking and len(models) > 1:
            lines.append(
                f"model {model} has no prediction for {len(lacking)} cases: {', '.join(sorted(lacking))}"
            )
    most = max((len(case.references) for case in found.values()), default=0)
    fewer = [name for name, case in found.items() if case.predictions and 0 < len(case.references) < most]
    if fewer:
        lines.append(f"fewer than {most} raters for {len(fewer)} cases: {', '.join(sorted(fewer))}")
    return lines


def _listed(paths: Sequence[Path]) -> str:
    return f"{len(paths)} files: {', '.join(path.name for path in sorted(paths))}"
