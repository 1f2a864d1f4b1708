"""The judgement of `keras_scgm.quality` in TensorFlow's core operations.

Features are gathered in the order of `FEATURES`, NaN where they are not known, in float64; tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_scgm.export.graph.slices import extents
from keras_scgm.quality import (
    BORDER_MM,
    DARK,
    DARK_DSC,
    DSC_DIGITS,
    EXCHANGED,
    FAIL_DSC,
    MAX_AREA_MM2,
    MAX_DEPTH_SKEWNESS,
    MAX_WIDTH_MM,
    MIN_AREA_MM2,
    MIN_CONTRAST,
    NEAR_EDGE,
    NOISE_LAG_MM,
    NOISE_MARGIN_MM,
    NOISE_VOXELS,
    NOTHING,
    NOTHING_FOUND,
    PASS_DSC,
    REASONS,
    RIM_MM,
    VERDICTS,
    SliceFeatures,
    fitted_model,
)
from keras_scgm.slices import ROUNDING_TOLERANCE

FEATURES = tuple(each.name for each in fields(SliceFeatures) if each.name != "pixels")
"""What the columns of features are; `near_edge` is 0 or 1."""

_OF_NEIGHBOURS = ("neighbour_dice", "log_area_ratio", "centroid_shift_mm")
_TEXTS = tuple(dict.fromkeys(["", *REASONS.values(), DARK, NEAR_EDGE, NOTHING]))
_PASS, _REVIEW, _FAIL = (VERDICTS.index(verdict) for verdict in ("pass", "review", "fail"))
_NAN = np.float64(math.nan)

Doubt = tuple[tf.Tensor, "str | tf.Tensor"]
"""Whether something is so, bool (), and the line that says it, string ()."""


class SliceBelow(NamedTuple):
    """The gray matter of the slice before a chunk.

    Args:
        mask: bool (rows, columns) of its window.
        start: int32 (2,), first pixel of the window.
    """

    mask: tf.Tensor
    start: tf.Tensor


class Quality(NamedTuple):
    """Judgement of a volume, as `keras_scgm.quality.Quality`; slices come from the inferior end.

    Args:
        predicted_dsc: float64 (), 0 for an empty mask.
        verdict: string ().
        reason: string (), empty if it passes.
        contrast: float64 (), in the image's unit; NaN for an empty mask.
        noise: likewise.
        is_doubted: bool (), whether the reason is one of the doubts.
        slice_predicted_dsc: float64 (slice,), NaN without gray matter.
        slice_verdict: string (slice,).
        slice_reason: string (slice,), empty for a slice that passes.
        most_common_reason: string (), of slices with gray matter that do not pass.
    """

    predicted_dsc: tf.Tensor
    verdict: tf.Tensor
    reason: tf.Tensor
    contrast: tf.Tensor
    noise: tf.Tensor
    is_doubted: tf.Tensor
    slice_predicted_dsc: tf.Tensor
    slice_verdict: tf.Tensor
    slice_reason: tf.Tensor
    most_common_reason: tf.Tensor


def column(features: tf.Tensor, name: str) -> tf.Tensor:
    """float64 (slice,): one feature of (slice, feature)."""
    return features[:, FEATURES.index(name)]


def no_slice_below(window: Sequence[int]) -> SliceBelow:
    """What comes before the first chunk of a volume."""
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
) -> tuple[tf.Tensor, SliceBelow]:
    """Features of a chunk of slices, compared with the slice below each only.

    Args:
        normalized: float32 or float64 (slice, rows, columns), the network's windows.
        probabilities: float32, same shape.
        below: the slice before the chunk.
        threshold: probability above which a pixel is in the mask.
        spacing_mm: pixel spacing of the windows.
        starts: int32 (slice, 2), first pixels of the windows on the grid that all slices share.
        is_present: bool (slice,), whether there is gray matter on the image's own grid; no other slice is measured.
        unit: float64 (), of the image's brightness in the windows'.
        near_edge: bool (slice,).
        noise: float64 (slice,), from `noise_level`.
        voxel_mm: float64 (), square root of the area of the image's own voxel.
        removed_mm2: float64 (slice,).

    Returns:
        float64 (slice, feature), for `compare_with_neighbours` once all chunks are together, and the last slice.
    """
    inside = tf.logical_and(probabilities > threshold, is_present[:, tf.newaxis, tf.newaxis])
    # The slice below comes first in `masks`.
    masks = tf.concat([below.mask[tf.newaxis], inside], 0)
    starts = tf.concat([below.start[tf.newaxis], starts], 0)
    rim_px, border_px = (max(1, round(mm / spacing_mm)) for mm in (RIM_MM, BORDER_MM))
    first, last = _box(masks, rim_px)
    crop = (slice(None), slice(first[0], last[0]), slice(first[1], last[1]))
    cropped = masks[crop]
    pixels = _Pixels(cropped)
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
    of_absent = {"area_mm2": 0.0, "near_edge": 0.0, "removed_mm2": tf.where(is_present, removed_mm2, 0.0)}
    has_below = pixels.count[:-1] > 0
    columns = []
    for name in FEATURES:
        values = tf.where(has_below, found[name], _NAN) if name in _OF_NEIGHBOURS else found[name]
        columns.append(tf.where(area_px > 0, values, of_absent.get(name, _NAN)))
    return tf.stack(columns, axis=1), SliceBelow(masks[-1], starts[-1])


def compare_with_neighbours(features: tf.Tensor) -> tf.Tensor:
    """Features (slice, feature) of a whole volume, each slice with the better of its neighbours."""
    columns = tf.unstack(features, num=len(FEATURES), axis=1)
    for name in _OF_NEIGHBOURS:
        below = column(features, name)
        above = tf.concat([below[1:], [_NAN]], 0)
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
        return _median(tf.abs(tf.concat([tf.reshape(each, [-1]) for each in differences], 0)))

    nothing = tf.constant(_NAN, tf.float64)
    medians = tf.map_fn(
        lambda index: tf.cond(
            tf.reduce_all(boxes[index, :, 0] < boxes[index, :, 1]), lambda: of_slice(index), lambda: nothing
        ),
        tf.range(tf.shape(slices)[0]),
        fn_output_signature=tf.TensorSpec([], tf.float64),
        parallel_iterations=1,
    )
    return medians / 0.6745 / math.sqrt(1.5)


def anatomical_doubts(features: tf.Tensor) -> list[Doubt]:
    """What anatomy does not allow in a volume."""
    is_present = column(features, "area_mm2") > 0
    area_mm2, width_mm, skewness = (
        _median(tf.boolean_mask(column(features, name), is_present))
        for name in ("area_mm2", "width_mm", "depth_skewness")
    )
    is_any = tf.reduce_any(is_present)
    is_beyond = tf.reduce_any(
        tf.stack([area_mm2 < MIN_AREA_MM2, area_mm2 > MAX_AREA_MM2, width_mm > MAX_WIDTH_MM])
    )
    of_size = tf.strings.join(
        [
            "gray matter of ",
            tf.strings.as_string(area_mm2, precision=1),
            " mm2 and ",
            tf.strings.as_string(width_mm, precision=1),
            f" mm width (medians): anatomy allows {MIN_AREA_MM2:g} to {MAX_AREA_MM2:g} mm2 and up to "
            f"{MAX_WIDTH_MM:g} mm; check the voxel spacing",
        ]
    )
    return [
        (tf.logical_and(is_any, is_beyond), of_size),
        (tf.logical_and(is_any, skewness > MAX_DEPTH_SKEWNESS), EXCHANGED),
    ]


def predict_quality(features: tf.Tensor, doubts: Sequence[Doubt], knows_dark: bool = False) -> Quality:
    """Verdicts on all slices of a volume and on the volume.

    Args:
        features: float64 (slice, feature), already compared with their neighbours.
        doubts: what speaks against the whole volume, which then never passes.
        knows_dark: whether the network knows gray matter that is darker than white matter.
    """
    area_mm2, contrast = column(features, "area_mm2"), column(features, "contrast")
    is_present = area_mm2 > 0
    n_present = tf.cast(is_present, tf.int32)
    is_between = tf.logical_and(tf.cumsum(n_present) > 0, tf.cumsum(n_present, reverse=True) > 0)
    is_empty = tf.logical_not(tf.reduce_any(is_present))
    score, code = _additive_model(features, is_present, knows_dark)
    is_dark = contrast < 0 if not knows_dark else tf.zeros_like(is_present)
    is_near_edge = tf.logical_and(column(features, "near_edge") > 0, tf.logical_not(is_dark))
    score = tf.where(is_dark, tf.minimum(score, DARK_DSC), score)
    score = tf.where(is_near_edge, tf.minimum(score, FAIL_DSC), score)
    score = tf.where(is_present, score, _NAN)
    code = tf.where(is_near_edge, _code(NEAR_EDGE), tf.where(is_dark, _code(DARK), code))
    verdict = _verdict(score)
    code = tf.where(is_present, tf.where(verdict == _PASS, _code(""), code), _code(NOTHING))
    verdict = tf.where(is_present, verdict, tf.where(tf.logical_or(is_between, is_empty), _FAIL, _REVIEW))

    scores = tf.boolean_mask(tf.where(is_present, score, 0.0), is_between)
    # Without slices there is no mean, and an empty mask has 0.
    mean = tf.reduce_sum(scores) / tf.cast(tf.maximum(tf.size(scores), 1), tf.float64)
    mean = tf.round(mean * 10.0**DSC_DIGITS) / 10.0**DSC_DIGITS
    of_volume = _verdict(mean)
    is_given, lines = tf.constant([True]), tf.constant([""])
    if doubts:
        is_given, lines = (tf.stack(each) for each in zip(*doubts, strict=True))
    is_doubted = tf.logical_and(of_volume == _PASS, tf.reduce_any(is_given)) if doubts else tf.constant(False)
    reason = tf.where(
        of_volume == _PASS,
        tf.where(is_doubted, lines[tf.argmax(tf.cast(is_given, tf.int32))], ""),
        tf.where(is_empty, NOTHING_FOUND, _most_common(code, is_between)),
    )
    is_suspect = tf.logical_and(is_present, verdict != _PASS)
    return Quality(
        predicted_dsc=mean,
        verdict=tf.gather(tf.constant(VERDICTS), tf.where(is_doubted, _REVIEW, of_volume)),
        reason=reason,
        contrast=_weighted_mean(contrast, area_mm2),
        noise=_weighted_mean(column(features, "noise"), area_mm2),
        is_doubted=is_doubted,
        slice_predicted_dsc=score,
        slice_verdict=tf.gather(tf.constant(VERDICTS), verdict),
        slice_reason=tf.gather(tf.constant(_TEXTS), code),
        most_common_reason=_most_common(code, is_suspect),
    )


def quality_warnings(
    quality: Quality, has_voxels: tf.Tensor, name: Callable[[tf.Tensor], tf.Tensor]
) -> list[Doubt]:
    """The warnings of `keras_scgm.segmentation` that rest on the judgement.

    Args:
        quality: of the volume.
        has_voxels: bool (slice,), which slices have gray matter, from the inferior end.
        name: says in words which slices are marked in a bool (slice,).
    """
    is_suspect = tf.logical_and(has_voxels, quality.slice_verdict != "pass")
    is_any = tf.reduce_any(is_suspect)
    look = tf.where(is_any, "; look at " + name(is_suspect), "")
    passes = quality.verdict == "pass"
    of_volume = tf.strings.join(
        [
            "predicted DSC ",
            tf.strings.as_string(quality.predicted_dsc, precision=2),
            ", ",
            quality.verdict,
            ": ",
            quality.reason,
            look,
        ]
    )
    of_slices = tf.strings.join(
        [f"predicted DSC below {PASS_DSC:g} in some slices: ", quality.most_common_reason, look]
    )
    return [
        (tf.logical_not(tf.logical_or(passes, quality.is_doubted)), of_volume),
        (tf.logical_and(passes, is_any), of_slices),
    ]


class _Pixels:
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
    sharpness = tf.where(tf.abs(whole) > MIN_CONTRAST, (of_inner - of_outer) / whole, _NAN)

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


def _additive_model(
    features: tf.Tensor, is_present: tf.Tensor, knows_dark: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of every slice the predicted Dice coefficient, float64, and the code of what lowers it most, int32."""
    inputs = dict(zip(FEATURES, tf.unstack(features, num=len(FEATURES), axis=1), strict=True))
    noise = inputs["noise"]
    ratio = tf.where(noise == 0, _NAN, inputs["contrast"] / noise)
    if knows_dark:
        is_dark = inputs["contrast"] < 0
        inputs["separation"] = tf.where(is_dark, 1 - inputs["separation"], inputs["separation"])
        ratio = tf.where(is_dark, -ratio, ratio)
    inputs["contrast_to_noise"] = ratio
    for name in REASONS:
        if name.startswith("volume_"):
            values = inputs[name.removeprefix("volume_")]
            is_known = tf.logical_and(is_present, tf.logical_not(tf.math.is_nan(values)))
            inputs[name] = _median(tf.boolean_mask(values, is_known)) + tf.zeros_like(values)
    model = fitted_model()
    read = tf.stack([inputs[name] for name in model.terms], axis=1)
    contributions = _interpolated(read, list(model.terms.values()))
    score = 1 / (1 + tf.exp(-model.intercept - tf.reduce_sum(contributions, axis=1)))
    codes = tf.constant([_code(REASONS[name]) for name in model.terms])
    return score, tf.gather(codes, tf.argmin(contributions, axis=1))


