"""One training, from its settings to the weights in its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_scgm import checks
from keras_scgm.callbacks import TerminateOnCollapse
from keras_scgm.datasets import AnnotatedVolume, annotated_volumes, check_slices
from keras_scgm.errors import InputError
from keras_scgm.pretrained import WeightsCard
from keras_scgm.segmentation import Segmenter
from keras_scgm.slices import SliceConfig
from keras_scgm.training.batches import Batches, SliceBatches
from keras_scgm.training.checkpoint import (
    BEST,
    LAST,
    NOT_HASHED,
    SAMPLES,
    SPEC,
    Data,
    Row,
    check_start,
    data_hashes,
    load_state,
    save_state,
    save_weights,
    write_log,
)
from keras_scgm.training.config import TrainingConfig
from keras_scgm.training.devices import device_count, without_sharing
from keras_scgm.training.method import Method, Supervised
from keras_scgm.training.network import build_network
from keras_scgm.training.objective import rate_callbacks
from keras_scgm.training.progress import ProgressLine
from keras_scgm.training.samples import save_samples
from keras_scgm.training.validation import choose_threshold, mean_volume_dice


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Args:
        best: Weights of the epoch with the highest validation DSC, or lowest loss without validation.
        last: Weights of the last epoch.
        history: Losses and scores, one row per epoch.
        stopped: Reason of an early end, or None.
        warnings: Why no threshold could be chosen, one line each.
    """

    best: Path
    last: Path
    history: tuple[Row, ...]
    stopped: str | None
    warnings: tuple[str, ...] = ()


