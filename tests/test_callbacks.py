"""The learning rates of equation 4, resumed trainings, and networks that die."""

import json
import math
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_scgm.callbacks import PolyLearningRate, TerminateOnCollapse
from keras_scgm.losses import DiceCrossEntropyLoss, DiceLoss
from keras_scgm.metrics import HardDice, SoftDice


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def network(bias="zeros", **optimizer):
    layer = keras.layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=bias, name="only")
    model = keras.Sequential([keras.Input((4, 4, 1)), layer])
    model.compile(keras.optimizers.SGD(0.5, **optimizer), loss=DiceLoss())
    return model


SLICES = np.ones((6, 4, 4, 1), "float32")


def fit(model, *callbacks, slices=SLICES, **arguments):
    return model.fit(slices, SLICES, batch_size=2, verbose=0, shuffle=False, callbacks=callbacks, **arguments)


def test_rates_are_those_of_equation_4():
    schedule = PolyLearningRate(0.001, total=1000)
    assert schedule.rate(0) == 0.001
    assert schedule.rate(500) == pytest.approx(0.001 * 0.5**0.9)
    assert schedule.rate(999) == pytest.approx(0.001 * 0.001**0.9)
    assert schedule.rate(1000) == schedule.rate(1001) == schedule.rate(5000) == 0.0
    assert PolyLearningRate(1.0, total=4, power=2.0).rate(3) == 1 / 16


