"""The features of `keras_scgm.quality` in TensorFlow's core operations.

They come in the order of `FEATURES`, NaN where they are not known, in float64; tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_scgm.export.graph.cord_features import NAN, CordPrediction, cord_features
from keras_scgm.export.graph.mask_pixels import MaskPixels
from keras_scgm.export.graph.slices import extents
from keras_scgm.quality.features import (
    BORDER_MM,
    MIN_CONTRAST,
    NOISE_LAG_MM,
    NOISE_MARGIN_MM,
    NOISE_VOXELS,
    RIM_MM,
    SliceFeatures,
)

FEATURES = tuple(each.name for each in fields(SliceFeatures) if each.name != "pixels")
"""Names of the columns of features; `near_edge` is 0 or 1."""

_OF_NEIGHBOURS = ("neighbour_dice", "log_area_ratio", "centroid_shift_mm")


class SliceBelow(NamedTuple):
    """The gray matter of the slice before a chunk.

    Args:
        mask: bool (rows, columns) of its window.
        start: int32 (2,), first pixel of the window.
    """

    mask: tf.Tensor
    start: tf.Tensor


def column(features: tf.Tensor, name: str) -> tf.Tensor:
    """float64 (slice,): one feature of (slice, feature)."""
    return features[:, FEATURES.index(name)]


def no_slice_below(window: Sequence[int]) -> SliceBelow:
    """The empty slice before the first chunk of a volume."""
    return SliceBelow(tf.zeros(window, tf.bool), tf.zeros(2, tf.int32))


def slice_features(
    normalized: tf.Tensor,
    probabilities: tf.Tensor,
    below: SliceBelow,
    *,
    threshold: float,
    spacing_mm: float,
    starts: tf.Tensor,
    is_present: tf.Tensor,
    unit: tf.Tensor,
    near_edge: tf.Tensor,
    noise: tf.Tensor,
    voxel_mm: tf.Tensor,
    removed_mm2: tf.Tensor,
    cord: CordPrediction | None = None,
) -> tuple[tf.Tensor, SliceBelow]:
    """Features of a chunk of slices, compared with the slice below each only.

    Args:
        normalized: float32 or float64 (slice, rows, columns), the network's windows.
        probabilities: float32, same shape.
        below: Gray matter of the slice before the chunk.
        threshold: Probability above which a pixel is in the mask.
        spacing_mm: Pixel spacing of the windows.
        starts: int32 (slice, 2), first pixels of the windows on the grid that all slices share.
        is_present: bool (slice,), whether there is gray matter on the image's own grid; no other slice is measured.
        unit: float64 (), of the image's brightness in the windows'.
        near_edge: bool (slice,).
        noise: float64 (slice,), from `noise_level`.
        voxel_mm: float64 (), square root of the area of the image's own voxel.
        removed_mm2: float64 (slice,).
        cord: Prediction of the cord, which holds the mask, if the network segments it.

    Returns:
        float64 (slice, feature), for `compare_with_neighbours` once all chunks are together, and the last slice.
    """
    inside = tf.logical_and(probabilities > threshold, is_present[:, tf.newaxis, tf.newaxis])
    if cord is not None:
        inside = tf.logical_and(inside, cord.masks)
    # The slice below comes first in `masks`.
    masks = tf.concat([below.mask[tf.newaxis], inside], 0)
    starts = tf.concat([below.start[tf.newaxis], starts], 0)
    rim_px, border_px = (max(1, round(mm / spacing_mm)) for mm in (RIM_MM, BORDER_MM))
    first, last = _box(masks, rim_px)
    crop = (slice(None), slice(first[0], last[0]), slice(first[1], last[1]))
    cropped = masks[crop]
    pixels = MaskPixels(cropped)
    area_px = pixels.count[1:]
    chances = tf.cast(tf.where(inside, probabilities, 0.0), tf.float64)
    agreement = (
        2
        * tf.reduce_sum(chances, axis=(1, 2))
        / (tf.reduce_sum(tf.cast(probabilities, tf.float64), axis=(1, 2)) + area_px)
    )
    n_edges, largest_px = pixels.outline_and_largest_piece()
    width_px, depth_px, symmetry = pixels.shape()
    contrast, separation, sharpness = _brightness(
        cropped[1:], tf.cast(normalized[crop], tf.float64), rim_px, border_px
    )
    center = pixels.mean + tf.cast(starts + first, tf.float64)
    step = center[1:] - center[:-1]
    area_mm2 = area_px * spacing_mm**2
    found = {
        "area_mm2": area_mm2,
        "near_edge": tf.cast(near_edge, tf.float64),
        "agreement": agreement,
        "detached_fraction": 1 - largest_px[1:] / area_px,
        "removed_mm2": removed_mm2,
        "width_mm": width_px[1:] * spacing_mm,
        "depth_mm": depth_px[1:] * spacing_mm,
        "depth_skewness": pixels.depth_skewness()[1:],
        "compactness": 4 * math.pi * area_px / (math.pi / 4 * n_edges[1:]) ** 2,
        "symmetry": symmetry[1:],
        "contrast": unit * contrast,
        "noise": noise,
        "separation": separation,
        "sharpness": sharpness,
        "voxel_mm": voxel_mm + tf.zeros_like(area_px),
        "neighbour_dice": pixels.dice_with_slice_below(),
        "log_area_ratio": tf.abs(tf.math.log(area_mm2 / (pixels.count[:-1] * spacing_mm**2))),
        "centroid_shift_mm": tf.norm(step, axis=1) * spacing_mm,
    }
    has_below = pixels.count[:-1] > 0
    for name in _OF_NEIGHBOURS:
        found[name] = tf.where(has_below, found[name], NAN)
    of_absent = {"area_mm2": 0.0, "near_edge": 0.0, "removed_mm2": tf.where(is_present, removed_mm2, 0.0)}
    # The cord may be where there is no gray matter.
    of_any = {"cord_near_edge": tf.zeros_like(area_px)}
    if cord is not None:
        of_any = cord_features(cord, inside, spacing_mm)
    unknown = tf.fill(tf.shape(area_px), NAN)
    columns = [
        of_any[name]
        if name in of_any
        else tf.where(area_px > 0, found.get(name, unknown), of_absent.get(name, NAN))
        for name in FEATURES
    ]
    return tf.stack(columns, axis=1), SliceBelow(masks[-1], starts[-1])


def compare_with_neighbours(features: tf.Tensor) -> tf.Tensor:
    """Features (slice, feature) of a whole volume, each slice with the better of its neighbours."""
    columns = tf.unstack(features, num=len(FEATURES), axis=1)
    for name in _OF_NEIGHBOURS:
        below = column(features, name)
        above = tf.concat([below[1:], [NAN]], 0)
        better = tf.maximum if name == "neighbour_dice" else tf.minimum
        known = tf.where(tf.math.is_nan(above), below, better(below, above))
        columns[FEATURES.index(name)] = tf.where(tf.math.is_nan(below), above, known)
    return tf.stack(columns, axis=1)


def noise_level(slices: tf.Tensor, boxes: tf.Tensor, spacing_mm: tf.Tensor) -> tf.Tensor:
    """Standard deviation of the noise around the gray matter of slices.

    Args:
        slices: float64 (slice, right-left, posterior-anterior) as acquired.
        boxes: int32 (slice, axis, 2), the part of each that the gray matter takes, from `extents`.
        spacing_mm: float64 (2,), of the voxels.

    Returns:
        float64 (slice,), in the unit of the image; NaN for an empty box.
    """
    margin = tf.cast(tf.round(NOISE_MARGIN_MM / spacing_mm), tf.int32)
    lag = tf.maximum(1, tf.cast(tf.round(NOISE_LAG_MM / spacing_mm), tf.int32))
    firsts = tf.maximum(boxes[..., 0] - margin, 0)
    lasts = tf.minimum(boxes[..., 1] + margin, tf.shape(slices)[1:])

    def of_slice(index: tf.Tensor) -> tf.Tensor:
        first, last = firsts[index], lasts[index]
        values = slices[index, first[0] : last[0], first[1] : last[1]]
        step = tf.maximum(1, -(-tf.size(values) // NOISE_VOXELS))
        along, across = values[:, ::step], values[::step]
        differences = [
            along[lag[0] : -lag[0]] - (along[: -2 * lag[0]] + along[2 * lag[0] :]) / 2,
            across[:, lag[1] : -lag[1]] - (across[:, : -2 * lag[1]] + across[:, 2 * lag[1] :]) / 2,
        ]
        return median(tf.abs(tf.concat([tf.reshape(each, [-1]) for each in differences], 0)))

    nothing = tf.constant(NAN, tf.float64)
    medians = tf.map_fn(
        lambda index: tf.cond(
            tf.reduce_all(boxes[index, :, 0] < boxes[index, :, 1]), lambda: of_slice(index), lambda: nothing
        ),
        tf.range(tf.shape(slices)[0]),
        fn_output_signature=tf.TensorSpec([], tf.float64),
        parallel_iterations=1,
    )
    return medians / 0.6745 / math.sqrt(1.5)


def median(values: tf.Tensor) -> tf.Tensor:
    """float64 (), NaN without values."""
    n = tf.size(values)
    padded = tf.concat([values, [math.inf]], 0)
    low, high = (tf.raw_ops.NthElement(input=padded, n=at) for at in (tf.maximum(n - 1, 0) // 2, n // 2))
    return tf.where(n > 0, (low + high) / 2, NAN)


def _box(masks: tf.Tensor, margin: int) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 (2,), first place and one past the last of what is in any mask, and a margin; never empty."""
    ends = extents(tf.reduce_any(masks, axis=0, keepdims=True))[0]
    first = tf.maximum(ends[:, 0] - margin, 0)
    return first, tf.minimum(tf.maximum(ends[:, 1], 1) + margin, tf.shape(masks)[1:])