def train(
    config: TrainingConfig,
    batches: Batches,
    folder: str | Path,
    validation: Sequence[AnnotatedVolume] = (),
    *,
    method: Method | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> TrainingResult:
    """Train a network and keep its best and last weights, a log, curves and sample predictions in a folder.

    At the end the threshold of the best weights is chosen on the validation volumes and written into their card.

    A training that was killed or interrupted goes on from its last finished epoch with `resume`. On the CPU
    it ends with the same weights as one that ran through. It may go on with more epochs; the schedule of the learning
    rate is then that of the new number. Nothing is written if the settings, the data or the folder are refused.

    Args:
        config: Settings of the training.
        batches: The data, `SliceBatches` or `SyntheticBatches`.
        folder: Folder of the results; it is made if missing.
        validation: Volumes that are segmented whole after every epoch; they are checked before the first.
        method: How the network learns from a batch; None learns from its masks.
        resume: Whether to continue the training in the folder, if there is one.
        tensorboard: Whether to write logs for TensorBoard.
        callbacks: Further callbacks, called after the package's own have written the epoch's files.
        verbose: Verbosity of `keras.Model.fit`; with 2, a line of progress is shown in epochs longer than ten seconds.

    Raises:
        keras_scgm.errors.InputError: The folder, the weights or the volumes cannot be used.
    """
    checks.instance(TrainingConfig)("config", config)
    checks.instance(Batches, "SliceBatches or SyntheticBatches")("batches", batches)
    is_method = checks.instance(Method, "an object with the methods of Method")
    method = checks.optional(is_method)("method", method) or Supervised()
    resume, tensorboard = checks.flag("resume", resume), checks.flag("tensorboard", tensorboard)
    validation = annotated_volumes("validation", validation)
    is_callback = checks.instance(keras.callbacks.Callback, "a Keras callback")
    callbacks = checks.several(is_callback, "Keras callbacks")("callbacks", callbacks)
    if tensorboard and find_spec("tensorboard") is None:
        raise InputError("logs for TensorBoard need it; install it with pip install tensorboard")
    folder = checks.path("folder", folder)
    _check_batches(config, batches)
    check_start(folder, config, resume)
    slices = SliceConfig(batches.spacing_mm, batches.window_px)
    if validation:
        check_slices(validation, slices)
    keras.utils.set_random_seed(config.seed)
    network = build_network(config)
    model = method.model(network, config)
    examples = batches.examples(config)
    data = Data(
        batches.what,
        examples[..., ::8, ::8, :],
        tuple(volume.image.name for volume in validation),
        data_hashes(config, batches, validation),
    )
    history = load_state(folder, model, data)

    # Gray matter lies in the cord: the classes do not exclude each other.
    collapse = TerminateOnCollapse(examples, classifier_activation="sigmoid")
    used = batches.as_used(config)
    card = _card(used, batches, slices, folder.name or "trained")
    end = EndOfEpoch(used, network, method, card, folder, validation, data, history)
    own: list[keras.callbacks.Callback] = [*rate_callbacks(config), collapse, end]
    progress = ProgressLine(config.epochs, config.steps_per_epoch, bool(validation))
    if verbose == 2:
        own.append(progress)
    if tensorboard:
        own.append(keras.callbacks.TensorBoard(str(folder / "tensorboard"), profile_batch=0))
    if len(history) < config.epochs and not stops_early(config, history):
        # Marks the folder as that of a training that has started.
        config.write(folder / SPEC)
        try:
            model.fit(
                batches.dataset(config, first_step=len(history) * config.steps_per_epoch),
                initial_epoch=len(history),
                epochs=config.epochs,
                steps_per_epoch=config.steps_per_epoch,
                callbacks=[*own, *callbacks],
                shuffle=False,
                verbose=verbose,
            )
        finally:
            progress.close()
    best, last = folder / BEST, folder / LAST
    warnings: tuple[str, ...] = ()
    if validation and best.exists():
        with without_sharing():
            warnings = choose_threshold(best, validation, config)
            save_samples(folder / SAMPLES, Segmenter(best), validation)
    return TrainingResult(best, last, tuple(history), collapse.reason or end.stopped, warnings)


def _check_batches(config: TrainingConfig, batches: Batches) -> None:
    """Refuse batches that do not fit the settings, or that the devices cannot share."""
    if config.samples_per_batch % device_count():
        what = f"batch_size {config.batch_size}"
        if config.samples_stacks:
            what += f", {config.samples_per_batch} stacks of {config.stack_slices} slices,"
        raise InputError(f"{what} cannot be shared by {device_count()} devices")
    if config.window_px != batches.window_px:
        raise InputError(
            f"window_px is {config.window_px}, but the batches have windows of {batches.window_px}"
        )
    if config.spacing_mm not in (None, batches.spacing_mm):
        raise InputError(
            f"spacing_mm is {config.spacing_mm:g}, but the batches have pixels of {batches.spacing_mm:g} mm"
        )
    if isinstance(batches, SliceBatches) and len(config.tissues) > 1:
        raise InputError("the data have masks of gray matter alone; train with tissues=('gray_matter',)")


def _card(config: TrainingConfig, batches: Batches, slices: SliceConfig, name: str) -> WeightsCard:
    return WeightsCard(
        name=name,
        architecture=config.architecture,
        model_kwargs={**config.model_kwargs, "classes": len(config.tissues)},
        tissues=config.tissues,
        contrasts=batches.contrasts(config),
        file=LAST,
        sha256=NOT_HASHED,
        slices=slices,
        data=batches.what,
        training=json.loads(config.to_json()),
    )


class EndOfEpoch(keras.callbacks.Callback):
    """Validates the network and writes the checkpoint after every epoch.

    Args:
        config: Settings of the training.
        network: Network that receives the weights to validate and save.
        method: Tells these weights.
        card: What is known of the weights, for their files.
        folder: Folder of the training.
        validation: Volumes to segment.
        data: Training and validation data.
        history: Rows so far; each epoch adds its own.

    Attributes:
        stopped: Reason of an early end, or None.
    """

    def __init__(
        self,
        config: TrainingConfig,
        network: keras.Model,
        method: Method,
        card: WeightsCard,
        folder: Path,
        validation: Sequence[AnnotatedVolume],
        data: Data,
        history: list[Row],
    ) -> None:
        super().__init__()
        self.config, self.network, self.method, self.card = config, network, method, card
        self.folder, self.validation, self.history, self.data = folder, validation, history, data
        self.stopped: str | None = None
        self._started = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        if not (np.isfinite(logs["loss"]) and all(np.isfinite(w).all() for w in self.model.get_weights())):
            # ReLU turns NaN into 0 on some processors, so the loss may look well. What was saved before is
            # what a user wants to go back to.
            self.stopped = f"weights or loss were not finite at the end of epoch {epoch + 1}"
            self.model.stop_training = True
            return
        logs.setdefault(
            "learning_rate", float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        )
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        self.network.set_weights(self.method.judged_weights(self.model, self.config))
        last = self.folder / LAST
        save_weights(last, self.network, self.card)
        if self.validation:
            with without_sharing():
                row["val_dsc"] = logs["val_dsc"] = mean_volume_dice(last, self.validation)
        row["seconds"] = round(time.monotonic() - self._started, 1)
        self.history.append(row)
        scores = scores_of(self.history)
        if scores[-1] >= scores.max():
            save_weights(self.folder / BEST, self.network, self.card)
        write_log(self.folder, self.history)
        save_state(self.folder, self.model, self.history, self.data)
        if stops_early(self.config, self.history):
            self.model.stop_training = True


def scores_of(history: Sequence[Row]) -> np.ndarray:
    """What tells the best of the epochs, (epoch,): the validation DSC, or the loss with another sign; NaN is lowest."""
    name, sign = ("val_dsc", 1) if "val_dsc" in history[-1] else ("loss", -1)
    return np.nan_to_num([sign * row[name] for row in history], nan=-np.inf)


def stops_early(config: TrainingConfig, history: Sequence[Row]) -> bool:
    """Whether the last `TrainingConfig.early_stopping_patience` epochs were no better than those before.

    It follows from the history alone, so a training that was killed stops where it would have.
    """
    patience = config.early_stopping_patience
    if patience is None or not history:
        return False
    return len(history) - 1 - int(scores_of(history).argmax()) >= patience
