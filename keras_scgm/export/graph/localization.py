"""The search of `keras_scgm.localization` in TensorFlow's core operations, in the same order.

The network must not be called from a condition (see `keras_scgm.export.graph.network.compute`), so every stage of the
search always runs, on no slices if it is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_scgm.export.graph.network import GraphNetwork, compute
from keras_scgm.export.graph.nifti import StoredImage
from keras_scgm.export.graph.processor import once_in_graph
from keras_scgm.export.graph.slices import (
    Grid,
    Statistics,
    clip,
    is_varied,
    measure,
    measure_all,
    read_windows,
)
from keras_scgm.localization import (
    CANDIDATES,
    EVIDENCE_DECIMALS,
    GAUSSIAN_TRUNCATE,
    GRAY_MATTER_SIGMA_MM,
    MAX_PROBES,
    MAX_TILE,
    MIN_AREA_MM2,
    MIN_PROBES,
    MIN_SEARCH_PX,
    PROBE_DISTANCE_MM,
    SEARCH_SHARE,
    SIZE_DIVISOR,
    STEP_COST,
    TILE_OVERLAP,
)
from keras_scgm.slices import ROUNDING_TOLERANCE

MAX_BUDGET_PX = 2**31 - 1
"""Pixels are counted in int32; no field of view has more."""


class GraphWindows(NamedTuple):
    """The network's input windows of a volume.

    starts: int32 (slice, 2), first pixels.
    statistics: of the intensities in them.
    is_found: whether a cord was found.
    cord: float64 (slice, 2) pixels of the windows, where the cord is if it was found.
    probed: int32 (probe,), slices whose windows the network has computed.
    probabilities: float32 (probe, rows, columns, tissue), predictions for them.
    """

    starts: tf.Tensor
    statistics: Statistics
    is_found: tf.Tensor
    cord: tf.Tensor
    probed: tf.Tensor
    probabilities: tf.Tensor

    @property
    def cord_steps(self) -> tf.Tensor:
        """float64 (slice,): pixels from the cord to the cord in a neighbouring slice, the larger of two."""
        places = self.cord + tf.cast(self.starts, tf.float64)
        steps = tf.norm(places[1:] - places[:-1], axis=1)
        return tf.maximum(tf.pad(steps, [[0, 1]]), tf.pad(steps, [[1, 0]]))


class _Track(NamedTuple):
    """Positions of the cord in windows.

    starts: int32 (slice, 2), first pixels of the windows.
    statistics: of the intensities in them.
    probed: int32 (probe,), slices whose windows the network has computed.
    probabilities: float32 (probe, rows, columns, tissue), predictions for them.
    probes: int32 (probe,), probed slices that are not empty.
    is_seen: bool (probe,), whether they show the cord.
    centers: float64 (probe, 2) resampled pixels, where.
    """

    starts: tf.Tensor
    statistics: Statistics
    probed: tf.Tensor
    probabilities: tf.Tensor
    probes: tf.Tensor
    is_seen: tf.Tensor
    centers: tf.Tensor

    @property
    def is_convincing(self) -> tf.Tensor:
        n_seen = tf.math.count_nonzero(self.is_seen, dtype=tf.int32)
        return tf.logical_and(n_seen > 0, 2 * n_seen >= tf.size(self.probes))

    def in_windows_of(self, other: _Track) -> _Track:
        """This track, with the windows of another one."""
        return self._replace(
            starts=other.starts,
            statistics=other.statistics,
            probed=other.probed,
            probabilities=other.probabilities,
        )

    def centers_of_all(self, grid: Grid) -> tf.Tensor:
        """float64 (slice, 2) resampled pixels; some probe must show the cord."""
        slices, centers = (tf.boolean_mask(values, self.is_seen) for values in (self.probes, self.centers))
        last_pixel = tf.cast(grid.shape - 1, tf.float64)
        return clip(_interpolated(slices, centers, grid.n_slices), 0.0, last_pixel)

    def starts_around(self, grid: Grid) -> tf.Tensor:
        """int32 (slice, 2): first pixels of windows around the cord, in the middle if no probe shows it."""

        def around() -> tf.Tensor:
            first = self.centers_of_all(grid) - (grid.config.window_px - 1) / 2
            return tf.cast(tf.round(first + ROUNDING_TOLERANCE), tf.int32)

        return tf.cond(tf.reduce_any(self.is_seen), around, lambda: grid.centered_starts)


def windows_on_cord(image: StoredImage, grid: Grid, network: GraphNetwork) -> GraphWindows:
    """Windows around the cord."""
    middle = _tracked(image, grid, grid.centered_starts, network)
    is_search_needed = tf.logical_and(
        tf.logical_not(middle.is_convincing), tf.reduce_max(grid.shape) > grid.config.window_px
    )
    elsewhere = _search(image, grid, network, is_search_needed)
    around = _tracked(image, grid, elsewhere.starts_around(grid), network, tf.reduce_any(elsewhere.is_seen))
    several = tf.math.count_nonzero(elsewhere.is_seen) > 1
    otherwise = tf.cond(
        tf.logical_and(elsewhere.is_convincing, several),
        lambda: elsewhere.in_windows_of(around),
        lambda: middle,
    )
    track = tf.cond(around.is_convincing, lambda: around, lambda: otherwise)
    offsets = track.centers - tf.cast(tf.gather(track.starts, track.probes), tf.float64)
    offsets -= (grid.config.window_px - 1) / 2
    is_off = tf.reduce_any(tf.abs(offsets) > grid.config.window_px / 4, axis=1)
    must_move = tf.logical_and(track.is_convincing, tf.reduce_any(tf.logical_and(is_off, track.is_seen)))
    again = _tracked(image, grid, track.starts_around(grid), network, must_move)
    moved = tf.cond(again.is_convincing, lambda: again, lambda: track.in_windows_of(again))
    return _with_cord(tf.cond(must_move, lambda: moved, lambda: track), grid)


def fixed_windows(image: StoredImage, grid: Grid, starts: tf.Tensor, network: GraphNetwork) -> GraphWindows:
    """Given windows, and the cord in them."""
    return _with_cord(_tracked(image, grid, starts, network), grid)


def _with_cord(track: _Track, grid: Grid) -> GraphWindows:
    starts = tf.cast(track.starts, tf.float64)
    cord = tf.cond(
        track.is_convincing, lambda: track.centers_of_all(grid) - starts, lambda: tf.zeros_like(starts)
    )
    return GraphWindows(
        track.starts, track.statistics, track.is_convincing, cord, track.probed, track.probabilities
    )


def _tracked(
    image: StoredImage,
    grid: Grid,
    starts: tf.Tensor,
    network: GraphNetwork,
    is_wanted: tf.Tensor | bool = True,
) -> _Track:
    """The cord in windows of the network's size."""
    probes = _probes(grid.n_slices, image.slice_spacing_mm)
    statistics = _if_wanted(is_wanted, lambda: measure_all(image, grid, starts))
    return _track(image, grid, probes, grid.window, starts, statistics, network, is_wanted)


