"""The network as it is trained computes what Keras' own layers do."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_training import TINY

from keras_scgm.errors import InputError
from keras_scgm.models import DilatedGMNet, stages
from keras_scgm.pretrained import weights_card
from keras_scgm.training import SyntheticBatches, TrainingConfig, fine_tuned, train
from keras_scgm.training.network import _with_finite_gradient, build_network, training_copy


def test_training_copy_computes_the_same() -> None:
    keras.utils.set_random_seed(0)
    network = DilatedGMNet(filters=2, dropout=0.0)
    copy = training_copy(network, TrainingConfig())
    image = np.random.default_rng(0).normal(size=(1, 50, 40, 1)).astype(np.float32)
    np.testing.assert_allclose(copy(image), network(image), atol=1e-5)
    mixed = training_copy(network, TrainingConfig(mixed_precision=True))
    np.testing.assert_allclose(mixed(image), network(image), atol=0.05)
    assert keras.backend.standardize_dtype(mixed(image).dtype) == "float32"
    assert mixed.get_layer("rate6_1").compute_dtype == "bfloat16"


@pytest.mark.parametrize("mixed", [False, True])
def test_training_copy_normalizes_batches_as_keras_does(mixed: bool) -> None:
    keras.utils.set_random_seed(0)
    network = DilatedGMNet(filters=2, dropout=0.0, batch_norm_momentum=0.0)
    copy = training_copy(network, TrainingConfig(mixed_precision=mixed))
    image = np.random.default_rng(0).normal(1.0, 3.0, size=(2, 50, 40, 1)).astype(np.float32)
    tolerance = 0.06 if mixed else 1e-4
    np.testing.assert_allclose(copy(image, training=True), network(image, training=True), atol=tolerance)
    last = "batch_normalization_13"
    for kept, expected in zip(copy.get_layer(last).weights, network.get_layer(last).weights, strict=True):
        assert kept.dtype == "float32"
        np.testing.assert_allclose(kept, expected, rtol=tolerance, atol=tolerance)


GRADIENTS = """
import keras
import numpy as np
from keras_scgm.losses import DiceLoss
from keras_scgm.models import DilatedGMNet, stages
from keras_scgm.pretrained import weights_card
from keras_scgm.training import TrainingConfig
from keras_scgm.training.network import training_copy

keras.utils.set_random_seed(0)
tiny = {"filters": 2, "dropout": 0.0, "dilation_rates": (6, 24)}
network = DilatedGMNet(**tiny)
rng = np.random.default_rng(0)
for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
    keras.config.set_dtype_policy(precision if precision == "mixed_float16" else "float32")
    start = DilatedGMNet(**tiny)
    start.set_weights(network.get_weights())
    copy = training_copy(start, TrainingConfig(mixed_precision=precision == "mixed_bfloat16"))
    for size in (40,) if precision == "mixed_float16" else (1, 40):
        images = rng.normal(size=(3, size, size, 1)).astype(np.float32)
        batch = images, np.float32(images > 0.5)
        # Statistics of nine numbers leave little to compare in half precision.
        compared = precision == "float32" or size == 40
        after = []
        for model in [keras.models.clone_model(start)] * compared + [copy]:
            model.set_weights(network.get_weights())
            model.compile(keras.optimizers.SGD(0.1), DiceLoss(), jit_compile=False, run_eagerly=model is not copy)
            model.train_on_batch(*batch)
            after.append(np.concatenate([array.ravel() for array in model.get_weights()]))
        assert np.isfinite(after).all()
        if compared:
            difference = np.linalg.norm(after[1] - after[0]) / np.linalg.norm(after[0])
            assert difference < (1e-3 if precision == "float32" else 0.05), (precision, size, difference)
