"""A training of seconds, for tests, and one that is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

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


@contextmanager
def steps_untraced() -> Iterator[None]:
    """For trainings of a few steps, which tracing would make three times as long."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def weights_of(path: Path) -> list[np.ndarray]:
    return load_network(path)[0].get_weights()


class Killed(keras.callbacks.Callback):
    """Kills its process.

    Args:
        steps: Number of training steps, of all trainings together, after which it does.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.steps -= 1
        if not self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(code: str, *arguments: object) -> None:
    """Run Python code, in which there is a `Killed`, in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
