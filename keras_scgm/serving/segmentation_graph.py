"""The segmentation of `keras_scgm.segmentation` in TensorFlow's core operations, equal voxel for voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf

from keras_scgm.quality import RIM_MM
from keras_scgm.segmentation import COARSE_MM, NO_CORD
from keras_scgm.serving.cropping_graph import predict_around
from keras_scgm.serving.detached_pieces_graph import remove_detached
from keras_scgm.serving.graph_network import GraphNetwork, off_cpu
from keras_scgm.serving.localization_graph import Windows, fixed_windows, windows_on_cord
from keras_scgm.serving.nifti_graph import StoredImage
from keras_scgm.serving.slices_graph import Grid, Statistics, is_varied
from keras_scgm.slices import EDGE_MM, SliceSpec

NETWORK_SLICES = 4
"""Slices that the network computes at a time, which bounds the memory of a request."""

MAX_NAMED_SLICES = 10
"""A warning names this many slices, as `keras_scgm.segmentation` does."""


@dataclass(frozen=True)
class GraphSettings:
    """What is fixed when a graph is made.

    Args:
        spec: the network's slices.
        threshold: probability above which a voxel of the image's grid is gray matter.
        window: "auto" finds the cord, "center" is the middle of the field of view.
        knows_dark: whether the network knows gray matter that is darker than white matter.
    """

    spec: SliceSpec
    threshold: float
    window: Literal["auto", "center"] = "auto"
    knows_dark: bool = False


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


def segment(image: StoredImage, network: GraphNetwork, settings: GraphSettings) -> Result:
    """The mask of an image and what goes with it, as `keras_scgm.segment` makes them."""
    grid = Grid.of(image, settings.spec)
    if settings.window == "auto":
        windows = windows_on_cord(image, grid, network)
    else:
        windows = fixed_windows(image, grid, grid.centered_starts, network)
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
        warnings=_warnings(image, windows.is_found, statistics, n_voxels, chunks, settings),
    )


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
    grid: Grid,
    windows: Windows,
    network: GraphNetwork,
    settings: GraphSettings,
) -> _Chunks:
    statistics = windows.statistics
    rim_pixels = max(1, round(RIM_MM / grid.spec.spacing_mm))
    steps = windows.cord_steps

    def add(chunk: tf.Tensor, *gathered: Any) -> tuple[Any, ...]:
        masks, maps, edges, contrast = gathered
        first = chunk * NETWORK_SLICES
        last = tf.minimum(first + NETWORK_SLICES, grid.n_slices)
        slices, _ = image.read_slices(first, last)
        here = windows.starts[first:last]
        normalized = statistics.normalize(grid.to_windows(slices, grid.window, here))
        cord = windows.cord[first:last]
        probabilities = _predict(normalized, cord, windows.is_seen[first:last], windows, network, settings)
        probabilities = grid.clear_past_field(probabilities, here)
        probabilities = tf.cond(
            windows.is_found,
            lambda: remove_detached(
                probabilities, cord, steps[first:last], settings.threshold, grid.spec.spacing_mm
            ),
            lambda: probabilities,
        )
        native, covered = grid.to_native(probabilities, here)
        mask = native > settings.threshold
        has_some = tf.reduce_any(mask, axis=(1, 2), keepdims=True)
        inside = tf.logical_and(probabilities > settings.threshold, has_some)
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

    n_chunks = -(-grid.n_slices // NETWORK_SLICES)
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


def _predict(
    slices: tf.Tensor,
    cord: tf.Tensor,
    is_seen: tf.Tensor,
    windows: Windows,
    network: GraphNetwork,
    settings: GraphSettings,
) -> tf.Tensor:
    """float32 (slice, rows, columns): probabilities, 0 in empty windows."""
    varied = is_varied(slices)
    shown, cord, is_seen = (tf.boolean_mask(values, varied) for values in (slices, cord, is_seen))

    def around() -> tf.Tensor:
        return predict_around(shown, cord, is_seen, network, settings.spec, settings.threshold)

    def whole() -> tf.Tensor:
        return off_cpu(network, shown)

    def predicted() -> tf.Tensor:
        if settings.window == "auto" and network.takes_crops:
            found = tf.cond(windows.is_found, around, whole)
        else:
            found = whole()
        return tf.scatter_nd(tf.where(varied), found, tf.shape(slices, tf.int64)[:3])

    return tf.cond(tf.reduce_any(varied), predicted, lambda: tf.zeros_like(slices[..., 0]))


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
    image: StoredImage,
    found: tf.Tensor,
    statistics: Statistics,
    n_voxels: tf.Tensor,
    chunks: _Chunks,
    settings: GraphSettings,
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
        *image.warnings,
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
        (tf.logical_not(found), NO_CORD),
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
            tf.logical_and(is_judged, chunks.contrast < 0 if not settings.knows_dark else False),
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
