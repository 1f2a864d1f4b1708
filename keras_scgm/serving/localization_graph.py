"""The search of `keras_scgm.localization` in TensorFlow's core operations, in the same order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_scgm.localization import (
    CANDIDATES,
    EVIDENCE_DECIMALS,
    GAUSSIAN_TRUNCATE,
    GRAY_MATTER_SIGMA_MM,
    MAX_PROBES,
    MAX_TILE,
    MIN_AREA_MM2,
    MIN_PROBES,
    PROBE_DISTANCE_MM,
    SIZE_DIVISOR,
    STEP_COST,
    TILE_OVERLAP,
)
from keras_scgm.serving.graph_network import GraphNetwork, off_cpu
from keras_scgm.serving.nifti_graph import StoredImage
from keras_scgm.serving.slices_graph import Grid, Statistics, clip, measure, measure_all
from keras_scgm.slices import ROUNDING_TOLERANCE


class Windows(NamedTuple):
    """What the network is to look at.

    starts: int32 (slice, 2), first pixels.
    statistics: of the intensities in them.
    is_found: whether a cord was found, true if it was not looked for.
    cord: float64 (slice, 2) pixels of the windows, where the cord is if it was found.
    is_seen: bool (slice,), windows that the search has looked at.
    """

    starts: tf.Tensor
    statistics: Statistics
    is_found: tf.Tensor
    cord: tf.Tensor
    is_seen: tf.Tensor

    @classmethod
    def centered(cls, image: StoredImage, grid: Grid) -> Windows:
        starts = grid.centered_starts
        nowhere = tf.zeros(tf.shape(starts), tf.float64)
        statistics = measure_all(image, grid, starts)
        return cls(starts, statistics, tf.constant(True), nowhere, tf.zeros(grid.n_slices, tf.bool))


def windows_on_cord(image: StoredImage, grid: Grid, statistics: Statistics, network: GraphNetwork) -> Windows:
    """Windows that hold the cord, from the statistics of the centered ones."""
    probes = _probes(grid.n_slices, image.slice_spacing_mm)
    centered = grid.centered_starts
    is_seen, centers = _track(image, grid, probes, grid.window, centered, statistics, network)
    look_further = tf.logical_and(
        tf.logical_not(tf.reduce_all(is_seen)), tf.reduce_max(grid.shape) > grid.spec.size
    )
    whole = -(-grid.shape // SIZE_DIVISOR) * SIZE_DIVISOR

    def in_whole_field() -> tuple[tf.Tensor, tf.Tensor]:
        corners = tf.zeros_like(centered)
        of_field = measure(image, grid, whole, corners, probes, at_once=1)
        return _track(image, grid, probes, whole, corners, of_field, network)

    is_seen, centers = tf.cond(look_further, in_whole_field, lambda: (is_seen, centers))
    n_seen = tf.math.count_nonzero(is_seen, dtype=tf.int32)
    is_found = 2 * n_seen >= tf.size(probes)
    offsets = centers - tf.cast(tf.gather(centered, probes), tf.float64) - (grid.spec.size - 1) / 2
    is_off = tf.reduce_any(tf.abs(offsets) > grid.spec.size / 4, axis=1)
    must_move = tf.logical_and(is_found, tf.reduce_any(tf.logical_and(is_off, is_seen)))

    def of_all() -> tf.Tensor:
        along = _interpolated(
            tf.boolean_mask(probes, is_seen), tf.boolean_mask(centers, is_seen), grid.n_slices
        )
        return clip(along, 0.0, tf.cast(grid.shape - 1, tf.float64))

    along = tf.cond(is_found, of_all, lambda: tf.zeros(tf.shape(centered), tf.float64))

    def moved() -> tuple[tf.Tensor, Statistics]:
        starts = tf.cast(tf.round(along - (grid.spec.size - 1) / 2 + ROUNDING_TOLERANCE), tf.int32)
        return starts, measure_all(image, grid, starts)

    starts, statistics = tf.cond(must_move, moved, lambda: (centered, statistics))
    is_probe = tf.reduce_any(tf.range(grid.n_slices)[:, tf.newaxis] == probes, axis=1)
    return Windows(
        starts,
        statistics,
        is_found,
        along - tf.cast(starts, tf.float64),
        tf.logical_and(is_probe, tf.logical_not(must_move)),
    )


def _probes(n_slices: tf.Tensor, slice_spacing_mm: tf.Tensor) -> tf.Tensor:
    length = tf.cast(n_slices, tf.float64)
    wanted = tf.cast(tf.math.ceil(length * slice_spacing_mm / PROBE_DISTANCE_MM), tf.int32) + 1
    count = tf.minimum(clip(wanted, MIN_PROBES, MAX_PROBES), n_slices)
    step = (length - 1) / tf.cast(count + 1, tf.float64)
    return tf.unique(tf.cast(tf.round(tf.cast(tf.range(1, count + 1), tf.float64) * step), tf.int32))[0]


def _track(
    image: StoredImage,
    grid: Grid,
    probes: tf.Tensor,
    window: tf.Tensor,
    starts: tf.Tensor,
    statistics: Statistics,
    network: GraphNetwork,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Which probes show the cord, bool (probe,), and where, float64 (probe, 2) resampled pixels."""

    def look(row: tf.Tensor, all_centers: tf.TensorArray, all_areas: tf.TensorArray) -> tuple[Any, ...]:
        index = probes[row]
        slices, _ = image.read_slices(index, index + 1)
        here = starts[index : index + 1]
        normalized = statistics.normalize(grid.to_windows(slices, window, here))
        peaks, areas_mm2 = _peaks(_predict_in_tiles(normalized, network), grid.spec.spacing_mm)
        return (
            row + 1,
            all_centers.write(row, peaks + tf.cast(here, tf.float64)),
            all_areas.write(row, areas_mm2),
        )

    n_probes = tf.size(probes)
    _, all_centers, all_areas = tf.while_loop(
        lambda row, *_: row < n_probes,
        look,
        (
            tf.constant(0),
            tf.TensorArray(tf.float64, size=n_probes, element_shape=[CANDIDATES, 2]),
            tf.TensorArray(tf.float64, size=n_probes, element_shape=[CANDIDATES]),
        ),
        parallel_iterations=1,
    )
    centers, areas_mm2 = all_centers.stack(), all_areas.stack()
    chosen = _best_path(centers * grid.spec.spacing_mm, areas_mm2)
    is_seen = tf.gather(areas_mm2, chosen, batch_dims=1) >= MIN_AREA_MM2
    is_seen = tf.logical_and(is_seen, tf.logical_not(statistics.is_constant))
    return is_seen, tf.gather(centers, chosen, batch_dims=1)


