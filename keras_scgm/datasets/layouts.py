"""Finds the volumes of a data set in any known layout, recognized by the names of the files."""

from __future__ import annotations

from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets.annotated_volume import AnnotatedVolume
from keras_scgm.datasets.bids import GRAY_MATTER_MASKS, IMAGES, find_bids
from keras_scgm.datasets.scgm_challenge import IMAGE_NAME, find_challenge
from keras_scgm.errors import InputError
from keras_scgm.files import fits, nifti_files

KNOWN = "siteS-scNN-image.nii.gz (challenge) and {} (BIDS; another name with --image-pattern)"


def find_dataset(
    folder: str | Path,
    image_pattern: str | None = None,
    mask_pattern: str | None = None,
    label_value: int | None = None,
) -> list[AnnotatedVolume]:
    """The volumes of a folder: in the challenge's layout if a file is named like its images, else in that of BIDS.

    Args:
        folder: Folder of the data set.
        image_pattern: Pattern of the images in the layout of BIDS, see `find_bids`; if it is given, the layout is
            that of BIDS. None takes the default of `find_bids`.
        mask_pattern: The same of its masks.
        label_value: Value of gray matter in the masks; None takes the default of the layout.

    Raises:
        InputError: The folder is missing or holds no image of a known layout; else as `find_challenge` and
            `find_bids`.
    """
    folder = checks.path("folder", folder)
    image_pattern = checks.optional(checks.text)("image_pattern", image_pattern)
    patterns = IMAGES if image_pattern is None else (image_pattern,)
    looked_for = KNOWN.format(" or ".join(patterns))
    if not folder.is_dir():
        kind = "not a" if folder.exists() else "no such"
        raise InputError(f"{folder}: {kind} folder; check the path; looked for {looked_for}")
    files = nifti_files(folder)
    if image_pattern is None and any(IMAGE_NAME.fullmatch(path.name) for path in files):
        return find_challenge(folder) if label_value is None else find_challenge(folder, label_value)
    if not any(fits(path.relative_to(folder), pattern) for path in files for pattern in patterns):
        held = f"; it holds {len(files)} other NIfTI files, such as {files[0].name}" if files else ""
        raise InputError(f"{folder}: no image of a known layout in it, looked for {looked_for}{held}")
    return find_bids(folder, image_pattern, mask_pattern or GRAY_MATTER_MASKS, label_value)
