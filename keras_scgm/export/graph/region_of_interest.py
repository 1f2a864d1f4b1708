"""`keras_scgm.runtimes.region_of_interest` in TensorFlow's core operations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_scgm.export.graph.network import compute
from keras_scgm.export.graph.slices import clip
from keras_scgm.runtimes.region_of_interest import MARGINS_MM, REGION_MM
from keras_scgm.slices import ROUNDING_TOLERANCE, SliceConfig


def predict_some(
    slices: tf.Tensor,
    centers: tf.Tensor,
    is_around: tf.Tensor,
    is_whole: tf.Tensor,
    network: Any,
    config: SliceConfig,
    thresholds: Sequence[float],
) -> tf.Tensor:
    """Probabilities of chosen windows, as `keras_scgm.runtimes.region_of_interest.Predictor` computes them.

    Args:
        slices: Float32 (slice, rows, columns, 1), z-scored.
        centers: Float64 (slice, 2) pixels of the windows, where the cord is.
        is_around: Bool (slice,), windows that are computed around the cord, and whole where that is not enough.
        is_whole: Bool (slice,), windows that are computed whole.
        network: A `keras_scgm.export.graph.network.GraphNetwork`.
        config: The network's slices.
        thresholds: Probability of each tissue above which a pixel belongs to it.

    Returns:
        float32 (slice, rows, columns, tissue), 0 in windows that were not chosen.
    """
    size, n_tissues = round(REGION_MM / config.spacing_mm), len(thresholds)
    latest = config.window_px - size
    probabilities = tf.tile(tf.zeros_like(slices), [1, 1, 1, n_tissues])
    if latest <= 0 or not network.takes_regions:
        is_whole = tf.logical_or(is_whole, is_around)
    else:
        index = tf.where(is_around)
        starts = tf.cast(tf.round(centers - (size - 1) / 2 + ROUNDING_TOLERANCE), tf.int32)
        starts = tf.gather(clip(starts, 0, latest), index[:, 0])
        looked_at = tf.gather(slices, index[:, 0])

        def cut(case: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            window, (row, column) = case[0], tf.unstack(case[1])
            return window[row : row + size, column : column + size]

        def put_back(case: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            around = tf.stack([case[1], latest - case[1]], axis=1)
            return tf.pad(case[0], tf.pad(around, [[0, 1], [0, 0]]))

        signature = tf.TensorSpec((size, size, 1), tf.float32)
        regions = tf.map_fn(cut, (looked_at, starts), fn_output_signature=signature)
        found = tf.ensure_shape(compute(network, looked_at, regions), [None, size, size, n_tissues])
        occupied = found > tf.constant(thresholds)
        is_unsure = tf.logical_not(tf.reduce_any(occupied[..., -1], axis=(1, 2)))
        for (tissue, margin_mm), axis in itertools.product(enumerate(MARGINS_MM[:n_tissues]), (0, 1)):
            margin = round(margin_mm / config.spacing_mm)
            along = tf.reduce_any(occupied[..., tissue], axis=2 - axis)
            low = tf.logical_and(starts[:, axis] > 0, tf.reduce_any(along[:, :margin], axis=1))
            high = tf.logical_and(starts[:, axis] < latest, tf.reduce_any(along[:, size - margin :], axis=1))
            is_unsure = tf.reduce_any([is_unsure, low, high], axis=0)
        signature = tf.TensorSpec((config.window_px, config.window_px, n_tissues), tf.float32)
        around = tf.map_fn(put_back, (found, starts), fn_output_signature=signature)
        probabilities = tf.tensor_scatter_nd_update(probabilities, index, around)
        is_whole = tf.logical_or(is_whole, tf.scatter_nd(index, is_unsure, tf.shape(is_whole, tf.int64)))
    wholes = compute(network, tf.boolean_mask(slices, is_whole))
    return tf.tensor_scatter_nd_update(probabilities, tf.where(is_whole), wholes)