def _predict_in_tiles(slices: tf.Tensor, network: GraphNetwork) -> tf.Tensor:
    """float32 (rows, columns): the network on one slice of any size."""
    rows, columns = tf.shape(slices)[1], tf.shape(slices)[2]
    row_starts, column_starts = _tile_starts(rows), _tile_starts(columns)
    height, width = tf.minimum(rows, MAX_TILE), tf.minimum(columns, MAX_TILE)

    def add(number: tf.Tensor, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        top = row_starts[number // tf.size(column_starts)]
        left = column_starts[number % tf.size(column_starts)]
        tile = off_cpu(network, slices[:, top : top + height, left : left + width])[0]
        around = [[top, rows - height - top], [left, columns - width - left]]
        return number + 1, tf.maximum(probabilities, tf.pad(tile, around))

    n_tiles = tf.size(row_starts) * tf.size(column_starts)
    return tf.while_loop(
        lambda number, _: number < n_tiles,
        add,
        (tf.constant(0), tf.zeros(tf.stack([rows, columns]))),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
        parallel_iterations=1,
    )[1]


def _tile_starts(length: tf.Tensor) -> tf.Tensor:
    beyond = tf.cast(length - MAX_TILE, tf.float64)
    count = tf.math.ceil(tf.cast(length - TILE_OVERLAP, tf.float64) / (MAX_TILE - TILE_OVERLAP))
    count = tf.maximum(count, 1.0)
    step = tf.maximum(beyond, 0.0) / tf.maximum(count - 1, 1.0)
    return tf.cast(tf.round(tf.range(count, dtype=tf.float64) * step), tf.int32)


def _peaks(probabilities: tf.Tensor, spacing_mm: float) -> tuple[tf.Tensor, tf.Tensor]:
    """float64 (candidate, 2) pixels of the strongest peaks, and (candidate,) mm2 gathered around them."""
    sigma = GRAY_MATTER_SIGMA_MM / spacing_mm
    radius = int(GAUSSIAN_TRUNCATE * sigma + 0.5)
    kernel = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    kernel /= kernel.sum()
    evidence = tf.cast(probabilities, tf.float64)
    for _ in range(2):
        evidence = tf.transpose(tf.linalg.matmul(_band(kernel, tf.shape(evidence)[0]), evidence))
    scale = 10.0**EVIDENCE_DECIMALS
    evidence = tf.round(evidence * (2 * np.pi * GRAY_MATTER_SIGMA_MM**2) * scale) / scale
    summits = tf.logical_and(evidence == _window_maximum(evidence, round(2 * sigma)), evidence > 0)
    areas_mm2, flat = tf.math.top_k(tf.reshape(tf.where(summits, evidence, 0.0), [-1]), CANDIDATES)
    columns = tf.shape(evidence)[1]
    peaks = tf.stack([flat // columns, flat % columns], axis=1)
    is_peak = (areas_mm2 > 0)[:, tf.newaxis]
    return tf.cast(tf.where(is_peak, peaks, 0), tf.float64), areas_mm2


def _band(kernel: np.ndarray, length: tf.Tensor) -> tf.Tensor:
    """float64 (length, length): the matrix that convolves a column with an odd kernel, zeros beyond."""
    radius = len(kernel) // 2
    offsets = tf.range(length)[tf.newaxis] - tf.range(length)[:, tf.newaxis] + radius
    inside = tf.logical_and(offsets >= 0, offsets <= 2 * radius)
    return tf.where(inside, tf.gather(kernel, clip(offsets, 0, 2 * radius)), 0.0)


def _window_maximum(array: tf.Tensor, radius: int) -> tf.Tensor:
    """Largest value within `radius` rows and columns."""
    for _ in range(2):
        # Windows of doubled length from overlapping halves, until they have the wanted one.
        array = tf.pad(array, [[radius, radius], [0, 0]])
        length, wanted = 1, 2 * radius + 1
        while length < wanted:
            step = min(length, wanted - length)
            array = tf.maximum(array[:-step], array[step:])
            length += step
        array = tf.transpose(array)
    return array


def _best_path(centers_mm: tf.Tensor, areas_mm2: tf.Tensor) -> tf.Tensor:
    """int32 (probe,): index of one candidate per probe, the most gray matter for the least movement."""
    n_probes = tf.shape(areas_mm2)[0]

    def forward(row: tf.Tensor, score: tf.Tensor, origins: tf.TensorArray) -> tuple[Any, ...]:
        steps = centers_mm[row][:, tf.newaxis] - centers_mm[row - 1]
        steps_mm = tf.sqrt(tf.reduce_sum(steps * steps, axis=-1))
        known = tf.logical_and((areas_mm2[row] > 0)[:, tf.newaxis], areas_mm2[row - 1] > 0)
        arrivals, origin = tf.math.top_k(score - STEP_COST * steps_mm * tf.cast(known, tf.float64), 1)
        return row + 1, arrivals[:, 0] + areas_mm2[row], origins.write(row, origin[:, 0])

    def backward(row: tf.Tensor, here: tf.Tensor, path: tf.TensorArray) -> tuple[Any, ...]:
        return row - 1, origins[row, here], path.write(row, here)

    _, score, origin_array = tf.while_loop(
        lambda row, *_: row < n_probes,
        forward,
        (
            tf.constant(1),
            areas_mm2[0],
            tf.TensorArray(tf.int32, size=n_probes, element_shape=[CANDIDATES], clear_after_read=False).write(
                0, tf.zeros(CANDIDATES, tf.int32)
            ),
        ),
        parallel_iterations=1,
    )
    origins = origin_array.stack()
    _, _, path = tf.while_loop(
        lambda row, *_: row >= 0,
        backward,
        (
            n_probes - 1,
            tf.math.top_k(score, 1).indices[0],
            tf.TensorArray(tf.int32, size=n_probes, element_shape=[]),
        ),
        parallel_iterations=1,
    )
    return path.stack()


def _interpolated(known: tf.Tensor, values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """float64 (length, 2): straight from known position to known position, and on past the ends."""
    positions = tf.cast(known, tf.float64)
    wanted = tf.range(length)
    before = clip(tf.searchsorted(known, wanted, side="right") - 1, 0, tf.maximum(tf.size(known) - 2, 0))
    after = tf.minimum(before + 1, tf.size(known) - 1)
    distance = tf.maximum(tf.gather(positions, after) - tf.gather(positions, before), 1.0)
    part = (tf.cast(wanted, tf.float64) - tf.gather(positions, before)) / distance
    low, high = tf.gather(values, before), tf.gather(values, after)
    return low + (high - low) * part[:, tf.newaxis]
