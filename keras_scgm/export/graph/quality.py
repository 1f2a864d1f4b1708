"""The predicted Dice coefficients and verdicts of `keras_scgm.quality` in TensorFlow's core operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.refusals import filled
from keras_scgm.export.graph.slice_features import FEATURES, NAN, column, median
from keras_scgm.predict import UnknownContrast
from keras_scgm.quality.model import CORD_REASONS, REASONS, fitted_model
from keras_scgm.quality.verdicts import (
    CORD_ALONE,
    CORD_ALONE_FOUND,
    CORD_NEAR_EDGE,
    DSC_DIGITS,
    EXCHANGED,
    FAIL_DSC,
    IMPLAUSIBLE_CORD,
    IMPLAUSIBLE_SHARE,
    IMPLAUSIBLE_SIZE,
    MAX_AREA_IN_CORD_MM2,
    MAX_AREA_MM2,
    MAX_CORD_ASPECT,
    MAX_CORD_MM2,
    MAX_CORD_OFFSET,
    MAX_CORD_SHARE,
    MAX_DEPTH_SKEWNESS,
    MAX_WIDTH_MM,
    MIN_AREA_MM2,
    MIN_CORD_AGREEMENT,
    MIN_CORD_ASPECT,
    MIN_CORD_MM2,
    MIN_CORD_SHARE,
    MIN_SEEN_SHARE,
    NEAR_EDGE,
    NO_CORD,
    NOTHING,
    NOTHING_FOUND,
    OF_VOLUME,
    OFF_CENTRE,
    PASS_DSC,
    UNCERTAIN_CORD,
    UNKNOWN_CONTRAST,
    UNKNOWN_CONTRAST_DSC,
    VERDICTS,
)
from keras_scgm.segmentation.warnings import SLICES_NOT_PASSED

_OF_FEATURES = REASONS | CORD_REASONS
_TEXTS = tuple(
    dict.fromkeys(
        [
            "",
            *_OF_FEATURES.values(),
            *UNKNOWN_CONTRAST.values(),
            *(NEAR_EDGE, CORD_NEAR_EDGE, OF_VOLUME, NOTHING, NO_CORD, CORD_ALONE),
        ]
    )
)

_PASS, _REVIEW, _FAIL = (VERDICTS.index(verdict) for verdict in ("pass", "review", "fail"))

Doubt = tuple[tf.Tensor, "str | tf.Tensor"]
"""Whether a volume may have a fault, bool (), and its message, string ()."""


class GraphQuality(NamedTuple):
    """Judgement of a volume, as `keras_scgm.quality.verdicts.Quality`; slices come from the inferior end.

    Args:
        predicted_dsc: float64 (), 0 for an empty mask.
        verdict: string ().
        reason: string (), empty if it passes.
        contrast: float64 (), in the image's unit; NaN for an empty mask.
        noise: Likewise.
        is_doubted: bool (), whether the reason is one of the doubts.
        slice_predicted_dsc: float64 (slice,), NaN without gray matter.
        slice_verdict: string (slice,).
        slice_reason: string (slice,), empty for a slice that passes.
        most_common_reason: string (), of slices with gray matter that do not pass, other than a doubt about the volume.
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


def anatomical_doubts(features: tf.Tensor, knows_cord: bool = False) -> list[Doubt]:
    """Anatomically implausible sizes and shapes of a volume.

    Args:
        features: float64 (slice, feature).
        knows_cord: Whether the network segments the cord.
    """
    is_present = column(features, "area_mm2") > 0
    area_mm2, width_mm, skewness = (
        median(tf.boolean_mask(column(features, name), is_present))
        for name in ("area_mm2", "width_mm", "depth_skewness")
    )
    is_any = tf.reduce_any(is_present)
    max_area_mm2 = MAX_AREA_IN_CORD_MM2 if knows_cord else MAX_AREA_MM2
    is_beyond = tf.logical_or(_is_outside(area_mm2, MIN_AREA_MM2, max_area_mm2), width_mm > MAX_WIDTH_MM)
    found = (tf.strings.as_string(value, precision=1) for value in (area_mm2, width_mm))
    of_size = filled(IMPLAUSIBLE_SIZE, *found, f"{max_area_mm2:g}")
    return [
        (tf.logical_and(is_any, is_beyond), of_size),
        (tf.logical_and(is_any, skewness > MAX_DEPTH_SKEWNESS), EXCHANGED),
        *(_doubts_about_cord(features, is_present) if knows_cord else ()),
    ]


