"""The losses against values worked out by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from few_pixels import column, pixels
from keras import ops

from keras_scgm.errors import InputError
from keras_scgm.losses import DiceCrossEntropyLoss, DiceLoss

LOSSES = [DiceLoss, DiceCrossEntropyLoss]


@pytest.mark.parametrize(
    ("mask", "probabilities", "expected"),
    [
        ((1, 0, 0, 0), (1, 0, 0, 0), -1),
        ((0, 0, 0, 0), (0, 0, 0, 0), -1),
        ((0, 0, 0, 0), (1, 1, 1, 0), -1 / 4),
        ((1, 1, 1, 0), (0, 0, 0, 0), -1 / 4),
        ((1, 1, 0, 0), (0, 1, 1, 0), -3 / 5),
        ((1, 0.5, 0, 0), (0.5, 0.5, 0, 0), -2.5 / 3.5),
    ],
)
def test_dice_by_hand(mask, probabilities, expected):
    assert float(DiceLoss()(column(*mask), column(*probabilities))) == pytest.approx(expected)


def test_epsilon_is_in_numerator_and_denominator():
    loss = DiceLoss(epsilon=3.0)
    assert float(loss(column(1, 1), column(1, 0))) == pytest.approx(-(2 + 3) / (3 + 3))


def test_batch_and_samples_differ_as_documented():
    mask = np.concatenate([column(1, 1, 1), column(0, 0, 0)])
    probabilities = np.concatenate([column(1, 1, 1), column(1, 0, 0)])
    assert float(DiceLoss()(mask, probabilities)) == pytest.approx(-7 / 8)
    each = DiceLoss(per_sample=True, reduction="none")(mask, probabilities)
    np.testing.assert_allclose(ops.convert_to_numpy(each), [-1, -1 / 2])
    assert float(DiceLoss(per_sample=True)(mask, probabilities)) == pytest.approx(-3 / 4)


def test_reduction_leaves_the_loss_of_a_batch():
    mask, probabilities = column(1, 1, 0), column(0, 1, 1)
    losses = [DiceLoss(reduction=r)(mask, probabilities) for r in ("sum_over_batch_size", "sum", "none")]
    assert {float(loss) for loss in losses} == {float(losses[0])}


def test_cross_entropy_by_hand():
    mask, probabilities = column(1, 0), column(0.5, 0.25)
    dice = -(2 * 0.5 + 1) / (1 + 0.75 + 1)
    cross_entropy = -(math.log(0.5) + math.log(0.75)) / 2
    loss = DiceCrossEntropyLoss(dice_weight=2.0, cross_entropy_weight=0.5)
    assert float(loss(mask, probabilities)) == pytest.approx(2 * dice + 0.5 * cross_entropy, rel=1e-6)
    only = DiceCrossEntropyLoss(dice_weight=0.0, per_sample=True, reduction=None)
    both = only(np.concatenate([mask, mask]), np.concatenate([probabilities, mask]))
    np.testing.assert_allclose(ops.convert_to_numpy(both), [cross_entropy, 0], atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_refused_for_a_batch_and_honoured_per_sample(loss):
    mask = np.concatenate([column(1, 1, 1), column(1, 0, 0)])
    probabilities = np.concatenate([column(1, 1, 0), column(1, 1, 1)])
    weight = np.array([1.0, 3.0], "float32")
    with pytest.raises(ValueError, match=r"one number that sample_weight cannot weigh; use per_sample=True"):
        loss()(mask, probabilities, weight)
    each = ops.convert_to_numpy(loss(per_sample=True, reduction=None)(mask, probabilities))
    weighed = loss(per_sample=True)(mask, probabilities, weight)
    assert float(weighed) == pytest.approx((each * weight).mean(), rel=1e-6)
    of_slices = loss(per_sample=True)(mask, probabilities, weight[:, None, None])
    assert float(of_slices) == pytest.approx(float(weighed), rel=1e-6)
    assert float(loss(per_sample=True)(mask, probabilities, 2.0)) == pytest.approx(2 * each.mean(), rel=1e-6)
    with pytest.raises(ValueError, match=r"sample_weight must be \(batch,\), received \(2, 3, 1, 1\)"):
        loss(per_sample=True)(mask, probabilities, np.ones_like(mask))


@pytest.mark.parametrize("classes", [1, 2])
def test_weights_of_classes_are_refused(classes):
    model = keras.Sequential([keras.Input((4, 4, classes)), keras.layers.Dense(classes, "sigmoid")])
    model.compile("adam", DiceLoss(per_sample=True, classifier_activation="sigmoid"))
    masks = np.zeros((4, 4, 4, classes), "float32")
    with pytest.raises(ValueError, match=r"neither pixels nor, by class_weight, classes can be weighed"):
        model.fit(
            tf.data.Dataset.from_tensor_slices((masks, masks)).batch(2),
            class_weight={0: 1.0, 1: 3.0},
            shuffle=False,
            verbose=0,
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_lists_are_taken_as_by_the_losses_of_keras(loss):
    mask, probabilities = column(1, 1, 0), column(1, 0.5, 0)
    assert float(loss()(mask.tolist(), probabilities.tolist())) == float(loss()(mask, probabilities))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("per_sample", [False, True])
def test_float16_is_summed_in_float32(loss, per_sample):
    mask = np.ones((2, 300, 300, 1), "float16")
    value = loss(per_sample=per_sample)(mask, mask)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert float(value) == pytest.approx(-1, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_finite_where_masks_or_predictions_are_empty(loss):
    for mask in (0.0, 1.0):
        for probability in (0.0, 0.5, 1.0):
            probabilities = tf.fill((2, 4, 4, 1), probability)
            with tf.GradientTape() as tape:
                tape.watch(probabilities)
                value = loss()(tf.fill((2, 4, 4, 1), mask), probabilities)
            assert np.isfinite(tape.gradient(value, probabilities)).all()


def test_more_of_the_mask_is_always_better():
    values = [float(DiceLoss()(column(1, 1, 0, 0), column(p, p, 0, 0))) for p in np.linspace(0, 1, 11)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == -1


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (
            DiceLoss,
            {
                "epsilon": 0.5,
                "per_sample": True,
                "classifier_activation": "softmax",
                "from_logits": True,
                "include_background": True,
                "reduction": "sum",
                "name": "mine",
                "dtype": "float64",
            },
        ),
        (
            DiceCrossEntropyLoss,
            {
                "dice_weight": 2.0,
                "cross_entropy_weight": 0.0,
                "epsilon": 0.5,
                "per_sample": True,
                "classifier_activation": "sigmoid",
                "from_logits": True,
                "include_background": False,
                "reduction": None,
                "name": "mine",
                "dtype": "float64",
            },
        ),
    ],
)
def test_configuration_round_trip(loss, arguments):
    original = loss(**arguments)
    assert original.get_config() == arguments
    copy = keras.losses.deserialize(keras.losses.serialize(original))
    assert type(copy) is loss
    assert copy.get_config() == arguments


@pytest.mark.parametrize("loss", LOSSES)
def test_argument_errors(loss):
    for epsilon in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"epsilon must be a number above 0, received {epsilon}"):
            loss(epsilon=epsilon)
    with pytest.raises(ValueError, match=r"same shape, received \(1, 4, 1, 1\) and \(1, 4, 1, 2\)"):
        loss()(column(1, 1, 1, 1), np.zeros((1, 4, 1, 2)))
    with pytest.raises(ValueError, match=r"same shape, received \(1, 4\) and \(1, 4, 1, 1\)"):
        loss()(np.zeros((1, 4)), column(1, 1, 1, 1))


# Four pixels, of which one is of class 1 and one of class 2; the prediction is sure of the background.
MASKS = pixels((1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
ALL_BACKGROUND = pixels((1, 1, 1, 1), (0, 0, 0, 0), (0, 0, 0, 0))
UNSURE = pixels((0.5, 0.5, 0.25, 0.25), (0.25, 0.5, 0.5, 0.25), (0.25, 0, 0.25, 0.5))


def of_class(sum_common, sum_mask, sum_predicted):
    return -(2 * sum_common + 1) / (sum_mask + sum_predicted + 1)


def test_classes_count_alike_and_the_background_of_softmax_does_not():
    softmax = {"classifier_activation": "softmax"}
    nothing_found = (of_class(0, 1, 0) + of_class(0, 1, 0)) / 2
    assert float(DiceLoss(**softmax)(MASKS, ALL_BACKGROUND)) == pytest.approx(nothing_found) == -0.5
    with_background = (of_class(2, 2, 4) + 2 * nothing_found) / 3
    assert float(DiceLoss(**softmax, include_background=True)(MASKS, ALL_BACKGROUND)) == pytest.approx(
        with_background
    )
    assert float(DiceLoss(classifier_activation="sigmoid")(MASKS, ALL_BACKGROUND)) == pytest.approx(
        with_background
    )
    unsure = (of_class(0.5, 1, 1.5) + of_class(0.5, 1, 1)) / 2
    independent = DiceLoss(classifier_activation="sigmoid", include_background=False)
    assert float(independent(MASKS, UNSURE)) == pytest.approx(unsure)
    assert float(DiceLoss(**softmax)(MASKS, MASKS)) == -1
    each = DiceLoss(**softmax, per_sample=True, reduction=None)(
        np.concatenate([MASKS, MASKS]), np.concatenate([ALL_BACKGROUND, UNSURE])
    )
    np.testing.assert_allclose(ops.convert_to_numpy(each), [nothing_found, unsure], rtol=1e-6)


def test_cross_entropy_of_softmax_is_categorical():
    for options in ({}, {"include_background": True}):
        loss = DiceCrossEntropyLoss(0.0, classifier_activation="softmax", **options)
        assert float(loss(MASKS, UNSURE)) == pytest.approx(4 * math.log(2) / 4, rel=1e-5)
    binary = DiceCrossEntropyLoss(0.0, classifier_activation="sigmoid")
    wrong = -sum(math.log(p) for p in (*[0.5] * 5, *[0.75] * 6)) / 12
    assert float(binary(MASKS, UNSURE)) == pytest.approx(wrong, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("activation", "of_logits"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softmax", lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)),
    ],
)
def test_logits_give_the_loss_of_their_probabilities(loss, activation, of_logits):
    logits = np.random.default_rng(0).normal(size=MASKS.shape).astype("float32")
    found = loss(classifier_activation=activation, from_logits=True)(MASKS, logits)
    expected = loss(classifier_activation=activation)(MASKS, of_logits(logits))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_kind_of_classes_is_not_guessed(loss):
    with pytest.raises(InputError, match=r"since it has 3 classes: 'softmax' if each pixel .*, 'sigmoid' if"):
        loss()(MASKS, UNSURE)
    for options in ({"classifier_activation": "softmax"}, {"include_background": False}):
        with pytest.raises(InputError, match="need several classes, received 1"):
            loss(**options)(column(1, 0), column(1, 0))
    for wrong in ("relu", 3):
        with pytest.raises(
            InputError, match=r"classifier_activation must be one of sigmoid, softmax, received"
        ):
            loss(classifier_activation=wrong)
    for labels in (np.zeros((1, 4, 1)), np.zeros((1, 4, 1, 1))):
        with pytest.raises(
            InputError, match=r"same shape, .*; keras\.ops\.one_hot makes masks of integer labels"
        ):
            loss(classifier_activation="softmax")(labels, UNSURE)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 1.0), (1.0, math.nan)])
def test_weight_errors(weights):
    with pytest.raises(ValueError, match=r"must (not both be 0|be a number of at least 0), received"):
        DiceCrossEntropyLoss(*weights)
