"""Networks as parts of a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_scgm.errors import InputError
from keras_scgm.runtimes.keras_network import slice_reach
from keras_scgm.runtimes.tensorflow_network import TensorFlowNetwork, build

EXPORT_PRECISIONS = ("float32", "bfloat16", "float16")

SLICES_ON_GPU = (16, 8, 4, 2, 1)
"""Numbers of slices that a GPU computes at a time, which bounds memory; few, since it tries algorithms for every new
one. A processor computes one: its feature maps stay in the cache, those of several do not."""

STACK_SLICES = 16
"""Neighbouring slices that a network of stacks answers for at a time, which bounds memory."""


class GraphNetwork(tf.Module):
    """One or several networks, averaged, that hold their own weights and need no Keras once saved.

    `DilatedGMNet` becomes a plain graph with native dilated convolutions and its weights as constants; the
    graph of any other network is that of Keras.

    Args:
        models: Keras models from one channel to the same number of tissues, one or two sigmoid outputs; of slices, of
            stacks of neighbouring slices, or of both.
        precision: Precision of the feature maps, one of `EXPORT_PRECISIONS`.

    Attributes:
        weights: Variables that a graph which uses the network must be saved with.
        n_tissues: Number of tissues, 2 with the cord beside the gray matter.
        takes_regions: Whether `in_regions` can be called.
        slice_reach: How many slices on either side of a slice the networks see; None if they all see single slices.

    Raises:
        InputError: a network other than `DilatedGMNet` in another precision than float32, or on another
            backend than TensorFlow.
    """

    def __init__(self, models: Sequence[keras.Model], precision: str = "float32") -> None:
        super().__init__(name="network")
        self._parts: list[Any] = []
        reaches = [slice_reach(model) for model in models]
        self.slice_reach = max((reach for reach in reaches if reach is not None), default=None)
        self.n_tissues: int = models[0].output_shape[-1]
        # A tracked Keras model would be saved with a second copy of its weights, under names that a server
        # does not restore.
        self.weights: list[tf.Variable] = []
        for model in models:
            part = build(model, tf.as_dtype(precision))
            self._parts.append(part or self._keras_graph(model, precision))
        pairs = [(part, reach is not None) for part, reach in zip(self._parts, reaches, strict=True)]
        self._alone = [_each_alone(part) if in_stacks else part for part, in_stacks in pairs]
        self._together = [_together(part) if in_stacks else part for part, in_stacks in pairs]
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
            slices: Z-scored, float32 (slice, rows, columns, 1), of any size; a network of stacks sees each alone.

        Returns:
            float32 (slice, rows, columns, tissue) in [0, 1].
        """
        return self._mean([part(slices) for part in self._alone])

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 1), tf.float32, name="slices")], autograph=False
    )
    def of_stack(self, slices: tf.Tensor) -> tf.Tensor:
        """The same of neighbouring slices, which a network of stacks sees together."""
        return self._mean([part(slices) for part in self._together])

    def in_regions(self, slices: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """The same in regions of slices; both are given."""
        return self._mean([part.in_regions(slices, regions) for part in self._parts])

    def _mean(self, maps: Sequence[tf.Tensor]) -> tf.Tensor:
        return in_cord(tf.add_n(maps) / len(maps), self.n_tissues)


def _each_alone(network: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A network of stacks for slices that have nothing to do with each other."""
    return lambda slices: network(slices[:, tf.newaxis])[:, 0]


def _together(network: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A network of stacks for the slices of one stack."""
    return lambda slices: network(slices[tf.newaxis])[0]


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

        def part(chunk: tf.Tensor) -> tf.Tensor:
            parts = [each[starts[chunk] : starts[chunk] + sizes[chunk]] for each in given]
            return network(*parts) if regions is None else network.in_regions(*parts)

        return _joined(part, tf.size(sizes), given[-1], network.n_tissues)


def compute_stacks(network: Any, slices: tf.Tensor, is_shown: tf.Tensor) -> tf.Tensor:
    """Probabilities of the slices of a volume, which a network of stacks sees with their neighbours.

    As `compute`, not to be called in a pinned loop or condition.

    Args:
        network: A `GraphNetwork` with a `slice_reach`.
        slices: Float32 (slice, rows, columns, 1), from the inferior end.
        is_shown: Bool (slice,), slices that the network sees; a stack ends at any other, whose probabilities are 0.

    Returns:
        float32 (slice, rows, columns, tissue).
    """
    parts = _parts_of_stacks(is_shown, network.slice_reach)

    def part(number: tf.Tensor) -> tf.Tensor:
        first, stop, seen_from, seen_to = tf.unstack(parts[number])
        return network.of_stack(slices[seen_from:seen_to])[first - seen_from : stop - seen_from]

    with tf.device(None):
        found = _joined(part, tf.shape(parts)[0], slices, network.n_tissues)
    nothing = tf.tile(tf.zeros_like(slices), [1, 1, 1, network.n_tissues])
    return tf.tensor_scatter_nd_update(nothing, tf.where(is_shown), found)


def compute_each_stack(network: Any, stacks: tf.Tensor) -> tf.Tensor:
    """Probabilities of stacks, float32 (stack, slice, rows, columns, 1), that have nothing to do with each other."""
    with tf.device(None):
        shape = tf.shape(stacks)
        slices = tf.reshape(stacks, tf.concat([[-1], shape[2:]], axis=0))
        found = _joined(lambda number: network.of_stack(stacks[number]), shape[0], slices, network.n_tissues)
        return tf.reshape(found, tf.concat([shape[:-1], [network.n_tissues]], axis=0))


def _parts_of_stacks(is_shown: tf.Tensor, reach: int) -> tf.Tensor:
    """int32 (part, 4): first and one past the last slice of each part, and of what the network sees of its stack."""
    below, above = (tf.pad(tf.cast(is_shown, tf.int32), [around]) for around in ([1, 0], [0, 1]))
    starts, stops = (tf.where(edge > 0)[:, 0] for edge in (above - below, below - above))
    index = tf.where(is_shown)[:, 0]
    start, stop = (
        tf.gather(edges, tf.searchsorted(starts, index, side="right") - 1) for edges in (starts, stops)
    )
    is_first = (index - start) % STACK_SLICES == 0
    index, start, stop = (tf.boolean_mask(places, is_first) for places in (index, start, stop))
    last = tf.minimum(index + STACK_SLICES, stop)
    seen = [tf.maximum(index - reach, start), tf.minimum(last + reach, stop)]
    return tf.cast(tf.stack([index, last, *seen], axis=1), tf.int32)


def _joined(
    part: Callable[[tf.Tensor], tf.Tensor], n_parts: tf.Tensor, slices: tf.Tensor, n_tissues: int
) -> tf.Tensor:
    """Probabilities of parts one after the other, (slice, rows, columns, tissue), with rows and columns of slices."""

    def add(number: tf.Tensor, maps: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return number + 1, maps.write(number, part(number))

    # One element more than parts, since the shape of the result of no slices must be known, too.
    shape = [None, None, None, n_tissues]
    maps = tf.TensorArray(tf.float32, n_parts + 1, infer_shape=False, element_shape=shape)
    _, maps = tf.while_loop(
        lambda number, _: number < n_parts, add, (tf.constant(0), maps), parallel_iterations=1
    )
    return maps.write(n_parts, tf.tile(slices[:0], [1, 1, 1, n_tissues])).concat()


def _chunks(n_slices: tf.Tensor, is_processor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 (chunk,): first slice and number of slices."""
    largest, *smaller = SLICES_ON_GPU
    rest = n_slices % largest
    is_in_rest = tf.bitwise.bitwise_and(tf.constant(smaller), rest) > 0
    of_gpu = tf.concat([tf.fill([n_slices // largest], largest), tf.boolean_mask(smaller, is_in_rest)], 0)
    sizes = tf.cond(is_processor, lambda: tf.ones([n_slices], tf.int32), lambda: of_gpu)
    return tf.cumsum(sizes, exclusive=True), sizes