def _doubts_about_cord(features: tf.Tensor, is_present: tf.Tensor) -> list[Doubt]:
    has_cord = column(features, "cord_area_mm2") > 0
    in_cord = tf.logical_and(is_present, has_cord)
    area_mm2, aspect, share, offset = (
        median(tf.boolean_mask(column(features, name), in_cord))
        for name in ("cord_area_mm2", "cord_aspect", "gm_cord_ratio", "cord_offset")
    )
    of_size = filled(
        IMPLAUSIBLE_CORD,
        tf.strings.as_string(area_mm2, precision=1),
        tf.strings.as_string(aspect, precision=2),
    )
    of_share = filled(IMPLAUSIBLE_SHARE, tf.strings.as_string(100 * share, precision=1))
    of_offset = filled(OFF_CENTRE, tf.strings.as_string(offset, precision=2))
    n_in_cord, n_cord = (tf.math.count_nonzero(each) for each in (in_cord, has_cord))
    counts = tf.strings.as_string(n_in_cord), tf.strings.as_string(n_cord)
    is_rare = tf.cast(n_in_cord, tf.float64) < MIN_SEEN_SHARE * tf.cast(n_cord, tf.float64)
    is_any = tf.reduce_any(in_cord)
    cases = [
        (
            tf.logical_or(
                _is_outside(area_mm2, MIN_CORD_MM2, MAX_CORD_MM2),
                _is_outside(aspect, MIN_CORD_ASPECT, MAX_CORD_ASPECT),
            ),
            of_size,
        ),
        (_is_outside(share, MIN_CORD_SHARE, MAX_CORD_SHARE), of_share),
        (offset > MAX_CORD_OFFSET, of_offset),
        (is_rare, filled(messages.RARE_GRAY_MATTER, *counts)),
    ]
    agreement = median(tf.boolean_mask(column(features, "cord_agreement"), has_cord))
    is_uncertain = tf.logical_and(tf.reduce_any(has_cord), agreement < MIN_CORD_AGREEMENT)
    return [
        *((tf.logical_and(is_any, is_given), text) for is_given, text in cases),
        (is_uncertain, filled(UNCERTAIN_CORD, tf.strings.as_string(agreement, precision=2))),
    ]


def _is_outside(value: tf.Tensor, lowest: float, highest: float) -> tf.Tensor:
    return tf.logical_or(value < lowest, value > highest)


def predict_quality(
    features: tf.Tensor,
    doubts: Sequence[Doubt],
    unknown_contrast: UnknownContrast = -1,
    knows_cord: bool = False,
) -> GraphQuality:
    """Verdicts on all slices of a volume and on the volume.

    Args:
        features: float64 (slice, feature), already compared with their neighbours.
        doubts: Possible faults of the whole volume; with one of them neither it nor any of its slices passes.
        unknown_contrast: Contrast that the network was not trained for.
        knows_cord: Whether the network segments the cord.
    """
    area_mm2, contrast = column(features, "area_mm2"), column(features, "contrast")
    is_present = area_mm2 > 0
    n_present = tf.cast(is_present, tf.int32)
    is_between = tf.logical_and(tf.cumsum(n_present) > 0, tf.cumsum(n_present, reverse=True) > 0)
    is_empty = tf.logical_not(tf.reduce_any(is_present))
    score, code = _additive_model(features, is_present, unknown_contrast, knows_cord)
    is_unknown = contrast * unknown_contrast > 0
    is_near_edge = tf.logical_and(column(features, "near_edge") > 0, tf.logical_not(is_unknown))
    score = tf.where(is_unknown, tf.minimum(score, UNKNOWN_CONTRAST_DSC), score)
    is_cord_near_edge = tf.logical_and(
        column(features, "cord_near_edge") > 0, tf.logical_not(tf.logical_or(is_unknown, is_near_edge))
    )
    score = tf.where(tf.logical_or(is_near_edge, is_cord_near_edge), tf.minimum(score, FAIL_DSC), score)
    score = tf.where(is_present, score, NAN)
    for is_given, reason in (
        (is_unknown, UNKNOWN_CONTRAST.get(unknown_contrast, "")),
        (is_near_edge, NEAR_EDGE),
        (is_cord_near_edge, CORD_NEAR_EDGE),
    ):
        code = tf.where(is_given, _code(reason), code)
    verdict = _verdict(score)
    has_cord = column(features, "cord_area_mm2") > 0
    absent = tf.where(has_cord, _code(CORD_ALONE), _code(NO_CORD)) if knows_cord else _code(NOTHING)
    code = tf.where(is_present, tf.where(verdict == _PASS, _code(""), code), absent)
    verdict = tf.where(is_present, verdict, tf.where(tf.logical_or(is_between, is_empty), _FAIL, _REVIEW))

    scores = tf.boolean_mask(tf.where(is_present, score, 0.0), is_between)
    # Without slices there is no mean, and an empty mask has 0.
    mean = tf.reduce_sum(scores) / tf.cast(tf.maximum(tf.size(scores), 1), tf.float64)
    mean = tf.round(mean * 10.0**DSC_DIGITS) / 10.0**DSC_DIGITS
    of_volume = _verdict(mean)
    is_given, lines = tf.constant([False]), tf.constant([""])
    if doubts:
        is_given, lines = (tf.stack(each) for each in zip(*doubts, strict=True))
    is_doubted = tf.logical_and(of_volume == _PASS, tf.reduce_any(is_given))
    nothing_found = tf.where(tf.reduce_any(has_cord), CORD_ALONE_FOUND, NOTHING_FOUND)
    reason = tf.where(
        of_volume == _PASS,
        tf.where(is_doubted, lines[tf.argmax(tf.cast(is_given, tf.int32))], ""),
        tf.where(is_empty, nothing_found, _most_common(code, is_between)),
    )
    most_common_reason = _most_common(code, tf.logical_and(is_present, verdict != _PASS))
    is_held = tf.logical_and(verdict == _PASS, tf.reduce_any(is_given))
    code, verdict = tf.where(is_held, _code(OF_VOLUME), code), tf.where(is_held, _REVIEW, verdict)
    return GraphQuality(
        predicted_dsc=mean,
        verdict=tf.gather(tf.constant(VERDICTS), tf.where(is_doubted, _REVIEW, of_volume)),
        reason=reason,
        contrast=_weighted_mean(contrast, area_mm2),
        noise=_weighted_mean(column(features, "noise"), area_mm2),
        is_doubted=is_doubted,
        slice_predicted_dsc=score,
        slice_verdict=tf.gather(tf.constant(VERDICTS), verdict),
        slice_reason=tf.gather(tf.constant(_TEXTS), code),
        most_common_reason=most_common_reason,
    )


