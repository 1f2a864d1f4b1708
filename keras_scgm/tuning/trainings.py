"""Converts trials into trainings, and keeps the files of a search up to date."""

from __future__ import annotations

import csv
import inspect
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_scgm.files import replaced
from keras_scgm.models import BUILDERS
from keras_scgm.pretrained import WeightsCard
from keras_scgm.training import TrainingConfig
from keras_scgm.training.checkpoint import LOG
from keras_scgm.tuning.config import TuningConfig
from keras_scgm.tuning.results import Trial, TuningResult, draw_trials, write_table

TRIALS, TABLE, PICTURE = "trials", "trials.csv", "trials.png"


class TrialTrainings:
    """Converts KerasTuner's trials into trainings, and keeps the files about them."""

    def __init__(self, tuning: TuningConfig, training: TrainingConfig, folder: Path) -> None:
        self.tuning, self.training, self.folder = tuning, training, folder
        self.trials: list[Trial] = []

    @property
    def given(self) -> dict[str, Any]:
        """The values of the given training."""
        tuning, training = self.tuning, self.training
        values = {name: getattr(training.augmentation, name) for name in tuning.augmentation}
        if tuning.threshold is not None:
            values["threshold"] = _default(WeightsCard, "threshold")
        for name in ("dropout", "filters", "dilation_rates"):
            if getattr(tuning, name):
                value = training.model_kwargs.get(name, _default(BUILDERS[training.architecture], name))
                values[name] = rates_text(value) if name == "dilation_rates" else value
        return values

    def training_of(self, values: Mapping[str, Any]) -> TrainingConfig:
        """The given training with the values of a trial."""
        model_kwargs = dict(self.training.model_kwargs)
        for name in ("dropout", "filters"):
            if name in values:
                model_kwargs[name] = rounded(values[name])
        if "dilation_rates" in values:
            model_kwargs["dilation_rates"] = tuple(int(rate) for rate in values["dilation_rates"].split("-"))
        searched = {name: rounded(values[name]) for name in self.tuning.augmentation}
        return replace(
            self.training,
            model_kwargs=model_kwargs,
            augmentation=replace(self.training.augmentation, **searched),
            epochs=values.get("tuner/epochs", self.training.epochs),
        )

    def note(self, trials: Iterable[Any]) -> None:
        """Reads the state of KerasTuner's trials and updates the files."""
        self.trials = sorted((self._read(trial) for trial in trials), key=lambda trial: trial.number)
        write_table(self.folder / TABLE, self.trials)
        if any(trial.val_dsc is not None for trial in self.trials):
            draw_trials(self.folder / PICTURE, self.trials)
            self._write_best()

    def summarize(self) -> TuningResult:
        best = self._best()
        config = replace(self.training_of(best.values), epochs=self.training.epochs)
        return TuningResult(tuple(self.trials), best, config, self.folder / "best.weights.h5")

    def _best(self) -> Trial:
        scored = [trial for trial in self.trials if trial.val_dsc is not None]
        if not scored:
            raise RuntimeError(f"no trial of {len(self.trials)} was completed; see {self.folder / TABLE}")
        return max(scored, key=lambda trial: trial.val_dsc or 0.0)

    def _read(self, trial: Any) -> Trial:
        name, epochs, seconds = f"trial_{trial.trial_id}", 0, 0.0
        log = self.folder / TRIALS / name / LOG
        if log.exists():
            with log.open(encoding="utf-8", newline="") as file:
                taken = [float(row["seconds"]) for row in csv.DictReader(file)]
            epochs, seconds = len(taken), round(sum(taken), 1)
        values = trial.hyperparameters.values
        return Trial(
            name=name,
            status=trial.status,
            val_dsc=None if trial.score is None else round(float(trial.score), 4),
            epochs=epochs,
            seconds=seconds,
            values={name: rounded(values[name]) for name in self.given},
        )

    def _write_best(self) -> None:
        result = self.summarize()
        for name, text in (
            ("best_augmentation.json", result.config.augmentation.to_json()),
            ("best_training.json", result.config.to_json()),
        ):
            with replaced(self.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        folder = self.folder / TRIALS / result.best.name
        source = folder / result.weights.name
        if source.exists():
            with replaced(result.weights) as temporary:
                shutil.copyfile(source, temporary)
            card = WeightsCard.from_json((folder / "best.json").read_text(encoding="utf-8"))
            threshold = result.best.values.get("threshold", card.threshold)
            with replaced(self.folder / "best.json") as temporary:
                card = replace(card, name=self.folder.name or "best", threshold=threshold)
                temporary.write_text(card.to_json(), encoding="utf-8")


def rounded(value: Any) -> Any:
    """Four digits, which survive the single precision in which KerasTuner sends numbers to workers."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def rates_text(rates: Sequence[int]) -> str:
    """KerasTuner chooses among texts and numbers only."""
    return "-".join(map(str, rates))


def _default(function: Any, name: str) -> Any:
    return inspect.signature(function).parameters[name].default
