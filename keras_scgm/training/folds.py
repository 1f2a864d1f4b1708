"""Cross-validation: a training for each fold, the scores of what was held out, and the networks as an ensemble."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume, Split, check_slices, held_out, native_spacing_mm
from keras_scgm.errors import InputError
from keras_scgm.evaluation.summary import Summary, mean_interval
from keras_scgm.files import csv_cell, sha256_of, staged, write_rows
from keras_scgm.locks import exclusive_start
from keras_scgm.pretrained import EnsembleCard, find_card
from keras_scgm.segmentation import SegmentationConfig, Segmenter
from keras_scgm.slices import SliceConfig
from keras_scgm.training.batches import SliceBatches
from keras_scgm.training.checkpoint import SPEC, STATE
from keras_scgm.training.config import TrainingConfig
from keras_scgm.training.devices import without_sharing
from keras_scgm.training.loop import TrainingResult, train
from keras_scgm.training.validation import volume_dice

ENSEMBLE, SUBJECTS, FOLDS, SPLIT = "ensemble.json", "subjects.csv", "folds.csv", "split.json"

Load: TypeAlias = Callable[[Path], tuple[SliceBatches, tuple[AnnotatedVolume, ...]]]
"""From the file of a split to its batches and its volumes for validation, such as `annotated_source`."""


@dataclass(frozen=True)
class SubjectScore:
    """The Dice coefficient of a subject that was held out.

    Args:
        fold: Name of the fold's folder.
        held_out: Description of what the fold held out.
        subject_id: The subject.
        dsc: Mean over its volumes and their raters; NaN if all masks are empty.
    """

    fold: str
    held_out: str
    subject_id: str
    dsc: float


@dataclass(frozen=True)
class FoldScore:
    """Dice coefficients of the subjects that a fold held out, or of all folds together.

    Args:
        fold: Name of the fold's folder, or "all".
        held_out: Description of what the fold held out.
        n: Number of subjects with a defined DSC.
        dsc: Mean over them.
        std: Standard deviation with n - 1.
        low: Lower end of the 95 % confidence interval of the mean by Student's t distribution, at least 0; NaN for one
            subject, or equal values.
        high: Upper end, at most 1.
        val_dsc: Highest validation DSC of the training; NaN for all folds together.
    """

    fold: str
    held_out: str
    n: int
    dsc: float
    std: float
    low: float
    high: float
    val_dsc: float


@dataclass(frozen=True)
class FoldsResult:
    """Result of a cross-validation.

    Args:
        ensemble: Card of the ensemble of all folds' best networks, which `segment` and `export` take as weights.
        folds: A score for each fold, and the last for all subjects together.
        subjects: A score for each subject and fold that held it out.
    """

    ensemble: Path
    folds: tuple[FoldScore, ...]
    subjects: tuple[SubjectScore, ...]


def train_folds(
    config: TrainingConfig,
    folds: Sequence[Split],
    load: Load,
    folder: str | Path,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    callbacks: Callable[[Path], Sequence[keras.callbacks.Callback]] = lambda folder: (),
    verbose: int = 0,
) -> FoldsResult:
    """Train a network for each fold and measure it on the subjects that the fold held out.

    These subjects had no part in the training, the choice of the epoch and that of the threshold. Fold n has the
    folder `foldN` with `split.json` and the files of `train`; beside them are `folds.csv`, `subjects.csv` and
    `ensemble.json`, once all folds are finished. With `resume` a killed run goes on in the fold and the epoch that it
    had reached, and ends with the same networks.

    Args:
        config: Settings of every training.
        folds: Two folds or more, from `subject_folds` or `site_folds`.
        load: Function from the file of a split to batches and volumes for validation.
        folder: Folder of the results.
        resume: Whether to go on with the folds in the folder, if there are any.
        tensorboard: Whether to write logs for TensorBoard, into each fold's folder.
        callbacks: Function from the folder of a fold to further callbacks for its training.
        verbose: Verbosity of `keras.Model.fit`.

    Raises:
        keras_scgm.errors.InputError: The folder holds another training or other folds, the data cannot be used, or a
            training collapsed.
    """
    checks.instance(TrainingConfig)("config", config)
    is_fold = checks.instance(Split)
    folds = checks.several(is_fold, "two folds or more, from subject_folds or site_folds")("folds", folds)
    if len(folds) < 2:
        checks.refuse("folds", "two folds or more", folds)
    if config.slice_counts is not None:
        raise InputError("folds are by subject, slice_counts splits slices; leave one of them out")
    checks.function("load", load)
    checks.function("callbacks", callbacks)
    folder, resume = checks.path("folder", folder), checks.flag("resume", resume)
    places = [fold_folder(folder, number) for number in range(1, len(folds) + 1)]
    results, subjects = [], []
    with exclusive_start(folder, f"{places[0].name}/{SPEC}"):
        _keep_splits(folder, places, folds, resume)
        # What is wrong with the data that a fold holds out is to be found before the first is trained.
        tested = [volume for fold in folds for volume in fold.test]
        spacing_mm = native_spacing_mm(tested) if config.spacing_mm is None else config.spacing_mm
        check_slices(tested, SliceConfig(spacing_mm, config.window_px))
        for place, fold in zip(places, folds, strict=True):
            batches, validation = load(place / SPLIT)
            result = train(
                config,
                batches,
                place,
                validation,
                resume=resume,
                tensorboard=tensorboard,
                callbacks=callbacks(place),
                verbose=verbose,
            )
            if result.stopped:
                raise InputError(f"{place}: training stopped: {result.stopped}; other settings may help")
            results.append(result)
            with without_sharing():
                subjects += held_out_scores(result.best, place.name, fold)
    scores = fold_scores([place.name for place in places], folds, results, subjects)
    with staged(folder) as staging:
        for name, rows in ((SUBJECTS, subjects), (FOLDS, scores)):
            write_rows(staging / name, [_cells(row) for row in rows])
        card = ensemble_card(folder, [result.best for result in results], scores[-1])
        card.write(staging / ENSEMBLE)
    return FoldsResult(folder / ENSEMBLE, tuple(scores), tuple(subjects))


def fold_folder(folder: Path, number: int) -> Path:
    """The folder of a fold; the first has the number 1."""
    return folder / f"fold{number}"


def _keep_splits(folder: Path, places: Sequence[Path], folds: Sequence[Split], resume: bool) -> None:
    """Writes the splits, or checks that those in the folder are the same."""
    if (folder / SPEC).exists():
        raise InputError(f"{folder}: holds a training without folds; choose another folder")
    if folds_begun(folder) and not resume:
        raise InputError(f"{folder}: holds folds; go on with --resume, or choose another folder")
    kept = read_folds(folder) if resume else ()
    if not kept:
        for path in folder.glob(f"fold*/{SPLIT}"):
            path.unlink()
        # The first is written last: where it is, all are.
        for place, fold in reversed([*zip(places, folds, strict=True)]):
            fold.write(place / SPLIT)
        return
    if len(kept) != len(folds):
        raise InputError(
            f"{folder}: holds {len(kept)} folds, not {len(folds)}; give the same number and data, or choose "
            "another folder"
        )
    for place, before, fold in zip(places, kept, folds, strict=True):
        if _by_part(before) != _by_part(fold):
            raise InputError(
                f"{place / SPLIT}: splits other volumes or splits them in another way; give the same data, folds "
                "and seed, or choose another folder"
            )


def read_folds(folder: str | Path) -> tuple[Split, ...]:
    """The folds of a cross-validation that `train_folds` started in a folder; empty if there is none."""
    folder = checks.path("folder", folder)
    if not (fold_folder(folder, 1) / SPLIT).exists():
        return ()
    numbers = sorted(int(path.parent.name.removeprefix("fold")) for path in folder.glob(f"fold*/{SPLIT}"))
    return tuple(Split.read(fold_folder(folder, number) / SPLIT) for number in numbers)


def folds_begun(folder: str | Path) -> bool:
    """Whether an epoch of a fold in a folder is finished, which another training there would lose."""
    return any(checks.path("folder", folder).glob(f"fold*/{STATE}"))


def _by_part(split: Split) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """The files of each part, whatever folder their paths start from."""

    def files(volume: AnnotatedVolume) -> tuple[str, tuple[str, ...]]:
        return os.path.abspath(volume.image), tuple(map(os.path.abspath, volume.masks))

    return {name: [files(volume) for volume in part] for name, part in split.by_name.items()}


def held_out_scores(weights: Path, name: str, fold: Split) -> list[SubjectScore]:
    """The Dice coefficient of each subject that a fold held out, by the network that has not seen it."""
    segmenter = Segmenter(weights, SegmentationConfig(keep_probabilities=False))
    values: defaultdict[str, list[float]] = defaultdict(list)
    for volume in fold.test:
        values[volume.subject_id].append(volume_dice(segmenter, volume))
    return [
        SubjectScore(name, held_out(fold), subject, Summary.of(of_subject).mean)
        for subject, of_subject in values.items()
    ]


def fold_scores(
    names: Sequence[str],
    folds: Sequence[Split],
    results: Sequence[TrainingResult],
    subjects: Sequence[SubjectScore],
) -> list[FoldScore]:
    """A row for each fold, and one for all subjects together.

    In the last row a subject that several folds held out counts once, with its mean.
    """

    def row(name: str, left_out: str, values: Sequence[float], val_dsc: float) -> FoldScore:
        summary = Summary.of(values)
        defined = np.array([value for value in values if not np.isnan(value)])
        low, high = np.clip(mean_interval(defined), 0, 1).tolist()
        return FoldScore(name, left_out, summary.n, summary.mean, summary.std, low, high, val_dsc)

    rows = []
    of_subject: defaultdict[str, list[float]] = defaultdict(list)
    for name, fold, result in zip(names, folds, results, strict=True):
        scores = [score for score in subjects if score.fold == name]
        for score in scores:
            of_subject[score.subject_id].append(score.dsc)
        validation = [epoch["val_dsc"] for epoch in result.history if not np.isnan(epoch["val_dsc"])]
        rows.append(
            row(name, held_out(fold), [score.dsc for score in scores], max(validation, default=np.nan))
        )
    means = [Summary.of(values).mean for values in of_subject.values()]
    return [*rows, row("all", f"{len(folds)} folds", means, np.nan)]


def ensemble_card(folder: Path, weights: Sequence[Path], score: FoldScore) -> EnsembleCard:
    """The card of an ensemble of weights files below a folder.

    Args:
        folder: Folder of the card.
        weights: The files.
        score: Score of all subjects that were held out.
    """
    cards = [card for path in weights if (card := find_card(path)) is not None]
    name = Path(os.path.abspath(folder)).name or "ensemble"
    measured: dict[str, Any] = {
        "image": f"{score.n} subjects",
        "metric": "DSC",
        "value": round(score.dsc, 4),
        "pipeline": "each subject by the network of the fold that held it out, not by the ensemble",
    }
    if not np.isnan(score.low):
        measured["interval"] = [round(score.low, 4), round(score.high, 4)]
    return EnsembleCard(
        name=name,
        members={path.relative_to(folder).as_posix(): sha256_of(path) for path in weights},
        data="; ".join(dict.fromkeys(card.data for card in cards)),
        scores=() if np.isnan(score.dsc) else (measured,),
        limits="the ensemble itself has no held-out subject: most of its networks were trained on any of them",
    )


def table_text(scores: Sequence[FoldScore]) -> str:
    """The table of the folds for a terminal."""
    lines = ["| fold | held out | subjects | DSC | SD | 95 % interval | validation |", "|" + "---|" * 7]
    for score in scores:
        numbers = [
            f"{value:.3f}" if not np.isnan(value) else "" for value in (score.dsc, score.std, score.val_dsc)
        ]
        interval = "" if np.isnan(score.low) else f"{score.low:.3f} to {score.high:.3f}"
        cells = [score.fold, score.held_out, str(score.n), *numbers[:2], interval, numbers[2]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(row: SubjectScore | FoldScore) -> dict[str, Any]:
    return {
        name: csv_cell(value, ".6g") if isinstance(value, float) else value
        for name, value in asdict(row).items()
    }
