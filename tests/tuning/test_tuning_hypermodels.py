"""A search of what the user defines: settings of a training, or networks."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_search import KERAS_TUNER_WARNINGS, SEARCH, TRAINING, rows

pytest.importorskip("keras_tuner")

import keras_tuner

from keras_scgm import DiceLoss, DilatedGMNet, HardDice
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.errors import InputError
from keras_scgm.models import load_network
from keras_scgm.training import SliceBatches, TrainingConfig
from keras_scgm.training.validation import mean_volume_dice
from keras_scgm.tuning import SearchConfig, tune

pytestmark = [
    *KERAS_TUNER_WARNINGS,
    pytest.mark.usefixtures("untraced"),
    # KerasTuner's checkpoints hold the state of the optimizer, which a network that is only built has not.
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning"),
]


def settings(hp: Any, training: TrainingConfig) -> TrainingConfig:
    loss = hp.Choice("loss", ["dice", "both"])
    weight = hp.Float("cross_entropy_weight", 1.0, 5.0, parent_name="loss", parent_values=["both"])
    rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=training.learning_rate)
    return replace(training, learning_rate=rate, cross_entropy_weight=weight if loss == "both" else 0.0)


def network(hp: Any) -> keras.Model:
    slices = keras.Input((None, None, 1))
    outputs = keras.layers.Conv2D(1, hp.Choice("kernel", [1, 3]), padding="same", activation="sigmoid")(
        slices
    )
    model = keras.Model(slices, outputs, name="tiny")
    model.compile(keras.optimizers.SGD(hp.Float("rate", 0.01, 0.1)), DiceLoss())
    return model


class Networks(keras_tuner.HyperModel):
    def build(self, hp: Any) -> keras.Model:
        return network(hp)


class Scores(keras_tuner.HyperModel):
    """Networks that are not trained; their score is a value of the trial, or given by the epochs."""

    def build(self, hp: Any) -> keras.Model:
        return network(hp)

    def fit(self, hp: Any, model: keras.Model, dataset: Any, epochs: int, **_: Any) -> dict[str, float]:
        return {"val_dsc": 0.5 if epochs == 1 else 1 - hp.get("rate")}


def test_settings_are_searched(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
) -> None:
    result = tune(SearchConfig(trials=6), TRAINING, batches, tmp_path, volumes, hypermodel=settings)
    assert result is not None
    assert drawn_scores[0] == replace(TRAINING, threshold_objective=None)
    table = rows(tmp_path)
    assert {row["loss"] for row in table} == {"dice", "both"}
    for row, config in zip(table, drawn_scores, strict=True):
        assert (row["cross_entropy_weight"] != "") == (row["loss"] == "both")
        assert float(row["cross_entropy_weight"] or 0) == config.cross_entropy_weight
        assert float(row["learning_rate"]) == config.learning_rate
        assert 1e-4 <= config.learning_rate <= 1e-2
    # All have the same rotation, by which they are scored here.
    assert len(result.highest) == 6
    assert result.config == TRAINING
    assert TrainingConfig.from_json((tmp_path / "best_training.json").read_text()) == TRAINING
    with pytest.raises(InputError, match=r"another search, hypermodel was .*settings, now None"):
        tune(SEARCH, TRAINING, batches, tmp_path, volumes, resume=True)


def test_networks_are_searched(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:
    training = replace(TRAINING, epochs=2)
    steps: list[int] = []
    further = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: steps.append(step))
    options: dict[str, Any] = {"hypermodel": Networks, "callbacks": [further]}
    result = tune(SearchConfig(trials=2), training, batches, tmp_path, volumes, **options)
    assert steps == [*range(TRAINING.steps_per_epoch)] * 4
    assert result is not None
    first, second = result.trials
    assert first.values == {"kernel": 1, "rate": 0.01}
    assert 0.01 <= second.values["rate"] <= 0.1
    assert [row["epochs"] for row in rows(tmp_path)] == ["2", "2"]
    assert not (tmp_path / "best_training.json").exists()
    best = result.highest[0]
    assert result.weights == tmp_path / "best.keras"
    model, card = load_network(result.weights)
    assert model.get_layer(index=1).kernel_size == (best.values["kernel"],) * 2
    assert card.slices.window_px == 64
    assert round(mean_volume_dice(result.weights, volumes), 4) == best.val_dsc
    (reloaded,) = result.tuner.get_best_models()
    for kept, saved in zip(model.get_weights(), reloaded.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, saved)


def test_hyperband_gives_networks_their_epochs(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:
    config, training = SearchConfig("hyperband", trials=3), replace(TRAINING, epochs=9)
    result = tune(config, training, batches, tmp_path, volumes, hypermodel=Scores())
    assert result is not None
    given, *others = [trial.val_dsc for trial in result.trials]
    # The first trial has all epochs, the next ones of the widest bracket one.
    assert (given, others) == (0.99, [0.5] * 2)
    assert [trial.name for trial in result.highest] == ["trial_0"]


def _raises(hp: Any, training: TrainingConfig) -> TrainingConfig:
    raise KeyError("wrong")


def _uncompiled(hp: Any) -> keras.Model:
    return DilatedGMNet(filters=2, dilation_rates=(6,))


def _colours(hp: Any) -> keras.Model:
    model = DilatedGMNet(input_shape=(None, None, 3), filters=2, dilation_rates=(6,))
    model.compile(loss="mse")
    return model


def _two_classes(hp: Any) -> keras.Model:
    model = DilatedGMNet(classes=2, filters=2, dilation_rates=(6,))
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize(
    ("hypermodel", "message"),
    [
        (3, "hypermodel must be a keras_tuner.HyperModel, a function of .* received 3"),
        (lambda: None, "hypermodel must be a keras_tuner.HyperModel, a function of "),
        (_raises, r":_raises: KeyError: 'wrong' \(.*test_tuning_hypermodels.py, line \d+\)"),
        (lambda hp, training: 3, "a function of .hp, training. must return a TrainingConfig, received 3"),
        (lambda hp, training: training, "asks hp for no value, so there is nothing to search"),
        (lambda hp: 3, "a function of .hp. must return a Keras model, received 3"),
        (_uncompiled, "the network dilated_gmnet is not compiled; give it an optimizer and a loss"),
        (_colours, "3 input channels and 1 classes"),
        (_two_classes, "dilated_gmnet has 2 outputs, but each slice has masks of 1 tissue; give it as many"),
    ],
)
def test_wrong_hypermodels_are_one_line(
    hypermodel: Any,
    message: str,
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        tune(SearchConfig(), TRAINING, batches, tmp_path / "out", volumes, hypermodel=hypermodel)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_ranges_and_a_hypermodel_exclude_each_other(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="tuning must be a SearchConfig, since hypermodel says what"):
        tune(SEARCH, TRAINING, batches, tmp_path, volumes, hypermodel=settings)


def test_an_interrupted_search_among_networks_goes_on(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:
    calls = []

    class Interrupted(Scores):
        def fit(self, hp: Any, *arguments: Any, **options: Any) -> dict[str, float]:
            calls.append(hp.get("rate"))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return {"val_dsc": 1 - hp.get("rate")}

    search = SearchConfig(trials=2)
    with pytest.raises(KeyboardInterrupt):
        tune(search, TRAINING, batches, tmp_path, volumes, hypermodel=Interrupted)
    (first,) = rows(tmp_path)
    result = tune(search, TRAINING, batches, tmp_path, volumes, hypermodel=Interrupted, resume=True)
    assert result is not None
    assert calls[2] == calls[1]
    assert rows(tmp_path)[0] == first
    assert [trial.val_dsc for trial in result.trials] == [round(1 - rate, 4) for rate in calls[:2]]


def test_networks_that_fail_end_the_search(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:

    class Failing(Scores):
        def fit(self, *_: Any, **__: Any) -> dict[str, float]:
            raise ArithmeticError("no fit")

    with pytest.raises(
        InputError, match="three trials in a row failed, the last: ArithmeticError: no fit; see"
    ):
        tune(SearchConfig(), TRAINING, batches, tmp_path, volumes, hypermodel=Failing)
    assert "no fit" in json.loads((tmp_path / "trials" / "trial_00" / "trial.json").read_text())["message"]


def test_plain_keras_tuner_searches_our_builders(tmp_path: Path) -> None:
    """With the extra as it is installed: KerasTuner imports TensorBoard, which TensorFlow no longer brings."""

    def build(hp: Any) -> keras.Model:
        model = DilatedGMNet(filters=hp.Choice("filters", [2, 3]), dilation_rates=(3,))
        model.compile("adam", DiceLoss(), metrics=[HardDice()])
        return model

    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    masks = (images > 1).astype(np.float32)
    objective = keras_tuner.Objective("val_hard_dice", "max")
    tuner = keras_tuner.RandomSearch(build, objective, max_trials=2, seed=1, directory=str(tmp_path))
    tuner.search(images, masks, validation_data=(images, masks), epochs=1, verbose=0)
    best, other = tuner.oracle.get_best_trials(2)
    assert best.score >= other.score
    assert {trial.hyperparameters["filters"] for trial in (best, other)} == {2, 3}
    (model,) = tuner.get_best_models()
    assert model.get_layer("conv2d_1").filters == best.hyperparameters["filters"]
    model.compile(loss=DiceLoss(), metrics=[HardDice()])
    assert model.evaluate(images, masks, verbose=0, return_dict=True)["hard_dice"] == pytest.approx(
        best.score
    )
