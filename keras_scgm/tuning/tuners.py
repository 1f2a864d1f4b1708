"""KerasTuner's tuners and oracles for the trials of a search.

Only this module and `processes.py` import KerasTuner at their top, because KerasTuner is optional.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner import oracles
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial
from tqdm import tqdm

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.errors import InputError
from keras_scgm.files import write_rows
from keras_scgm.locks import locked
from keras_scgm.pretrained import WeightsCard, tissues_of_outputs
from keras_scgm.segmentation import Segmenter
from keras_scgm.slices import SliceConfig
from keras_scgm.training import TrainingConfig, TrainingResult, train
from keras_scgm.training.checkpoint import BEST, LOG, NOT_HASHED, save_weights
from keras_scgm.training.validation import mean_volume_dice
from keras_scgm.tuning.config import SearchConfig
from keras_scgm.tuning.processes import MESSAGE, WorkerTuner
from keras_scgm.tuning.record import TRIALS, SearchRecord
from keras_scgm.tuning.spaces import THRESHOLD, Space, round_values
from keras_scgm.tuning.trial_setup import TrialSetup

ONE_WORKER = "give each worker a KERASTUNER_TUNER_ID of its own, or wait for the end of the other process"
EPOCHS = "tuner/epochs"
"""Where Hyperband puts the number of epochs of a trial."""


class TrainingTuner(WorkerTuner, BaseTuner):
    """A search whose trials are trainings of this package.

    Args:
        oracle: KerasTuner's oracle, which proposes the trials.
        settings_of: From hyperparameters to the settings of a trial.
        setup: What all trials have in common.
    """

    def __init__(
        self, oracle: keras_tuner.Oracle, settings_of: Callable[[Any], TrainingConfig], setup: TrialSetup
    ) -> None:
        self.settings_of, self.setup = settings_of, setup
        super().__init__(oracle, settings_of, directory=str(setup.folder), project_name=TRIALS)

    def run_trial(self, trial: Any) -> float:
        keras.utils.clear_session()
        setup, values = self.setup, trial.hyperparameters.values
        try:
            config = self.settings_of(trial.hyperparameters)
            # A threshold chosen on the validation volumes would make their score that of a choice.
            config = replace(config, epochs=values.get(EPOCHS, config.epochs), threshold_objective=None)
            folder = Path(self.get_trial_dir(trial.trial_id))
            with locked(folder, ONE_WORKER), epoch_bar(folder.name, config.epochs, setup.verbose) as bar:
                seen = keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, _: bar.update(epoch + 1 - bar.n)
                )
                callbacks = [seen, *setup.callbacks]
                result = train(
                    config, setup.batches, folder, setup.validation, resume=True, callbacks=callbacks
                )
            return score(result, values.get(THRESHOLD), setup.validation)
        except ValueError as error:
            # What is wrong with one trial's settings or data is wrong with all; KerasTuner would go on.
            raise keras_tuner.errors.FatalError(str(error)) from error

    def load_model(self, trial: Any) -> keras.Model:
        from keras_scgm.models import load_model

        return load_model(Path(self.get_trial_dir(trial.trial_id)) / BEST)


class NetworkTuner(WorkerTuner, keras_tuner.Tuner):
    """A search whose trials are networks of the user, which KerasTuner builds and fits.

    Every epoch ends with a file of the network, with a card, that segments the validation volumes.

    Args:
        oracle: As in `TrainingTuner`.
        hypermodel: KerasTuner's, or a function of (hp) that builds a network.
        setup: What all trials have in common; of its training the numbers of epochs and steps, batch size, augmentation
            and seed count.
    """

    def __init__(self, oracle: keras_tuner.Oracle, hypermodel: Any, setup: TrialSetup) -> None:
        self.setup = setup
        self._rows: list[dict[str, float]] = []
        self._started = time.monotonic()
        self._bar: tqdm | None = None
        seeded = SeededHyperModel(hypermodel, setup.training.seed)
        super().__init__(oracle, seeded, directory=str(setup.folder), project_name=TRIALS)

    def run_trial(self, trial: Any) -> Any:
        round_values(trial.hyperparameters)
        setup = self.setup
        epochs = trial.hyperparameters.values.get(EPOCHS, setup.training.epochs)
        config = replace(setup.training, epochs=epochs)
        folder = Path(self.get_trial_dir(trial.trial_id))
        self._rows = []
        try:
            with locked(folder, ONE_WORKER), epoch_bar(folder.name, epochs, setup.verbose) as self._bar:
                return super().run_trial(
                    trial,
                    setup.batches.dataset(config, first_step=0),
                    epochs=epochs,
                    steps_per_epoch=config.steps_per_epoch,
                    callbacks=list(setup.callbacks),
                    shuffle=False,
                    verbose=0,
                )
        except InputError as error:
            raise keras_tuner.errors.FatalError(str(error)) from error

    def on_epoch_begin(self, trial: Any, model: keras.Model, epoch: int, logs: Any = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, trial: Any, model: keras.Model, epoch: int, logs: Any = None) -> None:
        folder, batches = Path(self.get_trial_dir(trial.trial_id)), self.setup.batches
        card = WeightsCard(
            name=folder.name,
            architecture=model.name,
            model_kwargs={},
            file="last.keras",
            sha256=NOT_HASHED,
            slices=SliceConfig(batches.spacing_mm, batches.window_px),
            tissues=tissues_of_outputs(model.output_shape[-1]),
            contrasts=batches.contrasts(self.setup.training),
            data=batches.what,
        )
        save_weights(folder / "last.keras", model, card)
        # The checkpoint that KerasTuner writes next goes by what is added to the logs here.
        logs["val_dsc"] = mean_volume_dice(folder / "last.keras", self.setup.validation)
        seconds = round(time.monotonic() - self._started, 1)
        self._rows.append(
            {"epoch": epoch + 1, **{name: float(logs[name]) for name in logs}, "seconds": seconds}
        )
        if logs["val_dsc"] >= max(row["val_dsc"] for row in self._rows):
            save_weights(folder / "best.keras", model, card)
        write_rows(folder / LOG, self._rows)
        if self._bar is not None:
            self._bar.update()


class SeededHyperModel(keras_tuner.HyperModel):
    """A hypermodel of the user whose networks have random weights of one seed.

    Args:
        given: `keras_tuner.HyperModel`, or a function of (hp) that builds a network.
        seed: 0 to 2**32 - 1.
    """

    def __init__(self, given: Any, seed: int) -> None:
        super().__init__()
        self.given, self.seed = given, seed
        if isinstance(given, keras_tuner.HyperModel):
            self.declare_hyperparameters, self.fit = given.declare_hyperparameters, given.fit

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        keras.utils.set_random_seed(self.seed)
        return self.given.build(hp) if isinstance(self.given, keras_tuner.HyperModel) else self.given(hp)


def settings_of(space: Space, training: TrainingConfig, hyperparameters: Any) -> TrainingConfig:
    """The settings of a trial, of values that are the same in all processes.

    Raises:
        InputError: The space gives something else.
    """
    round_values(hyperparameters)
    config = space(hyperparameters, training)
    if not isinstance(config, TrainingConfig):
        raise InputError(f"a function of (hp, training) must return a TrainingConfig, received {config!r}")
    return config


def check_network(hypermodel: Any, n_masks: int) -> None:
    """Builds the network of the default values, and checks that it can be trained and can segment.

    Args:
        hypermodel: What builds it.
        n_masks: Number of tissues that the data have masks of.

    Raises:
        InputError: It cannot.
    """
    model = SeededHyperModel(hypermodel, 0).build(keras_tuner.HyperParameters())
    if not isinstance(model, keras.Model):
        raise InputError(f"a function of (hp) must return a Keras model, received {model!r}")
    if not model.compiled:
        raise InputError(
            f"the network {model.name} is not compiled; give it an optimizer and a loss by compile"
        )
    Segmenter(model)
    if model.output_shape[-1] != n_masks:
        raise InputError(
            f"the network {model.name} has {model.output_shape[-1]} outputs, but each slice has masks of {n_masks} "
            f"tissue{'s' * (n_masks > 1)}; give it as many outputs"
        )


def oracle_of(search: SearchConfig, training: TrainingConfig, record: SearchRecord) -> keras_tuner.Oracle:
    """The oracle that proposes the trials, of which the first has the default values."""
    base = {
        "random": oracles.RandomSearchOracle,
        "hyperband": oracles.HyperbandOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
    }[search.strategy]

    class Oracle(base):  # type: ignore[valid-type, misc]
        """Notes an error and stops the workers; KerasTuner's chief would wait forever for the worker that asked."""

        failure: Exception | None = None

        @keras_tuner.synchronized
        def create_trial(self, tuner_id: str) -> Trial:
            trial = self._noted(super().create_trial, tuner_id)
            if trial is None:
                self.tuner_ids.discard(tuner_id)
                self.ongoing_trials.pop(tuner_id, None)
                trial = Trial(self.get_space(), status="STOPPED")
            if trial.status == "STOPPED" and self.tuner_ids:
                record.announce_wait(self.tuner_ids)
            return trial

        @keras_tuner.synchronized
        def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
            self._noted(super().update_trial, trial_id, metrics, step)
            return self.trials[trial_id]

        @keras_tuner.synchronized
        def end_trial(self, trial: Trial) -> None:
            path = record.folder / TRIALS / f"trial_{trial.trial_id}" / MESSAGE
            if trial.status != "COMPLETED" and trial.message is None and path.exists():
                trial.message = path.read_text(encoding="utf-8")
            # Its worker has outlived the chief that handed it out.
            if trial.trial_id in self._retry_queue:
                self._retry_queue.remove(trial.trial_id)
            self._noted(self._end, trial)
            for tuner_id, ongoing in list(self.ongoing_trials.items()):
                if ongoing.trial_id == trial.trial_id:
                    del self.ongoing_trials[tuner_id]

        def populate_space(self, trial_id: str) -> dict[str, Any]:
            if not self.trials:
                return {"status": "RUNNING", "values": dict(self.hyperparameters.values)}
            return super().populate_space(trial_id)

        def _end(self, trial: Trial) -> None:
            super().end_trial(trial)
            # KerasTuner's account has the trial among those that have not ended.
            self.save()
            record.update(self.trials)
            record.announce(trial.trial_id)

        def _noted(self, method: Callable[..., Any], *arguments: Any) -> Any:
            if self.failure is None:
                try:
                    return method(*arguments)
                except Exception as error:
                    self.failure = error
            return None

    options: dict[str, Any] = {}
    if search.strategy == "hyperband":
        options["max_epochs"] = training.epochs
    if search.strategy == "bayesian":
        options["num_initial_points"] = max(2, search.trials // 3)
    # KerasTuner takes the seed 0 for none.
    oracle = Oracle(keras_tuner.Objective("val_dsc", "max"), seed=search.seed + 1, **options)
    oracle.max_trials = search.trials
    oracle.verbose = 0
    return oracle


def score(result: TrainingResult, threshold: float | None, validation: Sequence[AnnotatedVolume]) -> float:
    """Mean Dice coefficient of the best epoch; 0 if there is none, as a collapsed network finds nothing."""
    scores = [row["val_dsc"] for row in result.history if np.isfinite(row["val_dsc"])]
    if not scores:
        return 0.0
    if threshold is None:
        return max(scores)
    return mean_volume_dice(result.best, validation, threshold)


def epoch_bar(name: str, epochs: int, is_shown: bool) -> tqdm:
    """A bar of the epochs of a trial, on terminals only; to be closed, as by `with`."""
    return tqdm(desc=name, total=epochs, unit="epoch", leave=False, disable=None if is_shown else True)
