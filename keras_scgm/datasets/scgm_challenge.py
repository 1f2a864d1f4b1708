"""The Spinal Cord Gray Matter Challenge (Prados et al., NeuroImage 2017), in its own layout.

Four sites with 20 subjects each; 01 to 10 come with the masks of four raters, 11 to 20 without (paper 3.3.1).
The data may be had from the organisers, and `write_challenge_dataset` draws phantoms in the same layout.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from keras_scgm import checks
from keras_scgm.datasets.annotated_volume import AnnotatedVolume
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import check_folder, nifti_files

IMAGE_NAME = re.compile(r"site(\d+)-sc(\d+)-image(?i:\.nii(?:\.gz)?)")
MASK_NAME = re.compile(r"site(\d+)-sc(\d+)-mask-r(\d+)(?i:\.nii(?:\.gz)?)")


def find_challenge(folder: str | Path, label_value: int | None = 1) -> list[AnnotatedVolume]:
    """Find `siteS-scNN-image.nii.gz` and `siteS-scNN-mask-rR.nii.gz` in a folder and below.

    Args:
        folder: Folder with all files, or with the challenge's training and test folders.
        label_value: Value of gray matter in the masks; the challenge has 1, and 2 for white matter.

    Returns:
        All subjects by site and number; those that are not labelled have no masks.

    Raises:
        InputError: No image, a file twice, a mask without an image, or a subject without masks although its
            number is labelled elsewhere.
    """
    folder = checks.path("folder", folder)
    label_value = checks.optional(checks.integer(1))("label_value", label_value)
    check_folder(folder)
    images: dict[tuple[int, int], Path] = {}
    masks: dict[tuple[int, int], dict[int, Path]] = {}
    for path in nifti_files(folder):
        if match := IMAGE_NAME.fullmatch(path.name):
            site, number = map(int, match.groups())
            _add(images, (site, number), path)
        elif match := MASK_NAME.fullmatch(path.name):
            site, number, rater = map(int, match.groups())
            _add(masks.setdefault((site, number), {}), rater, path)
    if not images:
        raise InputError(
            f"{folder}: no siteS-scNN-image.nii.gz in it; give the folder of the challenge's files"
        )
    strays = [next(iter(of_subject.values())) for key, of_subject in masks.items() if key not in images]
    if strays:
        raise InputError(
            f"{strays[0]}: its image is missing{_also(strays)}; copy the image, or remove the mask"
        )
    last = max((number for _, number in masks), default=0)
    bare = [path for key, path in images.items() if key not in masks and key[1] <= last]
    if bare:
        raise InputError(
            f"{bare[0]}: has no mask{_also(bare)}, though subjects up to {last:02d} are labelled; "
            "copy its masks, or remove the image"
        )
    return [
        AnnotatedVolume(
            image=path,
            masks=tuple(mask for _, mask in sorted(masks.get((site, number), {}).items())),
            subject_id=f"site{site}-sc{number:02d}",
            site_id=str(site),
            label_value=label_value,
        )
        for (site, number), path in sorted(images.items())
    ]


def _also(paths: list[Path]) -> str:
    others = [path.name for path in paths[1:]]
    return f", and so with {len(others)} more ({first_of(others)})" if others else ""


def _add(found: dict[Any, Path], key: Any, path: Path) -> None:
    if key in found:
        raise InputError(f"{path}: the same as {found[key]}; keep one of them")
    found[key] = path
