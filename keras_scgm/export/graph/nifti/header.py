"""The fields of NIfTI-1 headers, read, checked and written in a graph."""

from __future__ import annotations

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.raw_bytes import flip, numbers_of
from keras_scgm.export.graph.refusals import Check, filled

VOXEL_TYPES = {
    2: tf.uint8,
    256: tf.int8,
    4: tf.int16,
    512: tf.uint16,
    8: tf.int32,
    768: tf.uint32,
    16: tf.float32,
    1024: tf.int64,
    1280: tf.uint64,
    64: tf.float64,
}
"""Code in the header -> type of the stored voxels."""

COLOUR_CODES = (128, 2304)

COMPLEX_CODES = (32, 1792, 2048)

FLOAT_CODES = (16, 64)

HEADER_BYTES = 348

VOXEL_OFFSET = 352


class Header:
    """The fields of a NIfTI-1 header, and what is wrong with its shape and its type of voxels."""

    def __init__(self, header: tf.Tensor, source: tf.Tensor) -> None:
        self.bytes, self.source = header, source
        little = numbers_of(header[40:42], tf.int16, tf.constant(False))[0]
        wrong_size = tf.reduce_all(header[:4] == tf.constant([0, 0, 1, 92], tf.uint8))
        self.is_swapped = tf.where(little == 0, wrong_size, tf.logical_or(little < 0, little > 7))
        dim = tf.cast(self.field(40, 8, tf.int16), tf.int32)
        self.n_dims = dim[0]
        self.is_used = tf.range(1, 8) <= self.n_dims
        self.shape = tf.where(self.is_used, dim[1:], 1)
        self.qfac_and_spacing = tf.cast(self.field(76, 8, tf.float32), tf.float64)
        self.spacing_mm = self.qfac_and_spacing[1:4]
        self.unit = tf.bitwise.bitwise_and(header[123], 7)
        code = tf.cast(self.field(70, 1, tf.int16)[0], tf.int32)
        self.type_code = code
        self.is_float = tf.reduce_any(tf.constant(FLOAT_CODES) == code)
        self.type_index = tf.argmax(tf.constant(list(VOXEL_TYPES)) == code, output_type=tf.int32)
        self.offset = tf.cast(self.field(108, 1, tf.float32)[0], tf.float64)
        slope, intercept = tf.unstack(tf.cast(self.field(112, 2, tf.float32), tf.float64))
        magnitude = tf.bitwise.bitwise_and(self.field(112, 1, tf.int32)[0], 2**31 - 1)
        self.is_subnormal = tf.logical_and(magnitude > 0, magnitude < 2**23)
        self.is_scaled = tf.logical_and(slope != 0, tf.math.is_finite(slope))
        self.slope = tf.where(self.is_scaled, slope, 1.0)
        self.intercept = tf.where(self.is_scaled, intercept, 0.0)
        self.quaternion = tf.cast(self.field(256, 3, tf.float32), tf.float64)
        self.qform_code, self.sform_code = tf.unstack(tf.cast(self.field(252, 2, tf.int16), tf.int32))
        sizes = tf.constant([dtype.size for dtype in VOXEL_TYPES.values()])
        self.voxel_bytes = tf.gather(sizes, self.type_index)

    def field(self, offset: int, count: int, dtype: tf.DType) -> tf.Tensor:
        """Numbers (count,) at an offset."""
        return numbers_of(self.bytes[offset : offset + count * dtype.size], dtype, self.is_swapped)

    def of_result(self, dtype: tf.DType) -> tf.Tensor:
        """uint8 (352,): header of an unscaled result on the same grid, without extensions."""
        code = next(code for code, known in VOXEL_TYPES.items() if known == dtype)
        beyond = tf.range(8)[:, tf.newaxis] > self.n_dims
        dims = tf.where(beyond, self._encoded(1, tf.int16), tf.reshape(self.bytes[40:56], [8, 2]))
        spacing = tf.where(beyond, self._encoded(1, tf.float32), tf.reshape(self.bytes[76:108], [8, 4]))
        zero = self._encoded(0, tf.float32)
        parts = [
            self.bytes[:40],
            dims,
            self.bytes[56:70],
            self._encoded(code, tf.int16),
            self._encoded(8 * dtype.size, tf.int16),
            self.bytes[74:76],
            spacing,
            self._encoded(VOXEL_OFFSET, tf.float32),
            self._encoded(1, tf.float32),
            zero,
            self.bytes[120:124],
            zero,
            zero,
            self.bytes[132:],
            tf.zeros(VOXEL_OFFSET - HEADER_BYTES, tf.uint8),
        ]
        return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

    def _encoded(self, value: float, dtype: tf.DType) -> tf.Tensor:
        return flip(tf.bitcast(tf.constant(value, dtype), tf.uint8), 0, self.is_swapped)

    def shape_and_type_checks(self) -> list[Check]:
        """Conditions on what the voxels are."""
        has_slices = tf.reduce_all(
            tf.stack(
                [
                    self.n_dims >= 2,
                    self.n_dims <= 7,
                    tf.reduce_min(self.shape) >= 1,
                    tf.reduce_max(self.shape) > 1,
                ]
            )
        )
        spacing_mm = tf.where(self.is_used[:3], self.spacing_mm, 1.0)
        positive = tf.reduce_all(tf.logical_and(tf.math.is_finite(spacing_mm), spacing_mm > 0))
        known = tf.reduce_any(tf.constant(list(VOXEL_TYPES)) == self.type_code)
        sizes = tf.strings.as_string(tf.boolean_mask(self.shape, self.is_used))
        steps = tf.strings.as_string(tf.boolean_mask(self.spacing_mm, self.is_used[:3]), shortest=True)
        return [
            (has_slices, filled(messages.NO_SLICE, tf.strings.reduce_join(sizes, separator=", "))),
            (positive, filled(messages.SPACING_NOT_POSITIVE, tf.strings.reduce_join(steps, separator=" x "))),
            (
                tf.reduce_all(tf.constant(COLOUR_CODES) != self.type_code),
                messages.COLOUR,
            ),
            (
                tf.reduce_all(tf.constant(COMPLEX_CODES) != self.type_code),
                messages.COMPLEX,
            ),
            (
                known,
                filled(messages.VOXEL_TYPE, "code " + tf.strings.as_string(self.type_code)),
            ),
        ]
