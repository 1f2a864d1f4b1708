"""Batches and validation volumes of a training, from a data set or synthetic."""

from __future__ import annotations

import os
from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume, Split, find_challenge, find_dataset, load_slices, paper_split
from keras_scgm.datasets.phantom import write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.files import check_folder
from keras_scgm.slices import SliceConfig
from keras_scgm.training.batches import SliceBatches, SyntheticBatches


def annotated_source(
    folder: Path, split: Path, raters: str = "all", seed: int = 0, window_px: int = 200
) -> tuple[SliceBatches, tuple[AnnotatedVolume, ...]]:
    """Slices of a data set on disk.

    Args:
        folder: Data set in the challenge's layout or that of BIDS.
        split: File of the split by subject, of volumes in the folder; if it is missing, the paper's is drawn and
            written there.
        raters: Use of several raters' masks, as in `load_slices`.
        seed: Seed of the split and of the choice of raters.
        window_px: Window size in pixels, as in `TrainingConfig`.

    Returns:
        Batches of the training volumes, and the volumes for validation.

    Raises:
        InputError: A file is missing or cannot be used, or the split is of other data.
    """
    folder, split = checks.path("folder", folder), checks.path("split", split)
    check_folder(folder)
    if split.exists():
        parts = Split.read(split)
        _check_in_folder(parts, split, folder)
    else:
        parts = paper_split(find_dataset(folder), seed)
        parts.write(split)
    slices = load_slices(parts.train, SliceConfig(window_px=window_px), raters, seed=seed)
    what = f"{len(slices)} slices of {len(parts.train)} annotated volumes in {folder.name}"
    return SliceBatches(slices, what), parts.validation


def synthetic_source(
    folder: Path, seed: int = 0, window_px: int = 200
) -> tuple[SyntheticBatches, tuple[AnnotatedVolume, ...]]:
    """Slices drawn while training, and one synthetic subject of each site of the challenge for validation.

    Args:
        folder: Folder of the synthetic subjects.
        seed: Seed of the subjects.
        window_px: Window size in pixels, as in `TrainingConfig`.
    """
    folder = checks.path("folder", folder)
    write_challenge_dataset(folder, subjects_per_site=1, seed=seed, raters=1, force=True)
    return SyntheticBatches(window_px), tuple(find_challenge(folder))


def _check_in_folder(parts: Split, split: Path, folder: Path) -> None:
    for volume in (*parts.train, *parts.validation):
        if not any(
            Path(real(volume.image.parent)).is_relative_to(real(folder))
            for real in (os.path.abspath, os.path.realpath)
        ):
            raise InputError(
                f"{split}: splits other data, its {volume.image} is not in {folder}; give the folder it was made "
                "from, or choose another split or another folder for the results"
            )
