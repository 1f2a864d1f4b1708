"""Networks as parts of a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_scgm.errors import InputError
from keras_scgm.runtimes.tensorflow_network import TensorFlowNetwork, build

EXPORT_PRECISIONS = ("float32", "bfloat16", "float16")

PROCESSOR = "/CPU:0"
"""Device of everything but the network."""

SLICES_ON_GPU = (16, 8, 4, 2, 1)
"""Numbers of slices that a GPU computes at a time, which bounds memory; few, since it tries algorithms for every new
one. A processor computes one: its feature maps stay in the cache, those of several do not."""


class GraphNetwork(tf.Module):
    """One or several networks, averaged, that hold their own weights and need no Keras once saved.

    `DilatedGMNet` becomes a plain graph with native dilated convolutions and its weights as constants; the
    graph of any other network is that of Keras.

    Args:
        models: Keras models from one channel to the same number of tissues, one or two sigmoid outputs.
        precision: Precision of the feature maps, one of `EXPORT_PRECISIONS`.

    Attributes:
        weights: Variables that a graph which uses the network must be saved with.
        n_tissues: Number of tissues, 2 with the cord beside the gray matter.
        takes_regions: Whether `in_regions` can be called.

    Raises:
        InputError: a network other than `DilatedGMNet` in another precision than float32, or on another
            backend than TensorFlow.
    """

    def __init__(self, models: Sequence[keras.Model], precision: str = "float32") -> None:
        super().__init__(name="network")
        self._parts: list[Any] = []
        self.n_tissues: int = models[0].output_shape[-1]
        # A tracked Keras model would be saved with a second copy of its weights, under names that a server
        # does not restore.
        self.weights: list[tf.Variable] = []
        for model in models:
            part = build(model, tf.as_dtype(precision))
            self._parts.append(part or self._keras_graph(model, precision))
        self.takes_regions = all(isinstance(part, TensorFlowNetwork) for part in self._parts)

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
        """Probabilities of the tissues, of which the cord holds the gray matter.

        Args:
            slices: Z-scored, float32 (slice, rows, columns, 1), of any size.

        Returns:
            float32 (slice, rows, columns, tissue) in [0, 1].
        """
        return self._mean([part(slices) for part in self._parts])

    def in_regions(self, slices: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """The same in regions of slices; both are given."""
        return self._mean([part.in_regions(slices, regions) for part in self._parts])

    def _mean(self, maps: Sequence[tf.Tensor]) -> tf.Tensor:
        return in_cord(tf.add_n(maps) / len(maps), self.n_tissues)


def in_cord(probabilities: tf.Tensor, n_tissues: int) -> tf.Tensor:
    """Probabilities (..., tissue) whose gray matter, the first tissue, is nowhere more likely than the last."""
    if n_tissues == 1:
        return probabilities
    return tf.minimum(probabilities, probabilities[..., -1:])


def compute(network: Any, slices: tf.Tensor, regions: tf.Tensor | None = None) -> tf.Tensor:
    """Probabilities of any number of slices, on the fastest device that the server has.

    Everything else is pinned to the processor. What is inlined from the body of a pinned loop or condition inherits
    its device, so this must not be called in one.

    Args:
        network: A `GraphNetwork`.
        slices: Float32 (slice, rows, columns, 1).
        regions: Parts of the slices, of the same type; if given, the probabilities are theirs.

    Returns:
        float32 (slice, rows, columns, tissue).
    """
    with tf.device(None):
        is_processor = tf.raw_ops.DeviceIndex(device_names=["CPU"]) == 0
        given = [slices] if regions is None else [slices, regions]
        starts, sizes = _chunks(tf.shape(slices)[0], is_processor)
        n_chunks = tf.size(sizes)

        def add(chunk: tf.Tensor, maps: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            parts = [each[starts[chunk] : starts[chunk] + sizes[chunk]] for each in given]
            found = network(*parts) if regions is None else network.in_regions(*parts)
            return chunk + 1, maps.write(chunk, found)

        # One element more than chunks, since the shape of the result of no slices must be known, too.
        shape = [None, None, None, network.n_tissues]
        maps = tf.TensorArray(tf.float32, n_chunks + 1, infer_shape=False, element_shape=shape)
        _, maps = tf.while_loop(
            lambda chunk, _: chunk < n_chunks, add, (tf.constant(0), maps), parallel_iterations=1
        )
        nothing = tf.tile(given[-1][:0], [1, 1, 1, network.n_tissues])
        return maps.write(n_chunks, nothing).concat()


def _chunks(n_slices: tf.Tensor, is_processor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 (chunk,): first slice and number of slices."""
    largest, *smaller = SLICES_ON_GPU
    rest = n_slices % largest
    is_in_rest = tf.bitwise.bitwise_and(tf.constant(smaller), rest) > 0
    of_gpu = tf.concat([tf.fill([n_slices // largest], largest), tf.boolean_mask(smaller, is_in_rest)], 0)
    sizes = tf.cond(is_processor, lambda: tf.ones([n_slices], tf.int32), lambda: of_gpu)
    return tf.cumsum(sizes, exclusive=True), sizes
