"""Finds the volumes of a data set in any known layout, recognized by the names of the files."""

from __future__ import annotations

from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets.annotated_volume import AnnotatedVolume
from keras_scgm.datasets.bids import GRAY_MATTER_MASKS, find_bids
from keras_scgm.datasets.scgm_challenge import IMAGE_NAME, find_challenge
from keras_scgm.files import nifti_files


def find_dataset(folder: str | Path, bids_masks: str = GRAY_MATTER_MASKS) -> list[AnnotatedVolume]:
    """The volumes of a folder: in the challenge's layout if a file is named like its images, else in that of BIDS.

    Args:
        folder: Folder of the data set.
        bids_masks: Pattern of the masks in the layout of BIDS, see `find_bids`.

    Raises:
        keras_scgm.errors.InputError: Same as `find_challenge` and `find_bids`.
    """
    folder = checks.path("folder", folder)
    if any(IMAGE_NAME.fullmatch(path.name) for path in nifti_files(folder)):
        return find_challenge(folder)
    return find_bids(folder, mask_pattern=bids_masks)
