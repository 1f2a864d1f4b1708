"""The affine of a NIfTI header and the orientation of the stored axes, in a graph."""

from __future__ import annotations

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.nifti.header import Header
from keras_scgm.export.graph.refusals import Check

# Largest excess of the squared length of a unit quaternion stored in float32.
QUATERNION_TOLERANCE = 3 * 2.0**-23
# Stored orientations are described in RAS+ millimetres; slices are read in LAS order (see `keras_scgm.volume`).
CANONICAL_SIGNS = (-1.0, 1.0, 1.0)


def header_affine(header: Header) -> tf.Tensor:
    """float64 (3, 3), one column in mm for each stored axis, of the sform or else the qform; not yet checked."""
    sform = tf.reshape(tf.cast(header.field(280, 12, tf.float32), tf.float64), [3, 4])[:, :3]
    affine = tf.where(header.sform_code != 0, sform, _qform(header))
    # A 2-D file may leave out its normal.
    normal = tf.linalg.cross(affine[:, 0], affine[:, 1])
    length = tf.norm(normal)
    normal /= tf.where(length > 0, length, 1.0)
    is_left_out = tf.logical_and(header.n_dims == 2, tf.reduce_all(affine[:, 2] == 0))
    return tf.concat([affine[:, :2], tf.where(is_left_out, normal, affine[:, 2])[:, tf.newaxis]], 1)


def affine_checks(header: Header, affine: tf.Tensor) -> list[Check]:
    qform_is_usable = tf.reduce_all(
        tf.stack(
            [
                tf.reduce_all(header.spacing_mm >= 0),
                tf.abs(header.qfac_and_spacing[0]) == 1,
                1 - tf.reduce_sum(header.quaternion**2) > -QUATERNION_TOLERANCE,
            ]
        )
    )
    # As in `keras_scgm.nifti.affine`.
    full = tf.abs(tf.linalg.det(affine)) > 1e-3 * tf.reduce_prod(column_lengths(affine))
    origin = tf.where(
        header.sform_code != 0, header.field(280, 12, tf.float32)[3::4], header.field(268, 3, tf.float32)
    )
    is_finite = tf.reduce_all(
        tf.math.is_finite(tf.concat([affine, tf.cast(origin, tf.float64)[:, tf.newaxis]], 1))
    )
    has_none = tf.logical_and(header.sform_code <= 0, header.qform_code <= 0)
    return [
        (
            tf.reduce_any(tf.stack([has_none, header.sform_code != 0, qform_is_usable])),
            messages.UNUSABLE_AFFINE,
        ),
        (
            tf.logical_or(has_none, tf.logical_and(full, is_finite)),
            messages.FLAT_AFFINE,
        ),
    ]


def _qform(header: Header) -> tf.Tensor:
    qfac = header.qfac_and_spacing[0]
    return (
        qform_rotation(header) * header.spacing_mm * tf.stack([tf.ones_like(qfac), tf.ones_like(qfac), qfac])
    )


def qform_rotation(header: Header) -> tf.Tensor:
    """float64 (3, 3): directions of the stored axes in the qform, but for the sign of the last."""
    squared = 1 - tf.reduce_sum(header.quaternion**2)
    a = tf.sqrt(tf.where(squared < QUATERNION_TOLERANCE, tf.zeros_like(squared), squared))
    b, c, d = tf.unstack(header.quaternion)
    scale = 2 / (a * a + b * b + c * c + d * d)
    return tf.stack(
        [
            tf.stack([1 - scale * (c * c + d * d), scale * (b * c - a * d), scale * (b * d + a * c)]),
            tf.stack([scale * (b * c + a * d), 1 - scale * (b * b + d * d), scale * (c * d - a * b)]),
            tf.stack([scale * (b * d - a * c), scale * (c * d + a * b), 1 - scale * (b * b + c * c)]),
        ]
    )


def orientation(affine: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which stored axes an affine maps to right-left, posterior-anterior and inferior-superior.

    The rule is that of nibabel's `io_orientation`: the closest rotation decides, its clearest axis first.

    Args:
        affine: float64 (3, 3), one column for each stored axis.

    Returns:
        int32 (3,) stored axis behind each canonical axis, and bool (3,) whether it runs the other way.
    """
    world_of_stored, sign_of_stored = stored_axes(affine)
    axes = tf.argsort(world_of_stored, stable=True)
    return axes, tf.gather(sign_of_stored, axes) != tf.constant(CANONICAL_SIGNS, tf.float64)


def stored_axes(affine: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 (3,) world axis behind each stored axis, and float64 (3,) its sign, -1 or 1."""
    rotation = closest_rotation(affine)
    strength = tf.reduce_max(rotation**2, axis=0)
    world_of_stored = tf.zeros(3, tf.int32)
    sign_of_stored = tf.zeros(3, tf.float64)
    for stored in tf.unstack(tf.argsort(-strength, stable=True)):
        column = tf.gather(rotation, stored, axis=1)
        world = tf.math.top_k(tf.abs(column), 1).indices[0]
        here = tf.range(3) == stored
        world_of_stored = tf.where(here, world, world_of_stored)
        sign_of_stored = tf.where(here, tf.sign(tf.gather(column, world)), sign_of_stored)
        rotation = tf.where((tf.range(3) == world)[:, tf.newaxis], tf.zeros_like(rotation), rotation)
    return world_of_stored, sign_of_stored


def closest_rotation(affine: tf.Tensor) -> tf.Tensor:
    _, left, right = tf.linalg.svd(affine / column_lengths(affine))
    return tf.linalg.matmul(left, right, transpose_b=True)


def column_lengths(affine: tf.Tensor) -> tf.Tensor:
    x, y, z = tf.unstack(affine)
    return tf.sqrt(x * x + y * y + z * z)


def to_nanometre(spacing_mm: tf.Tensor) -> tf.Tensor:
    """Spacings without the rounding errors of the header they come from, as in `keras_scgm.volume`."""
    # TensorFlow makes a plain division by a constant a product with its inverse, which rounds otherwise.
    return tf.math.divide_no_nan(tf.round(spacing_mm * 1e6), tf.constant(1e6, tf.float64))
