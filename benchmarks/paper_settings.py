"""Every setting of the paper's two training protocols beside that of the presets "challenge" and "exvivo".

The paper's values are those of 3.4.1 (challenge) and 3.4.3 (ex vivo); what is left out there is left out here. Ours are
read from a training that is stopped before its first step, not from the documentation. Usage:

    python benchmarks/paper_settings.py

Prints one row per setting; the exit code is 1 if one differs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import keras
import numpy as np

from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.callbacks import PolyLearningRate
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.pretrained import WeightsCard
from keras_scgm.training import PRESETS, DataConfig, SliceBatches, TrainingConfig, train

PROTOCOLS = {"challenge": "3.4.1", "exvivo": "3.4.3"}

SPACING_MM = {"challenge": 0.25, "exvivo": 0.1}
"""Of the images: the challenge's finest, and the ex vivo volume's (3.3.2)."""

COMMON = {
    "window, pixels": 200,
    "batch size": 11,
    "optimizer": "Adam",
    "learning rate": 0.001,
    "dropout": {0.4},
    "unit of the schedule": "epoch",
    "learning rate after 0, 1/4, 1/2, 3/4 of the epochs": [
        round(0.001 * (1 - part) ** 0.9, 12) for part in (0, 0.25, 0.5, 0.75)
    ],
    "batches of an epoch": 32,
    "loss": "DiceLoss",
    "augmentation": {"rotation", "shift", "scaling", "channel shift", "flipping", "elastic deformation"},
    "threshold": 0.999,
}
PAPER: dict[str, dict[str, Any]] = {
    "challenge": COMMON
    | {
        "resampled to, mm": 0.25,
        "validation subjects of each site": 2,
        "slices for training, validation, test": "split by subject",
        "masks of several raters": "all",
        "batch normalization momentum": {0.1},
        "epochs": 1000,
    },
    "exvivo": COMMON
    | {
        "resampled to, mm": "not resampled",
        "slices for training, validation, test": (15, 7, 8),
        "epochs": 600,
    },
}

CHANGES = {
    "rotation_degrees": "rotation",
    "shift_px": "shift",
    "scaling": "scaling",
    "channel_shift": "channel shift",
    "flip_left_right": "flipping",
    "flip_front_back": "flipping",
    "elastic_px": "elastic deformation",
}
"""The paper's name of a field of `AugmentationConfig`; a field without one has none of the paper's changes."""

NO_CHANGES = (
    "elastic_smoothness_px",
    "elastic_probability",
    "bias_field_smoothness_px",
    "intensity_probability",
)
"""Fields that say how a change is made, not that it is."""


@dataclass(frozen=True)
class Begun:
    """A training as it is about to make its first step."""

    model: keras.Model
    rate: PolyLearningRate


def begun(config: TrainingConfig, spacing_mm: float) -> Begun:
    """A training of blank slices that is not let go on."""
    blank = np.zeros((config.batch_size, config.window_px, config.window_px, 1), np.float32)
    numbers = np.arange(len(blank))
    slices = AnnotatedSlices(
        images=blank,
        masks=np.ones_like(blank),
        volume_indices=0 * numbers,
        rater_indices=0 * numbers,
        slice_indices=numbers,
        raters="all",
        seed=0,
        spacing_mm=config.spacing_mm or spacing_mm,
        contour_smoothing_mm=0.0,
        warnings=(),
    )
    with tempfile.TemporaryDirectory() as folder, patch.object(keras.Model, "fit", autospec=True) as fit:
        train(config, SliceBatches(slices), Path(folder))
    (model, _), arguments = fit.call_args
    (rate,) = (item for item in arguments["callbacks"] if isinstance(item, PolyLearningRate))
    return Begun(model, rate)


def ours(config: TrainingConfig, spacing_mm: float) -> dict[str, Any]:
    """The settings of a training by the names of `PAPER`."""
    found = begun(config, spacing_mm)
    model, rate = found.model, found.rate
    card = WeightsCard("network", config.architecture, {}, "network.weights.h5", "0" * 64)
    neutral = AugmentationConfig()
    changed = {
        item.name
        for item in fields(AugmentationConfig)
        if item.name not in NO_CHANGES
        and getattr(config.augmentation, item.name) != getattr(neutral, item.name)
    }
    return {
        "resampled to, mm": "not resampled" if config.spacing_mm is None else config.spacing_mm,
        "window, pixels": config.window_px,
        "validation subjects of each site": config.validation_per_site,
        "slices for training, validation, test": config.slice_counts or "split by subject",
        "masks of several raters": DataConfig.raters,
        "batch size": config.batch_size,
        "optimizer": type(model.optimizer).__name__,
        "learning rate": round(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)), 9),
        "unit of the schedule": rate.per,
        "learning rate after 0, 1/4, 1/2, 3/4 of the epochs": [
            round(rate.rate(config.epochs * part // 4), 12) for part in range(4)
        ],
        "batch normalization momentum": _of_layers(model, keras.layers.BatchNormalization, "momentum"),
        "dropout": _of_layers(model, keras.layers.Dropout, "rate"),
        "epochs": config.epochs,
        "batches of an epoch": config.steps_per_epoch,
        "loss": type(model.loss).__name__,
        "augmentation": {CHANGES.get(name, name) for name in changed},
        "threshold": card.paper_threshold,
    }


def _of_layers(model: keras.Model, kind: type, name: str) -> set[float]:
    return {getattr(layer, name) for layer in model.layers if isinstance(layer, kind)}


def rows(presets: Mapping[str, TrainingConfig] = PRESETS) -> list[tuple[str, str, str, str, str, bool]]:
    """Protocol, section, setting, the paper's value, ours, and whether they are the same."""
    found = []
    for name, section in PROTOCOLS.items():
        own = ours(presets[name], SPACING_MM[name])
        for setting, value in PAPER[name].items():
            found.append((name, section, setting, _text(value), _text(own[setting]), value == own[setting]))
    return found


def _text(value: Any) -> str:
    if isinstance(value, (set, tuple, list)):
        return ", ".join(map(_text, sorted(value, key=str) if isinstance(value, set) else value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main() -> None:
    print("| protocol | section | setting | paper | preset | |\n|---|---|---|---|---|---|")
    compared = rows()
    for *cells, is_same in compared:
        print("|", " | ".join([*cells, "same" if is_same else "DIFFERS"]), "|")
    if not all(is_same for *_, is_same in compared):
        sys.exit(1)


if __name__ == "__main__":
    main()
