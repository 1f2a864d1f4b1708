"""The folds of `keras-scgm train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_scgm.errors import InputError

if TYPE_CHECKING:
    from keras_scgm.datasets import Split
    from keras_scgm.training import DataConfig


def chosen_folds(
    output: Path, data: DataConfig | None, n_folds: int | None, by_site: bool, resume: bool, seed: int
) -> tuple[Split, ...]:
    """The folds that the options ask for, or those of a training that goes on; empty for a training without folds.

    Args:
        output: Folder of the results.
        data: The data set; None for synthetic slices.
        n_folds: Number of folds by subject.
        by_site: Whether to hold out each site.
        resume: Whether to go on with the training in the folder.
        seed: Seed of the folds.

    Raises:
        InputError: The options contradict each other or what the folder holds, or the data have no such folds.
    """
    from keras_scgm.datasets import held_out, site_folds, subject_folds
    from keras_scgm.training.folds import folds_begun, read_folds

    if n_folds is not None and by_site:
        raise InputError("--folds and --leave-one-site-out hold out different subjects; choose one of them")
    kept = read_folds(output)
    if not resume and folds_begun(output):
        raise InputError(f"{output}: holds {len(kept)} folds; go on with --resume, or choose another folder")
    if resume and kept:
        if n_folds not in (None, len(kept)) or (by_site and not held_out(kept[0]).startswith("site ")):
            raise InputError(
                f"{output}: holds {len(kept)} folds without {held_out(kept[0])} and so on; leave out --folds and "
                "--leave-one-site-out to go on with them, or choose another folder"
            )
        if data is None:
            raise InputError(f"{output}: the training is one on annotated volumes; give them with --data")
        return kept
    if n_folds is None and not by_site:
        return ()
    if data is None:
        raise InputError("synthetic slices have no subjects to hold out; give annotated volumes with --data")
    volumes = data.volumes()
    return site_folds(volumes, seed) if n_folds is None else subject_folds(volumes, n_folds, seed)
