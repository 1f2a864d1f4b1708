"""The network during training: the same layers and weights with faster kernels, and right ones.

The layers are Keras' own. Only the function that computes a layer is replaced, so what is saved of a training, by this
package or by a callback, is always the plain network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from types import MethodType
from typing import Any

import keras

from keras_scgm.errors import InputError
from keras_scgm.models import BUILDERS, load_network, stages
from keras_scgm.models.unet import LEVELS
from keras_scgm.pretrained import INFLATED_FROM, WeightsCard, load_weights_into, resolve_weights
from keras_scgm.training.config import TrainingConfig
from keras_scgm.training.devices import device_count

SHAPING = ("filters", "dilation_rates")
"""Arguments of builders that fix the shapes of all layers but the first and the last."""


def build_network(config: TrainingConfig) -> keras.Model:
    """The network of a training with its initial weights, as the package uses it after training.

    Raises:
        InputError: The weights cannot be used or hold another network, the builder refuses an argument, or the
            network would not give probabilities of the tissues in slices of one channel.
    """
    classes = len(config.tissues)
    if config.model_kwargs.get("classes", classes) != classes:
        raise InputError(
            f"model_kwargs ask for {config.model_kwargs['classes']} classes, but the training has masks of "
            f"{' and '.join(config.tissues).replace('_', ' ')}; leave classes out"
        )
    for name, value in {"include_top": True, "pooling": None, "classifier_activation": "sigmoid"}.items():
        given = config.model_kwargs.get(name, value)
        if given != value:
            raise InputError(
                f"model_kwargs ask for {name}={given!r}; a training needs {value!r}, leave it out"
            )
    check_window(config.architecture, config.window_px)
    try:
        network = BUILDERS[config.architecture](**{**config.model_kwargs, "classes": classes})
    except TypeError as error:
        raise InputError(f"model_kwargs do not fit {config.architecture}: {error}") from error
    if network.input_shape[-1] != 1:
        raise InputError(
            f"model_kwargs ask for input_shape={config.model_kwargs['input_shape']}, but slices have one channel"
        )
    if config.initial_weights is not None:
        path, card = resolve_weights(config.initial_weights)
        load_weights_into(network, path, adapt=True, outputs=_outputs_of(config, card))
    return network


def check_window(architecture: str, window_px: int) -> None:
    """Refuse windows that a network cannot take.

    Raises:
        InputError: They are not a multiple of what UNet divides them by.
    """
    if architecture == "UNet" and window_px % 2**LEVELS:
        raise InputError(f"window_px must be a multiple of {2**LEVELS} for UNet, received {window_px}")


def _outputs_of(config: TrainingConfig, card: WeightsCard | None) -> list[int] | None:
    """Outputs of the initial weights that segment the tissues of the training; None if they do not say so."""
    if card is None or card.model_kwargs.get("classes", 1) != len(card.tissues):
        return None
    if not set(config.tissues) <= set(card.tissues):
        return None
    return [card.tissues.index(tissue) for tissue in config.tissues]


def fine_tuned(config: TrainingConfig, weights: str, architecture: str | None = None) -> TrainingConfig:
    """The settings of a training that starts from weights: their architecture and its number of filters and rates.

    Args:
        config: Settings of the training.
        weights: Name or file of the weights.
        architecture: Network to train; None for that of the weights. A network of stacks starts from the weights of
            its counterpart of slices, too.

    Raises:
        InputError: The weights cannot be used, or are those of another architecture.
    """
    _, card = load_network(weights)
    architecture = architecture or card.architecture
    if card.architecture not in (architecture, INFLATED_FROM.get(architecture)):
        raise InputError(
            f"--architecture {architecture}: the weights {weights} are of {card.architecture}; leave it out"
        )
    shaping = {name: card.model_kwargs[name] for name in SHAPING if name in card.model_kwargs}
    return replace(
        config,
        architecture=architecture,
        model_kwargs={**config.model_kwargs, **shaping},
        initial_weights=weights,
    )


def training_copy(network: keras.Model, config: TrainingConfig) -> keras.Model:
    """A copy with the same layer names and weights, faster kernels, and the precision of the training."""

    def clone(layer: keras.Operation) -> keras.Operation:
        arguments = layer.get_config()
        # Operations that are no layers compute in the type of what they are given.
        if config.mixed_precision and isinstance(layer, keras.Layer) and not _stays_in_float32(layer):
            arguments["dtype"] = "mixed_bfloat16"
        own = type(layer).from_config(arguments)
        if keras.backend.backend() == "tensorflow":
            _use_own_kernels(own)
        return own

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    by_stage, known = stages(network), {layer.name for layer in copy.layers}
    for frozen in config.frozen_layers:
        if frozen not in known and frozen not in by_stage:
            raise InputError(
                f"{network.name} has no stage or layer {frozen!r} to freeze; its stages: {', '.join(by_stage)}"
            )
        for name in by_stage.get(frozen, (frozen,)):
            copy.get_layer(name).trainable = False
    if not copy.trainable_weights:
        raise InputError("frozen_layers freeze the whole network; leave a stage to train")
    return copy


def _stays_in_float32(layer: keras.Layer) -> bool:
    """Whether a layer is computed in float32 in a training in bfloat16.

    Probabilities saturate at 1 in bfloat16, and the losses read them. The gradients of convolutions of stacks are wrong
    in TensorFlow on processors with AMX, or end the process.
    """
    if layer.name == "predictions":
        return True
    of_stacks = isinstance(layer, keras.layers.Conv3D)
    return of_stacks and keras.backend.backend() == "tensorflow" and _on_processor()


def _on_processor() -> bool:
    import tensorflow as tf

    return tf.DeviceSpec.from_string(tf.zeros(()).device).device_type == "CPU"


def _use_own_kernels(layer: keras.Layer) -> None:
    """Let one TensorFlow kernel compute a layer for which Keras takes several, and none whose gradient is wrong."""
    import tensorflow as tf

    if type(layer) is keras.layers.Conv2D:
        if max(layer.dilation_rate) > 1 and _has_dilated_gradient(layer.compute_dtype, tf.zeros(()).device):
            layer.convolution_op = MethodType(_dilated_convolution, layer)
        if layer.compute_dtype == "bfloat16" and _on_processor():
            layer.convolution_op = partial(_with_finite_gradient, layer.convolution_op)
    elif type(layer) is keras.layers.BatchNormalization:
        shared = device_count() > 1
        layer.call = MethodType(_shared_normalization if shared else _fused_normalization, layer)


def _with_finite_gradient(convolution: Callable[[Any, Any], Any], inputs: Any, kernel: Any) -> Any:
    """A convolution in bfloat16; where the gradient of its kernel is not finite, that is computed again in float32.

    With AMX oneDNN multiplies memory that nothing has written by 0, at some widths of the image: NaN, if NaN or
    infinity happen to lie there, and one such step ends a training.
    """
    import tensorflow as tf

    def gradients_of(inputs: Any, kernel: Any, upstream: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            result = convolution(inputs, kernel)
        return tape.gradient(result, [inputs, kernel], upstream)

    @tf.custom_gradient
    def convolve(inputs: Any, kernel: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_inputs, of_kernel = gradients_of(inputs, kernel, upstream)
            is_finite = tf.math.is_finite(of_kernel)

            def mended() -> Any:
                _, exact = gradients_of(*(tf.cast(each, tf.float32) for each in (inputs, kernel, upstream)))
                return tf.where(is_finite, of_kernel, tf.cast(exact, of_kernel.dtype))

            return of_inputs, tf.cond(tf.reduce_all(is_finite), lambda: of_kernel, mended)

        return convolution(inputs, kernel), gradients

    return convolve(inputs, tf.convert_to_tensor(kernel))


@cache
def _has_dilated_gradient(dtype: str, device: str) -> bool:
    """Whether TensorFlow computes the gradient of a dilated convolution in this type on this device.

    On a processor only oneDNN does. TensorFlow uses it by default where there is AVX-512, and its packages for macOS
    do not contain it.
    """
    import tensorflow as tf

    @tf.function
    def gradients(image: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            result = tf.nn.conv2d(image, kernel, 1, "SAME", dilations=2)
        return tape.gradient(result, [image, kernel])

    with tf.device(device):
        try:
            gradients(tf.ones((1, 5, 5, 1), dtype), tf.ones((3, 3, 1, 1), dtype))
        except tf.errors.OpError:
            return False
    return True


def _dilated_convolution(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any:
    """`Conv2D.convolution_op` by the dilation of TensorFlow's kernel.

    Keras rearranges the image into blocks before and after a dilated convolution, which takes up to twice as
    long and gives the same result.
    """
    import tensorflow as tf

    return tf.nn.conv2d(
        inputs, kernel, strides=1, padding=layer.padding.upper(), dilations=list(layer.dilation_rate)
    )


def _fused_normalization(
    layer: keras.layers.BatchNormalization, inputs: Any, training: bool | None = None, mask: Any = None
) -> Any:
    """`BatchNormalization.call` whose training step is one TensorFlow kernel, with statistics in float32."""
    if not training or not layer.trainable:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    import tensorflow as tf

    result = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.convert_to_tensor(layer.gamma),
        offset=tf.convert_to_tensor(layer.beta),
        mean=[],
        variance=[],
        epsilon=layer.epsilon,
        data_format="NHWC" if len(inputs.shape) == 4 else "NDHWC",
        is_training=True,
    )
    # The kernel gives the unbiased variance, Keras keeps that of the batch itself.
    n = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
    for moving, now in (
        (layer.moving_mean, result.batch_mean),
        (layer.moving_variance, result.batch_variance * (n - 1) / n),
    ):
        moving.assign(moving * layer.momentum + now * (1 - layer.momentum))
    return result.y


def _shared_normalization(
    layer: keras.layers.BatchNormalization, inputs: Any, training: bool | None = None, mask: Any = None
) -> Any:
    """`BatchNormalization.call` with the statistics of the whole batch, of which each device has a share.

    The layer's own `synchronized` would be saved with the network, and refused by other backends.
    """
    if not training or not layer.trainable:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    values = keras.ops.cast(inputs, "float32")
    mean, variance = keras.ops.moments(values, axes=tuple(range(len(inputs.shape) - 1)), synchronized=True)
    for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + now * (1 - layer.momentum))
    result = keras.ops.batch_normalization(
        values, mean, variance, axis=-1, offset=layer.beta, scale=layer.gamma, epsilon=layer.epsilon
    )
    return keras.ops.cast(result, layer.compute_dtype)
