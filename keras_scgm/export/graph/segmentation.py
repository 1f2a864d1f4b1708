"""The segmentation of `keras_scgm.segmentation` in TensorFlow's core operations, equal voxel for voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.detached_pieces import remove_detached
from keras_scgm.export.graph.images import require_image
from keras_scgm.export.graph.localization import GraphWindows, fixed_windows, windows_on_cord
from keras_scgm.export.graph.network import GraphNetwork
from keras_scgm.export.graph.nifti import StoredImage
from keras_scgm.export.graph.quality import (
    Doubt,
    GraphQuality,
    anatomical_doubts,
    predict_quality,
    quality_warnings,
)
from keras_scgm.export.graph.refusals import filled
from keras_scgm.export.graph.region_of_interest import predict_some
from keras_scgm.export.graph.slice_features import (
    FEATURES,
    SliceBelow,
    compare_with_neighbours,
    no_slice_below,
    noise_level,
    slice_features,
)
from keras_scgm.export.graph.slices import Grid, Region, Statistics, extents, is_varied, read_windows
from keras_scgm.segmentation.warnings import COARSE_MM, NAMED_SLICES
from keras_scgm.slices import EDGE_MM, SliceConfig


@dataclass(frozen=True)
class GraphConfig:
    """Configuration of a graph, fixed when it is exported.

    Args:
        slices: Configuration of the network's slices.
        threshold: Probability above which a voxel of the image's grid is gray matter.
        window: "auto" finds the cord, "center" is the middle of the field of view.
        knows_dark: Whether the network was trained with gray matter darker than white matter.
    """

    slices: SliceConfig
    threshold: float
    window: Literal["auto", "center"] = "auto"
    knows_dark: bool = False


@dataclass(frozen=True)
class Result:
    """Gray matter of one image and its quality; slices come from the inferior end.

    Args:
        mask: uint8 (slice, right-left, posterior-anterior), 1 is gray matter.
        probabilities: float32, same shape, in [0, 1].
        measurements: Measurements of each slice.
        features: float64 (slice, feature), see `keras_scgm.export.graph.slice_features`.
        quality: Judgement of the volume and its slices.
        statistics: Statistics of the intensities in the windows.
        window_moved: bool (), whether some window is not in the middle of the field of view.
        warnings: string (), what may be wrong with the result, one line each.
    """

    mask: tf.Tensor
    probabilities: tf.Tensor
    measurements: Measurements
    features: tf.Tensor
    quality: GraphQuality
    statistics: Statistics
    window_moved: tf.Tensor
    warnings: tf.Tensor


class Measurements(NamedTuple):
    """Of the gray matter on the image's own grid, one for each slice.

    n_voxels: int32.
    mask_probability: float64, probabilities summed over the mask.
    probability_sum: float64, summed over the slice.
    near_edge: bool, gray matter that may be cut off.
    removed_mm2: float64, gray matter removed because it lies away from the cord.
    """

    n_voxels: tf.Tensor
    mask_probability: tf.Tensor
    probability_sum: tf.Tensor
    near_edge: tf.Tensor
    removed_mm2: tf.Tensor


def segment(image: StoredImage, network: GraphNetwork, config: GraphConfig) -> Result:
    """Mask, measurements and quality of an image, as of `keras_scgm.segment`."""
    require_image(image)
    grid = Grid.of(image, config.slices)
    if config.window == "auto":
        windows = windows_on_cord(image, grid, network)
    else:
        windows = fixed_windows(image, grid, grid.centered_starts, network)
    everywhere = tf.range(grid.n_slices)
    normalized = read_windows(image, grid, windows.statistics, grid.window, windows.starts, everywhere)
    probabilities = _predict(normalized, windows, network, config)
    mask, native, measurements, features = _resample_and_measure(
        image, grid, windows, normalized, probabilities, config
    )
    features = compare_with_neighbours(features)
    of_image, of_anatomy = _doubts(image, windows), anatomical_doubts(features)
    quality = predict_quality(features, [*of_image, *of_anatomy], config.knows_dark)
    return Result(
        mask=mask,
        probabilities=native,
        measurements=measurements,
        features=features,
        quality=quality,
        statistics=windows.statistics,
        window_moved=tf.reduce_any(windows.starts != grid.centered_starts),
        warnings=_warnings(image, windows, of_image, of_anatomy, measurements, quality, config),
    )


def _predict(
    normalized: tf.Tensor, windows: GraphWindows, network: GraphNetwork, config: GraphConfig
) -> tf.Tensor:
    """float32 (slice, rows, columns): probabilities in windows, 0 in empty ones."""
    known = windows.probed[:, tf.newaxis]
    is_known = tf.scatter_nd(known, tf.fill(tf.shape(windows.probed), True), tf.shape(normalized)[:1])
    is_new = tf.logical_and(is_varied(normalized), tf.logical_not(is_known))
    is_around = tf.logical_and(is_new, tf.logical_and(windows.is_found, config.window == "auto"))
    is_whole = tf.logical_and(is_new, tf.logical_not(is_around))
    probabilities = predict_some(
        normalized, windows.cord, is_around, is_whole, network, config.slices, config.threshold
    )
    return tf.tensor_scatter_nd_update(probabilities, known, windows.probabilities)


def _resample_and_measure(
    image: StoredImage,
    grid: Grid,
    windows: GraphWindows,
    normalized: tf.Tensor,
    probabilities: tf.Tensor,
    config: GraphConfig,
) -> tuple[tf.Tensor, tf.Tensor, Measurements, tf.Tensor]:
    """Resamples predictions to the native grid and measures them, slice by slice: mask, probabilities on that grid,
    measurements and quality features."""
    threshold, spacing_mm = config.threshold, grid.config.spacing_mm
    steps = windows.cord_steps
    voxel_mm = tf.sqrt(image.voxel_area_mm2)

    def add(index: tf.Tensor, below: SliceBelow, arrays: list[tf.TensorArray]) -> tuple[Any, ...]:
        here, start = slice(index, index + 1), windows.starts[index]
        inside = grid.clear_past_field(probabilities[here], windows.starts[here])
        inside, n_removed = tf.cond(
            windows.is_found,
            lambda: remove_detached(inside, windows.cord[here], steps[here], threshold, spacing_mm),
            lambda: (inside, tf.constant([0])),
        )
        (first, last), native = grid.to_native(inside[0], start)
        mask = native > threshold
        box = extents(mask[tf.newaxis])[0]
        n_voxels = tf.math.count_nonzero(mask, dtype=tf.int32)
        near_edge = _is_near_edge(image, box + first[:, tf.newaxis], grid.covered(start))
        removed_mm2 = tf.cast(n_removed, tf.float64) * spacing_mm**2
        features, below = slice_features(
            normalized[here][..., 0],
            inside,
            below,
            threshold=threshold,
            spacing_mm=spacing_mm,
            starts=windows.starts[here],
            is_present=tf.reshape(n_voxels > 0, [1]),
            unit=windows.statistics.std,
            near_edge=near_edge[tf.newaxis],
            noise=_noise(image, index, (box + first[:, tf.newaxis])[tf.newaxis]),
            voxel_mm=voxel_mm,
            removed_mm2=removed_mm2,
        )
        around = tf.stack([first, grid.native_shape - last], axis=1)
        measured = Measurements(
            n_voxels,
            tf.reduce_sum(tf.where(mask, native, 0.0)),
            tf.reduce_sum(native),
            near_edge,
            removed_mm2[0],
        )
        found = [
            tf.pad(tf.cast(mask, tf.uint8), around),
            tf.pad(tf.cast(native, tf.float32), around),
            features[0],
            *measured,
        ]
        return index + 1, below, [array.write(index, each) for array, each in zip(arrays, found, strict=True)]

    types = [tf.uint8, tf.float32, tf.float64, tf.int32, tf.float64, tf.float64, tf.bool, tf.float64]
    shapes = [[None, None], [None, None], [len(FEATURES)], *[[]] * len(Measurements._fields)]
    arrays = [
        tf.TensorArray(dtype, size=grid.n_slices, infer_shape=False, element_shape=shape)
        for dtype, shape in zip(types, shapes, strict=True)
    ]
    below = no_slice_below([grid.config.window_px] * 2)
    _, _, arrays = tf.while_loop(
        lambda index, *_: index < grid.n_slices,
        add,
        (tf.constant(0), below, arrays),
        shape_invariants=(
            tf.TensorShape([]),
            SliceBelow(tf.TensorShape([None, None]), tf.TensorShape([2])),
            [tf.TensorShape(None)] * len(arrays),
        ),
        parallel_iterations=1,
    )
    mask, native, features, *measured = (array.stack() for array in arrays)
    return mask, native, Measurements(*measured), features


def _noise(image: StoredImage, index: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """float64 (1,): noise around the gray matter of a slice."""
    return tf.cond(
        tf.reduce_all(box[..., 0] < box[..., 1]),
        lambda: noise_level(image.read_slice(index)[0][tf.newaxis], box, image.in_plane_spacing_mm),
        lambda: tf.constant([math.nan], tf.float64),
    )


def _is_near_edge(image: StoredImage, box: tf.Tensor, covered: Region) -> tf.Tensor:
    """Whether what is in a box, int32 (axis, 2), may be cut off by the edge of what was computed."""
    margin = tf.maximum(1, tf.cast(tf.round(EDGE_MM / image.in_plane_spacing_mm), tf.int32))
    is_near = tf.logical_or(box[:, 0] < covered[0] + margin, box[:, 1] > covered[1] - margin)
    return tf.logical_and(tf.reduce_any(is_near), tf.reduce_all(box[:, 0] < box[:, 1]))


def _doubts(image: StoredImage, windows: GraphWindows) -> list[Doubt]:
    """Possible faults of the whole volume that are known before anything is measured."""
    spacing = tf.strings.as_string(image.in_plane_spacing_mm, precision=2, shortest=True)
    return [
        *image.warnings,
        (
            tf.reduce_max(image.in_plane_spacing_mm) > COARSE_MM,
            filled(messages.TOO_COARSE, spacing[0], spacing[1]),
        ),
        (tf.logical_not(windows.is_found), messages.NO_CORD),
    ]


def _warnings(
    image: StoredImage,
    windows: GraphWindows,
    of_image: Sequence[Doubt],
    of_anatomy: Sequence[Doubt],
    measurements: Measurements,
    quality: GraphQuality,
    config: GraphConfig,
) -> tf.Tensor:
    """The warnings of `keras_scgm.segmentation`, in its words and order."""
    statistics = windows.statistics
    is_varied = tf.logical_not(statistics.is_constant)
    is_present = measurements.n_voxels > 0
    below = tf.cumsum(tf.cast(is_present, tf.int32))
    is_between = tf.logical_and(below > 0, below < below[-1])
    is_missing = tf.logical_and(is_between, tf.logical_not(is_present))
    is_empty = tf.logical_not(tf.reduce_any(is_present))
    is_judged = tf.logical_and(is_varied, tf.logical_not(is_empty))
    cases: list[Doubt] = [
        *of_image,
        (
            statistics.n_not_finite > 0,
            filled(messages.NOT_FINITE, tf.strings.as_string(statistics.n_not_finite)),
        ),
        (statistics.is_constant, messages.CONSTANT_IMAGE),
        *of_anatomy,
        (tf.logical_and(is_varied, is_empty), messages.EMPTY_MASK),
        (
            tf.logical_and(is_judged, tf.reduce_any(is_missing)),
            filled(messages.MISSING_SLICES, _names(image, is_missing)),
        ),
        (
            tf.logical_and(is_judged, tf.reduce_any(measurements.near_edge)),
            filled(messages.CUT_OFF, f"{EDGE_MM:g}", _names(image, measurements.near_edge)),
        ),
        (
            tf.logical_and(is_judged, quality.contrast < 0 if not config.knows_dark else False),
            messages.DARK_GRAY_MATTER,
        ),
        *(
            (tf.logical_and(is_varied, is_given), text)
            for is_given, text in quality_warnings(quality, is_present, lambda named: _names(image, named))
        ),
    ]
    is_given, texts = (tf.stack(column) for column in zip(*cases, strict=True))
    return tf.strings.reduce_join(tf.boolean_mask(texts, is_given), separator="\n")


def _names(image: StoredImage, is_named: tf.Tensor) -> tf.Tensor:
    indices = tf.where(image.in_file_order(is_named))[:, 0]
    shown = tf.strings.reduce_join(tf.strings.as_string(indices[:NAMED_SLICES]), separator=", ")
    noun = tf.where(tf.size(indices) == 1, "slice ", "slices ")
    return noun + shown + tf.where(tf.size(indices) > NAMED_SLICES, ", ...", "")
