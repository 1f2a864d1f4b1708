"""The paper's network as a plain TensorFlow graph, faster than Keras' own and equal to it but for rounding.

Keras computes a dilated convolution as SpaceToBatch, convolution, BatchToSpace; here TensorFlow's own dilated
convolution is called. The rest of the gain is in `keras_scgm.runtimes.folding`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from keras_scgm.runtimes.folding import FoldedNetwork, fold_model
from keras_scgm.runtimes.one_by_one import one_by_one
from keras_scgm.runtimes.region_of_interest import Compute


class TensorFlowNetwork(tf.Module):
    """Slices to probabilities with core TensorFlow operations and constants only.

    It can be called in another graph, and saved with `tf.saved_model.save` as a part of it.

    Args:
        network: The folded network.
        dtype: Type of the feature maps; bfloat16 is faster on processors and GPUs that multiply it.
    """

    def __init__(self, network: FoldedNetwork, dtype: tf.DType = tf.float32) -> None:
        super().__init__(name="dilated_gmnet")
        self._network = network
        self._operations = _TensorFlowOperations(dtype)
        self._dtype = dtype

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 1), tf.float32, name="slices")], autograph=False
    )
    def __call__(self, slices: tf.Tensor) -> tf.Tensor:
        """Probabilities of the tissues.

        Args:
            slices: Z-scored, float32 (slice, rows, columns, 1), of any size.

        Returns:
            float32 (slice, rows, columns, tissue) in [0, 1].
        """
        return self._network(self._operations, tf.cast(slices, self._dtype))

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 1), tf.float32, name="slices")] * 2, autograph=False
    )
    def in_regions(self, slices: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """Probabilities in regions of slices; both are given."""
        return self._network(self._operations, *(tf.cast(each, self._dtype) for each in (slices, regions)))


def build(model: Any, dtype: tf.DType = tf.float32) -> TensorFlowNetwork | None:
    """The fast graph of a `DilatedGMNet`.

    Args:
        model: The Keras model; its present weights are copied.
        dtype: Type of the feature maps.

    Returns:
        None if the model is another network, which has no such graph.
    """
    network = fold_model(model)
    return None if network is None else TensorFlowNetwork(network, dtype)


def compiled(network: FoldedNetwork, precision: str) -> Compute:
    """Prediction in "float32" or "bfloat16"."""
    module = TensorFlowNetwork(network, tf.as_dtype(precision))

    @cache
    def function(in_regions: bool) -> Callable[..., tf.Tensor]:
        return (module.in_regions if in_regions else module.__call__).get_concrete_function()

    def predict(*given: np.ndarray | None) -> np.ndarray:
        arrays = [tf.constant(array, tf.float32) for array in given if array is not None]
        return function(len(arrays) == 2)(*arrays).numpy()

    return predict if tf.config.list_physical_devices("GPU") else one_by_one(predict)


class _TensorFlowOperations:
    def __init__(self, dtype: tf.DType) -> None:
        self._dtype = dtype

    def _constant(self, array: np.ndarray) -> tf.Tensor:
        return tf.cast(tf.constant(array, tf.float32), self._dtype)

    def convolve(self, x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray, rate: int) -> tf.Tensor:
        x = tf.nn.conv2d(x, self._constant(kernel), 1, "SAME", dilations=rate)
        return tf.nn.bias_add(x, self._constant(bias))

    def relu(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x)

    def shift(self, x: tf.Tensor, constants: np.ndarray) -> tf.Tensor:
        return x + self._constant(constants)

    def concatenate(self, maps: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat(maps, axis=-1)

    def average(self, x: tf.Tensor) -> tf.Tensor:
        # TensorFlow adds up float16 in float16, which has no room for a sum over a slice.
        wide = tf.cast(x, tf.float32) if self._dtype == tf.float16 else x
        return tf.cast(tf.reduce_mean(wide, axis=(1, 2), keepdims=True), self._dtype)

    def add(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return x + y

    def sigmoid(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(tf.cast(x, tf.float32))