@pytest.mark.parametrize(("per", "total"), [("epoch", 4), ("step", 12)])
def test_resumed_training_has_the_rates_of_an_uninterrupted_one(per, total):
    def schedule():
        return PolyLearningRate(0.1, total, per=per)

    whole, first, second = Rates(), Rates(), Rates()
    history = fit(network(), schedule(), whole, epochs=5).history
    model = network()
    fit(model, schedule(), first, epochs=2)
    fit(model, schedule(), second, epochs=5, initial_epoch=2)
    n = [step if per == "step" else step // 3 for step in range(15)]
    expected = [schedule().rate(i) for i in n]
    np.testing.assert_allclose(whole.rates, expected, rtol=1e-6)
    np.testing.assert_array_equal(first.rates + second.rates, whole.rates)
    assert whole.rates[-1] == 0
    np.testing.assert_allclose(history["learning_rate"], expected[2::3], rtol=1e-6)


def test_steps_are_batches_where_gradients_are_accumulated():
    whole, first, second = Rates(), Rates(), Rates()
    fit(network(gradient_accumulation_steps=2), PolyLearningRate(0.1, 12, per="step"), whole, epochs=5)
    model = network(gradient_accumulation_steps=2)
    fit(model, PolyLearningRate(0.1, 12, per="step"), first, epochs=2)
    fit(model, PolyLearningRate(0.1, 12, per="step"), second, epochs=5, initial_epoch=2)
    # Two batches of an update have one rate.
    expected = [PolyLearningRate(0.1, 12).rate(n // 2 * 2) for n in range(15)]
    np.testing.assert_allclose(whole.rates, expected, rtol=1e-6)
    np.testing.assert_array_equal(first.rates + second.rates, whole.rates)


@pytest.mark.parametrize(("per", "total"), [("epoch", 2), ("step", 6)])
@pytest.mark.parametrize("reused", [True, False])
def test_second_fit_starts_anew(per, total, reused):
    model, rates, schedule = network(), Rates(), PolyLearningRate(0.1, total, per=per)
    fit(model, schedule, rates, epochs=2)
    again = schedule if reused else PolyLearningRate(0.1, total, per=per)
    fit(model, again, rates, epochs=2)
    np.testing.assert_array_equal(rates.rates[:6], rates.rates[6:])
    assert rates.rates[0] == pytest.approx(0.1)
    # What is resumed of the second fit goes on with its steps, not with those of the optimizer.
    fit(model, PolyLearningRate(0.1, total, per=per), rates, epochs=2, initial_epoch=1)
    np.testing.assert_array_equal(rates.rates[3:6], rates.rates[12:])


def test_steps_of_unknown_number_are_the_optimizers():
    model, schedule = network(), PolyLearningRate(0.1, 100, per="step")
    schedule.set_model(model)
    schedule.set_params({"epochs": 2, "steps": None})
    for epoch, iterations, step in ((0, 20, 0), (1, 23, 23)):
        schedule.on_train_begin()
        model.optimizer.iterations.assign(iterations)
        schedule.on_epoch_begin(epoch)
        schedule.on_train_batch_begin(0)
        assert float(model.optimizer.learning_rate) == pytest.approx(schedule.rate(step))


def test_steps_of_unknown_number_are_counted_from_the_beginning_of_a_fit():
    model, schedule = network(), PolyLearningRate(0.1, 100, per="step")
    schedule.set_model(model)
    schedule.set_params({"epochs": 2, "steps": None})
    schedule.on_train_begin()
    for epoch, iterations in enumerate((20, 23)):
        model.optimizer.iterations.assign(iterations)
        schedule.on_epoch_begin(epoch)
        schedule.on_train_batch_begin(0)
        assert float(model.optimizer.learning_rate) == pytest.approx(schedule.rate(iterations - 20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_learning_rate": 0.0}, "initial_learning_rate must be a number above 0, received 0.0"),
        ({"total": 0}, "total must be an integer of at least 1, received 0"),
        ({"power": math.nan}, "power must be a number above 0, received nan"),
        ({"per": "batch"}, "per must be one of epoch, step, received 'batch'"),
    ],
)
def test_schedule_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        PolyLearningRate(**{"initial_learning_rate": 0.1, "total": 3, **arguments})


def test_living_network_is_left_alone():
    watch = TerminateOnCollapse(SLICES, patience=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = fit(network(), watch, epochs=3)
    assert len(history.epoch) == 3
    assert watch.reason is None


def test_loss_that_is_not_a_number_stops_and_names_the_weights():
    slices = SLICES.copy()
    slices[2:4] = np.nan
    watch = TerminateOnCollapse(SLICES)
    message = r"collapsed: the loss is nan in epoch 1, batch 2; 2 weights not finite, first .*only/kernel"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        history = fit(network(), watch, slices=slices, epochs=3)
    (warning,) = (each for each in caught if each.category is RuntimeWarning)
    assert watch.reason in str(warning.message)
    assert len(history.epoch) == 1


def test_network_that_finds_nothing_stops_after_its_patience():
    watch = TerminateOnCollapse(SLICES, patience=2)
    model = network(bias=keras.initializers.Constant(-50.0))
    message = r"collapsed: no probability reached 0.001 in the last 2 epochs up to epoch 3 \(highest .*\) in 6 slices"
    with pytest.warns(RuntimeWarning, match=message):
        history = fit(model, watch, epochs=9, initial_epoch=1)
    assert history.epoch == [1, 2]


def test_a_second_fit_is_watched_too():
    watch = TerminateOnCollapse(SLICES, patience=2)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="in the last 2 epochs up to epoch 2 "):
            fit(network(bias=keras.initializers.Constant(-50.0)), watch, epochs=3)


def test_only_weights_that_are_not_finite_are_named():
    model, watch = network(), TerminateOnCollapse(SLICES)
    kernel, bias = model.get_weights()
    model.set_weights([kernel, bias * np.nan])
    watch.set_model(model)
    with pytest.warns(RuntimeWarning, match="1 weight not finite, first .*only/bias"):
        watch.on_train_batch_end(0, {"loss": np.nan})


@pytest.mark.parametrize("from_logits", [False, True])
def test_sure_background_is_no_detection(from_logits):
    layer = keras.layers.Conv2D(
        3,
        1,
        activation=None if from_logits else "softmax",
        kernel_initializer="zeros",
        bias_initializer=lambda shape, dtype: ops.convert_to_tensor([50.0, 0.0, 0.0], dtype),
    )
    model = keras.Sequential([keras.Input((4, 4, 1)), layer])
    rules = {"classifier_activation": "softmax", "from_logits": from_logits}
    model.compile(keras.optimizers.SGD(0.5), loss=DiceLoss(**rules))
    masks = np.eye(3, dtype="float32")[np.ones((6, 4, 4), int)]
    with pytest.warns(RuntimeWarning, match="no probability reached 0.001 in the last 1 epochs"):
        model.fit(SLICES, masks, verbose=0, callbacks=[TerminateOnCollapse(SLICES, patience=1, **rules)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": SLICES[0]}, r"at least one, received \(4, 4, 1\)"),
        ({"images": SLICES[:0]}, r"at least one, received \(0, 4, 4, 1\)"),
        ({"floor": 1.0}, "floor must be a number above 0 and below 1, received 1.0"),
        ({"patience": 0}, "patience must be an integer of at least 1, received 0"),
    ],
)
def test_watch_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        TerminateOnCollapse(**{"images": SLICES, **arguments})


def history():
    """What Keras logs of two epochs that go on after two others."""
    layer = keras.layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((4, 4, 1)), layer])
    model.compile(keras.optimizers.SGD(0.5), DiceCrossEntropyLoss(), metrics=[SoftDice(), HardDice()])
    slices = np.linspace(-1, 1, 96, dtype="float32").reshape(6, 4, 4, 1)
    masks = (slices > 0).astype("float32")
    for first, last in ((0, 2), (2, 4)):
        callbacks = [PolyLearningRate(0.9, 15, per="step"), TerminateOnCollapse(slices)]
        epochs = {"initial_epoch": first, "epochs": last}
        logged = model.fit(
            slices, masks, batch_size=2, shuffle=False, verbose=0, callbacks=callbacks, **epochs
        )
    return logged.history


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_backend_trains_alike(backend):
    pytest.importorskip(backend)
    environment = {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    process = subprocess.run(
        [sys.executable, "-c", "import json, test_callbacks; print(json.dumps(test_callbacks.history()))"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    found, here = json.loads(process.stdout.splitlines()[-1]), history()
    rates = [PolyLearningRate(0.9, 15).rate(step) for step in (8, 11)]
    np.testing.assert_allclose(here["learning_rate"], rates, rtol=1e-6)
    assert found.keys() == here.keys()
    for name, values in here.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, err_msg=name)


def test_looking_for_a_collapse_does_not_change_the_network():
    slices = keras.Input((8, 8, 1))
    model = keras.Model(
        slices, keras.layers.Conv2D(1, 1, activation="sigmoid")(keras.layers.BatchNormalization()(slices))
    )
    images = np.random.default_rng(0).normal(3, 2, (4, 8, 8, 1)).astype(np.float32)
    before = [weight.copy() for weight in model.get_weights()]
    watch = TerminateOnCollapse(images)
    watch.set_model(model)
    watch.on_train_begin()
    watch.on_epoch_end(0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
