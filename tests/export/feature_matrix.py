"""Features and names of slices as the graph has them."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_scgm.export.graph.slice_features import FEATURES
from keras_scgm.quality.features import SliceFeatures
from keras_scgm.segmentation.warnings import NAMED_SLICES


def as_matrix(slices: Sequence[SliceFeatures]) -> np.ndarray:
    """(slice, feature)."""
    return np.array([[float(getattr(one, name)) for name in FEATURES] for one in slices])


def name_slices(is_named: tf.Tensor) -> tf.Tensor:
    """As `keras_scgm.segmentation.warnings` names slices."""
    indices = tf.strings.as_string(tf.where(is_named)[:, 0])
    noun = tf.where(tf.size(indices) == 1, "slice ", "slices ")
    more = tf.where(tf.size(indices) > NAMED_SLICES, ", ...", "")
    return noun + tf.strings.reduce_join(indices[:NAMED_SLICES], separator=", ") + more
