"""Networks as parts of a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_scgm.errors import InputError
from keras_scgm.runtimes.tensorflow_network import TensorFlowNetwork, build

PRECISIONS = ("float32", "bfloat16", "float16")


class GraphNetwork(tf.Module):
    """One or several networks, averaged, that hold their own weights and need no Keras once saved.

    `DilatedGMNet` becomes a plain graph with native dilated convolutions and its weights as constants; the
    graph of any other network is that of Keras.

    Args:
        models: Keras models from one channel to one class.
        precision: of the feature maps, one of `PRECISIONS`.

    Attributes:
        weights: variables that a graph which uses the network must be saved with.
        takes_crops: whether `in_crops` can be called.

    Raises:
        InputError: a network other than `DilatedGMNet` in another precision than float32, or on another
            backend than TensorFlow.
    """

    def __init__(self, models: Sequence[keras.Model], precision: str = "float32") -> None:
        super().__init__(name="network")
        self._parts: list[Any] = []
        # A tracked Keras model would be saved with a second copy of its weights, under names that a server
        # does not restore.
        self.weights: list[tf.Variable] = []
        for model in models:
            part = build(model, tf.as_dtype(precision))
            self._parts.append(part or self._keras_graph(model, precision))
        self.takes_crops = all(isinstance(part, TensorFlowNetwork) for part in self._parts)

    def _keras_graph(self, model: keras.Model, precision: str) -> Callable[[tf.Tensor], tf.Tensor]:
        if precision != "float32":
            raise InputError(f"the network {model.name} is exported in float32 only")
        if keras.backend.backend() != "tensorflow":
            raise InputError(
                f"the network {model.name} is exported with Keras on TensorFlow; set KERAS_BACKEND=tensorflow"
            )
        self.weights += [variable.value for variable in model.variables]
        return lambda slices: model(slices, training=False)

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 1), tf.float32, name="slices")], autograph=False
    )
    def __call__(self, slices: tf.Tensor) -> tf.Tensor:
        """Gray matter probability.

        Args:
            slices: z-scored, float32 (slice, rows, columns, 1), of any size.

        Returns:
            float32 (slice, rows, columns) in [0, 1].
        """
        maps = [part(slices)[..., 0] for part in self._parts]
        return tf.add_n(maps) / len(maps)

    def in_crops(self, slices: tf.Tensor, crops: tf.Tensor) -> tf.Tensor:
        """Gray matter probability in parts of slices, which are given both."""
        maps = [part.in_crops(slices, crops)[..., 0] for part in self._parts]
        return tf.add_n(maps) / len(maps)


def off_cpu(network: Callable[..., tf.Tensor], *slices: tf.Tensor) -> tf.Tensor:
    """The network wherever the server's fastest device is."""
    with tf.device(None):
        return network(*slices)
