"""The rules of arguments, their messages, and that every public name is held to them."""

import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import test_refused_data
import test_refused_networks
import test_refused_segmentation
import test_refused_training

import keras_scgm
from keras_scgm import (
    AugmentationConfig,
    DilatedGMNet,
    InputError,
    SegmentationConfig,
    UNet,
    checks,
)
from keras_scgm.training import TrainingConfig
from keras_scgm.tuning import TuningConfig

CASES = [
    test_refused_data.CASES,
    test_refused_networks.CASES,
    test_refused_segmentation.CASES,
    test_refused_training.CASES,
]


def test_every_public_name_is_tested():
    """Those without arguments of their own, or that only hold results, aside."""
    tested = {call.__name__ for cases in CASES for call, *_ in cases} | {"SegmentationConfig"}
    assert set(keras_scgm.__all__) - tested == {
        "InputError",
        "Segmentation",
        "SoftDice",
        "__version__",
        "list_weights",
    }


@pytest.mark.parametrize("builder", [DilatedGMNet, UNet])
def test_numpy_numbers_are_numbers(builder):
    model = builder(
        input_shape=(np.int64(16), 16, np.int32(1)),
        filters=np.int64(2),
        classes=np.uint8(1),
        dropout=np.float32(0.25),
        batch_norm_momentum=np.float64(0.5),
        include_top=np.True_,
    )
    assert model.input_shape == (None, 16, 16, 1)
    assert keras.models.model_from_json(model.to_json()).count_params() == model.count_params()


def test_numpy_numbers_in_settings_are_written_to_json():
    config = TrainingConfig(
        model_kwargs={"filters": np.int64(8), "dilation_rates": [6, np.int64(12)]},
        epochs=np.int32(3),
        learning_rate=np.float32(0.5),
        xla=np.False_,
        augmentation=AugmentationConfig(scaling=np.float64(0.25)),
    )
    assert json.loads(config.to_json())["model_kwargs"] == {"filters": 8, "dilation_rates": [6, 12]}
    assert TrainingConfig.from_json(config.to_json()) == config
    tuning = TuningConfig(trials=np.int64(4), filters=np.array([8, 16]), threshold=np.array([0.25, 0.5]))
    assert TuningConfig.from_json(tuning.to_json()) == tuning
    chosen = SegmentationConfig(threshold=np.float32(0.5), window=np.array([3, 4]), seed=np.int64(2))
    assert (chosen.threshold, chosen.window, chosen.seed) == (0.5, (3, 4), 2)
    assert [type(value) for value in (chosen.threshold, *chosen.window, chosen.seed)] == [
        float,
        float,
        float,
        int,
    ]


def test_messages_say_received():
    """One word in all of the package's messages, also those that no test provokes."""
    for path in Path(inspect.getfile(keras_scgm)).parent.rglob("*.py"):
        assert ", got " not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (checks.integer(1), 0, "x must be an integer of at least 1, received 0"),
        (checks.integer(0, 9), "3", "x must be an integer from 0 to 9, received '3'"),
        (checks.number(), float("nan"), "x must be a number, received nan"),
        (checks.number(0, 1), 2, "x must be a number from 0 to 1, received 2"),
        (checks.number(above=0, below=1), "0.5", "x must be a number above 0 and below 1, received '0.5'"),
        (checks.number(0, below=1), True, "x must be a number of at least 0 and below 1, received True"),
        (checks.flag, 1, "x must be True or False, received 1"),
        (checks.one_of(("a", "b")), "c", "x must be one of a, b, received 'c'"),
        (checks.path, b"a", "x must be a path, received b'a'"),
        (
            checks.interval(1, 4),
            (3, 2),
            r"x must be a lower and a higher number from 1 to 4, received \(3, 2\)",
        ),
        (checks.seed, -1, "x must be an integer from 0 to 4294967295, received -1"),
        (checks.text, np.zeros(200), r"x must be a text, received array\(\[0., 0., .*\.\.\."),
    ],
)
def test_rules(rule, value, message):
    with pytest.raises(InputError, match=rf"^{message}$"):
        rule("x", value)
