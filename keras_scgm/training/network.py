"""The network as it is trained: the same layers and weights, computed faster."""

from __future__ import annotations

from typing import Any

import keras

from keras_scgm.errors import InputError
from keras_scgm.models import BUILDERS
from keras_scgm.pretrained import load_weights_into, resolve_weights
from keras_scgm.training.spec import TrainingSpec


@keras.saving.register_keras_serializable(package="keras_scgm")
class NativeConv2D(keras.layers.Conv2D):
    """A convolution that leaves its dilation to TensorFlow's kernel.

    Keras rearranges the image into blocks before and after a dilated convolution, which takes up to twice as
    long and gives the same result.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        import tensorflow as tf

        return tf.nn.conv2d(
            inputs, kernel, strides=1, padding=self.padding.upper(), dilations=list(self.dilation_rate)
        )


@keras.saving.register_keras_serializable(package="keras_scgm")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization whose training step is one TensorFlow kernel, with statistics in float32."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        result = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, now in (
            (self.moving_mean, result.batch_mean),
            (self.moving_variance, result.batch_variance),
        ):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return result.y


def build_network(spec: TrainingSpec) -> keras.Model:
    """The network of a spec with its initial weights, as the package uses it after training.

    Raises:
        InputError: the weights cannot be used, or hold another network.
        ValueError: an argument of the builder breaks its rule.
    """
    network = BUILDERS[spec.architecture](**spec.arguments)
    if spec.initial_weights is not None:
        path, _ = resolve_weights(spec.initial_weights)
        load_weights_into(network, path)
    return network


def training_copy(network: keras.Model, spec: TrainingSpec) -> keras.Model:
    """A copy with the same layer names and weights, faster kernels, and the precision of the spec."""
    native = keras.backend.backend() == "tensorflow"

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        # Probabilities saturate at 1 in bfloat16, and the losses read them.
        if spec.mixed_precision and layer.name != "predictions":
            config["dtype"] = "mixed_bfloat16"
        if native and type(layer) is keras.layers.Conv2D:
            return NativeConv2D.from_config(config)
        if native and type(layer) is keras.layers.BatchNormalization:
            return FusedBatchNormalization.from_config(config)
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    known = {layer.name for layer in copy.layers}
    if unknown := sorted(set(spec.frozen_layers) - known):
        raise InputError(f"frozen_layers: {network.name} has no layer {', '.join(unknown)}")
    for name in spec.frozen_layers:
        copy.get_layer(name).trainable = False
    return copy
