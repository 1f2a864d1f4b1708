"""From a folder, or from nothing, to the batches and validation volumes of a training."""

from __future__ import annotations

from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume, Split, find_bids, find_challenge, load_slices, paper_split
from keras_scgm.datasets.phantom import write_challenge_dataset
from keras_scgm.slices import SliceSpec
from keras_scgm.training.batches import DrawnBatches, SliceBatches


def annotated_source(
    folder: Path, split: Path, raters: str = "all", seed: int = 0, window_px: int = 200
) -> tuple[SliceBatches, tuple[AnnotatedVolume, ...]]:
    """Slices of a data set on disk.

    Args:
        folder: in the challenge's layout, or else in that of BIDS.
        split: file of the split by subject; if it is missing, the paper's is drawn and written there.
        raters: how several raters' masks are used, as in `load_slices`.
        seed: of the split and of the draws of raters.
        window_px: as in `TrainingSpec`.

    Returns:
        Batches of the training volumes, and the volumes for validation.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    folder, split = checks.path("folder", folder), checks.path("split", split)
    if split.exists():
        parts = Split.read(split)
    else:
        in_challenge_layout = next(folder.rglob("site*-image.nii*"), None) is not None
        parts = paper_split(find_challenge(folder) if in_challenge_layout else find_bids(folder), seed)
        split.parent.mkdir(parents=True, exist_ok=True)
        parts.write(split)
    slices = load_slices(parts.train, SliceSpec(size=window_px), raters, seed=seed)
    what = f"{len(slices)} slices of {len(parts.train)} annotated volumes in {folder.name}"
    return SliceBatches(slices, what), parts.validation


def drawn_source(
    folder: Path, seed: int = 0, window_px: int = 200
) -> tuple[DrawnBatches, tuple[AnnotatedVolume, ...]]:
    """Slices drawn while training, and one drawn subject of each site of the challenge for validation.

    Args:
        folder: where the subjects are written.
        seed: of the subjects.
        window_px: as in `TrainingSpec`.
    """
    folder = checks.path("folder", folder)
    write_challenge_dataset(folder, subjects_per_site=1, seed=seed, raters=1)
    return DrawnBatches(window_px), tuple(find_challenge(folder))
