"""A search of seconds, for tests."""

import csv
from pathlib import Path

import pytest

from keras_scgm.training import TrainingConfig
from keras_scgm.tuning import TuningConfig

TRAINING = TrainingConfig(
    model_kwargs={"filters": 2, "dilation_rates": (6,), "dropout": 0.2, "batch_norm_momentum": 0.9},
    window_px=64,
    epochs=1,
    steps_per_epoch=2,
    batch_size=2,
)
SEARCH = TuningConfig(trials=2, augmentation={"rotation_degrees": (0.0, 30.0), "noise": (0.0, 0.3)})

# KerasTuner 1.4 locks its oracle by the name of the thread.
KERAS_TUNER_WARNINGS = [
    pytest.mark.filterwarnings("ignore:currentThread\\(\\) is deprecated:DeprecationWarning:keras_tuner"),
    pytest.mark.filterwarnings("ignore:getName\\(\\) is deprecated:DeprecationWarning:keras_tuner"),
]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))