def quality_warnings(
    quality: GraphQuality, has_voxels: tf.Tensor, name: Callable[[tf.Tensor], tf.Tensor]
) -> list[Doubt]:
    """The warnings of `keras_scgm.segmentation` about the predicted quality.

    Args:
        quality: Judgement of the volume.
        has_voxels: bool (slice,), which slices have gray matter, from the inferior end.
        name: Function from bool (slice,) to the string () that names the marked slices.
    """
    is_suspect = tf.logical_and(has_voxels, quality.slice_verdict != "pass")
    is_any = tf.reduce_any(is_suspect)
    look = tf.where(is_any, filled(messages.LOOK_AT, name(is_suspect)), "")
    passes = quality.verdict == "pass"
    dsc = tf.strings.as_string(
        tf.floor(100 * quality.predicted_dsc + messages.DSC_STEP_SHARE) / 100, precision=2
    )
    of_volume = filled(messages.VOLUME_NOT_PASSED, dsc, quality.verdict, quality.reason, look)
    of_slices = filled(SLICES_NOT_PASSED, quality.most_common_reason, look)
    return [
        (tf.logical_not(tf.logical_or(passes, quality.is_doubted)), of_volume),
        (tf.logical_and(passes, is_any), of_slices),
    ]


def _additive_model(
    features: tf.Tensor, is_present: tf.Tensor, unknown_contrast: UnknownContrast, knows_cord: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """(slice,): predicted Dice coefficient, float64, and code of the feature that lowers it most, int32."""
    inputs = dict(zip(FEATURES, tf.unstack(features, num=len(FEATURES), axis=1), strict=True))
    noise = inputs["noise"]
    ratio = tf.where(noise == 0, NAN, inputs["contrast"] / noise)
    if unknown_contrast != -1:
        is_dark = inputs["contrast"] < 0
        inputs["separation"] = tf.where(is_dark, 1 - inputs["separation"], inputs["separation"])
        ratio = tf.where(is_dark, -ratio, ratio)
    inputs["contrast_to_noise"] = ratio
    model = fitted_model(knows_cord)
    for name in model.terms:
        if name.startswith("volume_"):
            values = inputs[name.removeprefix("volume_")]
            is_known = tf.logical_and(is_present, tf.logical_not(tf.math.is_nan(values)))
            inputs[name] = median(tf.boolean_mask(values, is_known)) + tf.zeros_like(values)
    read = tf.stack([inputs[name] for name in model.terms], axis=1)
    contributions = _interpolated(read, list(model.terms.values()))
    score = 1 / (1 + tf.exp(-model.intercept - tf.reduce_sum(contributions, axis=1)))
    codes = tf.constant([_code(_OF_FEATURES[name]) for name in model.terms])
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
    inputs = tf.where(tf.math.is_nan(inputs), NAN, tf.clip_by_value(inputs, ends[:, 0], ends[:, 1]))
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


def _weighted_mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """float64 () over what is finite, NaN without any."""
    weights = tf.where(tf.math.is_finite(values), weights, 0.0)
    values = tf.where(tf.math.is_finite(values), values, 0.0)
    return tf.reduce_sum(values * weights) / tf.reduce_sum(weights)
