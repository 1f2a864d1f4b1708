"""Training on all accelerators of one or several machines: every device computes a part of each batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_scgm.errors import InputError, one_line

PROCESSES = tuple(f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"))
"""Environment variables that `keras.distribution.initialize` reads."""


@contextmanager
def all_devices() -> Iterator[int]:
    """Splits the batches of a training inside it over all GPUs, or CPU devices where there is none.

    TensorFlow's `MirroredStrategy` or Keras's `DataParallel` for JAX. Losses and the statistics of batch
    normalization are those of the whole batch, so the weights are those of a training on one device.

    With JAX the devices may be those of several processes, on as many machines. Each runs the same training
    with the variables in `PROCESSES` set to host and port of process 0, the number of processes, and its own
    from 0. Each writes the same results to a folder of its own.

    Yields:
        How many devices there are; the batch size must be a multiple of it.

    Raises:
        InputError: Keras runs on another backend, or the variables are wrong.
    """
    backend = keras.backend.backend()
    if os.environ.get(PROCESSES[0]):
        _join_processes(backend)
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        with strategy.scope():
            yield len(devices)
    elif backend == "jax":
        before = keras.distribution.distribution()
        # `own_share` divides the batches.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        try:
            yield device_count()
        finally:
            keras.distribution.set_distribution(before)
    else:
        raise InputError(f"training on several devices needs TensorFlow or JAX, Keras runs on {backend}")


def _join_processes(backend: str) -> None:
    if backend != "jax":
        raise InputError(
            f"several processes train together on JAX only, Keras runs on {backend}; set KERAS_BACKEND"
        )
    try:
        keras.distribution.initialize()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{', '.join(PROCESSES)}: {one_line(error)}") from error


def own_share(arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The part of a batch that this process computes; the batch is the same in all processes."""
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        return tuple(arrays)
    import jax

    return tuple(
        np.split(array, jax.process_count())[jax.process_index()] for array in map(np.asarray, arrays)
    )


@contextmanager
def without_sharing() -> Iterator[None]:
    """Suspends the distribution, for networks that one process runs alone, as in validation."""
    if keras.backend.backend() != "jax":
        yield
        return
    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def device_count() -> int:
    """Number of devices among which a batch is divided."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return int(tf.distribute.get_strategy().num_replicas_in_sync)
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.device_mesh.devices.size
