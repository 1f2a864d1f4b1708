"""Runs the trials of a search by KerasTuner, in this process or distributed over several."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.errors import InputError
from keras_scgm.segmentation import SegmentationConfig, Segmenter
from keras_scgm.training import Batches, TrainingResult, train
from keras_scgm.training.validation import volume_dice
from keras_scgm.tuning.trainings import TRIALS, TrialTrainings, rates_text, rounded


def run_trials(
    trainings: TrialTrainings, batches: Batches, validation: Sequence[AnnotatedVolume], role: str
) -> None:
    """Runs the trials by KerasTuner, alone or as one of several processes."""
    # KerasTuner is optional, and its classes can only be derived from once it is there.
    import keras_tuner
    from keras_tuner.engine.base_tuner import BaseTuner

    class Tuner(BaseTuner):
        def run_trial(self, trial: Any) -> float:
            values = trial.hyperparameters.values
            keras.utils.clear_session()
            try:
                config = trainings.training_of(values)
                result = train(config, batches, self.get_trial_dir(trial.trial_id), validation, resume=True)
                threshold = values.get("threshold")
                return _score(result, None if threshold is None else rounded(threshold), validation)
            except ValueError as error:
                # What is wrong with one trial's settings or data is wrong with all; KerasTuner would go on.
                raise keras_tuner.errors.FatalError(str(error)) from error

    def start() -> Tuner:
        return Tuner(_oracle(trainings), directory=str(trainings.folder), project_name=TRIALS)

    try:
        tuner = start()
    except (json.JSONDecodeError, RuntimeError) as error:
        # KerasTuner was killed while it wrote its account: a file is cut short, or the trials it names are not
        # there, which is a KeyError inside. Without the account the search is played again from its seed, and
        # trainings that were finished are found so in their folders.
        account = trainings.folder / TRIALS / f"{os.environ.get('KERASTUNER_TUNER_ID', 'tuner0')}.json"
        is_damaged = isinstance(error, json.JSONDecodeError) or isinstance(error.__cause__, KeyError)
        if not is_damaged or not account.exists():
            raise
        account.replace(account.with_suffix(".json.damaged"))
        tuner = start()
    oracle = tuner.oracle
    if role != "worker":
        oracle.verbose = 0
    try:
        tuner.search()
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None
    if role != "worker":
        trainings.note(oracle.trials.values())


def _oracle(trainings: TrialTrainings) -> Any:
    """KerasTuner's oracle, which proposes the trials; the first is the given training."""
    import keras_tuner
    from keras_tuner import oracles

    tuning = trainings.tuning
    space = keras_tuner.HyperParameters()
    ranges = {**tuning.augmentation, "threshold": tuning.threshold, "dropout": tuning.dropout}
    for name, ends in ranges.items():
        if ends is not None:
            space.Float(name, *ends)
    if tuning.filters:
        space.Choice("filters", sorted({*tuning.filters, trainings.given["filters"]}))
    if tuning.dilation_rates:
        texts = [trainings.given["dilation_rates"], *map(rates_text, tuning.dilation_rates)]
        space.Choice("dilation_rates", list(dict.fromkeys(texts)))

    base = {
        "random": oracles.RandomSearchOracle,
        "hyperband": oracles.HyperbandOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
    }[tuning.strategy]

    class Oracle(base):  # type: ignore[valid-type, misc]
        def populate_space(self, trial_id: str) -> dict[str, Any]:
            if not self.trials:
                return {"status": "RUNNING", "values": trainings.given}
            return super().populate_space(trial_id)

        def end_trial(self, trial: Any) -> None:
            super().end_trial(trial)
            trainings.note(self.trials.values())

    options: dict[str, Any] = {}
    if tuning.strategy == "hyperband":
        options["max_epochs"] = trainings.training.epochs
    if tuning.strategy == "bayesian":
        options["num_initial_points"] = max(2, tuning.trials // 3)
    # KerasTuner takes the seed 0 for none.
    oracle = Oracle(
        keras_tuner.Objective("val_dsc", "max"), hyperparameters=space, seed=tuning.seed + 1, **options
    )
    oracle.max_trials = tuning.trials
    return oracle


def _score(result: TrainingResult, threshold: float | None, validation: Sequence[AnnotatedVolume]) -> float:
    """Mean Dice coefficient of the best epoch; 0 if there is none, as a collapsed network finds nothing."""
    scores = [row["val_dsc"] for row in result.history if np.isfinite(row["val_dsc"])]
    if not scores:
        return 0.0
    if threshold is None:
        return max(scores)
    segmenter = Segmenter(result.best, SegmentationConfig(threshold=threshold, keep_probabilities=False))
    return float(np.nanmean([volume_dice(segmenter, volume) for volume in validation]))


def process_role() -> Literal["alone", "chief", "worker"]:
    names = [f"KERASTUNER_{name}" for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID")]
    if names[0] not in os.environ:
        return "alone"
    if missing := [name for name in names if not os.environ.get(name)]:
        raise InputError(f"{names[0]} is set, so set {' and '.join(missing)}, too")
    return "chief" if "chief" in os.environ[names[2]] else "worker"
