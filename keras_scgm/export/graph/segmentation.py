"""The segmentation of `keras_scgm.segmentation` in TensorFlow's core operations, equal voxel for voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.acquired_spacing import acquired_spacing_mm
from keras_scgm.export.graph.cord_features import CordPrediction
from keras_scgm.export.graph.detached_pieces import remove_detached
from keras_scgm.export.graph.ghosts import strongest_ghost
from keras_scgm.export.graph.images import require_image
from keras_scgm.export.graph.localization import GraphWindows, fixed_windows, windows_on_cord
from keras_scgm.export.graph.network import GraphNetwork, compute_stacks, in_cord
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
from keras_scgm.export.graph.slice_warnings import slice_warnings
from keras_scgm.export.graph.slices import Grid, Region, Statistics, extents, is_varied, read_windows
from keras_scgm.export.graph.spectrum import power_spectra
from keras_scgm.predict import UnknownContrast
from keras_scgm.segmentation.warnings import (
    COARSE_ACQUIRED_MM,
    COARSE_MM,
    MAX_SLICE_DISTANCE_MM,
    MIN_GHOST,
    MIN_INTERPOLATION,
    MIN_SLICE_DISTANCE,
    NAMED_SLICES,
)
from keras_scgm.slices import EDGE_MM, SliceConfig


@dataclass(frozen=True)
class GraphConfig:
    """Configuration of a graph, fixed when it is exported.

    Args:
        slices: Configuration of the network's slices.
        thresholds: Probability of each tissue above which a voxel of the image's grid belongs to it.
        window: "auto" finds the cord, "center" is the middle of the field of view.
        unknown_contrast: Contrast that the network was not trained for.
    """

    slices: SliceConfig
    thresholds: tuple[float, ...]
    window: Literal["auto", "center"] = "auto"
    unknown_contrast: UnknownContrast = -1

    @property
    def knows_cord(self) -> bool:
        """Whether the network segments the cord."""
        return len(self.thresholds) > 1


@dataclass(frozen=True)
class Result:
    """Tissues of one image and their quality; slices come from the inferior end.

    Args:
        masks: Of each tissue, uint8 (slice, right-left, posterior-anterior).
        probabilities: Of each tissue, float32, same shape, in [0, 1].
        measurements: Measurements of each slice.
        features: float64 (slice, feature), see `keras_scgm.export.graph.slice_features`.
        quality: Judgement of the volume and its slices.
        statistics: Statistics of the intensities in the windows.
        window_moved: bool (), whether some window is not in the middle of the field of view.
        warnings: string (), what may be wrong with the result, one line each.
    """

    masks: Sequence[tf.Tensor]
    probabilities: Sequence[tf.Tensor]
    measurements: Measurements
    features: tf.Tensor
    quality: GraphQuality
    statistics: Statistics
    window_moved: tf.Tensor
    warnings: tf.Tensor


class Measurements(NamedTuple):
    """Of the gray matter on the image's own grid, one for each slice.

    n_voxels: int32.
    n_cord_voxels: int32, of the cord; those of the gray matter for networks without it.
    mask_probability: float64, probabilities summed over the mask.
    probability_sum: float64, summed over the slice.
    near_edge: bool, gray matter that may be cut off.
    removed_mm2: float64, gray matter removed because it lies away from the cord.
    """

    n_voxels: tf.Tensor
    n_cord_voxels: tf.Tensor
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
    masks, native, measurements, features = _resample_and_measure(
        image, grid, windows, normalized, probabilities, config
    )
    features = compare_with_neighbours(features)
    of_image, of_anatomy = _doubts(image, grid, windows), anatomical_doubts(features, config.knows_cord)
    quality = predict_quality(features, [*of_image, *of_anatomy], config.unknown_contrast, config.knows_cord)
    return Result(
        masks=masks,
        probabilities=native,
        measurements=measurements,
        features=features,
        quality=quality,
        statistics=windows.statistics,
        window_moved=tf.reduce_any(windows.starts != grid.centered_starts),
        warnings=_warnings(image, windows, of_image, of_anatomy, measurements, features, quality, config),
    )


def _predict(
    normalized: tf.Tensor, windows: GraphWindows, network: GraphNetwork, config: GraphConfig
) -> tf.Tensor:
    """float32 (slice, rows, columns, tissue): probabilities in windows, 0 in empty ones."""
    if network.slice_reach is not None:
        # What is known was predicted without the neighbouring slices.
        return compute_stacks(network, normalized, is_varied(normalized))
    known = windows.probed[:, tf.newaxis]
    is_known = tf.scatter_nd(known, tf.fill(tf.shape(windows.probed), True), tf.shape(normalized)[:1])
    is_new = tf.logical_and(is_varied(normalized), tf.logical_not(is_known))
    is_around = tf.logical_and(is_new, tf.logical_and(windows.is_found, config.window == "auto"))
    is_whole = tf.logical_and(is_new, tf.logical_not(is_around))
    probabilities = predict_some(
        normalized, windows.cord, is_around, is_whole, network, config.slices, config.thresholds
    )
    return tf.tensor_scatter_nd_update(probabilities, known, windows.probabilities)


def _resample_and_measure(
    image: StoredImage,
    grid: Grid,
    windows: GraphWindows,
    normalized: tf.Tensor,
    probabilities: tf.Tensor,
    config: GraphConfig,
) -> tuple[list[tf.Tensor], list[tf.Tensor], Measurements, tf.Tensor]:
    """Resamples predictions to the native grid and measures them, slice by slice: masks and probabilities on that grid,
    measurements and quality features."""
    thresholds, spacing_mm, n_tissues = config.thresholds, grid.config.spacing_mm, len(config.thresholds)
    steps = windows.cord_steps
    voxel_mm = tf.sqrt(image.voxel_area_mm2)

    def add(index: tf.Tensor, below: SliceBelow, arrays: list[tf.TensorArray]) -> tuple[Any, ...]:
        here, start = slice(index, index + 1), windows.starts[index]
        inside = grid.clear_past_field(probabilities[here], windows.starts[here])
        inside, n_removed = tf.cond(
            windows.is_found,
            lambda: remove_detached(inside, windows.cord[here], steps[here], thresholds, spacing_mm),
            lambda: (inside, tf.constant([0])),
        )
        (first, last), native = grid.to_native(inside[0], start)
        # Interpolation rounds the two tissues separately.
        native = in_cord(native, n_tissues)
        is_tissue = native > tf.constant(thresholds, tf.float64)
        mask = tf.reduce_all(is_tissue, axis=-1)
        masks = [mask, is_tissue[..., -1]][:n_tissues]
        intensities, _ = image.read_slice(index)
        seen = _seen(intensities, grid.covered(start))
        boxes = [box + first[:, tf.newaxis] for box in tf.unstack(extents(tf.stack(masks)), num=n_tissues)]
        counts = [tf.math.count_nonzero(each, dtype=tf.int32) for each in masks]
        near_edge = [_is_near_edge(image, box, seen) for box in boxes]
        cord = None
        if config.knows_cord:
            is_cord_present = tf.reshape(counts[-1] > 0, [1])
            cord = CordPrediction(inside[..., -1], thresholds[-1], is_cord_present, near_edge[-1][tf.newaxis])
        removed_mm2 = tf.cast(n_removed, tf.float64) * spacing_mm**2
        features, below = slice_features(
            normalized[here][..., 0],
            inside[..., 0],
            below,
            threshold=thresholds[0],
            spacing_mm=spacing_mm,
            starts=windows.starts[here],
            is_present=tf.reshape(counts[0] > 0, [1]),
            unit=windows.statistics.std,
            near_edge=near_edge[0][tf.newaxis],
            noise=_noise(image, intensities, boxes[0][tf.newaxis]),
            voxel_mm=voxel_mm,
            removed_mm2=removed_mm2,
            cord=cord,
        )
        around = tf.stack([first, grid.native_shape - last], axis=1)
        gray_matter = native[..., 0]
        measured = Measurements(
            counts[0],
            counts[-1],
            tf.reduce_sum(tf.where(mask, gray_matter, 0.0)),
            tf.reduce_sum(gray_matter),
            near_edge[0],
            removed_mm2[0],
        )
        found = [
            *(tf.pad(tf.cast(each, tf.uint8), around) for each in masks),
            *(tf.pad(tf.cast(native[..., k], tf.float32), around) for k in range(n_tissues)),
            features[0],
            *measured,
        ]
        return index + 1, below, [array.write(index, each) for array, each in zip(arrays, found, strict=True)]

    types = [*[tf.uint8] * n_tissues, *[tf.float32] * n_tissues, tf.float64]
    types += [tf.int32, tf.int32, tf.float64, tf.float64, tf.bool, tf.float64]
    shapes = [*[[None, None]] * 2 * n_tissues, [len(FEATURES)], *[[]] * len(Measurements._fields)]
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
    stacked = [array.stack() for array in arrays]
    masks, stacked = stacked[:n_tissues], stacked[n_tissues:]
    native, (features, *measured) = stacked[:n_tissues], stacked[n_tissues:]
    return masks, native, Measurements(*measured), features


def _noise(image: StoredImage, intensities: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """float64 (1,): noise around the gray matter of a slice."""
    return tf.cond(
        tf.reduce_all(box[..., 0] < box[..., 1]),
        lambda: noise_level(intensities[tf.newaxis], box, image.in_plane_spacing_mm),
        lambda: tf.constant([math.nan], tf.float64),
    )


def _seen(intensities: tf.Tensor, covered: Region) -> Region:
    """A region of a slice without rows and columns of one intensity at its borders."""
    first, last = covered
    part = intensities[first[0] : last[0], first[1] : last[1]]
    ends = []
    for axis in (0, 1):
        is_varied = tf.reduce_max(part, 1 - axis) > tf.reduce_min(part, 1 - axis)
        varied = tf.cast(tf.where(is_varied)[:, 0], tf.int32)
        n = last[axis] - first[axis]
        ends.append((tf.minimum(tf.reduce_min(varied), n), tf.maximum(tf.reduce_max(varied), -1) + 1))
    return tuple(first + tf.stack(end) for end in zip(*ends, strict=True))


def _is_near_edge(image: StoredImage, box: tf.Tensor, seen: Region) -> tf.Tensor:
    """Whether what is in a box, int32 (axis, 2), may be cut off by the edge of what was seen."""
    margin = tf.maximum(1, tf.cast(tf.round(EDGE_MM / image.in_plane_spacing_mm), tf.int32))
    is_near = tf.logical_or(box[:, 0] < seen[0] + margin, box[:, 1] > seen[1] - margin)
    return tf.logical_and(tf.reduce_any(is_near), tf.reduce_all(box[:, 0] < box[:, 1]))


def _doubts(image: StoredImage, grid: Grid, windows: GraphWindows) -> list[Doubt]:
    """Possible faults of the whole volume that are known before anything is measured."""
    spectra = power_spectra(image)
    spacing_mm = image.in_plane_spacing_mm
    acquired_mm = tf.stack([acquired_spacing_mm(spectrum) for spectrum in spectra])
    ghosts = tf.stack([strongest_ghost(*pair) for pair in zip(spectra, tf.unstack(acquired_mm), strict=True)])
    ghost_axis = tf.argmax(ghosts[:, 0])
    strength, ghost_mm = tf.unstack(ghosts[ghost_axis])
    ghost = [tf.strings.as_string(number, precision=0) for number in (100 * strength, ghost_mm)]
    spacing, acquired = (
        tf.strings.as_string(mm, precision=2, shortest=True) for mm in (spacing_mm, acquired_mm)
    )
    distance = tf.strings.as_string(image.slice_spacing_mm, precision=3, shortest=True)
    is_implausible = tf.logical_or(
        image.slice_spacing_mm < MIN_SLICE_DISTANCE * tf.reduce_min(spacing_mm),
        image.slice_spacing_mm > MAX_SLICE_DISTANCE_MM,
    )
    return [
        *image.warnings,
        (
            tf.reduce_max(spacing_mm) > COARSE_MM,
            filled(messages.TOO_COARSE, spacing[0], spacing[1]),
        ),
        (
            tf.reduce_any(acquired_mm > tf.maximum(MIN_INTERPOLATION * spacing_mm, COARSE_ACQUIRED_MM)),
            filled(messages.INTERPOLATED, *tf.unstack(spacing), *tf.unstack(acquired)),
        ),
        (
            strength > MIN_GHOST,
            filled(messages.GHOST, *ghost, tf.gather(messages.IN_PLANE_AXES, ghost_axis)),
        ),
        (tf.logical_and(grid.n_slices > 1, is_implausible), filled(messages.SLICE_DISTANCE, distance)),
        (tf.logical_not(windows.is_found), messages.NO_CORD),
    ]


def _warnings(
    image: StoredImage,
    windows: GraphWindows,
    of_image: Sequence[Doubt],
    of_anatomy: Sequence[Doubt],
    measurements: Measurements,
    features: tf.Tensor,
    quality: GraphQuality,
    config: GraphConfig,
) -> tf.Tensor:
    """The warnings of `keras_scgm.segmentation`, in its words and order."""
    statistics = windows.statistics
    is_varied = tf.logical_not(statistics.is_constant)
    is_present = measurements.n_voxels > 0
    is_unknown = quality.contrast * config.unknown_contrast > 0
    name = partial(_names, image)
    of_slices = slice_warnings(
        features,
        is_present,
        measurements.near_edge,
        measurements.removed_mm2,
        (is_unknown, messages.UNKNOWN_CONTRAST.get(config.unknown_contrast, "")),
        name,
        config.knows_cord,
    )
    cases: list[Doubt] = [
        *of_image,
        (
            statistics.n_not_finite > 0,
            filled(messages.NOT_FINITE, tf.strings.as_string(statistics.n_not_finite)),
        ),
        (statistics.is_constant, messages.CONSTANT_IMAGE),
        *of_anatomy,
        *(
            (tf.logical_and(is_varied, is_given), text)
            for is_given, text in (*of_slices, *quality_warnings(quality, is_present, name))
        ),
    ]
    is_given, texts = (tf.stack(column) for column in zip(*cases, strict=True))
    return tf.strings.reduce_join(tf.boolean_mask(texts, is_given), separator="\n")


def _names(image: StoredImage, is_named: tf.Tensor) -> tf.Tensor:
    indices = tf.where(image.in_file_order(is_named))[:, 0]
    shown = tf.strings.reduce_join(tf.strings.as_string(indices[:NAMED_SLICES]), separator=", ")
    noun = tf.where(tf.size(indices) == 1, "slice ", "slices ")
    return noun + shown + tf.where(tf.size(indices) > NAMED_SLICES, ", ...", "")