def _search(image: StoredImage, grid: Grid, network: GraphNetwork, is_wanted: tf.Tensor) -> _Track:
    """The cord anywhere in the field of view, in a few probes."""
    window_px = grid.config.window_px**2 * tf.cast(grid.n_slices, tf.float64)
    budget_px = tf.minimum(tf.maximum(tf.round(SEARCH_SHARE * window_px), MIN_SEARCH_PX), MAX_BUDGET_PX)
    budget_px = tf.cast(budget_px, tf.int32)
    field = _field_shape(grid, budget_px)
    probes = _probes(grid.n_slices, image.slice_spacing_mm)
    count = clip(budget_px // tf.reduce_prod(field), 1, tf.size(probes))
    corners = tf.tile(tf.maximum(grid.shape - field, 0)[tf.newaxis] // 2, [grid.n_slices, 1])
    some = tf.gather(probes, (2 * tf.range(count) + 1) * tf.size(probes) // (2 * count))
    statistics = _if_wanted(is_wanted, lambda: measure(image, grid, field, corners, some, at_once=1))
    return _track(image, grid, some, field, corners, statistics, network, is_wanted)


def _if_wanted(is_wanted: tf.Tensor | bool, measured: Callable[[], Statistics]) -> Statistics:
    zero = tf.constant(0.0, tf.float64)
    nothing = Statistics(zero, zero, tf.constant(0, tf.int64))
    return measured() if is_wanted is True else tf.cond(is_wanted, measured, lambda: nothing)


def _field_shape(grid: Grid, max_px: tf.Tensor) -> tf.Tensor:
    """int32 (2,): pixels of the whole field of view, or of as much in its middle as `max_px` pixels hold."""
    whole = -(-grid.shape // SIZE_DIVISOR) * SIZE_DIVISOR
    side = tf.cast(tf.floor(tf.sqrt(tf.cast(max_px, tf.float64))), tf.int32)
    shape = tf.minimum(whole, tf.maximum(side, max_px // tf.minimum(whole[::-1], side)))
    return shape - shape % SIZE_DIVISOR


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
    is_wanted: tf.Tensor | bool,
) -> _Track:
    """The cord in some slices' windows of any size."""
    probed = tf.boolean_mask(probes, tf.fill(tf.shape(probes), is_wanted))
    windows = read_windows(image, grid, statistics, window, starts, probed)
    is_shown = is_varied(windows)
    probes, windows = (tf.boolean_mask(values, is_shown) for values in (probed, windows))
    probabilities = _predict_in_tiles(windows, network)
    here, tissue = tf.gather(starts, probes), network.n_tissues - 1

    def peaks(case: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        inside = grid.clear_past_field(case[0][tf.newaxis, ..., -1:], case[1][tf.newaxis])[0, ..., 0]
        places, areas_mm2 = _peaks(inside, grid.config.spacing_mm)
        return places + tf.cast(case[1], tf.float64), areas_mm2

    signature = (tf.TensorSpec([CANDIDATES, 2], tf.float64), tf.TensorSpec([CANDIDATES], tf.float64))
    centers, areas_mm2 = tf.map_fn(
        peaks, (probabilities, here), fn_output_signature=signature, parallel_iterations=1
    )
    chosen = tf.cond(
        tf.size(probes) > 0,
        lambda: _best_path(centers * grid.config.spacing_mm, areas_mm2, STEP_COST[tissue]),
        lambda: tf.zeros(0, tf.int32),
    )
    is_seen = tf.gather(areas_mm2, chosen, batch_dims=1) >= MIN_AREA_MM2[tissue]
    centers = tf.gather(centers, chosen, batch_dims=1)
    return _Track(starts, statistics, probes, probabilities, probes, is_seen, centers)


def _predict_in_tiles(slices: tf.Tensor, network: GraphNetwork) -> tf.Tensor:
    """float32 (slice, rows, columns, tissue): the network on slices of any size."""
    rows, columns = tf.shape(slices)[1], tf.shape(slices)[2]
    (row_starts, height), (column_starts, width) = _tiles(rows), _tiles(columns)
    n_columns = tf.size(column_starts)

    def add(number: tf.Tensor, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        top, left = row_starts[number // n_columns], column_starts[number % n_columns]
        tile = compute(network, slices[:, top : top + height, left : left + width])
        around = [[0, 0], [top, rows - height - top], [left, columns - width - left], [0, 0]]
        return number + 1, tf.maximum(probabilities, tf.pad(tile, around))

    n_tiles = tf.size(row_starts) * n_columns
    # Not pinned to the processor, as no loop around the network is.
    with tf.device(None):
        return tf.while_loop(
            lambda number, _: number < n_tiles,
            add,
            (tf.constant(0), tf.tile(tf.zeros_like(slices), [1, 1, 1, network.n_tissues])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None, None, network.n_tissues])),
            parallel_iterations=1,
        )[1]


def _tiles(length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """First pixels of equal parts that overlap, int32 (tile,), and how long they are."""
    pixels = tf.cast(length, tf.float64)
    count = tf.maximum(tf.math.ceil((pixels - TILE_OVERLAP) / (MAX_TILE - TILE_OVERLAP)), 1.0)
    size = tf.math.ceil((pixels + (count - 1) * TILE_OVERLAP) / count / SIZE_DIVISOR) * SIZE_DIVISOR
    size = tf.minimum(size, pixels)
    step = (pixels - size) / tf.maximum(count - 1, 1.0)
    return tf.cast(tf.round(tf.range(count, dtype=tf.float64) * step), tf.int32), tf.cast(size, tf.int32)


@once_in_graph
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


@once_in_graph
def _best_path(centers_mm: tf.Tensor, areas_mm2: tf.Tensor, step_cost: float) -> tf.Tensor:
    """int32 (probe,): index of one candidate per probe, the largest areas for the least movement."""
    n_probes = tf.shape(areas_mm2)[0]

    def forward(row: tf.Tensor, score: tf.Tensor, origins: tf.TensorArray) -> tuple[Any, ...]:
        steps = centers_mm[row][:, tf.newaxis] - centers_mm[row - 1]
        steps_mm = tf.sqrt(tf.reduce_sum(steps * steps, axis=-1))
        known = tf.logical_and((areas_mm2[row] > 0)[:, tf.newaxis], areas_mm2[row - 1] > 0)
        arrivals, origin = tf.math.top_k(score - step_cost * steps_mm * tf.cast(known, tf.float64), 1)
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
