"""A training of seconds, for tests."""

from pathlib import Path

import numpy as np

from keras_scgm.models import load_network
from keras_scgm.training import TrainingConfig

TINY = TrainingConfig(
    model_kwargs={"filters": 2, "dilation_rates": (6,), "dropout": 0.2, "batch_norm_momentum": 0.9},
    window_px=48,
    epochs=3,
    steps_per_epoch=4,
    batch_size=2,
    ema_momentum=0.9,
    rate_per="step",
    cross_entropy_weight=1.0,
)


def weights_of(path: Path) -> list[np.ndarray]:
    return load_network(path)[0].get_weights()
