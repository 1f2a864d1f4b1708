"""The metrics against values worked out by hand, and compiled models in a fresh process."""

import math

import keras
import numpy as np
import pytest
from few_pixels import column, pixels

from keras_scgm.losses import DiceLoss
from keras_scgm.metrics import HardDice, SoftDice


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


MASKS = pixels((1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
PROBABILITIES = pixels((0.5, 0.25, 0.25, 0.25), (0.25, 0.5, 0.5, 0.25), (0.25, 0.25, 0.25, 0.5))
SOFT = [2 * 0.75 / (2 + 1.25), 2 * 0.5 / (1 + 1.5), 2 * 0.5 / (1 + 1.25)]
HARD = [2 * 1 / (2 + 1), 2 * 1 / (1 + 2), 1]


@pytest.mark.parametrize(("metric", "each"), [(SoftDice, SOFT), (HardDice, HARD)])
def test_classes_are_measured_one_by_one(metric, each):
    batch = (MASKS, PROBABILITIES)
    for activation in ("softmax", "sigmoid"):
        for class_id in range(3):
            own = metric(class_id=class_id, classifier_activation=activation)
            # No probability exceeds 0.5, so nothing is found if classes are independent.
            expected = 0 if (metric, activation) == (HardDice, "sigmoid") else each[class_id]
            assert measured(own, batch) == pytest.approx(expected)
    softmax = {"classifier_activation": "softmax"}
    assert measured(metric(**softmax), batch) == pytest.approx(np.mean(each[1:]))
    assert measured(metric(**softmax, include_background=True), batch) == pytest.approx(np.mean(each))
    assert measured(metric(**softmax, from_logits=True), (MASKS, np.log(PROBABILITIES))) == pytest.approx(
        np.mean(each[1:])
    )


def test_classes_that_are_nowhere_do_not_count_in_the_mean():
    batch = [pixels((1, 0), (0, 1), (0, 0))] * 2
    metric = HardDice(classifier_activation="softmax")
    assert math.isnan(float(metric.result()))
    assert measured(metric, batch) == 1
    assert math.isnan(measured(HardDice(class_id=2, classifier_activation="softmax"), batch))


def test_threshold_replaces_the_most_probable_class():
    metric = HardDice(threshold=0.2, class_id=1, classifier_activation="softmax")
    assert measured(metric, (MASKS, PROBABILITIES)) == pytest.approx(2 * 1 / (1 + 4))


def test_metrics_of_classes_are_logged_by_their_names():
    model = keras.Sequential([keras.Input((4, 1, 3)), keras.layers.Softmax()])
    metrics = [HardDice(classifier_activation="softmax")] + [
        HardDice(class_id=index, classifier_activation="softmax", name=name)
        for index, name in enumerate(("background", "ripe", "unripe"))
    ]
    model.compile(loss=DiceLoss(classifier_activation="softmax"), metrics=metrics)
    logs = model.evaluate(np.log(PROBABILITIES), MASKS, verbose=0, return_dict=True)
    names = ("background", "ripe", "unripe", "hard_dice")
    assert [logs[name] for name in names] == pytest.approx([*HARD, np.mean(HARD[1:])])


def test_weight_multiplies_what_a_slice_adds():
    mask = np.concatenate([column(1, 1), column(1, 1)])
    probabilities = np.concatenate([column(1, 1), column(0, 0)])
    assert measured(SoftDice(), (mask, probabilities, np.array([1.0, 0.0]))) == 1
    assert measured(SoftDice(), (mask, probabilities, np.array([[1.0], [3.0]]))) == pytest.approx(4 / 10)


@pytest.mark.parametrize("metric", [SoftDice, HardDice])
def test_callbacks_know_that_more_is_better(metric):
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.compile("sgd", DiceLoss(), metrics=[metric(name="dice")])
    stopping = keras.callbacks.EarlyStopping("dice", restore_best_weights=True)
    ones = np.ones((2, 4, 4, 1))
    model.fit(ones, ones, epochs=2, verbose=0, callbacks=[stopping])
    assert stopping.monitor_op(0.9, 0.8)
    assert not stopping.monitor_op(0.8, 0.9)


def test_float16_is_summed_in_float32():
    ones = np.ones((2, 300, 300, 1), "float16")
    assert measured(SoftDice(), (ones, ones)) == 1


def test_errors():
    with pytest.raises(ValueError, match=r"same shape, received \(1, 2, 1, 1\) and \(1, 3, 1, 1\)"):
        SoftDice().update_state(column(1, 1), column(1, 1, 1))
    with pytest.raises(ValueError, match=r"since it has 3 classes"):
        SoftDice().update_state(MASKS, MASKS)
    with pytest.raises(ValueError, match=r"class_id must be below the number of classes, 3, received 3"):
        SoftDice(class_id=3, classifier_activation="softmax").update_state(MASKS, MASKS)
    with pytest.raises(ValueError, match=r"sample_weight must be \(batch,\), received \(1, 4, 1\)"):
        SoftDice(classifier_activation="softmax").update_state(MASKS, MASKS, MASKS[..., 0])
    for threshold in (0.0, 1.0, math.nan):
        with pytest.raises(
            ValueError, match=rf"threshold must be a number above 0 and below 1, received {threshold}"
        ):
            HardDice(threshold)


@pytest.mark.parametrize(
    "metric",
    [
        SoftDice(name="mine"),
        HardDice(threshold=0.9, name="mine"),
        HardDice(None, 2, "softmax", from_logits=True, include_background=True, name="mine"),
    ],
)
def test_configuration_round_trip(metric):
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    assert copy.name == "mine"


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
