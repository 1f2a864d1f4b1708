"""Keras models without the per-call overhead and the retracing of `Model.predict`."""

from __future__ import annotations

import keras
import numpy as np

from keras_scgm.runtimes.region_of_interest import Compute
from keras_scgm.runtimes.stacks import in_stacks


def compiled(model: keras.Model) -> Compute:
    """Prediction of whole slices, or stacks of them, on Keras' backend.

    Args:
        model: Keras model from (slice, rows, columns, 1) to probabilities (slice, rows, columns, tissue), or from
            (stack, slice, rows, columns, 1) to those of stacks.
    """
    if backend() == "tensorflow":
        # Not needed, and perhaps not installed, beside the other backends.
        import tensorflow as tf

        signature = [tf.TensorSpec((*[None] * (len(model.inputs[0].shape) - 1), 1), tf.float32)]
        function = tf.function(
            lambda slices: model(slices, training=False), input_signature=signature, autograph=False
        )

        def run(slices: np.ndarray) -> np.ndarray:
            return function(tf.constant(slices)).numpy()
    else:

        def run(slices: np.ndarray) -> np.ndarray:
            return keras.ops.convert_to_numpy(model(slices, training=False))

    return in_stacks(run) if slice_reach(model) is not None else lambda slices, _=None: run(slices)


def slice_reach(model: keras.Model) -> int | None:
    """How many slices on either side of its own a pixel of a network of stacks sees, at most.

    Returns:
        None for a network of slices.
    """
    if len(model.inputs[0].shape) == 4:
        return None
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv3D)]
    return sum(layer.kernel_size[0] // 2 * layer.dilation_rate[0] for layer in convolutions)


def backend() -> str:
    """Name of Keras' backend."""
    return str(keras.backend.backend())
