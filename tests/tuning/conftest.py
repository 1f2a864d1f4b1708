"""Fixtures of the searches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from keras_scgm.datasets import AnnotatedVolume, find_challenge, load_slices
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.slices import SliceConfig
from keras_scgm.training import SliceBatches, TrainingConfig, TrainingResult


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Sequence[AnnotatedVolume]:
    folder = tmp_path_factory.mktemp("data")
    sites = {1: PhantomConfig(spacing_mm=0.5, matrix_size=80, n_slices=2)}
    write_challenge_dataset(folder, subjects_per_site=1, raters=1, sites=sites)
    return find_challenge(folder)


@pytest.fixture(scope="session")
def batches(volumes: Sequence[AnnotatedVolume]) -> SliceBatches:
    return SliceBatches(load_slices(volumes, SliceConfig(window_px=64)))


@pytest.fixture
def drawn_scores(monkeypatch: pytest.MonkeyPatch) -> list[TrainingConfig]:
    """Trainings are only noted; their score falls with the rotation."""
    seen: list[TrainingConfig] = []

    def train(config: TrainingConfig, *_: Any, **__: Any) -> Any:
        seen.append(config)
        score = 0.9 - config.augmentation.rotation_degrees / 100
        return TrainingResult(Path("best"), Path("last"), ({"epoch": 1, "val_dsc": score},), None)

    # KerasTuner is optional.
    from keras_scgm.tuning import tuners

    monkeypatch.setattr(tuners, "train", train)
    return seen
