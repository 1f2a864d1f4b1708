"""Training on all accelerators of a machine: each takes its share of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_scgm.errors import InputError


@contextmanager
def all_devices() -> Iterator[int]:
    """Splits the batches of a training inside it over all GPUs, or CPU devices where there is none.

    TensorFlow's `MirroredStrategy` or Keras's `DataParallel` for JAX. The statistics of batch normalization
    are those of a device's share on TensorFlow, and of the whole batch on JAX.

    Yields:
        How many devices there are; the batch size must be a multiple of it.

    Raises:
        InputError: Keras runs on another backend.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        with strategy.scope():
            yield len(devices)
    elif backend == "jax":
        before = keras.distribution.distribution()
        # The batches are of one process: there is nothing to divide among several.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        try:
            yield device_count()
        finally:
            keras.distribution.set_distribution(before)
    else:
        raise InputError(f"training on several devices needs TensorFlow or JAX, Keras runs on {backend}")


def device_count() -> int:
    """How many devices share a batch here."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return int(tf.distribute.get_strategy().num_replicas_in_sync)
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.device_mesh.devices.size
