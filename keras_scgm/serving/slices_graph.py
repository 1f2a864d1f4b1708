"""The transforms of `keras_scgm.slices` in TensorFlow's core operations.

They come in the same order and in float64, so that windows and masks are equal; tests compare the two. Everything but
the network stays on the CPU: it is little work in small steps, and float64 rounds the same everywhere there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from keras_scgm.serving.nifti_graph import StoredImage
from keras_scgm.slices import CHUNK_SLICES, EMPTY_RANGE, SliceSpec


@dataclass(frozen=True)
class Grid:
    """The resampled grid of an image.

    Args:
        spec: the network's slices.
        native_shape: int32 (2,), voxels of an axial slice (right-left, posterior-anterior).
        step: float64 (2,), native voxels per resampled pixel.
        shape: int32 (2,), pixels of the whole field of view.
        n_slices: int32 ().
    """

    spec: SliceSpec
    native_shape: tf.Tensor
    step: tf.Tensor
    shape: tf.Tensor
    n_slices: tf.Tensor

    @classmethod
    def of(cls, image: StoredImage, spec: SliceSpec) -> Grid:
        native_shape = image.shape[:2]
        field_mm = tf.cast(native_shape, tf.float64) * image.in_plane_spacing_mm
        shape = tf.maximum(1, tf.cast(tf.round(field_mm / spec.spacing_mm), tf.int32))
        step = spec.spacing_mm / image.in_plane_spacing_mm
        return cls(spec, native_shape, step, shape, image.shape[2])

    @property
    def window(self) -> tf.Tensor:
        """int32 (2,): pixels of the network's window."""
        return tf.constant([self.spec.size, self.spec.size])

    @property
    def centered_starts(self) -> tf.Tensor:
        """int32 (slice, 2): first pixels of windows in the middle of the field of view."""
        return tf.tile((self.shape - self.window)[tf.newaxis] // 2, [self.n_slices, 1])

    def to_windows(self, slices: tf.Tensor, window: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        """float64 (slice, *window): native slices resampled into windows that begin at `starts`."""
        for axis in (1, 0):
            pixels = _mirror(starts[:, axis, tf.newaxis] + tf.range(window[axis]), self.shape[axis])
            last = tf.cast(self.native_shape[axis] - 1, tf.float64)
            coordinates = clip(tf.cast(pixels, tf.float64) * self.step[axis], 0.0, last)
            slices = _interpolate(slices, axis + 1, coordinates)
        return slices

    def clear_past_field(self, windows: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        """Windows (slice, rows, columns), 0 past the field of view, where they show its mirror image."""
        is_row, is_column = (
            tf.logical_and(pixels >= 0, pixels < self.shape[axis])
            for axis, pixels in (
                (
                    axis,
                    tf.reshape(starts[:, axis], [-1, 1]) + tf.range(tf.shape(windows)[axis + 1])[tf.newaxis],
                )
                for axis in (0, 1)
            )
        )
        is_inside = tf.logical_and(tf.expand_dims(is_row, 2), tf.expand_dims(is_column, 1))
        return tf.where(is_inside, windows, tf.zeros_like(windows))

    def to_native(self, windows: tf.Tensor, starts: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Sample windows at the native voxel centres.

        Returns:
            float64 (slice, *native_shape), zero where no window is, and for either axis bool (slice, voxel),
            whether there is one.
        """
        values, covered = tf.cast(windows, tf.float64), []
        for axis in (0, 1):
            start = starts[:, axis, tf.newaxis]
            voxels = tf.range(self.native_shape[axis])[tf.newaxis]
            pixels = tf.cast(voxels, tf.float64) / self.step[axis] - tf.cast(start, tf.float64)
            last = self.spec.size - 1
            covered.append(tf.logical_and(pixels >= -0.5, pixels <= last + 0.5))
            first, last = tf.maximum(0, -start), tf.minimum(last, self.shape[axis] - 1 - start)
            coordinates = clip(pixels, tf.cast(first, tf.float64), tf.cast(last, tf.float64))
            values = _interpolate(values, axis + 1, tf.maximum(coordinates, 0.0))
        is_covered = tf.logical_and(covered[0][:, :, tf.newaxis], covered[1][:, tf.newaxis])
        return tf.where(is_covered, values, 0.0), covered


class Statistics(NamedTuple):
    """float64 mean and std of a volume's windows, and int64 voxels that were not finite."""

    mean: tf.Tensor
    std: tf.Tensor
    n_not_finite: tf.Tensor

    @property
    def is_constant(self) -> tf.Tensor:
        return self.std <= 1e-12 * tf.abs(self.mean)

    def normalize(self, windows: tf.Tensor) -> tf.Tensor:
        """float32 (slice, rows, columns, 1); zeros for a constant volume."""
        normalized = tf.cast((windows - self.mean) / self.std, tf.float32)[..., tf.newaxis]
        return tf.where(self.is_constant, tf.zeros_like(normalized), normalized)


def measure_all(image: StoredImage, grid: Grid, starts: tf.Tensor) -> Statistics:
    """Mean and standard deviation over the windows of all slices."""
    return measure(image, grid, grid.window, starts, tf.range(grid.n_slices), CHUNK_SLICES)


def measure(
    image: StoredImage, grid: Grid, window: tf.Tensor, starts: tf.Tensor, indices: tf.Tensor, at_once: int
) -> Statistics:
    """Mean and standard deviation over the windows of some slices, read `at_once` neighbours at a time."""

    def add(
        first: tf.Tensor, count: tf.Tensor, mean: tf.Tensor, squares: tf.Tensor, n_not_finite: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        chunk = indices[first : first + at_once]
        slices, n_replaced = image.read_slices(chunk[0], chunk[-1] + 1)
        windows = grid.to_windows(slices, window, tf.gather(starts, chunk))
        windows = tf.boolean_mask(windows, _is_not_constant(windows))
        size = tf.cast(tf.size(windows), tf.float64)
        chunk_mean = tf.math.divide_no_nan(tf.reduce_sum(windows), size)
        shift, total = chunk_mean - mean, count + size
        share = tf.math.divide_no_nan(size, total)
        squares += tf.reduce_sum((windows - chunk_mean) ** 2) + shift**2 * count * share
        mean += shift * share
        return first + at_once, total, mean, squares, n_not_finite + n_replaced

    zero = tf.constant(0.0, tf.float64)
    _, count, mean, squares, n_not_finite = tf.while_loop(
        lambda first, *_: first < tf.size(indices),
        add,
        (tf.constant(0), zero, zero, zero, tf.constant(0, tf.int64)),
        parallel_iterations=1,
    )
    return Statistics(mean, tf.sqrt(tf.math.divide_no_nan(squares, count)), n_not_finite)


def is_varied(windows: tf.Tensor) -> tf.Tensor:
    """Which z-scored windows, float32 (slice, rows, columns, 1), hold something: bool (slice,)."""
    return tf.reduce_max(windows, axis=(1, 2, 3)) - tf.reduce_min(windows, axis=(1, 2, 3)) > EMPTY_RANGE


def _is_not_constant(windows: tf.Tensor) -> tf.Tensor:
    low, high = tf.reduce_min(windows, axis=(1, 2)), tf.reduce_max(windows, axis=(1, 2))
    return high - low > 1e-12 * tf.maximum(tf.abs(low), tf.abs(high))


def clip(values: tf.Tensor, low: Any, high: Any) -> tf.Tensor:
    return tf.minimum(tf.maximum(values, low), high)


def _mirror(pixels: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    period = tf.maximum(2 * (length - 1), 1)
    pixels = tf.abs(pixels) % period
    return tf.minimum(pixels, period - pixels)


def _interpolate(array: tf.Tensor, axis: int, coordinates: tf.Tensor) -> tf.Tensor:
    """Values along `axis` of (slice, ...) at the coordinates (slice, position)."""
    last = tf.shape(array)[axis] - 1
    low = tf.minimum(tf.cast(coordinates, tf.int32), tf.maximum(last - 1, 0))
    high = tf.minimum(low + 1, last)
    weight = coordinates - tf.cast(low, tf.float64)
    weight = weight[:, :, tf.newaxis] if axis == 1 else weight[:, tf.newaxis]
    below, above = (tf.gather(array, index, axis=axis, batch_dims=1) for index in (low, high))
    return below * (1 - weight) + above * weight
