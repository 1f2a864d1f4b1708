"""The cropping of `keras_scgm.cropping` in TensorFlow's core operations."""

from __future__ import annotations

import tensorflow as tf

from keras_scgm.cropping import CROP_MM, MARGIN_MM
from keras_scgm.serving.graph_network import GraphNetwork, off_cpu
from keras_scgm.serving.slices_graph import clip
from keras_scgm.slices import ROUNDING_TOLERANCE, SliceSpec


def predict_around(
    slices: tf.Tensor,
    centers: tf.Tensor,
    is_whole: tf.Tensor,
    network: GraphNetwork,
    spec: SliceSpec,
    threshold: float,
) -> tf.Tensor:
    """Probabilities as `keras_scgm.cropping` computes them; some slices are to be computed whole anyhow."""
    size, margin = round(CROP_MM / spec.spacing_mm), round(MARGIN_MM / spec.spacing_mm)
    latest = spec.size - size
    if latest <= 0:
        return off_cpu(network, slices)
    starts = tf.cast(tf.round(centers - (size - 1) / 2 + ROUNDING_TOLERANCE), tf.int32)
    index = tf.where(tf.logical_not(is_whole))
    starts = tf.gather(clip(starts, 0, latest), index[:, 0])
    looked_at = tf.gather(slices, index[:, 0])

    def cut(case: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        whole, (row, column) = case[0], tf.unstack(case[1])
        return whole[row : row + size, column : column + size]

    def put_back(case: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return tf.pad(case[0], tf.stack([case[1], latest - case[1]], axis=1))

    signature = tf.TensorSpec((size, size, 1), tf.float32)
    crops = tf.map_fn(cut, (looked_at, starts), fn_output_signature=signature)
    found = tf.cond(
        tf.size(index) > 0,
        lambda: off_cpu(network.in_crops, looked_at, crops),
        lambda: tf.zeros((0, size, size)),
    )
    occupied = found > threshold
    is_unsure = tf.logical_not(tf.reduce_any(occupied, axis=(1, 2)))
    for axis in (0, 1):
        along = tf.reduce_any(occupied, axis=2 - axis)
        low = tf.logical_and(starts[:, axis] > 0, tf.reduce_any(along[:, :margin], axis=1))
        high = tf.logical_and(starts[:, axis] < latest, tf.reduce_any(along[:, size - margin :], axis=1))
        is_unsure = tf.reduce_any([is_unsure, low, high], axis=0)
    signature = tf.TensorSpec((spec.size, spec.size), tf.float32)
    around = tf.map_fn(put_back, (found, starts), fn_output_signature=signature)
    probabilities = tf.scatter_nd(index, around, tf.shape(slices, tf.int64)[:3])
    is_whole = tf.tensor_scatter_nd_update(is_whole, index, is_unsure)
    wholes = tf.cond(
        tf.reduce_any(is_whole),
        lambda: off_cpu(network, tf.boolean_mask(slices, is_whole)),
        lambda: tf.zeros((0, spec.size, spec.size)),
    )
    return tf.tensor_scatter_nd_update(probabilities, tf.where(is_whole), wholes)
