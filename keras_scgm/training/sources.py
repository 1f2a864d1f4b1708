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
    load_slices,
    native_spacing_mm,
    paper_split,
    split_slices,
)
from keras_scgm.datasets.phantom import write_challenge_dataset
from keras_scgm.errors import InputError, counted, first_of
from keras_scgm.files import check_folder
from keras_scgm.slices import SliceConfig
from keras_scgm.training.batches import SliceBatches, SyntheticBatches
from keras_scgm.training.config import TrainingConfig
from keras_scgm.training.data_config import DataConfig

RESPLIT = "make a new split with --resplit"


def annotated_source(
    data: DataConfig, config: TrainingConfig | None = None, *, resplit: bool = False
) -> tuple[SliceBatches, tuple[AnnotatedVolume, ...]]:
    """Slices of a data set on disk.

    The volumes for validation pass the same checks as those for training. The warnings of both are those of the slices.

    Args:
        data: Data set in the challenge's layout or that of BIDS. If the file of its split is missing, the split that
            `config` asks for is made and written there.
        config: Settings of the training, which say how to split the data and to load the slices; None for the defaults.
        resplit: Whether to make a split even if there is one.

    Returns:
        Batches of the training volumes, and the volumes for validation.

    Raises:
        InputError: A file is missing or cannot be used, or the split is of other data. Nothing is written then.
    """
    checks.instance(DataConfig)("data", data)
    folder, split = Path(data.folder), Path(data.split)
    config = checks.settings(TrainingConfig)("config", config)
    notes: tuple[str, ...] = ()
    is_new = checks.flag("resplit", resplit) or not split.exists()
    if is_new:
        volumes = data.volumes()
        if config.slice_counts is None:
            parts = paper_split(volumes, config.seed, config.validation_per_site)
        else:
            parts = split_slices(volumes, config.slice_counts)
    else:
        check_folder(folder)
        parts = Split.read(split)
        if data.label_value is not None:
            parts = _with_label(parts, data.label_value)
        _check_in_folder(parts, split, folder)
        # The split may be of files in a layout of its own.
        with suppress(InputError):
            notes = _additions(parts, split, data.volumes())
    spacing_mm = native_spacing_mm(parts.train) if config.spacing_mm is None else config.spacing_mm
    slices = load_slices(
        parts.train,
        SliceConfig(spacing_mm, config.window_px),
        data.raters,
        config.contour_smoothing_mm,
        seed=config.seed,
        also_checked=parts.validation,
    )
    if is_new:
        parts.write(split)
    masks = "" if data.raters == "all" else f", {data.raters} of the raters"
    what = f"{counted(len(slices), 'slice')} of {counted(len(parts.train), 'annotated volume')} in {folder.name}{masks}"
    return SliceBatches(replace(slices, warnings=(*notes, *slices.warnings)), what), parts.validation


def synthetic_source(
    folder: Path, config: TrainingConfig | None = None
) -> tuple[SyntheticBatches, tuple[AnnotatedVolume, ...]]:
    """Slices drawn while training, and one synthetic subject of each site of the challenge for validation.

    Args:
        folder: Folder of the synthetic subjects.
        config: Settings of the training, which say the pixels of the slices; None for the defaults.

    Raises:
        InputError: The settings ask for the spacing of the data, or for their slices.
    """
    folder = checks.path("folder", folder)
    config = checks.settings(TrainingConfig)("config", config)
    if config.spacing_mm is None or config.slice_counts is not None:
        raise InputError(
            "synthetic slices have no spacing of their own and no split; choose a number with --spacing and leave "
            "out --slices, or train on annotated volumes with --data"
        )
    write_challenge_dataset(folder, subjects_per_site=1, seed=config.seed, raters=1, force=True)
    return SyntheticBatches(config.window_px, spacing_mm=config.spacing_mm), tuple(find_challenge(folder))


def _with_label(parts: Split, label_value: int) -> Split:
    return Split(
        **{
            name: tuple(replace(volume, label_value=label_value) for volume in part)
            for name, part in parts.by_name.items()
        }
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
        for part in parts.by_name.values()
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
