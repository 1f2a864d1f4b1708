"""Data sets in folders like those of the Brain Imaging Data Structure, with masks among the derivatives."""

from __future__ import annotations

from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets.annotated_volume import AnnotatedVolume
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import check_folder, fits, is_visible, nifti_files, nifti_stem, with_ending

GRAY_MATTER_MASKS = "derivatives/labels/**/*_gmseg*.nii.gz"
CORD_MASKS = "derivatives/labels/**/*_seg*.nii.gz"
IMAGES = ("sub-*_T2starw.nii.gz", "sub-*_T2star.nii.gz")
"""Patterns of the images, with the suffix of BIDS and with its former one."""


def find_bids(
    folder: str | Path,
    image_pattern: str | None = None,
    mask_pattern: str = GRAY_MATTER_MASKS,
    label_value: int | None = None,
) -> list[AnnotatedVolume]:
    """Find images, and the masks whose names begin with those of the images.

    `sub-01_T2star_gmseg.nii.gz` belongs to `sub-01_T2star.nii.gz`. Several masks of an image are taken as
    several raters, in the order of their names.

    Args:
        folder: Root of the data set.
        image_pattern: Pattern of file names, anywhere in the folder except under `derivatives`; None takes those
            with the suffix T2starw or T2star.
        mask_pattern: Pattern of paths relative to the folder.
        label_value: Value of gray matter in the masks; None takes everything that is not zero.

    Returns:
        All images in the order of their names; those that are not labelled have no masks.

    Raises:
        InputError: No image, no mask, an image name twice, or a mask without an image.
    """
    folder = checks.path("folder", folder)
    image_pattern = checks.optional(_pattern)("image_pattern", image_pattern)
    mask_pattern = _pattern("mask_pattern", mask_pattern)
    label_value = checks.optional(checks.integer(1))("label_value", label_value)
    check_folder(folder)
    patterns = IMAGES if image_pattern is None else (image_pattern,)
    looked_for = " or ".join(patterns)
    images: dict[str, Path] = {}
    for path in nifti_files(folder):
        place = path.relative_to(folder)
        if place.parts[0] == "derivatives" or not any(fits(place, pattern) for pattern in patterns):
            continue
        stem = nifti_stem(path)
        if stem in images:
            raise InputError(f"{path}: has the same name as {images[stem]}; keep one of them")
        images[stem] = path
    if not images:
        raise InputError(f"{folder}: no image {looked_for} in it; check the folder and --image-pattern")
    masks: dict[str, list[Path]] = {stem: [] for stem in images}
    mask_patterns = {str(with_ending(Path(mask_pattern), change)) for change in (str, str.lower, str.upper)}
    found = {path for pattern in mask_patterns for path in folder.glob(pattern)}
    strays: list[Path] = []
    for path in sorted(found):
        if not all(map(is_visible, path.relative_to(folder).parts)):
            continue
        stems = [stem for stem in images if path.name.startswith(f"{stem}_")]
        if stems:
            masks[max(stems, key=len)].append(path)
        else:
            strays.append(path)
    if strays:
        also = f" (nor of {first_of([path.name for path in strays[1:]])})" if len(strays) > 1 else ""
        raise InputError(
            f"{strays[0]}: no image {looked_for} has the beginning of its name{also}, {len(strays)} of "
            f"{len(found)} masks; add the images, or narrow --mask-pattern"
        )
    if not any(masks.values()):
        raise InputError(f"{folder}: no mask {mask_pattern} in it; check --mask-pattern")
    return [
        AnnotatedVolume(
            image=path,
            masks=tuple(masks[stem]),
            subject_id=stem.split("_")[0],
            label_value=label_value,
        )
        for stem, path in sorted(images.items())
    ]


def _pattern(name: str, value: str) -> str:
    if checks.text(name, value).startswith("/"):
        checks.refuse(name, "a pattern of paths inside the folder", value)
    return value