def _interpolated(inputs: tf.Tensor, terms: list[tuple[list[float], list[float]]]) -> tf.Tensor:
    """float64 (slice, term): piecewise linear functions of (slice, term), 0 for NaN."""
    n_knots = max(len(knots) for knots, _ in terms)
    table = np.zeros((3, len(terms), n_knots))
    for k, (knots, values) in enumerate(terms):
        n = len(knots)
        table[0, k] = np.pad(knots, (0, n_knots - n), constant_values=math.inf)
        table[1, k, :n] = values
        table[2, k, : n - 1] = np.diff(values) / np.diff(knots)
    ends = np.array([[knots[0], knots[-1]] for knots, _ in terms])
    inputs = tf.where(tf.math.is_nan(inputs), _NAN, tf.clip_by_value(inputs, ends[:, 0], ends[:, 1]))
    is_reached = inputs[:, :, tf.newaxis] >= tf.constant(table[0])
    # The last knot that is reached; one before the first of a term would be another term's.
    index = tf.maximum(tf.math.count_nonzero(is_reached, axis=2) - 1, 0)
    index += tf.range(len(terms), dtype=tf.int64) * n_knots
    knot, value, slope = (tf.gather(tf.constant(each.ravel()), index) for each in table)
    found = slope * (inputs - knot) + value
    return tf.where(tf.math.is_nan(inputs), np.float64(0), found)


