"""The pixels of masks and the shape of each mask, in a graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_scgm.slices import ROUNDING_TOLERANCE


class MaskPixels:
    """The pixels of masks, bool (slice, rows, columns), slice by slice.

    Attributes:
        count: float64 (slice,).
        mean: float64 (slice, 2), their centre; 0 without any.
    """

    def __init__(self, masks: tf.Tensor) -> None:
        self._masks = masks
        self._n_slices = tf.shape(masks)[0]
        self._places = tf.where(masks)
        self._of = self._places[:, 0]
        self._pixels = self._places[:, 1:]
        row, column = tf.unstack(self._pixels, axis=1)
        self._moments = self._sum(
            tf.stack([tf.ones_like(row), row, column, row * row, column * column, row * column], axis=1)
        )
        self.count = tf.cast(self._moments[:, 0], tf.float64)
        sums = tf.cast(self._moments[:, 1:3], tf.float64)
        self.mean = tf.math.divide_no_nan(sums, self.count[:, tf.newaxis])
        self._centered = tf.cast(self._pixels, tf.float64) - tf.gather(self.mean, self._of)

    def _sum(self, values: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(values, self._of, self._n_slices)

    def _n_marked(self, indices: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        """float64 (slice,): how many of the places, one for each pixel and in the slice of an index, are marked."""
        shape = tf.shape(self._masks, tf.int64)[1:]
        is_within = tf.reduce_all(tf.logical_and(pixels >= 0, pixels < shape), axis=1)
        pixels = tf.where(is_within[:, tf.newaxis], pixels, 0)
        is_marked = tf.gather_nd(self._masks, tf.concat([indices[:, tf.newaxis], pixels], axis=1))
        return self._sum(tf.cast(tf.logical_and(is_within, is_marked), tf.float64))

    def shape(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """float64 (slice,): width and depth in pixels, and symmetry."""
        n, row, column, rows, columns, both = tf.unstack(self._moments, axis=1)
        across, along, mixed = n * rows - row * row, n * columns - column * column, n * both - row * column
        total, difference, mixed = (
            tf.cast(each, tf.float64) for each in (across + along, across - along, 2 * mixed)
        )
        sign = tf.where(difference >= 0, np.float64(1), -1.0)
        root = tf.sqrt(difference * difference + mixed * mixed)
        width, depth = (
            4 * tf.sqrt(tf.maximum(total + side * root, 0) / 2) / self.count for side in (sign, -sign)
        )
        cosine = tf.gather(tf.where(root > 0, tf.abs(difference) / root, 1.0), self._of)
        sine = tf.gather(tf.math.divide_no_nan(sign * mixed, root), self._of)
        right_left, depthwise = tf.unstack(self._centered, axis=1)
        turned = tf.stack(
            [-cosine * right_left - sine * depthwise, cosine * depthwise - sine * right_left], axis=1
        )
        mirrored = tf.round(tf.gather(self.mean, self._of) + turned + ROUNDING_TOLERANCE)
        return width, depth, self._n_marked(self._of, tf.cast(mirrored, tf.int64)) / self.count

    def depth_skewness(self) -> tf.Tensor:
        """float64 (slice,)."""
        deviations = self._centered[:, 1]
        sums = self._sum(tf.stack([deviations**2, deviations**3], axis=1)) / self.count[:, tf.newaxis]
        variance = sums[:, 0]
        return tf.where(variance > 0, sums[:, 1] / (variance * tf.sqrt(variance)), 0.0)

    def dice_with_slice_below(self) -> tf.Tensor:
        """float64 (slice - 1,): of each slice but the first, once the centres are brought together."""
        center = tf.cast(tf.round(self.mean - ROUNDING_TOLERANCE), tf.int64)
        below = tf.maximum(self._of - 1, 0)
        there = self._pixels - tf.gather(center, self._of) + tf.gather(center, below)
        return 2 * self._n_marked(below, there)[1:] / (self.count[:-1] + self.count[1:])

    def outline_and_largest_piece(self) -> tuple[tf.Tensor, tf.Tensor]:
        """float64 (slice,): edges of pixels on the outline, and pixels of the largest piece."""
        n = tf.size(self._of)
        numbers = tf.tensor_scatter_nd_update(tf.fill(tf.shape(self._masks), n), self._places, tf.range(n))
        padded = tf.pad(numbers, [[0, 0], [1, 1], [1, 1]], constant_values=n)
        _, height, width = tf.unstack(tf.shape(padded, tf.int64))
        at = (self._of * height + self._pixels[:, 0] + 1) * width + self._pixels[:, 1] + 1
        steps = tf.stack([-width, width, -1, 1, -width - 1, -width + 1, width - 1, width + 1])
        neighbours = tf.gather(tf.reshape(padded, [-1]), at[:, tf.newaxis] + steps)
        n_edges = self._sum(tf.reduce_sum(tf.cast(neighbours[:, :4] == n, tf.float64), axis=1))

        # Every pixel points to one of its piece with a lower number, in the end to the lowest. The last number
        # stands for no pixel.
        def lower(pointers: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            lowest = tf.minimum(pointers[:-1], tf.reduce_min(tf.gather(pointers, neighbours), axis=1))
            lowered = tf.tensor_scatter_nd_min(pointers, pointers[:-1, tf.newaxis], lowest)
            lowered = tf.minimum(lowered, tf.concat([lowest, [n]], 0))
            lowered = tf.gather(lowered, lowered)
            return lowered, tf.reduce_any(lowered != pointers)

        pointers, _ = tf.while_loop(
            lambda _, is_changed: is_changed,
            lower,
            (tf.range(n + 1), tf.constant(True)),
            shape_invariants=(tf.TensorShape([None]), tf.TensorShape([])),
            parallel_iterations=1,
        )
        sizes = tf.math.unsorted_segment_sum(tf.ones([n], tf.int32), pointers[:-1], n)
        largest = tf.math.unsorted_segment_max(sizes, self._of, self._n_slices)
        return n_edges, tf.cast(tf.maximum(largest, 0), tf.float64)
