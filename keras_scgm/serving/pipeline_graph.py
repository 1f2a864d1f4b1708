"""The segmentation of `keras_scgm.segmentation` in TensorFlow's core operations.

The transforms are those of `keras_scgm.slices` and the search is that of `keras_scgm.localization`, in the
same order and in float64, so that masks are equal voxel for voxel; tests compare the two. Everything but the
network stays on the CPU: it is little work in small steps, and float64 rounds the same everywhere there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from keras_scgm.cropping import CROP_MM, MARGIN_MM
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
from keras_scgm.quality import RIM_MM
from keras_scgm.segmentation import COARSE_MM
from keras_scgm.serving.nifti_graph import StoredImage
from keras_scgm.slices import CHUNK_SLICES, EDGE_MM, ROUNDING_TOLERANCE, SliceSpec


class Network(Protocol):
    """Normalised slices, float32 (slice, rows, columns, 1) -> probabilities, float32 (slice, rows, columns)."""

    takes_crops: bool

    def __call__(self, slices: tf.Tensor) -> tf.Tensor: ...

    def in_crops(self, slices: tf.Tensor, crops: tf.Tensor) -> tf.Tensor:
        """Probabilities of parts of slices."""


MAX_NAMED_SLICES = 10
"""A warning names this many slices, as `keras_scgm.segmentation` does."""


@dataclass(frozen=True)
class GraphSettings:
    """What is fixed when a graph is made.

    Args:
        spec: the network's slices.
        threshold: probability above which a voxel of the image's grid is gray matter.
        window: "auto" finds the cord, "center" is the middle of the field of view.
    """

    spec: SliceSpec
    threshold: float
    window: Literal["auto", "center"] = "auto"


@dataclass(frozen=True)
class Result:
    """The gray matter of one image.

    Args:
        mask: uint8 (slice, right-left, posterior-anterior), 1 is gray matter.
        probabilities: float32, same shape, in [0, 1].
        area_mm2: float32 (slice,), in the order of the file.
        warnings: string (), what may be wrong with the result, one line each.
    """

    mask: tf.Tensor
    probabilities: tf.Tensor
    area_mm2: tf.Tensor
    warnings: tf.Tensor


def segment(image: StoredImage, network: Network, settings: GraphSettings) -> Result:
    """The mask of an image and what goes with it, as `keras_scgm.segment` makes them."""
    grid = _Grid.of(image, settings.spec)
    windows = _Windows.centered(image, grid)
    if settings.window == "auto":
        windows = _windows_on_cord(image, grid, windows.statistics, network)
    chunks = _segment_chunks(image, grid, windows, network, settings)
    statistics = windows.statistics
    something = tf.logical_not(statistics.is_constant)
    mask = tf.cast(tf.logical_and(chunks.mask, something), tf.uint8)
    n_voxels = tf.reduce_sum(tf.cast(mask, tf.int32), axis=(1, 2))
    area_mm2 = tf.cast(n_voxels, tf.float64) * image.voxel_area_mm2
    return Result(
        mask=mask,
        probabilities=tf.where(something, chunks.probabilities, tf.zeros_like(chunks.probabilities)),
        area_mm2=image.in_file_order(tf.cast(area_mm2, tf.float32)),
        warnings=_warnings(image, windows.is_found, statistics, n_voxels, chunks),
    )


# --- slices: the transforms of `keras_scgm.slices` -----------------------------------------------------


@dataclass(frozen=True)
class _Grid:
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
    def of(cls, image: StoredImage, spec: SliceSpec) -> _Grid:
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
        for axis in (0, 1):
            pixels = _mirror(starts[:, axis, tf.newaxis] + tf.range(window[axis]), self.shape[axis])
            last = tf.cast(self.native_shape[axis] - 1, tf.float64)
            coordinates = _clip(tf.cast(pixels, tf.float64) * self.step[axis], 0.0, last)
            slices = _interpolate(slices, axis + 1, coordinates)
        return slices

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
            coordinates = _clip(pixels, tf.cast(first, tf.float64), tf.cast(last, tf.float64))
            values = _interpolate(values, axis + 1, tf.maximum(coordinates, 0.0))
        is_covered = tf.logical_and(covered[0][:, :, tf.newaxis], covered[1][:, tf.newaxis])
        return tf.where(is_covered, values, 0.0), covered


class _Statistics(NamedTuple):
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


class _Windows(NamedTuple):
    """What the network is to look at.

    starts: int32 (slice, 2), first pixels.
    statistics: of the intensities in them.
    is_found: whether a cord was found, true if it was not looked for.
    cord: float64 (slice, 2) pixels of the windows, where the cord is if it was found.
    is_seen: bool (slice,), windows that the search has looked at.
    """

    starts: tf.Tensor
    statistics: _Statistics
    is_found: tf.Tensor
    cord: tf.Tensor
    is_seen: tf.Tensor

    @classmethod
    def centered(cls, image: StoredImage, grid: _Grid) -> _Windows:
        starts = grid.centered_starts
        nowhere = tf.zeros(tf.shape(starts), tf.float64)
        statistics = _measure_all(image, grid, starts)
        return cls(starts, statistics, tf.constant(True), nowhere, tf.zeros(grid.n_slices, tf.bool))


def _measure_all(image: StoredImage, grid: _Grid, starts: tf.Tensor) -> _Statistics:
    """Mean and standard deviation over the windows of all slices."""
    return _measure(image, grid, grid.window, starts, tf.range(grid.n_slices), CHUNK_SLICES)


def _measure(
    image: StoredImage, grid: _Grid, window: tf.Tensor, starts: tf.Tensor, indices: tf.Tensor, at_once: int
) -> _Statistics:
    """Mean and standard deviation over the windows of some slices, read `at_once` neighbours at a time."""

    def add(
        first: tf.Tensor, count: tf.Tensor, mean: tf.Tensor, squares: tf.Tensor, n_not_finite: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        chunk = indices[first : first + at_once]
        slices, n_replaced = image.read_slices(chunk[0], chunk[-1] + 1)
        windows = grid.to_windows(slices, window, tf.gather(starts, chunk))
        chunk_mean = tf.reduce_mean(windows)
        size = tf.cast(tf.size(windows), tf.float64)
        shift, total = chunk_mean - mean, count + size
        squares += tf.reduce_sum((windows - chunk_mean) ** 2) + shift**2 * count * size / total
        mean += shift * size / total
        return first + at_once, total, mean, squares, n_not_finite + n_replaced

    zero = tf.constant(0.0, tf.float64)
    _, count, mean, squares, n_not_finite = tf.while_loop(
        lambda first, *_: first < tf.size(indices),
        add,
        (tf.constant(0), zero, zero, zero, tf.constant(0, tf.int64)),
        parallel_iterations=1,
    )
    return _Statistics(mean, tf.sqrt(squares / count), n_not_finite)


@dataclass(frozen=True)
class _Chunks:
    """What is gathered slice by slice.

    Args:
        mask: bool (slice, right-left, posterior-anterior).
        probabilities: float32, same shape.
        near_edge: bool (slice,), gray matter that may be cut off.
        contrast: float64, by how much gray matter is brighter than its rim, summed over its pixels.
    """

    mask: tf.Tensor
    probabilities: tf.Tensor
    near_edge: tf.Tensor
    contrast: tf.Tensor


def _segment_chunks(
    image: StoredImage,
    grid: _Grid,
    windows: _Windows,
    network: Network,
    settings: GraphSettings,
) -> _Chunks:
    statistics = windows.statistics
    rim_pixels = max(1, round(RIM_MM / grid.spec.spacing_mm))

    def add(chunk: tf.Tensor, *gathered: Any) -> tuple[Any, ...]:
        masks, maps, edges, contrast = gathered
        first = chunk * CHUNK_SLICES
        last = tf.minimum(first + CHUNK_SLICES, grid.n_slices)
        slices, _ = image.read_slices(first, last)
        here = windows.starts[first:last]
        normalized = statistics.normalize(grid.to_windows(slices, grid.window, here))
        if settings.window == "auto" and network.takes_crops:
            known = windows.cord[first:last], windows.is_seen[first:last]
            probabilities = tf.cond(
                windows.is_found,
                lambda: _predict_around(normalized, *known, network, grid.spec),
                lambda: _off_cpu(network, normalized),
            )
        else:
            probabilities = _off_cpu(network, normalized)
        native, covered = grid.to_native(probabilities, here)
        mask = native > settings.threshold
        inside = probabilities > 0.5
        rim = tf.logical_and(_dilated(inside, rim_pixels), tf.logical_not(inside))
        parts = tf.cast(tf.stack([inside, rim]), tf.float64)
        sums = tf.reduce_sum(parts * tf.cast(normalized[..., 0], tf.float64), axis=(2, 3))
        counts = tf.reduce_sum(parts, axis=(2, 3))
        above = sums[0] - counts[0] * tf.math.divide_no_nan(sums[1], counts[1])
        contrast += tf.reduce_sum(tf.where(counts[1] > 0, above, 0.0))
        return (
            chunk + 1,
            masks.write(chunk, mask),
            maps.write(chunk, tf.cast(native, tf.float32)),
            edges.write(chunk, _is_near_edge(image, mask, covered)),
            contrast,
        )

    n_chunks = -(-grid.n_slices // CHUNK_SLICES)
    arrays = [
        tf.TensorArray(dtype, size=n_chunks, infer_shape=False, element_shape=shape)
        for dtype, shape in ((tf.bool, [None] * 3), (tf.float32, [None] * 3), (tf.bool, [None]))
    ]
    _, masks, maps, edges, contrast = tf.while_loop(
        lambda chunk, *_: chunk < n_chunks,
        add,
        (tf.constant(0), *arrays, tf.constant(0.0, tf.float64)),
        parallel_iterations=1,
    )
    return _Chunks(masks.concat(), maps.concat(), edges.concat(), contrast)


def _is_near_edge(image: StoredImage, mask: tf.Tensor, covered: list[tf.Tensor]) -> tf.Tensor:
    near = tf.zeros(tf.shape(mask)[:1], tf.bool)
    for axis in (0, 1):
        n_covered = tf.math.count_nonzero(covered[axis], axis=1, keepdims=True, dtype=tf.int32)
        margin = tf.cast(tf.round(EDGE_MM / image.in_plane_spacing_mm[axis]), tf.int32)
        margin = tf.minimum(tf.maximum(1, margin), n_covered)
        number = tf.cumsum(tf.cast(covered[axis], tf.int32), axis=1)
        at_end = tf.logical_or(number <= margin, number > n_covered - margin)
        near_here = tf.logical_and(tf.reduce_any(mask, axis=2 - axis), at_end)
        near = tf.logical_or(near, tf.reduce_any(near_here, axis=1))
    return near


def _warnings(
    image: StoredImage, found: tf.Tensor, statistics: _Statistics, n_voxels: tf.Tensor, chunks: _Chunks
) -> tf.Tensor:
    """The warnings of `keras_scgm.segmentation`, in its words and order."""
    is_coarse = tf.reduce_max(image.in_plane_spacing_mm) > COARSE_MM
    spacing = tf.strings.as_string(image.in_plane_spacing_mm, precision=2, shortest=True)
    is_present = n_voxels > 0
    below = tf.cumsum(tf.cast(is_present, tf.int32))
    is_between = tf.logical_and(below > 0, below < below[-1])
    is_missing = tf.logical_and(is_between, tf.logical_not(is_present))
    is_empty = tf.logical_not(tf.reduce_any(is_present))
    is_judged = tf.logical_not(tf.logical_or(statistics.is_constant, is_empty))
    cases: list[tuple[tf.Tensor, str | tf.Tensor]] = [
        (
            is_coarse,
            tf.strings.join(
                [
                    "axial voxels of ",
                    spacing[0],
                    " x ",
                    spacing[1],
                    " mm are too coarse for gray matter; is this an axial acquisition?",
                ]
            ),
        ),
        (tf.logical_not(found), "no cord was found; the window stays in the middle of the field"),
        (
            statistics.n_not_finite > 0,
            tf.strings.as_string(statistics.n_not_finite)
            + " voxels are NaN or infinite; each was given the mean of its slice",
        ),
        (statistics.is_constant, "the image is constant inside the window; the mask is empty"),
        (
            tf.logical_and(is_empty, tf.logical_not(statistics.is_constant)),
            "no gray matter was found; the mask is empty",
        ),
        (
            tf.logical_and(is_judged, tf.reduce_any(is_missing)),
            "no gray matter between slices that have some: " + _names(image, is_missing),
        ),
        (
            tf.logical_and(is_judged, tf.reduce_any(chunks.near_edge)),
            f"gray matter within {EDGE_MM:g} mm of the edge of the window or the field of view, "
            "it may be cut off: " + _names(image, chunks.near_edge),
        ),
        (
            tf.logical_and(is_judged, chunks.contrast < 0),
            "gray matter is darker than its surroundings; the contrast may be inverted (PSIR, "
            "T1-weighted), which these weights may not know",
        ),
    ]
    is_given, texts = (tf.stack(column) for column in zip(*cases, strict=True))
    return tf.strings.reduce_join(tf.boolean_mask(texts, is_given), separator="\n")


def _names(image: StoredImage, is_named: tf.Tensor) -> tf.Tensor:
    indices = tf.where(image.in_file_order(is_named))[:, 0]
    shown = tf.strings.reduce_join(tf.strings.as_string(indices[:MAX_NAMED_SLICES]), separator=", ")
    noun = tf.where(tf.size(indices) == 1, "slice ", "slices ")
    return noun + shown + tf.where(tf.size(indices) > MAX_NAMED_SLICES, ", ...", "")


# --- finding the cord: the search of `keras_scgm.localization` -----------------------------------------


def _windows_on_cord(image: StoredImage, grid: _Grid, statistics: _Statistics, network: Network) -> _Windows:
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
        of_field = _measure(image, grid, whole, corners, probes, at_once=1)
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
        return _clip(along, 0.0, tf.cast(grid.shape - 1, tf.float64))

    along = tf.cond(is_found, of_all, lambda: tf.zeros(tf.shape(centered), tf.float64))

    def moved() -> tuple[tf.Tensor, _Statistics]:
        starts = tf.cast(tf.round(along - (grid.spec.size - 1) / 2 + ROUNDING_TOLERANCE), tf.int32)
        return starts, _measure_all(image, grid, starts)

    starts, statistics = tf.cond(must_move, moved, lambda: (centered, statistics))
    is_probe = tf.reduce_any(tf.range(grid.n_slices)[:, tf.newaxis] == probes, axis=1)
    return _Windows(
        starts,
        statistics,
        is_found,
        along - tf.cast(starts, tf.float64),
        tf.logical_and(is_probe, tf.logical_not(must_move)),
    )


def _predict_around(
    slices: tf.Tensor, centers: tf.Tensor, is_whole: tf.Tensor, network: Network, spec: SliceSpec
) -> tf.Tensor:
    """Probabilities as `keras_scgm.cropping` computes them; some slices are to be computed whole anyhow."""
    size, margin = round(CROP_MM / spec.spacing_mm), round(MARGIN_MM / spec.spacing_mm)
    latest = spec.size - size
    if latest <= 0:
        return _off_cpu(network, slices)
    starts = tf.cast(tf.round(centers - (size - 1) / 2 + ROUNDING_TOLERANCE), tf.int32)
    index = tf.where(tf.logical_not(is_whole))
    starts = tf.gather(_clip(starts, 0, latest), index[:, 0])
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
        lambda: _off_cpu(network.in_crops, looked_at, crops),
        lambda: tf.zeros((0, size, size)),
    )
    occupied = found > 0.5
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
        lambda: _off_cpu(network, tf.boolean_mask(slices, is_whole)),
        lambda: tf.zeros((0, spec.size, spec.size)),
    )
    return tf.tensor_scatter_nd_update(probabilities, tf.where(is_whole), wholes)


def _probes(n_slices: tf.Tensor, slice_spacing_mm: tf.Tensor) -> tf.Tensor:
    length = tf.cast(n_slices, tf.float64)
    wanted = tf.cast(tf.math.ceil(length * slice_spacing_mm / PROBE_DISTANCE_MM), tf.int32) + 1
    count = tf.minimum(_clip(wanted, MIN_PROBES, MAX_PROBES), n_slices)
    step = (length - 1) / tf.cast(count + 1, tf.float64)
    return tf.unique(tf.cast(tf.round(tf.cast(tf.range(1, count + 1), tf.float64) * step), tf.int32))[0]


def _track(
    image: StoredImage,
    grid: _Grid,
    probes: tf.Tensor,
    window: tf.Tensor,
    starts: tf.Tensor,
    statistics: _Statistics,
    network: Network,
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


def _predict_in_tiles(slices: tf.Tensor, network: Network) -> tf.Tensor:
    """float32 (rows, columns): the network on one slice of any size."""
    rows, columns = tf.shape(slices)[1], tf.shape(slices)[2]
    row_starts, column_starts = _tile_starts(rows), _tile_starts(columns)
    height, width = tf.minimum(rows, MAX_TILE), tf.minimum(columns, MAX_TILE)

    def add(number: tf.Tensor, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        top = row_starts[number // tf.size(column_starts)]
        left = column_starts[number % tf.size(column_starts)]
        tile = _off_cpu(network, slices[:, top : top + height, left : left + width])[0]
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
    return tf.where(inside, tf.gather(kernel, _clip(offsets, 0, 2 * radius)), 0.0)


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
    before = _clip(tf.searchsorted(known, wanted, side="right") - 1, 0, tf.maximum(tf.size(known) - 2, 0))
    after = tf.minimum(before + 1, tf.size(known) - 1)
    distance = tf.maximum(tf.gather(positions, after) - tf.gather(positions, before), 1.0)
    part = (tf.cast(wanted, tf.float64) - tf.gather(positions, before)) / distance
    low, high = tf.gather(values, before), tf.gather(values, after)
    return low + (high - low) * part[:, tf.newaxis]


# --- arrays ----------------------------------------------------------------------------------------------


def _off_cpu(network: Callable[..., tf.Tensor], *slices: tf.Tensor) -> tf.Tensor:
    """The network wherever the server's fastest device is."""
    with tf.device(None):
        return network(*slices)


def _clip(values: tf.Tensor, low: Any, high: Any) -> tf.Tensor:
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


def _dilated(mask: tf.Tensor, pixels: int) -> tf.Tensor:
    """Mask (slice, rows, columns) grown by its neighbours in the plane, `pixels` times."""
    for _ in range(pixels):
        padded = tf.pad(mask, [[0, 0], [1, 1], [1, 1]])
        inner = slice(1, -1)
        neighbours = [
            padded[:, inner, :-2],
            padded[:, inner, 2:],
            padded[:, :-2, inner],
            padded[:, 2:, inner],
        ]
        mask = tf.reduce_any(tf.stack([mask, *neighbours]), axis=0)
    return mask