def _verdict(score: tf.Tensor) -> tf.Tensor:
    """int32, index of the verdict."""
    return tf.where(score >= PASS_DSC, _PASS, tf.where(score >= FAIL_DSC, _REVIEW, _FAIL))


def _code(text: str) -> int:
    return _TEXTS.index(text)


def _most_common(codes: tf.Tensor, is_counted: tf.Tensor) -> tf.Tensor:
    """string (), of the code that is most common, the first of several; what passes has no reason to count."""
    is_counted = tf.logical_and(is_counted, codes != _code(""))
    n = tf.size(codes)
    counts = tf.math.unsorted_segment_sum(tf.cast(is_counted, tf.int32), codes, len(_TEXTS))
    first = tf.math.unsorted_segment_min(tf.where(is_counted, tf.range(n), n), codes, len(_TEXTS))
    key = tf.cast(counts, tf.int64) * tf.cast(n + 1, tf.int64) - tf.cast(tf.minimum(first, n), tf.int64)
    return tf.gather(tf.constant(_TEXTS), tf.argmax(key))


def _median(values: tf.Tensor) -> tf.Tensor:
    """float64 (), NaN without values."""
    n = tf.size(values)
    padded = tf.concat([values, [math.inf]], 0)
    low, high = (tf.raw_ops.NthElement(input=padded, n=at) for at in (tf.maximum(n - 1, 0) // 2, n // 2))
    return tf.where(n > 0, (low + high) / 2, _NAN)


def _weighted_mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """float64 () over what is finite, NaN without any."""
    weights = tf.where(tf.math.is_finite(values), weights, 0.0)
    values = tf.where(tf.math.is_finite(values), values, 0.0)
    return tf.reduce_sum(values * weights) / tf.reduce_sum(weights)
