"""The voxel spacing behind an interpolated image, in a graph."""

from __future__ import annotations

import tensorflow as tf

from keras_scgm.export.graph.spectrum import GraphSpectrum
from keras_scgm.segmentation.acquired_spacing import BANDS, FIRST_BAND, LAST_BAND, MIN_LENGTH, MIN_STEP


def acquired_spacing_mm(spectrum: GraphSpectrum) -> tf.Tensor:
    """float64 (), as of `keras_scgm.segmentation.acquired_spacing`."""
    half = tf.maximum(spectrum.length // 2, 1)
    mean = tf.math.unsorted_segment_mean(spectrum.power[1:half], tf.range(1, half) * BANDS // half, BANDS)
    lasts = range(FIRST_BAND, LAST_BAND + 1)
    is_empty_beyond = tf.stack(
        [tf.reduce_min(mean[: last + 1]) > MIN_STEP * tf.reduce_max(mean[last + 2 :]) for last in lasts]
    )
    shares = tf.constant([(last + 1.5) / BANDS for last in lasts], tf.float64)
    is_interpolated = tf.logical_and(tf.reduce_any(is_empty_beyond), spectrum.length >= MIN_LENGTH)
    share = tf.where(is_interpolated, tf.gather(shares, tf.argmax(is_empty_beyond)), 1.0)
    return spectrum.spacing_mm / share
