"""The warnings of `keras_scgm.segmentation.warnings` about single slices in TensorFlow's core operations."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.quality import Doubt
from keras_scgm.export.graph.refusals import filled
from keras_scgm.export.graph.slice_features import column
from keras_scgm.segmentation.warnings import CORD_CUT_OFF, CUT_OFF


def slice_warnings(
    features: tf.Tensor,
    is_present: tf.Tensor,
    near_edge: tf.Tensor,
    removed_mm2: tf.Tensor,
    of_contrast: Doubt,
    name: Callable[[tf.Tensor], tf.Tensor],
    knows_cord: bool = False,
) -> list[Doubt]:
    """What is missing, cut off or of an unknown contrast.

    Args:
        features: float64 (slice, feature), from the inferior end.
        is_present: bool (slice,), which slices have gray matter on the image's own grid.
        near_edge: bool (slice,), whether that is near an edge.
        removed_mm2: float64 (slice,), gray matter removed because it lies away from the cord.
        of_contrast: Whether gray matter has a contrast that the network does not know, bool (), and the text.
        name: Function from bool (slice,) to the string () that names the marked slices.
        knows_cord: Whether the network segments the cord.
    """
    is_unknown, contrast_text = of_contrast
    has_cord = column(features, "cord_area_mm2") > 0
    without_cord = tf.logical_and(tf.logical_not(has_cord), knows_cord)
    cord_near_edge = tf.logical_and(column(features, "cord_near_edge") > 0, tf.logical_not(near_edge))
    missing = tf.logical_and(_between(is_present), tf.logical_not(without_cord))
    removed = tf.logical_and(without_cord, removed_mm2 > 0)
    named = [
        (filled(messages.MISSING_SLICES, name(missing)), missing),
        (filled(messages.MISSING_CORD, name(_between(has_cord))), _between(has_cord)),
        (filled(messages.REMOVED_WITHOUT_CORD, name(removed)), removed),
        (filled(CUT_OFF, name(near_edge)), near_edge),
        (filled(CORD_CUT_OFF, name(cord_near_edge)), cord_near_edge),
    ]
    is_any = tf.reduce_any(is_present)
    is_empty = tf.logical_not(is_any)
    is_any_cord = tf.reduce_any(has_cord)
    return [
        (tf.logical_and(is_empty, is_any_cord), messages.CORD_ALONE),
        (tf.logical_and(is_empty, tf.logical_not(is_any_cord)), messages.EMPTY_MASK),
        *((tf.logical_and(is_any, tf.reduce_any(marked)), text) for text, marked in named),
        (tf.logical_and(is_any, is_unknown), contrast_text),
    ]


def _between(marked: tf.Tensor) -> tf.Tensor:
    """What is not marked between the first and the last that are."""
    count = tf.cumsum(tf.cast(marked, tf.int32))
    is_between = tf.logical_and(count > 0, count < count[-1])
    return tf.logical_and(is_between, tf.logical_not(marked))
