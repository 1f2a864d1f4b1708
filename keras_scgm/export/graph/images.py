"""The check of `keras_scgm.images` in TensorFlow's core operations."""

from __future__ import annotations

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.nifti import StoredImage
from keras_scgm.export.graph.refusals import filled
from keras_scgm.images import MAX_LABEL, MIN_VOXELS_PER_VALUE, NAMED_VALUES


def require_image(image: StoredImage) -> None:
    """Refuse labels: what depends on the image's slices fails if they hold two values, or whole numbers up to
    `MAX_LABEL`. A constant image passes."""
    n_slices = image.shape[2]
    order = tf.argsort(tf.abs(tf.range(n_slices) - n_slices // 2), stable=True)

    def look(position: tf.Tensor, values: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        intensities, _ = image.read_slice(order[position])
        values = tf.unique(tf.concat([values, tf.reshape(intensities, [-1])], 0))[0]
        may_be_labels = tf.reduce_all(
            tf.stack([values >= 0, values <= MAX_LABEL, values == tf.round(values)])
        )
        return position + 1, values, tf.logical_and(tf.size(values) > 2, tf.logical_not(may_be_labels))

    _, values, is_image = tf.while_loop(
        lambda position, _, is_image: tf.logical_and(position < n_slices, tf.logical_not(is_image)),
        look,
        (tf.constant(0), tf.zeros(0, tf.float64), tf.constant(False)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([])),
        parallel_iterations=1,
    )
    n_values, n_voxels = tf.size(values), tf.reduce_prod(tf.cast(image.shape, tf.float64))
    is_few = tf.cast(n_values, tf.float64) * MIN_VOXELS_PER_VALUE <= n_voxels
    is_labels = tf.reduce_all(tf.stack([tf.logical_not(is_image), n_values > 1, is_few]))
    named = tf.strings.as_string(tf.sort(values)[:NAMED_VALUES], shortest=True)
    more = tf.where(n_values > NAMED_VALUES, ", ...", "")
    listed = tf.strings.reduce_join(named, separator=", ") + more
    message = filled(messages.LABELS, tf.strings.as_string(n_values), listed)
    image.require([(tf.logical_not(is_labels), message)])
