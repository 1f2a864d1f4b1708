"""The removal of `keras_scgm.detached_pieces` in TensorFlow's core operations."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras_scgm.detached_pieces import NEAR_MM, REACHES_MM, ROUNDING_PX


def remove_detached(
    probabilities: tf.Tensor,
    centers: tf.Tensor,
    steps: tf.Tensor,
    thresholds: Sequence[float],
    spacing_mm: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities (slice, rows, columns, tissue) without pieces away from the cord at `centers`, float64 (slice, 2),
    and int32 (slice,), pixels of gray matter that were removed. The last tissue says which pieces these are."""
    mask, reach_mm = probabilities[..., -1] > thresholds[-1], REACHES_MM[len(thresholds) - 1]
    nearness = tf.reshape(NEAR_MM / spacing_mm + steps, [-1, 1, 1])
    near = tf.logical_and(mask, _within(mask, centers, nearness))
    weights = tf.cast(near, tf.float64)
    count = tf.reduce_sum(weights, axis=(1, 2))
    sums = [tf.reduce_sum(weights * place, axis=(1, 2)) for place in _places(mask)]
    middle = tf.stack([tf.math.divide_no_nan(each, count) for each in sums], axis=1)
    core = tf.logical_and(mask, _within(mask, middle, reach_mm / spacing_mm))
    core = tf.logical_and(core, tf.reshape(count > 0, [-1, 1, 1]))
    kept = tf.cond(tf.reduce_all(core == mask), lambda: core, lambda: _connected(core, mask))
    is_removed = tf.logical_and(mask, tf.logical_not(kept))
    is_gray_matter = tf.logical_and(is_removed, probabilities[..., 0] > thresholds[0])
    n_removed = tf.math.count_nonzero(is_gray_matter, axis=(1, 2), dtype=tf.int32)
    return tf.where(is_removed[..., tf.newaxis], 0.0, probabilities), n_removed


def _places(mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float64 row and column of every pixel, (1, rows, 1) and (1, 1, columns)."""
    rows, columns = (tf.range(tf.shape(mask)[axis]) for axis in (1, 2))
    return tf.reshape(tf.cast(rows, tf.float64), [1, -1, 1]), tf.reshape(
        tf.cast(columns, tf.float64), [1, 1, -1]
    )


def _within(mask: tf.Tensor, centers: tf.Tensor, radius: float | tf.Tensor) -> tf.Tensor:
    rows, columns = _places(mask)
    row, column = tf.unstack(tf.reshape(centers, [-1, 2, 1, 1]), axis=1)
    return (rows - row) ** 2 + (columns - column) ** 2 <= (radius + ROUNDING_PX) ** 2


def _connected(core: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Pixels of the mask that a path inside it, along or across, connects with the core."""

    def grow(kept: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        grown = tf.nn.max_pool2d(tf.cast(kept, tf.float32)[..., tf.newaxis], 3, 1, "SAME")[..., 0] > 0
        grown = tf.logical_and(grown, mask)
        return grown, tf.reduce_any(grown != kept)

    return tf.while_loop(lambda _, changed: changed, grow, (core, tf.constant(True)), parallel_iterations=1)[
        0
    ]
