"""The voxel spacing behind an interpolated image, in a graph."""

from __future__ import annotations

import tensorflow as tf

from keras_scgm.export.graph.nifti import StoredImage
from keras_scgm.segmentation.acquired_spacing import (
    BANDS,
    FIRST_BAND,
    LAST_BAND,
    MAX_LENGTH,
    MIN_LENGTH,
    MIN_STEP,
    PROBES,
)


def acquired_spacing_mm(image: StoredImage) -> tf.Tensor:
    """float64 (2,), right-left and posterior-anterior, as of `keras_scgm.segmentation.acquired_spacing`."""
    start = tf.maximum(0, (image.shape[:2] - MAX_LENGTH) // 2)
    n_slices = image.shape[2]

    def add(number: tf.Tensor, power: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        intensities, _ = image.read_slice((2 * number + 1) * n_slices // (2 * PROBES))
        middle = intensities[start[0] : start[0] + MAX_LENGTH, start[1] : start[1] + MAX_LENGTH]
        return number + 1, power + tf.stack([_power(tf.transpose(middle)), _power(middle)])

    _, power = tf.while_loop(
        lambda number, _: number < PROBES,
        add,
        (tf.constant(0), tf.zeros([2, BANDS], tf.float64)),
        parallel_iterations=1,
    )
    return image.in_plane_spacing_mm / tf.stack([_acquired_share(along) for along in tf.unstack(power)])


def _power(lines: tf.Tensor) -> tf.Tensor:
    """float64 (band,): mean power of lines (line, voxel); 0 if they are too short."""
    length = tf.shape(lines)[1]
    half = length // 2

    def in_bands() -> tf.Tensor:
        window = tf.signal.hann_window(length, periodic=False, dtype=tf.float64)
        total = tf.reduce_sum(tf.abs(tf.signal.rfft(lines * window)) ** 2, axis=0)[1:half]
        return tf.math.unsorted_segment_mean(total, tf.range(1, half) * BANDS // half, BANDS)

    return tf.cond(length < MIN_LENGTH, lambda: tf.zeros([BANDS], tf.float64), in_bands)


def _acquired_share(power: tf.Tensor) -> tf.Tensor:
    lasts = range(FIRST_BAND, LAST_BAND + 1)
    is_empty_beyond = tf.stack(
        [tf.reduce_min(power[: last + 1]) > MIN_STEP * tf.reduce_max(power[last + 2 :]) for last in lasts]
    )
    shares = tf.constant([(last + 1.5) / BANDS for last in lasts], tf.float64)
    return tf.where(tf.reduce_any(is_empty_beyond), tf.gather(shares, tf.argmax(is_empty_beyond)), 1.0)
