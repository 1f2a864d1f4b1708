"""Finds the images of a study, and tells them from labels, results and derivatives."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_scgm import checks, messages
from keras_scgm.errors import InputError, NotAnImageError, counted, first_of
from keras_scgm.files import (
    CORD_SUFFIX,
    RESULT_SUFFIX,
    WHITE_MATTER_SUFFIX,
    fits,
    is_nifti,
    is_visible,
    nifti_files,
    nifti_stem,
    with_ending,
)
from keras_scgm.nifti import conversion_hint
from keras_scgm.volume import Volume

LABEL_NAME = re.compile(
    r"(?:^|[_.])[a-z]*seg(?:m|mentation)?(?![a-z])|mask(?!ed)|label(?!l?ed)|_uncertainty$", re.IGNORECASE
)
"""In names without ending: `_seg`, `_gmseg-manual`, BIDS' `_dseg` and `_probseg`, the challenge's `-mask-r1`."""
DERIVATIVES = "derivatives"
MAX_LABEL = 32
"""A volume of whole numbers from 0 to this one holds labels, such as tissues or vertebral levels."""

MIN_VOXELS_PER_VALUE = 8
"""An image of fewer voxels per value is not checked: a small image has few values, too."""

NAMED_VALUES = 4


@dataclass(frozen=True)
class ImageFile:
    """An image to segment.

    Args:
        path: Image file.
        root: Searched folder; the path from it is kept under an output folder.
        is_named: Whether the user named the file; a file found in a folder may turn out to hold labels.
    """

    path: Path
    root: Path
    is_named: bool


@dataclass
class FoundImages:
    """Result of a search.

    Args:
        images: Images, each once, in the order of the inputs and then of their paths.
        problems: Inputs without any image, one line each.
        notes: Files left out, one line for each folder or pattern.
    """

    images: list[ImageFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_images(
    inputs: Sequence[str | Path], suffix: str | None = None, pattern: str | None = None
) -> FoundImages:
    """The images among files, folders and patterns.

    Folders are searched through, but for hidden ones (`.git`, where git-annex keeps its objects), `derivatives`, and
    links to folders. Of what they hold, results (`*_gmseg`, and `*_wmseg` and `*_seg` beside it) and files named like
    labels (`LABEL_NAME`) are left out. Files that were named are taken whatever their name.

    Args:
        inputs: NIfTI files, folders, or patterns as for `glob.glob`; `**` is any number of folders.
        suffix: BIDS suffix of the images in folders: "T2starw" takes `*_T2starw.nii.gz`.
        pattern: Pattern of their names, or of their paths from the folder, such as "sub-*/anat/*".

    Raises:
        InputError: a suffix or a pattern, but no folder.
    """
    found = FoundImages()
    places = [checks.path("inputs", item) for item in inputs]
    if (suffix or pattern) and not any(place.is_dir() for place in places):
        raise InputError(
            "suffix and pattern choose among the images of a folder; give a folder, or leave them out"
        )
    for place in places:
        if place.is_dir():
            candidates = nifti_files(place, _is_searched)
            chosen = [path for path in candidates if _is_chosen(path.relative_to(place), suffix, pattern)]
            images = _without_labels(place, chosen, found.notes)
            found.images += [ImageFile(path, place, is_named=False) for path in images]
            if not images:
                found.problems.append(_why_none(place, candidates, chosen, suffix, pattern))
        elif glob.has_magic(str(place)) and not os.path.lexists(place):
            images = _without_labels(place, _matches(place), found.notes)
            found.images += [ImageFile(path, path.parent, is_named=False) for path in images]
            if not images:
                found.problems.append(f"{place}: no image matches this pattern; check the path")
        else:
            found.images.append(ImageFile(place, place.parent, is_named=True))
    return FoundImages(
        _each_once(found.images), [*dict.fromkeys(found.problems)], [*dict.fromkeys(found.notes)]
    )


def check_is_image(volume: Volume) -> None:
    """Refuse a volume of labels: of two values, or of whole numbers up to `MAX_LABEL`. A constant one passes.

    Raises:
        NotAnImageError: it holds labels.
    """
    values: set[float] = set()
    middle = volume.n_slices // 2
    # The middle first: an image shows there what it is, its ends may be empty.
    for k in sorted(range(volume.n_slices), key=lambda k: abs(k - middle)):
        slices, _ = volume.view_slices(k, k + 1)
        marked = slices[slices != 0]
        values.update([0.0] if marked.size < slices.size else [], np.unique(marked).tolist())
        if len(values) > 2 and not values <= set(range(MAX_LABEL + 1)):
            return
    if 1 < len(values) <= math.prod(volume.voxels.shape) / MIN_VOXELS_PER_VALUE:
        listed = first_of([f"{value:g}" for value in sorted(values)], NAMED_VALUES)
        raise NotAnImageError(f"{volume.source}: {messages.LABELS.format(len(values), listed)}")


def _without_labels(place: Path, paths: Iterable[Path], notes: list[str]) -> list[Path]:
    paths = list(paths)
    segmented = {
        path.with_name(nifti_stem(path).removesuffix(RESULT_SUFFIX))
        for path in paths
        if nifti_stem(path).endswith(RESULT_SUFFIX)
    }
    paths = [path for path in paths if not _is_result(path, segmented)]
    labels = [path for path in paths if LABEL_NAME.search(nifti_stem(path))]
    if labels:
        notes.append(
            f"{place}: {counted(len(labels), 'file')} left out, named like labels: {labels[0].name}"
            f"{', ...' * (len(labels) > 1)}"
        )
    return [path for path in paths if path not in set(labels)]


def _is_result(path: Path, segmented: set[Path]) -> bool:
    """Whether a file is a result: gray matter, or the cord or white matter beside it."""
    stem = nifti_stem(path)
    if stem.endswith((RESULT_SUFFIX, f"{RESULT_SUFFIX}_uncertainty")):
        return True
    return any(
        stem.endswith(suffix) and path.with_name(stem.removesuffix(suffix)) in segmented
        for suffix in (WHITE_MATTER_SUFFIX, CORD_SUFFIX)
    )


def _is_chosen(path: Path, suffix: str | None, pattern: str | None) -> bool:
    if suffix and not nifti_stem(path).endswith(f"_{suffix.lstrip('_')}"):
        return False
    return not pattern or fits(path, pattern)


def _matches(pattern: Path) -> list[Path]:
    """Files that a pattern matches, whatever the case of their ending."""
    parts = with_ending(pattern, str.lower).parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return sorted(set(_expand(Path(*parts[:first]), parts[first:])))


def _expand(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """As `glob.glob`, but `**` follows no links, which may go in circles, and only what is named is hidden."""
    part, *rest = parts
    if part == "**":
        for parent, folders, _ in os.walk(folder):
            folders[:] = [name for name in folders if _is_searched(name)]
            yield from _expand(Path(parent), rest or ["*"])
        return
    for path in _listed(folder) if glob.has_magic(part) else [folder / part]:
        if glob.has_magic(part) and not (_is_searched(path.name) and fits(Path(path.name), part)):
            continue
        if rest:
            yield from _expand(path, rest)
        elif is_nifti(path) and not path.is_dir():
            yield path


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_searched(name: str) -> bool:
    return is_visible(name) and name != DERIVATIVES


def _each_once(images: Iterable[ImageFile]) -> list[ImageFile]:
    """A file that was named and found, or found twice, is one image; links are files of their own."""
    once: dict[Path, ImageFile] = {}
    for image in images:
        key = Path(os.path.realpath(image.path.parent), image.path.name)
        known = once.setdefault(key, image)
        once[key] = replace(known, is_named=known.is_named or image.is_named)
    return list(once.values())


def _why_none(
    folder: Path, candidates: Sequence[Path], chosen: Sequence[Path], suffix: str | None, pattern: str | None
) -> str:
    if not candidates:
        return f"{folder}: no .nii or .nii.gz file in it; {conversion_hint(folder) or 'check the path'}"
    if not chosen:
        wanted = " and ".join(
            f"{name} {value}" for name, value in (("suffix", suffix), ("pattern", pattern)) if value
        )
        return (
            f"{folder}: none of its {len(candidates)} NIfTI files has the {wanted}; check it, or the folder"
        )
    return f"{folder}: no image in it, only results (*_gmseg) and files named like labels; name a file to segment it"
