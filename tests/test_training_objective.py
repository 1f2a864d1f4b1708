"""Loss, schedule and early stopping by the settings of a training."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import TINY

from keras_scgm import DiceCrossEntropyLoss, DiceLoss
from keras_scgm.callbacks import PolyLearningRate
from keras_scgm.datasets import AnnotatedSlices, find_challenge
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.training import SliceBatches, TrainingConfig, loop, train
from keras_scgm.training.loop import stops_early
from keras_scgm.training.objective import loss_of, optimizer_of, rate_callbacks

FOCAL = {"class_name": "BinaryFocalCrossentropy", "config": {"gamma": 3.0}}


def test_losses_by_name() -> None:
    masks = np.array([1.0, 1.0, 0.0, 0.0], np.float32).reshape(1, 2, 2, 1)
    probabilities = np.array([0.5, 0.25, 0.5, 0.75], np.float32).reshape(1, 2, 2, 1)
    of_mask = np.array([0.5, 0.25, 0.5, 0.25])
    for loss, expected in (
        ("binary_crossentropy", -np.log(of_mask).mean()),
        ("MeanSquaredError", ((1 - of_mask) ** 2).mean()),
        (FOCAL, (-((1 - of_mask) ** 3) * np.log(of_mask)).mean()),
    ):
        config = TrainingConfig.from_json(TrainingConfig(loss=loss).to_json())
        assert config.loss == loss
        found = loss_of(config)(masks, probabilities)
        assert float(np.mean(found)) == pytest.approx(expected, rel=1e-5)
        assert config.loss == loss
    assert type(loss_of(TrainingConfig())) is DiceLoss
    assert loss_of(TrainingConfig(cross_entropy_weight=2.0)).cross_entropy_weight == 2.0
    assert type(loss_of(TrainingConfig(cross_entropy_weight=2.0))) is DiceCrossEntropyLoss


def test_a_loss_that_cannot_learn_masks_is_refused() -> None:
    for name in ("sparse_categorical_crossentropy", "categorical_crossentropy", "ctc", "none"):
        with pytest.raises(
            InputError, match=r"loss must be the name or the configuration of a loss in keras.losses"
        ):
            TrainingConfig(loss=name)
    with pytest.raises(
        InputError, match=r"cross_entropy_weight 1.0 is added to the Dice loss alone; set it to 0"
    ):
        TrainingConfig(loss="binary_crossentropy", cross_entropy_weight=1.0)


def test_schedules() -> None:
    (poly,) = rate_callbacks(TrainingConfig(epochs=10))
    assert isinstance(poly, PolyLearningRate)
    assert poly.total == 10
    (cosine,) = rate_callbacks(TrainingConfig(epochs=10, schedule="cosine", learning_rate=0.5))
    rates = [cosine.schedule(epoch, 0.1) for epoch in range(10)]
    np.testing.assert_allclose(rates, [0.25 * (1 + math.cos(math.pi * e / 10)) for e in range(10)], rtol=1e-5)
    by_step = TrainingConfig(
        epochs=10, steps_per_epoch=4, schedule="cosine", rate_per="step", learning_rate=0.5
    )
    assert rate_callbacks(by_step) == []
    optimizer = optimizer_of(by_step)
    optimizer.build([])
    optimizer.iterations.assign(10)
    assert float(np.asarray(optimizer.learning_rate)) == pytest.approx(0.25 * (1 + math.cos(math.pi / 4)))
    constant = TrainingConfig(schedule="constant", learning_rate=0.5)
    assert rate_callbacks(constant) == []
    assert float(np.asarray(optimizer_of(constant).learning_rate)) == 0.5


@pytest.mark.parametrize(
    ("values", "stopping"),
    [
        ([0.5], False),
        ([0.5, 0.4], False),
        ([0.5, 0.4, 0.3], True),
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.4, 0.6], False),
        ([0.5, math.nan, math.nan], True),
        ([math.nan, math.nan, 0.1], False),
    ],
)
def test_early_stopping_by_the_history(values: list[float], stopping: bool) -> None:
    config = TrainingConfig(early_stopping_patience=2)
    assert stops_early(config, [{"loss": -value, "val_dsc": value} for value in values]) == stopping
    assert stops_early(config, [{"loss": -value} for value in values]) == stopping
    assert not stops_early(TrainingConfig(), [{"val_dsc": value} for value in values])
    assert not stops_early(config, [])


def test_a_training_stops_early_and_stays_so(
    drawn_slices: AnnotatedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = PhantomConfig(spacing_mm=0.5, matrix_size=48, n_slices=1)
    write_challenge_dataset(tmp_path / "data", subjects_per_site=1, raters=1, sites={1: site})
    volumes = find_challenge(tmp_path / "data")
    scores = iter((0.5, 0.6, 0.55, 0.6))
    monkeypatch.setattr(loop, "mean_volume_dice", lambda *given: next(scores))
    config = replace(
        TINY,
        epochs=10,
        steps_per_epoch=1,
        schedule="cosine",
        loss="binary_focal_crossentropy",
        cross_entropy_weight=0.0,
        early_stopping_patience=2,
    )
    out = tmp_path / "out"
    result = train(config, SliceBatches(drawn_slices), out, volumes)
    assert result.stopped is None
    assert [row["val_dsc"] for row in result.history] == [0.5, 0.6, 0.55, 0.6]
    assert [row["learning_rate"] for row in result.history] == pytest.approx(
        [0.0005 * (1 + math.cos(math.pi * step / 10)) for step in range(1, 5)], rel=1e-5
    )
    assert train(config, SliceBatches(drawn_slices), out, volumes, resume=True).history == result.history