"""


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_every_processor_trains_as_keras_does(onednn: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", GRADIENTS],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]


def test_a_gradient_in_bfloat16_that_is_not_finite_is_computed_again() -> None:
    @tf.custom_gradient
    def faulty(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_kernel = tf.matmul(inputs, upstream, transpose_a=True)
            if inputs.dtype == tf.bfloat16:
                of_kernel = tf.constant([[np.nan, 7.0]], tf.bfloat16)
            return tf.matmul(upstream, kernel, transpose_b=True), of_kernel

        return tf.matmul(inputs, kernel), gradients

    @tf.function
    def gradients(inputs: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            result = _with_finite_gradient(faulty, inputs, kernel)
        return tape.gradient(result, [inputs, kernel])

    for call in (gradients, gradients.python_function):
        of_inputs, of_kernel = call(tf.constant([[3.0], [2.0]], tf.bfloat16), tf.ones((1, 2), tf.bfloat16))
        assert of_kernel.dtype == tf.bfloat16
        np.testing.assert_array_equal(of_inputs, [[2.0], [2.0]])
        np.testing.assert_array_equal(of_kernel, [[5.0, 7.0]])


@pytest.mark.parametrize("size", [92, 132, 144])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3, 3), (3, 1, 1)])
def test_gradients_in_bfloat16(size: int, kernel: tuple[int, ...]) -> None:
    """At widths at which oneDNN is wrong on processors with AMX: of slices NaN now and then, of stacks more than half.

    Sums over a slice in bfloat16 differ by 1 to 3 %, with TensorFlow's own kernels as with oneDNN's.
    """
    keras.utils.set_random_seed(0)
    convolution, slices = (keras.layers.Conv2D, ()) if len(kernel) == 2 else (keras.layers.Conv3D, (3,))
    shape = (*slices, size, size, 24)
    inputs = keras.Input(shape)
    layer = convolution(32, kernel, padding="same", name="convolution")
    network = keras.Model(inputs, keras.layers.Activation("sigmoid", name="predictions")(layer(inputs)))
    images = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)

    def gradient(model: keras.Model) -> np.ndarray:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images) ** 2)
        return tape.gradient(loss, model.get_layer("convolution").kernel).numpy()

    exact = gradient(network)
    mixed = gradient(training_copy(network, TrainingConfig(mixed_precision=True)))
    assert np.abs(mixed - exact).max() < 0.1 * np.abs(exact).max()


def test_unknown_arguments_of_the_builder_are_refused() -> None:
    with pytest.raises(InputError, match=r"model_kwargs do not fit UNet: .*dilation_rates"):
        build_network(TrainingConfig("UNet", model_kwargs={"dilation_rates": (6,)}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"model_kwargs": {"classifier_activation": None}},
            "classifier_activation=None; a training needs 'sigmoid'",
        ),
        (
            {"model_kwargs": {"classifier_activation": "softmax"}},
            "classifier_activation='softmax'; a training needs",
        ),
        ({"model_kwargs": {"include_top": False}}, "include_top=False; a training needs True"),
        (
            {"model_kwargs": {"input_shape": (64, 64, 3)}},
            r"input_shape=\(64, 64, 3\), but slices have one channel",
        ),
        (
            {"architecture": "UNet", "window_px": 60},
            "window_px must be a multiple of 8 for UNet, received 60",
        ),
    ],
)
def test_networks_that_a_training_cannot_use_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = replace(TINY, **{"model_kwargs": {}, **arguments})
    with pytest.raises(InputError, match=message):
        train(config, SyntheticBatches(config.window_px, small_windows=()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_initial_weights_give_the_outputs_of_their_tissues(tmp_path: Path) -> None:
    card = weights_card("synthetic")
    known = DilatedGMNet(weights="synthetic")
    kernel, bias = known.get_layer("predictions").get_weights()
    config = fine_tuned(TrainingConfig(tissues=("gray_matter",), model_kwargs={"dropout": 0.1}), "synthetic")
    assert config.architecture == card.architecture
    assert config.model_kwargs["dropout"] == 0.1
    network = build_network(config)
    own_kernel, own_bias = network.get_layer("predictions").get_weights()
    np.testing.assert_array_equal(own_kernel, kernel[..., :1])
    np.testing.assert_array_equal(own_bias, bias[:1])
    path = tmp_path / "gray.weights.h5"
    network.save_weights(path)
    both = build_network(fine_tuned(TrainingConfig(tissues=("gray_matter", "cord")), str(path)))
    assert both.get_layer("predictions").get_weights()[0].shape[-1] == 2
    np.testing.assert_array_equal(
        both.get_layer("amort").get_weights()[0], known.get_layer("amort").get_weights()[0]
    )


def test_stages_are_frozen_with_their_statistics() -> None:
    network = DilatedGMNet(filters=2, dilation_rates=(6,))
    copy = training_copy(network, TrainingConfig(frozen_layers=("conv2d", "rate2_1")))
    frozen = {layer.name for layer in copy.layers if layer.weights and not layer.trainable}
    assert frozen == {*stages(network)["conv2d"], "rate2_1"}
    with pytest.raises(InputError, match="frozen_layers freeze the whole network; leave a stage to train"):
        training_copy(network, TrainingConfig(frozen_layers=tuple(stages(network))))
