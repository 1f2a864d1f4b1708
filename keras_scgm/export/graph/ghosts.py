"""Ghosts, weaker copies of the image that are shifted along an axis, in a graph."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_scgm.export.graph.spectrum import GraphSpectrum
from keras_scgm.segmentation.ghosts import (
    ACQUIRED_SHARE,
    DEGREE,
    DISTANCE_STEP_MM,
    FLOOR,
    HIGHEST_PER_MM,
    LEAST_POWER,
    LOWEST_PER_MM,
    MIN_DISTANCE_MM,
    MIN_FREQUENCIES,
    ROUNDING,
)


def strongest_ghost(spectrum: GraphSpectrum, acquired_mm: tf.Tensor) -> tf.Tensor:
    """float64 (2,), strength and distance in mm, as of `keras_scgm.segmentation.ghosts`."""
    field_mm = tf.cast(spectrum.length, tf.float64) * spectrum.spacing_mm
    frequency = tf.range(tf.cast(spectrum.length // 2 + 1, tf.float64), dtype=tf.float64) / field_mm
    highest = tf.minimum(tf.constant(HIGHEST_PER_MM, tf.float64), ACQUIRED_SHARE / (2 * acquired_mm))
    is_seen = tf.logical_and(frequency >= LOWEST_PER_MM, frequency <= highest)
    seen, power = tf.boolean_mask(frequency, is_seen), tf.boolean_mask(spectrum.power, is_seen)
    n_seen = tf.size(seen)

    def strongest() -> tf.Tensor:
        floor = FLOOR * tf.reduce_max(power) + ROUNDING * tf.reduce_max(spectrum.power) + LEAST_POWER
        logarithm = tf.math.log(power + floor)[:, tf.newaxis]
        steps = tf.linspace(tf.constant(-1.0, tf.float64), tf.constant(1.0, tf.float64), n_seen)
        anatomy, _ = tf.linalg.qr(steps[:, tf.newaxis] ** tf.range(DEGREE + 1.0, dtype=tf.float64))
        ripple = logarithm - anatomy @ tf.matmul(anatomy, logarithm, transpose_a=True)
        distance_mm = tf.range(MIN_DISTANCE_MM, field_mm / 2, DISTANCE_STEP_MM, tf.float64)
        waves = tf.cos(2 * math.pi * distance_mm[:, tf.newaxis] * seen)
        cepstrum = tf.abs(waves @ ripple)[:, 0] / tf.cast(n_seen, tf.float64)
        peak = tf.argmax(cepstrum)
        return tf.stack([cepstrum[peak], distance_mm[peak]])

    return tf.cond(n_seen < MIN_FREQUENCIES, lambda: tf.zeros([2], tf.float64), strongest)
