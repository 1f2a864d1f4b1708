"""The features of `keras_scgm.quality.cord_features` in TensorFlow's core operations."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_scgm.export.graph.mask_pixels import MaskPixels
from keras_scgm.export.graph.slices import extents
from keras_scgm.quality.cord_features import AROUND_MM, MIN_DEPTH_PX

NAN = np.float64(math.nan)


class CordPrediction(NamedTuple):
    """What the network says of the cord in a chunk of slices.

    Args:
        probabilities: float32 (slice, rows, columns).
        threshold: Probability above which a pixel is in the cord.
        is_present: bool (slice,), whether there is a cord on the image's own grid; no other slice has one.
        near_edge: bool (slice,).
    """

    probabilities: tf.Tensor
    threshold: float
    is_present: tf.Tensor
    near_edge: tf.Tensor

    @property
    def masks(self) -> tf.Tensor:
        """bool (slice, rows, columns)."""
        is_inside = self.probabilities > self.threshold
        return tf.logical_and(is_inside, self.is_present[:, tf.newaxis, tf.newaxis])


def cord_features(cord: CordPrediction, gray_matter: tf.Tensor, spacing_mm: float) -> dict[str, tf.Tensor]:
    """Name -> float64 (slice,) of each feature of the cord.

    Args:
        cord: Prediction of the cord.
        gray_matter: bool (slice, rows, columns), mask in the same windows.
        spacing_mm: Pixel spacing of the windows.
    """
    masks, border_px = cord.masks, round(AROUND_MM / spacing_mm)
    pixels, of_gray_matter = MaskPixels(masks), MaskPixels(gray_matter)
    n, n_gray_matter = pixels.count, of_gray_matter.count
    chances = tf.cast(cord.probabilities, tf.float64)
    width_px, depth_px, _ = pixels.shape()
    rows = tf.cast(tf.range(tf.shape(masks)[1]), tf.float64)
    sides = tf.clip_by_value(2 * (rows - pixels.mean[:, :1]), -1.0, 1.0)
    n_per_row = tf.math.count_nonzero(gray_matter, axis=2)
    difference = tf.reduce_sum(tf.cast(n_per_row, tf.float64) * sides, axis=1)
    found = {
        "cord_agreement": 2
        * tf.reduce_sum(tf.where(masks, chances, 0.0), axis=(1, 2))
        / (tf.reduce_sum(tf.where(_boxes(masks, border_px), chances, 0.0), axis=(1, 2)) + n),
        "cord_aspect": width_px / tf.maximum(depth_px, MIN_DEPTH_PX),
        "gm_cord_ratio": n_gray_matter / n,
        "cord_offset": tf.norm(of_gray_matter.mean - pixels.mean, axis=1) / tf.sqrt(n / math.pi),
        "cord_balance": 1 - tf.abs(difference / n_gray_matter),
    }
    has_cord = n > 0
    has_both = tf.logical_and(has_cord, n_gray_matter > 0)
    of_cord_alone = ("cord_agreement", "cord_aspect")
    return {
        "cord_area_mm2": n * spacing_mm**2,
        "cord_near_edge": tf.cast(tf.logical_and(has_cord, cord.near_edge), tf.float64),
        **{
            name: tf.where(has_cord if name in of_cord_alone else has_both, values, NAN)
            for name, values in found.items()
        },
    }


def _boxes(masks: tf.Tensor, border_px: int) -> tf.Tensor:
    """bool (slice, rows, columns): the box that holds each mask, with a border."""
    ends = extents(masks)
    inside = []
    for axis in (0, 1):
        places = tf.range(tf.shape(masks)[axis + 1])
        first, last = ends[:, axis, :1] - border_px, ends[:, axis, 1:] + border_px
        inside.append(tf.logical_and(places >= first, places < last))
    return tf.logical_and(inside[0][:, :, tf.newaxis], inside[1][:, tf.newaxis])
