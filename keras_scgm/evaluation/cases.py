"""Finds which predictions, reference masks and images belong to one case."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from keras_scgm.datasets.scgm_challenge import IMAGE_NAME, MASK_NAME
from keras_scgm.errors import InputError, counted
from keras_scgm.evaluation.tissues import TISSUE_NAMES, AnnotatorFiles, Tissue, named_tissue
from keras_scgm.files import nifti_files, nifti_stem

CHALLENGE_CASE = re.compile(r"(site(\d+)-sc\d+)(?:\D|$)")
RESULT = re.compile(r"_(?:gmseg|wmseg|seg|label-(?:gm|wm|sc|cord)_(?:seg|mask))$", re.IGNORECASE)
"""End of the names of masks that this package and the Spinal Cord Toolbox write."""


@dataclass(frozen=True)
class Case:
    """A volume with the masks of models and raters.

    Args:
        case_id: Common part of the names of its files.
        site_id: Site in the challenge's layout, None in others.
        predictions: Masks of each model.
        references: Masks of each rater, by the name of the rater.
        image: The volume, None if it was not found.
    """

    case_id: str
    site_id: str | None
    predictions: Mapping[str, AnnotatorFiles]
    references: Mapping[str, AnnotatorFiles]
    image: Path | None = None


@dataclass(frozen=True)
class _Mask:
    """A rater's file: the place it was found in, the tissue that its name says, and the rest of the name."""

    path: Path
    place: int
    tissue: Tissue | None
    rest: str


@dataclass
class _Found:
    """The files of a case while they are collected."""

    predictions: dict[str, AnnotatorFiles] = field(default_factory=dict)
    references: dict[str, AnnotatorFiles] = field(default_factory=dict)
    masks: list[_Mask] = field(default_factory=list)
    image: Path | None = None


def find_cases(
    predictions: Mapping[str, Path],
    references: Sequence[Path],
    images: Path | None = None,
    tissue: Tissue | None = None,
) -> tuple[list[Case], list[str]]:
    """Pair the masks of models and raters.

    Two single files always belong together. In folders, which are searched recursively, names decide:
    `site1-sc01` in the challenge's layout, otherwise the prediction's name without the tissue (`_gmseg`, `_wmseg`
    or `_seg`, `_label-GM_mask` and so on) is the beginning of the reference's, whose further part says the tissue. Of a
    folder that holds files named so only these are predictions.

    Args:
        predictions: A file or a folder for each model.
        references: Files or folders. Several are one rater each; in one folder the masks of a case are one
            rater each, in the order of their names. Masks of different tissues may be those of one rater.
        images: File or folder of the volumes; the challenge's are found beside its masks.
        tissue: The tissue that is compared, which single files are of whatever their names; None for all.

    Returns:
        Cases with at least one prediction and one reference, by name; and files without a partner, one line each.

    Raises:
        InputError: a path does not exist, a name occurs twice, or no files belong together.
    """
    found: defaultdict[str, _Found] = defaultdict(_Found)
    if all(path.is_file() for path in predictions.values()):
        files = [*references, *predictions.values()]
        case_id = _key(next(path for path in files if path.is_file()))
        for model, path in predictions.items():
            _add(found[case_id].predictions, model, path, _of_single_file(path, tissue)[0])
    else:
        for model, place in predictions.items():
            for path in _predictions_in(place):
                _add(found[_key(path)].predictions, model, path, _suffix_of(path)[0])
    keys = list(found)
    taken = {path for case in found.values() for files in case.predictions.values() for path in files.paths}
    strays = []
    if not references:
        raise InputError("no reference; give at least one file or folder")
    for number, place in enumerate(references):
        if place.is_file() and len(keys) == 1:
            found[keys[0]].masks.append(_Mask(place, number, *_of_single_file(place, tissue)))
            continue
        for path in _files(place):
            if path in taken or IMAGE_NAME.fullmatch(path.name):
                continue
            key = _owner(path, keys)
            if key is None:
                strays.append(path)
                continue
            found[key].masks.append(_Mask(path, number, *named_tissue(nifti_stem(path)[len(key) :])))
    for case in found.values():
        for rater, mask in _raters_of(case.masks, references):
            _add(case.references, rater, mask.path, mask.tissue)
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
    results = [path for path in files if _suffix_of(path)[0]]
    if not files:
        raise InputError(f"{place}: holds raters' masks only; give the folder of the predictions")
    return results or files