def _brightness(
    masks: tf.Tensor, images: tf.Tensor, rim_px: int, border_px: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """float64 (slice,): contrast, separation and sharpness of masks; NaN without a rim."""
    outside = tf.logical_not(masks)
    grown = _dilated(masks, border_px, past_edge=False)
    rim = tf.logical_and(_dilated(grown, rim_px - border_px, past_edge=False), outside)
    inner = tf.logical_and(masks, _dilated(outside, border_px, past_edge=True))
    outer, beyond = tf.logical_and(grown, outside), tf.logical_and(rim, tf.logical_not(grown))
    parts = tf.stack([masks, rim, inner, outer, beyond])
    counts = tf.math.count_nonzero(parts, axis=(2, 3), dtype=tf.int32)
    sums = tf.reduce_sum(tf.where(parts, images, 0.0), axis=(2, 3))
    of_mask, of_rim, of_inner, of_outer, of_beyond = tf.unstack(sums / tf.cast(counts, tf.float64))
    contrast = of_mask - of_rim
    contrast = tf.where(tf.abs(contrast) <= MIN_CONTRAST, np.float64(0), contrast)
    whole = of_mask - of_beyond
    sharpness = tf.where(tf.abs(whole) > MIN_CONTRAST, (of_inner - of_outer) / whole, NAN)

    order = tf.sort(_packed(images, rim, counts[1], math.inf), axis=1)
    values = _packed(images, masks, counts[0], -math.inf)
    n_below = tf.searchsorted(order, values, "left") + tf.searchsorted(order, values, "right")
    n_pairs = 2 * tf.cast(counts[0], tf.float64) * tf.cast(counts[1], tf.float64)
    separation = tf.cast(tf.reduce_sum(n_below, axis=1), tf.float64) / n_pairs
    return contrast, separation, sharpness


def _packed(images: tf.Tensor, parts: tf.Tensor, counts: tf.Tensor, filler: float) -> tf.Tensor:
    """float64 (slice, pixel): values in a part of each image, side by side, and `filler` after them."""
    longest = tf.maximum(tf.reduce_max(counts), 1)
    places = tf.where(tf.sequence_mask(counts, longest))
    packed = tf.fill([tf.shape(images)[0], longest], tf.constant(filler, tf.float64))
    return tf.tensor_scatter_nd_update(packed, places, tf.boolean_mask(images, parts))


def _dilated(masks: tf.Tensor, pixels: int, past_edge: bool) -> tf.Tensor:
    """Masks (slice, rows, columns) grown by their neighbours along and across, `pixels` times."""
    for _ in range(pixels):
        padded = tf.pad(masks, [[0, 0], [1, 1], [1, 1]], constant_values=past_edge)
        for part in (
            padded[:, 1:-1, :-2],
            padded[:, 1:-1, 2:],
            padded[:, :-2, 1:-1],
            padded[:, 2:, 1:-1],
        ):
            masks = tf.logical_or(masks, part)
    return masks
