"""Trials of a search and what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from keras_scgm.training import TrainingConfig


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Args:
        name: Name of its folder under `trials`, numbered in the order of the starts; 0 has the defaults.
        status: "COMPLETED", "RUNNING" or "FAILED", in KerasTuner's words.
        val_dsc: Mean Dice coefficient of whole volumes in the best epoch; None while there is none.
        epochs: Number of finished epochs.
        seconds: Duration of these epochs, s.
        values: Values of the trial, by the names of what is searched.
    """

    name: str
    status: str
    val_dsc: float | None
    epochs: int
    seconds: float
    values: Mapping[str, Any]

    @property
    def number(self) -> int:
        return int(self.name.removeprefix("trial_"))


@dataclass(frozen=True)
class TuningResult:
    """Result of a search.

    Args:
        trials: All of them, in the order of their starts.
        highest: Those with the highest Dice coefficient, to the four digits of the table. If there are several, none
            of them is better than the others, and the settings and the weights are those of the first.
        config: The given training with the settings of the highest trial; of a search among networks, the given one.
        weights: Weights of its best epoch, with a card.
        tuner: KerasTuner's tuner, for its `get_best_models`, `get_best_hyperparameters` and `results_summary`.
    """

    trials: tuple[Trial, ...]
    highest: tuple[Trial, ...]
    config: TrainingConfig
    weights: Path
    tuner: Any = field(compare=False, repr=False)


def highest_trials(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The completed trials with the highest Dice coefficient, in the order of their starts."""
    scored = [trial for trial in trials if trial.val_dsc is not None]
    top = max((trial.val_dsc or 0.0 for trial in scored), default=None)
    return tuple(trial for trial in scored if trial.val_dsc == top)


def standing(highest: Sequence[Trial]) -> str:
    """What the highest trials mean, in a few words.

    >>> first, second = (Trial(f"trial_{number}", "COMPLETED", 0.5, 1, 1.0, {}) for number in range(2))
    >>> standing([first])
    'best: trial_0, validation DSC 0.5000'
    >>> standing([first, second])
    'none is best: trial_0 and trial_1 are equal, validation DSC 0.5000'
    """
    *others, last = [trial.name for trial in highest]
    score = f"validation DSC {highest[0].val_dsc:.4f}"
    return (
        f"none is best: {', '.join(others)} and {last} are equal, {score}"
        if others
        else f"best: {last}, {score}"
    )


def draw_trials(trials: Sequence[Trial]) -> Figure:
    """The Dice coefficient of the trials against each value; that with the defaults and the best stand out."""
    scored = [trial for trial in trials if trial.val_dsc is not None]
    highest = highest_trials(trials)
    names = list(dict.fromkeys(name for trial in scored for name in trial.values))
    columns = max(1, min(4, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure = Figure(figsize=(max(4, 3 * columns), 2.6 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        for trial in scored:
            if name in trial.values:
                colour = "#dc2626" if trial in highest else "#2563eb"
                marker = "o" if trial.number else "D"
                axes.plot(trial.values[name], trial.val_dsc, marker, color=colour, alpha=0.8)
        if any(isinstance(trial.values.get(name), str) for trial in scored):
            for label in axes.get_xticklabels():
                label.set(rotation=30, ha="right", rotation_mode="anchor")
        axes.set_xlabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.supylabel("validation DSC")
    red = "the best" if len(highest) == 1 else "equal, none is the best"
    figure.suptitle(f"diamond: defaults, red: {red}", fontsize="medium")
    return figure
