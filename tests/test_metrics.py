"""The metrics against values worked out by hand, and compiled models in a fresh process."""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_scgm.losses import DiceCrossEntropyLoss, DiceLoss
from keras_scgm.metrics import HardDice, SoftDice


def column(*values):
    """One sample of so many pixels, (1, pixels, 1, 1)."""
    return np.array(values, "float32").reshape(1, -1, 1, 1)


def measured(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_soft_dice_by_hand():
    assert measured(SoftDice(), (column(1, 1, 0), column(0.5, 0.5, 0.5))) == pytest.approx(2 / 3.5)


def test_hard_dice_cuts_both_sides_above_the_thresholds():
    batch = (column(1, 0.6, 0.5, 0), column(0.8, 0.7, 0.71, 0.9))
    assert measured(HardDice(threshold=0.7), batch) == pytest.approx(2 * 1 / (2 + 3))
    assert measured(HardDice(), batch) == pytest.approx(2 * 2 / (2 + 4))


def test_sums_run_over_batches_until_reset():
    metric = HardDice()
    batches = [(column(1, 1, 1), column(1, 1, 1)), (column(0, 0, 0), column(1, 0, 0))]
    assert measured(metric, *batches) == pytest.approx(6 / 7)
    metric.reset_state()
    assert measured(metric, batches[0]) == 1


@pytest.mark.parametrize("metric", [SoftDice, HardDice])
def test_nothing_on_either_side_is_not_a_number(metric):
    assert math.isnan(measured(metric(), (column(0, 0), column(0, 0))))
    assert measured(metric(), (column(1, 0), column(0, 0))) == 0
    assert measured(metric(), (column(0, 0), column(1, 0))) == 0


def test_weight_multiplies_what_a_slice_adds():
    mask = np.concatenate([column(1, 1), column(1, 1)])
    probabilities = np.concatenate([column(1, 1), column(0, 0)])
    assert measured(SoftDice(), (mask, probabilities, np.array([1.0, 0.0]))) == 1
    assert measured(SoftDice(), (mask, probabilities, np.array([[1.0], [3.0]]))) == pytest.approx(4 / 10)


def test_float16_is_summed_in_float32():
    ones = np.ones((2, 300, 300, 1), "float16")
    assert measured(SoftDice(), (ones, ones)) == 1


def test_errors():
    with pytest.raises(ValueError, match=r"same shape, received \(1, 2, 1, 1\) and \(1, 3, 1, 1\)"):
        SoftDice().update_state(column(1, 1), column(1, 1, 1))
    for threshold in (0.0, 1.0, math.nan):
        with pytest.raises(
            ValueError, match=rf"threshold must be a number above 0 and below 1, received {threshold}"
        ):
            HardDice(threshold)


@pytest.mark.parametrize("metric", [SoftDice(name="mine"), HardDice(threshold=0.9, name="mine")])
def test_configuration_round_trip(metric):
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    assert copy.name == "mine"


RELOAD = """
import sys

import keras_scgm.losses, keras_scgm.metrics
import keras, numpy

model = keras.saving.load_model(sys.argv[1])
x, y = numpy.ones((2, 8, 8, 1), "float32"), numpy.ones((2, 8, 8, 1), "float32")
values = model.evaluate(x, y, verbose=0, return_dict=True)
print(*(repr(values[name]) for name in ("loss", "soft_dice", "hard_dice")))
"""


@pytest.mark.parametrize("loss", [DiceLoss(per_sample=True), DiceCrossEntropyLoss(cross_entropy_weight=0.3)])
def test_compiled_model_reloads_in_a_fresh_process(loss, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.compile(loss=loss, metrics=[SoftDice(), HardDice(threshold=0.2)])
    ones = np.ones((2, 8, 8, 1), "float32")
    expected = model.evaluate(ones, ones, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    process = subprocess.run(
        [sys.executable, "-c", RELOAD, str(tmp_path / "model.keras")], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    values = [float(value) for value in process.stdout.split()[-3:]]
    assert values == pytest.approx([expected[name] for name in ("loss", "soft_dice", "hard_dice")], rel=1e-5)


def test_trains_under_mixed_precision():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3, activation="sigmoid")])
        model.compile("adam", loss=DiceLoss(), metrics=[SoftDice()])
        slices = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
        history = model.fit(
            slices, (slices > 0)[:, 1:-1, 1:-1].astype("float32"), epochs=3, verbose=0
        ).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
