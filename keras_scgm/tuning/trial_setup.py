"""What all trials of a search have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.training import Batches, TrainingConfig


@dataclass(frozen=True)
class TrialSetup:
    """What every trial of a search starts from.

    Args:
        folder: Folder of the search.
        training: Settings that every trial starts from.
        batches: Training data.
        validation: Volumes that score the trials.
        callbacks: Further callbacks of every trial.
        verbose: Whether to print a line for each trial and, on a terminal, to show a bar of its epochs.
    """

    folder: Path
    training: TrainingConfig
    batches: Batches
    validation: Sequence[AnnotatedVolume]
    callbacks: Sequence[keras.callbacks.Callback]
    verbose: bool
