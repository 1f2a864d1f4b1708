"""Warnings about headers that contradict themselves or the unit of their spacing, in a graph."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.nifti.affine import (
    closest_rotation,
    column_lengths,
    qform_rotation,
    stored_axes,
    to_nanometre,
)
from keras_scgm.export.graph.nifti.header import Header
from keras_scgm.export.graph.refusals import filled
from keras_scgm.nifti.disagreements import (
    DIRECTION_TOLERANCE_DEG,
    ENDS_OF_AXES,
    OTHER_UNITS,
    SPACING_TOLERANCE,
)


def disagreements(header: Header, affine: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Warnings of `keras_scgm.nifti.disagreements`, in their order, each with its condition."""
    is_stored = header.is_used[:3]

    def per_axis(values: tf.Tensor, separator: str) -> tf.Tensor:
        return tf.strings.reduce_join(tf.boolean_mask(values, is_stored), separator=separator)

    def any_axis(is_so: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(tf.logical_and(is_so, is_stored))

    def by(spacing_mm: tf.Tensor) -> tf.Tensor:
        return per_axis(tf.strings.as_string(spacing_mm, precision=3, shortest=True), " x ")

    has_sform = header.sform_code != 0
    has_qform = tf.logical_and(header.qform_code > 0, tf.reduce_all(tf.math.is_finite(header.quaternion)))
    sform_mm, pixdim_mm = to_nanometre(column_lengths(affine)), to_nanometre(header.spacing_mm)
    is_scaled = any_axis(tf.abs(sform_mm - pixdim_mm) > SPACING_TOLERANCE * pixdim_mm)
    others = tf.where(header.qform_code > 0, "qform and pixdim say", "pixdim says")

    qfac = tf.where(header.qfac_and_spacing[0] < 0, tf.constant(-1.0, tf.float64), 1.0)
    qform = qform_rotation(header) * tf.stack([tf.ones_like(qfac), tf.ones_like(qfac), qfac])
    qform = tf.where(has_qform, qform, tf.eye(3, dtype=tf.float64))
    cosines = tf.reduce_sum(qform * closest_rotation(affine), axis=0)
    smallest = tf.reduce_min(tf.where(is_stored, cosines, 1.0))
    angle_deg = to_nanometre(tf.acos(tf.clip_by_value(smallest, -1.0, 1.0)) * (180 / math.pi))
    differs = tf.reduce_all(tf.stack([has_sform, has_qform, angle_deg > DIRECTION_TOLERANCE_DEG]))
    (q_axes, q_signs), (s_axes, s_signs) = stored_axes(qform), stored_axes(affine)
    is_permuted = any_axis(q_axes != s_axes)
    is_flipped = q_signs != s_signs
    is_exchange = tf.logical_or(is_permuted, any_axis(is_flipped))
    flipped = tf.boolean_mask(
        tf.gather(tf.constant(ENDS_OF_AXES), s_axes), tf.logical_and(is_flipped, is_stored)
    )
    exchanged = tf.where(is_permuted, "axes", tf.strings.reduce_join(flipped, separator=", "))
    codes = [
        per_axis(tf.gather(tf.constant(list("LRPAIS")), 2 * axes + tf.cast(signs > 0, tf.int32)), "")
        for axes, signs in ((q_axes, q_signs), (s_axes, s_signs))
    ]
    angle = tf.strings.as_string(angle_deg, precision=0)
    return [
        *((header.unit == code, messages.OTHER_UNIT.format(unit)) for code, unit in OTHER_UNITS.items()),
        (
            tf.logical_and(has_sform, is_scaled),
            filled(messages.OTHER_SPACING, by(sform_mm), others, by(pixdim_mm)),
        ),
        (tf.logical_and(differs, is_exchange), filled(messages.OTHER_AXES, exchanged, *codes)),
        (tf.logical_and(differs, tf.logical_not(is_exchange)), filled(messages.OTHER_DIRECTION, angle)),
    ]
