"""Keeps the files of a search up to date, and says how it goes on."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from keras_scgm.errors import InputError
from keras_scgm.figures import write_figure
from keras_scgm.files import replaced, write_rows
from keras_scgm.pretrained import WeightsCard, card_path
from keras_scgm.training import TrainingConfig
from keras_scgm.training.checkpoint import LOG
from keras_scgm.tuning.results import Trial, TuningResult, draw_trials, highest_trials, standing
from keras_scgm.tuning.spaces import THRESHOLD, rounded
from keras_scgm.tuning.trial_setup import TrialSetup

TRIALS, TABLE, PICTURE = "trials", "trials.csv", "trials.png"
BEST_AUGMENTATION, BEST_TRAINING = "best_augmentation.json", "best_training.json"


class SearchRecord:
    """The files about a search.

    Args:
        setup: What all trials have in common.
        weights: Name of the file of the best weights, in the folder of a trial and in that of the search.
        settings_of: From KerasTuner's hyperparameters to the training of a trial; None if trials are networks.
        at_most: Largest number of trials.
    """

    def __init__(
        self,
        setup: TrialSetup,
        weights: str,
        settings_of: Callable[[Any], TrainingConfig] | None,
        at_most: int,
    ) -> None:
        self.folder, self.training, self.verbose = setup.folder, setup.training, setup.verbose
        self.weights, self.settings_of, self.at_most = weights, settings_of, at_most
        self._found: dict[str, Any] = {}
        self._trials: list[Trial] = []

    def update(self, found: dict[str, Any]) -> None:
        """Reads KerasTuner's trials, by their names there, and updates the files."""
        self._found = {f"trial_{trial_id}": trial for trial_id, trial in found.items()}
        self._trials = sorted(
            (self._read(name, trial) for name, trial in self._found.items()), key=lambda trial: trial.number
        )
        if not self._trials:
            return
        write_rows(
            self.folder / TABLE,
            [
                {**{key: value for key, value in vars(trial).items() if key != "values"}, **trial.values}
                for trial in self._trials
            ],
        )
        if highest := highest_trials(self._trials):
            write_figure(self.folder / PICTURE, draw_trials(self._trials))
            self._write_best(highest[0])

    def announce(self, trial_id: str) -> None:
        """Prints how a trial ended, if that is wanted."""
        if not self.verbose:
            return
        trial = next(trial for trial in self._trials if trial.name == f"trial_{trial_id}")
        ended = sum(other.status != "RUNNING" for other in self._trials)
        if trial.val_dsc is None:
            outcome = f"failed, {last_line(self._found[trial.name].message)}"
        else:
            outcome = f"validation DSC {trial.val_dsc:.4f}, {trial.epochs} epochs in {trial.seconds:g} s"
        highest = highest_trials(self._trials)
        so_far = f"; {standing(highest)}" if highest else ""
        print(f"{trial.name} ({ended} of at most {self.at_most}): {outcome}{so_far}", flush=True)

    def announce_wait(self, workers: Collection[str]) -> None:
        """Prints for which workers the chief still waits, if that is wanted."""
        if self.verbose:
            names = ", ".join(sorted(workers))
            print(
                f"no trial is left; waiting for {names}; start what was killed again under its name",
                flush=True,
            )

    def result(self, tuner: Any) -> TuningResult:
        """The result of the search.

        Raises:
            InputError: No trial was completed.
        """
        highest = highest_trials(self._trials)
        if not highest:
            messages = [self._found[trial.name].message for trial in self._trials]
            reason = next(filter(None, reversed(messages)), None)
            raise InputError(
                f"no trial of {len(self._trials)} was completed, the last: {last_line(reason)}; see "
                f"{self.folder / TABLE}, and trial.json in the folders under {self.folder / TRIALS}"
            )
        config = self._settings(highest[0]) or self.training
        return TuningResult(tuple(self._trials), highest, config, self.folder / self.weights, tuner)

    def _settings(self, trial: Trial) -> TrainingConfig | None:
        if self.settings_of is None:
            return None
        return self.settings_of(self._found[trial.name].hyperparameters)

    def _read(self, name: str, trial: Any) -> Trial:
        epochs, seconds = 0, 0.0
        log = self.folder / TRIALS / name / LOG
        if log.exists():
            with log.open(encoding="utf-8", newline="") as file:
                taken = [float(row["seconds"]) for row in csv.DictReader(file)]
            epochs, seconds = len(taken), round(sum(taken), 1)
        return Trial(
            name=name,
            status=trial.status,
            val_dsc=None if trial.score is None else round(float(trial.score), 4),
            epochs=epochs,
            seconds=seconds,
            values={
                key: rounded(value)
                for key, value in trial.hyperparameters.values.items()
                if not key.startswith("tuner/")
            },
        )

    def _write_best(self, best: Trial) -> None:
        if config := self._settings(best):
            config.augmentation.write(self.folder / BEST_AUGMENTATION)
            config.write(self.folder / BEST_TRAINING)
        folder = self.folder / TRIALS / best.name
        if (folder / self.weights).exists():
            with replaced(self.folder / self.weights) as temporary:
                shutil.copyfile(folder / self.weights, temporary)
            card = WeightsCard.read(card_path(folder / self.weights))
            if self.settings_of is not None:
                card = replace(card, threshold=best.values.get(THRESHOLD, card.threshold))
            replace(card, name=self.folder.name or "best").write(card_path(self.folder / self.weights))


def last_line(traceback: str | None) -> str:
    """The error of a traceback, which follows the last indented line, in one line.

    >>> last_line("Traceback:\\n  File 'a.py', line 1\\nValueError: two\\nlines\\n")
    'ValueError: two lines'
    """
    lines = (traceback or "").splitlines()
    start = max((number for number, line in enumerate(lines, 1) if line.startswith(" ")), default=0)
    return " ".join(" ".join(lines[start:]).split()) or "unknown reason"