def _key(path: Path) -> str:
    match = CHALLENGE_CASE.match(path.name)
    return match[1] if match else _suffix_of(path)[1]


def _suffix_of(path: Path) -> tuple[Tissue | None, str]:
    """Tissue that the end of a prediction's name says, and the name without it."""
    stem = nifti_stem(path)
    match = RESULT.search(stem)
    return (named_tissue(match[0])[0], stem[: match.start()]) if match else (None, stem)


def _of_single_file(path: Path, wanted: Tissue | None) -> tuple[Tissue | None, str]:
    """Tissue of a file that the user named, which is the wanted one unless its name is that of another result."""
    stem = nifti_stem(path)
    tissue, rest = named_tissue(stem)
    if wanted is None or tissue in (wanted, None):
        return tissue, rest
    result = RESULT.search(stem)
    # A name that ends in `_seg` alone may be of any mask.
    if result and result[0].lower() != "_seg":
        raise InputError(
            f"{path}: named as a mask of the {TISSUE_NAMES[tissue]}, not of the {TISSUE_NAMES[wanted]}; "
            "change --tissue, or rename the file"
        )
    return None, stem


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
    folders = [place.name for place in references if place.is_dir()]
    if len(set(folders)) == len(references):
        return folders
    return [f"r{number}" for number in range(1, len(references) + 1)]


def _raters_of(masks: Sequence[_Mask], references: Sequence[Path]) -> Iterator[tuple[str, _Mask]]:
    """The name of the rater of each mask of a case.

    Of several folders each is a rater. Masks of different tissues in one folder, or given as files, are those of one
    rater; if a tissue has several, those are one rater's whose names say the same beside the tissue.
    """
    several = len(references) > 1
    tissues = {mask.tissue for mask in masks if mask.tissue}
    if len(tissues) == len(masks) and not (several and any(place.is_dir() for place in references)):
        yield from (("r1", mask) for mask in masks)
        return
    names = _rater_names(references)
    owners = list(dict.fromkeys((mask.path.parent, mask.rest) for mask in masks))
    for mask in masks:
        match = MASK_NAME.fullmatch(mask.path.name)
        number = int(match[3]) if match else owners.index((mask.path.parent, mask.rest)) + 1
        yield names[mask.place] if several else f"r{number}", mask


def _add(owners: dict[str, AnnotatorFiles], name: str, path: Path, tissue: Tissue | None) -> None:
    files = owners.get(name, AnnotatorFiles())
    other = files.unnamed if tissue is None else files.by_tissue.get(tissue)
    if other is not None:
        raise InputError(f"{path}: belongs to the same case as {other}; keep one of them")
    if tissue is None:
        owners[name] = replace(files, unnamed=path)
    else:
        owners[name] = replace(files, by_tissue={**files.by_tissue, tissue: path})


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
    paths = [path for predictions in without for files in predictions.values() for path in files.paths]
    if paths:
        lines.append(f"no reference for {_listed(paths)}")
    if strays:
        lines.append(f"no prediction for {_listed(strays)}")
    for model in models:
        lacking = [name for name, case in found.items() if case.references and model not in case.predictions]
        if lacking and len(models) > 1:
            lines.append(
                f"model {model} has no prediction for {counted(len(lacking), 'case')}: {', '.join(sorted(lacking))}"
            )
    most = max((len(case.references) for case in found.values()), default=0)
    fewer = [name for name, case in found.items() if case.predictions and 0 < len(case.references) < most]
    if fewer:
        lines.append(
            f"fewer than {most} raters for {counted(len(fewer), 'case')}: {', '.join(sorted(fewer))}"
        )
    return lines


def _listed(paths: Sequence[Path]) -> str:
    return f"{counted(len(paths), 'file')}: {', '.join(path.name for path in sorted(paths))}"
