"""Keras models without the per-call overhead and the retracing of `Model.predict`."""

from __future__ import annotations

import keras

from keras_scgm.runtimes.region_of_interest import Compute


def compiled(model: keras.Model) -> Compute:
    """Prediction of whole slices on Keras' backend.

    Args:
        model: Keras model from (slice, rows, columns, 1) to probabilities (slice, rows, columns, tissue).
    """
    if backend() == "tensorflow":
        # Not needed, and perhaps not installed, beside the other backends.
        import tensorflow as tf

        signature = [tf.TensorSpec((None, None, None, 1), tf.float32)]
        function = tf.function(lambda slices: model(slices, training=False), input_signature=signature)
        return lambda slices, _=None: function(tf.constant(slices)).numpy()
    return lambda slices, _=None: keras.ops.convert_to_numpy(model(slices, training=False))


def backend() -> str:
    """Name of Keras' backend."""
    return str(keras.backend.backend())
