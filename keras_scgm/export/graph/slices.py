"""The transforms of `keras_scgm.slices` in TensorFlow's core operations.

They are computed in the same order and in float64, so that windows and masks are equal; tests compare the two.
Everything but the network runs on the CPU: it is little work in small steps, and float64 rounds alike on all CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from keras_scgm.export.graph.nifti import StoredImage
from keras_scgm.slices import CHUNK_SLICES, EMPTY_RANGE, LEAST_RANGE, SliceConfig, reflected

Region = tuple[tf.Tensor, tf.Tensor]
"""int32 (2,) first and (2,) one past the last (right-left, posterior-anterior)."""


@dataclass(frozen=True)
class Grid:
    """The resampled grid of an image.

    Args:
        config: Configuration of the network's slices.
        native_shape: int32 (2,), voxels of an axial slice (right-left, posterior-anterior).
        step: float64 (2,), native voxels per resampled pixel.
        shape: int32 (2,), pixels of the whole field of view.
        n_slices: int32 ().
    """

    config: SliceConfig
    native_shape: tf.Tensor
    step: tf.Tensor
    shape: tf.Tensor
    n_slices: tf.Tensor

    @classmethod
    def of(cls, image: StoredImage, config: SliceConfig) -> Grid:
        native_shape = image.shape[:2]
        field_mm = tf.cast(native_shape, tf.float64) * image.in_plane_spacing_mm
        shape = tf.maximum(1, tf.cast(tf.round(field_mm / config.spacing_mm), tf.int32))
        step = config.spacing_mm / image.in_plane_spacing_mm
        return cls(config, native_shape, step, shape, image.shape[2])

    @property
    def window(self) -> tf.Tensor:
        """int32 (2,): pixels of the network's window."""
        return tf.constant([self.config.window_px, self.config.window_px])

    @property
    def centered_starts(self) -> tf.Tensor:
        """int32 (slice, 2): first pixels of windows in the middle of the field of view."""
        return tf.tile((self.shape - self.window)[tf.newaxis] // 2, [self.n_slices, 1])

    def to_window(self, native: tf.Tensor, window: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        """float64 (*window): a native slice resampled into the window that begins at `start`."""
        rows, columns = (self._native_coordinates(axis, window[axis], start[axis]) for axis in (0, 1))
        first = tf.cast(tf.reduce_min(rows), tf.int32)
        last = tf.cast(tf.reduce_max(rows), tf.int32) + 2
        part = _interpolate_rows(tf.transpose(native[first:last]), columns)
        return _interpolate_rows(tf.transpose(part), rows - tf.cast(first, tf.float64))

    def clear_past_field(self, windows: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        """Windows (slice, rows, columns, tissue), 0 past the field of view, where they show its mirror image."""
        pixels = [starts[:, axis, tf.newaxis] + tf.range(tf.shape(windows)[axis + 1]) for axis in (0, 1)]
        is_row, is_column = (
            tf.logical_and(of_axis >= 0, of_axis < self.shape[axis]) for axis, of_axis in enumerate(pixels)
        )
        is_inside = tf.logical_and(tf.expand_dims(is_row, 2), tf.expand_dims(is_column, 1))
        return tf.where(is_inside[..., tf.newaxis], windows, tf.zeros_like(windows))

    def to_native(self, window: tf.Tensor, start: tf.Tensor) -> tuple[Region, tf.Tensor]:
        """Sample a window at the native voxel centres.

        Args:
            window: float32 (rows, columns, tissue).
            start: int32 (2,), its first pixel.

        Returns:
            A native region outside which the window gives zero, and its float64 values there, (*region, tissue).
        """
        occupied, covered = tf.reduce_any(window != 0, axis=-1), self.covered(start)
        begins, ends, boxes, coordinates = [], [], [], []
        for axis in (0, 1):
            pixels = self._window_coordinates(axis, start[axis], covered[0][axis], covered[1][axis])
            low, high = extent(tf.reduce_any(occupied, axis=1 - axis))
            near = tf.logical_and(pixels > tf.cast(low - 1, tf.float64), pixels < tf.cast(high, tf.float64))
            begin, end = extent(near)
            box_start = tf.maximum(low - 1, 0)
            begins.append(covered[0][axis] + begin)
            ends.append(covered[0][axis] + end)
            boxes.append((box_start, high + 1))
            coordinates.append(pixels[begin:end] - tf.cast(box_start, tf.float64))
        (top, bottom), (left, right) = boxes
        values = _interpolate_rows(tf.cast(window[top:bottom, left:right], tf.float64), coordinates[0])
        values = _interpolate_rows(tf.transpose(values, [1, 0, 2]), coordinates[1])
        values = tf.transpose(values, [1, 0, 2])
        return (tf.stack(begins), tf.stack(ends)), values

    def covered(self, start: tf.Tensor) -> Region:
        """Native region that the window which begins at `start` covers."""
        ends = []
        for axis in (0, 1):
            pixels = self._pixels(axis, start[axis])
            ends.append(extent(tf.logical_and(pixels >= -0.5, pixels <= self.config.window_px - 1 + 0.5)))
        return tf.stack([ends[0][0], ends[1][0]]), tf.stack([ends[0][1], ends[1][1]])

    def _native_coordinates(self, axis: int, length: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        pixels = reflected(start + tf.range(length), self.shape[axis], tf)
        last = tf.cast(self.native_shape[axis] - 1, tf.float64)
        return clip(tf.cast(pixels, tf.float64) * self.step[axis], 0.0, last)

    def _pixels(self, axis: int, start: tf.Tensor) -> tf.Tensor:
        """float64 (voxel,): pixel of the window at every native voxel along an axis."""
        voxels = tf.cast(tf.range(self.native_shape[axis]), tf.float64)
        return voxels / self.step[axis] - tf.cast(start, tf.float64)

    def _window_coordinates(self, axis: int, start: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        first = tf.maximum(0, -start)
        last = tf.minimum(self.config.window_px - 1, self.shape[axis] - 1 - start)
        pixels = self._pixels(axis, start)[begin:end]
        return clip(pixels, tf.cast(first, tf.float64), tf.cast(last, tf.float64))


class Statistics(NamedTuple):
    """float64 mean and std of a volume's windows, and int64 voxels that were not finite."""

    mean: tf.Tensor
    std: tf.Tensor
    n_not_finite: tf.Tensor

    @property
    def is_constant(self) -> tf.Tensor:
        return self.std <= 1e-12 * tf.abs(self.mean)

    def normalize(self, windows: tf.Tensor) -> tf.Tensor:
        """float32 copy; zeros for a constant volume."""
        normalized = tf.cast((windows - self.mean) / self.std, tf.float32)
        return tf.where(self.is_constant, tf.zeros_like(normalized), normalized)


def measure_all(image: StoredImage, grid: Grid, starts: tf.Tensor) -> Statistics:
    """Mean and standard deviation over the windows of all slices."""
    return measure(image, grid, grid.window, starts, tf.range(grid.n_slices), CHUNK_SLICES)


def measure(
    image: StoredImage, grid: Grid, window: tf.Tensor, starts: tf.Tensor, indices: tf.Tensor, at_once: int
) -> Statistics:
    """Mean and standard deviation over the windows of some slices, `at_once` of which are joined at a time."""

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        native, n_replaced = image.read_slice(index)
        return grid.to_window(native, window, starts[index]), n_replaced

    signature = (tf.TensorSpec([None, None], tf.float64), tf.TensorSpec([], tf.int64))

    def add(
        first: tf.Tensor, count: tf.Tensor, mean: tf.Tensor, squares: tf.Tensor, n_not_finite: tf.Tensor
    ) -> tuple[Any, ...]:
        some = indices[first : first + at_once]
        windows, n_replaced = tf.map_fn(read, some, fn_output_signature=signature, parallel_iterations=1)
        windows = tf.boolean_mask(windows, _is_not_constant(windows))
        size = tf.cast(tf.size(windows), tf.float64)
        chunk_mean = tf.math.divide_no_nan(tf.reduce_sum(windows), size)
        shift, total = chunk_mean - mean, count + size
        share = tf.math.divide_no_nan(size, total)
        squares += tf.reduce_sum((windows - chunk_mean) ** 2) + shift**2 * count * share
        mean += shift * share
        return first + at_once, total, mean, squares, n_not_finite + tf.reduce_sum(n_replaced)

    zero = tf.constant(0.0, tf.float64)
    _, count, mean, squares, n_not_finite = tf.while_loop(
        lambda first, *_: first < tf.size(indices),
        add,
        (tf.constant(0), zero, zero, zero, tf.constant(0, tf.int64)),
        parallel_iterations=1,
    )
    return Statistics(mean, tf.sqrt(tf.math.divide_no_nan(squares, count)), n_not_finite)


def read_windows(
    image: StoredImage,
    grid: Grid,
    statistics: Statistics,
    window: tf.Tensor,
    starts: tf.Tensor,
    indices: tf.Tensor,
) -> tf.Tensor:
    """The network's input for some slices: float32 (slice, rows, columns, 1), z-scored."""

    def read(index: tf.Tensor) -> tf.Tensor:
        native, _ = image.read_slice(index)
        return statistics.normalize(grid.to_window(native, window, starts[index]))

    shape = tf.stack([tf.size(indices), window[0], window[1], 1])
    signature = tf.TensorSpec([None, None], tf.float32)
    windows = tf.cond(
        tf.size(indices) > 0,
        lambda: tf.map_fn(read, indices, fn_output_signature=signature, parallel_iterations=1),
        lambda: tf.zeros(shape[:3]),
    )
    return tf.reshape(windows, shape)


def is_varied(windows: tf.Tensor) -> tf.Tensor:
    """Which z-scored windows, float32 (slice, rows, columns, 1), are not constant: bool (slice,)."""
    return tf.reduce_max(windows, axis=(1, 2, 3)) - tf.reduce_min(windows, axis=(1, 2, 3)) > EMPTY_RANGE


def extents(mask: tf.Tensor) -> tf.Tensor:
    """int32 (slice, axis, 2): first place and one past the last of what is in a mask (slice, rows, columns)."""
    is_row = tf.reduce_any(mask, axis=2)
    # A reduction across rows is a hundred times slower, and few rows are occupied.
    first, stop = extent(tf.reduce_any(is_row, axis=0))
    is_column = tf.reduce_any(mask[:, first:stop], axis=1)
    return tf.stack([_extents_along(is_row), _extents_along(is_column)], axis=1)


def extent(is_marked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 () first and one past the last place that is true in bool (place,); 0 and 0 without any."""
    first, stop = tf.unstack(_extents_along(is_marked[tf.newaxis])[0])
    return first, stop


def _extents_along(is_marked: tf.Tensor) -> tf.Tensor:
    # One place more, since an empty axis has no maximum.
    marks = tf.pad(tf.cast(is_marked, tf.int32), [[0, 0], [0, 1]])
    first = tf.argmax(marks, axis=1, output_type=tf.int32)
    stop = tf.shape(marks)[1] - tf.argmax(marks[:, ::-1], axis=1, output_type=tf.int32)
    return tf.stack([first, tf.where(tf.reduce_any(is_marked, axis=1), stop, 0)], axis=1)


def clip(values: tf.Tensor, low: Any, high: Any) -> tf.Tensor:
    return tf.minimum(tf.maximum(values, low), high)


def _is_not_constant(windows: tf.Tensor) -> tf.Tensor:
    low, high = tf.reduce_min(windows, axis=(1, 2)), tf.reduce_max(windows, axis=(1, 2))
    return high - low > tf.maximum(1e-12 * tf.maximum(tf.abs(low), tf.abs(high)), LEAST_RANGE)


def _interpolate_rows(array: tf.Tensor, coordinates: tf.Tensor) -> tf.Tensor:
    """float64 (coordinate, ...): values between the rows of an array."""
    last = tf.shape(array)[0] - 1
    low = tf.minimum(tf.cast(coordinates, tf.int32), tf.maximum(last - 1, 0))
    weight = tf.reshape(coordinates - tf.cast(low, tf.float64), [-1, *[1] * (len(array.shape) - 1)])
    below, above = (tf.gather(array, index) for index in (low, tf.minimum(low + 1, last)))
    return below * (1 - weight) + above * weight
