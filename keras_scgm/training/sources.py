"""Batches and validation volumes of a training, from a data set or synthetic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets import (
    AnnotatedVolume,
    Split,
    find_challenge,
    find_dataset,
    load_slices,
    paper_split,
)
from keras_scgm.datasets.phantom import write_challenge_dataset
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import check_folder
from keras_scgm.slices import SliceConfig
from keras_scgm.training.batches import SliceBatches, SyntheticBatches

RESPLIT = "make a new split with --resplit"


def annotated_source(
    folder: Path,
    split: Path,
    raters: str = "all",
    seed: int = 0,
    window_px: int = 200,
    *,
    image_pattern: str | None = None,
    mask_pattern: str | None = None,
    label_value: int | None = None,
    resplit: bool = False,
) -> tuple[SliceBatches, tuple[AnnotatedVolume, ...]]:
    """Slices of a data set on disk.

    The volumes for validation pass the same checks as those for training. The warnings of both are those of the slices.

    Args:
        folder: Data set in the challenge's layout or that of BIDS.
        split: File of the split by subject, of volumes in the folder; if it is missing, the paper's is drawn and
            written there.
        raters: Use of several raters' masks, as in `load_slices`.
        seed: Seed of the split and of the choice of raters.
        window_px: Window size in pixels, as in `TrainingConfig`.
        image_pattern: As in `find_dataset`.
        mask_pattern: As in `find_dataset`.
        label_value: As in `find_dataset`; it counts for a split that exists, too.
        resplit: Whether to draw a split even if there is one.

    Returns:
        Batches of the training volumes, and the volumes for validation.

    Raises:
        InputError: A file is missing or cannot be used, or the split is of other data. Nothing is written then.
    """
    folder, split = checks.path("folder", folder), checks.path("split", split)
    notes: tuple[str, ...] = ()
    is_new = checks.flag("resplit", resplit) or not split.exists()
    if is_new:
        parts = paper_split(find_dataset(folder, image_pattern, mask_pattern, label_value), seed)
    else:
        check_folder(folder)
        parts = Split.read(split)
        if label_value is not None:
            parts = _with_label(parts, label_value)
        _check_in_folder(parts, split, folder)
        # The split may be of files in a layout of its own.
        with suppress(InputError):
            notes = _additions(parts, split, find_dataset(folder, image_pattern, mask_pattern, label_value))
    slices = load_slices(
        parts.train, SliceConfig(window_px=window_px), raters, seed=seed, also_checked=parts.validation
    )
    if is_new:
        parts.write(split)
    masks = "" if raters == "all" else f", {raters} of the raters"
    what = f"{len(slices)} slices of {len(parts.train)} annotated volumes in {folder.name}{masks}"
    return SliceBatches(replace(slices, warnings=(*notes, *slices.warnings)), what), parts.validation


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


def _with_label(parts: Split, label_value: int) -> Split:
    return Split(
        *(
            tuple(replace(volume, label_value=label_value) for volume in part)
            for part in (parts.train, parts.validation, parts.test)
        )
    )


def _check_in_folder(parts: Split, split: Path, folder: Path) -> None:
    volumes = (*parts.train, *parts.validation)
    for volume in volumes:
        if not any(
            Path(real(volume.image.parent)).is_relative_to(real(folder))
            for real in (os.path.abspath, os.path.realpath)
        ):
            raise InputError(
                f"{split}: splits other data, its {volume.image} is not in {folder}; give the folder it was made "
                f"from, choose another folder for the results, or {RESPLIT}"
            )
    files = [path for volume in volumes for path in (volume.image, *volume.masks)]
    if missing := [path for path in files if not os.path.lexists(path)]:
        shown = first_of([path.name for path in missing])
        raise InputError(
            f"{split}: {len(missing)} of its {len(files)} files are missing in {folder}, {shown}; copy them back, "
            f"or {RESPLIT}"
        )


def _additions(parts: Split, split: Path, found: Sequence[AnnotatedVolume]) -> tuple[str, ...]:
    """What a folder holds beside the volumes of its split, one line for volumes and one for masks."""
    known = {
        os.path.realpath(volume.image): {os.path.realpath(mask) for mask in volume.masks}
        for part in (parts.train, parts.validation, parts.test)
        for volume in part
    }
    volumes, masks = [], []
    for volume in found:
        place = os.path.realpath(volume.image)
        if place not in known:
            volumes += [volume.subject_id] if volume.masks else []
        else:
            masks += [path.name for path in volume.masks if os.path.realpath(path) not in known[place]]
    return tuple(
        f"{split}: leaves out {len(names)} of the {what} in the data, {first_of(names)}; to use them, {RESPLIT}"
        for what, names in (("annotated volumes", volumes), ("masks", masks))
        if names
    )
