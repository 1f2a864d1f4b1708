"""Trials of a search and what it found, as a table and as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_scgm.files import replaced
from keras_scgm.training import TrainingConfig


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Args:
        name: Name of its folder under `trials`, numbered in the order of the starts; 0 is the given training.
        status: "COMPLETED", "RUNNING" or "FAILED", in KerasTuner's words.
        val_dsc: Mean Dice coefficient of whole volumes in the best epoch; None while there is none.
        epochs: Number of finished epochs.
        seconds: Duration of these epochs, s.
        values: Values of the trial, by the names of the fields.
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
        best: The completed one with the highest Dice coefficient.
        config: The given training with the best trial's settings.
        weights: Weights of its best epoch; their card has the searched threshold.
    """

    trials: tuple[Trial, ...]
    best: Trial
    config: TrainingConfig
    weights: Path


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    rows = [{**vars(trial), **trial.values} for trial in trials]
    for row in rows:
        del row["values"]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replaced(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def draw_trials(path: Path, trials: Sequence[Trial]) -> None:
    """The Dice coefficient of the trials against each value; the given training and the best stand out."""
    scored = [trial for trial in trials if trial.val_dsc is not None]
    best = max(scored, key=lambda trial: trial.val_dsc or 0.0)
    names = list(scored[0].values)
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3 * columns, 2.6 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        for trial in scored:
            colour = "#dc2626" if trial is best else "#2563eb"
            marker = "D" if trial.number == 0 else "o"
            axes.plot(trial.values[name], trial.val_dsc, marker, color=colour, alpha=0.8)
        axes.set_xlabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.supylabel("validation DSC")
    figure.suptitle("diamond: as given, red: best", fontsize="medium")
    with replaced(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
