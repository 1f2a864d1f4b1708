"""Keras models without the per-call overhead and the retracing of `Model.predict`."""

from __future__ import annotations

import keras

from keras_scgm.localization import Predict


def predictor(model: keras.Model) -> Predict:
    """Prediction on Keras' backend.

    Args:
        model: from (slice, rows, columns, 1) to probabilities of the same shape.
    """
    if keras.backend.backend() == "tensorflow":
        # Not needed, and perhaps not installed, beside the other backends.
        import tensorflow as tf

        signature = [tf.TensorSpec((None, None, None, 1), tf.float32)]
        function = tf.function(
            lambda slices: model(slices, training=False)[..., 0], input_signature=signature
        )
        return lambda slices: function(tf.constant(slices)).numpy()
    return lambda slices: keras.ops.convert_to_numpy(model(slices, training=False))[..., 0]


def backend_version() -> str:
    """Of Keras, and its backend."""
    return f"{keras.__version__}, {keras.backend.backend()}"
