"""NIfTI files in TensorFlow's core operations: bytes to voxels, and results to bytes.

The rules are those of `keras_scgm.nifti` and `keras_scgm.volume`, for a graph that runs where neither Python
nor nibabel is. What a file cannot be used for is an INVALID_ARGUMENT error with one line: what is wrong, with
which file of the request, and what to do.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence

import tensorflow as tf

from keras_scgm.limits import (
    BYTES_PER_SLICE,
    FREE_SLICES,
    FREE_UNPACKED_BYTES,
    MAX_FIELD_MM2,
    MAX_SLICE_VOXELS,
    MAX_UNPACKED_BYTES,
    UNPACKED_RATIO,
)
from keras_scgm.nifti import (
    DIRECTION_TOLERANCE_DEG,
    DIRECTION_WARNING,
    ENDS_OF_AXES,
    EXCHANGE_WARNING,
    PLAUSIBLE_SPACING_MM,
    SPACING_TOLERANCE,
    SPACING_WARNING,
    TOO_MANY_VOXELS,
    TOO_WIDE,
)
from keras_scgm.volume import MAX_INTENSITY

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
UNPACKING_STEPS = 8
"""Looks at growing parts of a gzip stream, each of which is checked before the next."""

TOO_LARGE = (
    f"intensities beyond {MAX_INTENSITY:g} cannot be computed with; divide them, or mend scl_slope and scl_inter in "
    "the header"
)

HEADER_BYTES = 348
VOXEL_OFFSET = 352
# A unit quaternion stored in float32 may be too long by this much.
QUATERNION_TOLERANCE = 3 * 2.0**-23
# Stored orientations are described in RAS+ millimetres; slices are read in LAS order (see `keras_scgm.volume`).
CANONICAL_SIGNS = (-1.0, 1.0, 1.0)

# Follows the data into the decompressor: it comes out again only if the stream before it was whole.
_END_MARK = b"keras_scgm: end of file"
_END_MEMBER = gzip.compress(_END_MARK, mtime=0)

# The empty member that ends a file of bgzip; the decompressor stops at it, and must not before the mark.
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class StoredImage:
    """A NIfTI-1 file that has passed every check, as tensors.

    Args:
        header: its header.
        voxels: uint8 (k, j, i, bytes of a voxel), the stored bytes.
        affine: float64 (3, 3), one column in mm for each stored axis.

    Attributes:
        shape: int32 (3,), voxels along right-left, posterior-anterior and inferior-superior.
        in_plane_spacing_mm: float64 (2,), right-left and posterior-anterior.
        voxel_area_mm2: float64 (), of a voxel in the axial plane.
        slice_spacing_mm: float64 (), distance between the planes of neighbouring slices.
        warnings: what may be wrong with the geometry in the header, as pairs of a bool () tensor, whether it
            is so, and a string () tensor.
    """

    def __init__(self, header: _Header, voxels: tf.Tensor, affine: tf.Tensor) -> None:
        self._header = header
        self.warnings = header.disagreements(affine)
        # Stored axis behind each canonical axis, and whether it runs the other way in the file.
        self._axes, self._is_flipped = orientation(affine)
        self.shape = tf.gather(header.shape, self._axes)
        # (axial, the two others in the order of the file, bytes of a voxel)
        axial = 2 - self._axes[2]
        order = tf.concat([[axial], tf.boolean_mask(tf.range(3), tf.range(3) != axial), [3]], 0)
        self._slices = tf.cond(axial == 0, lambda: voxels, lambda: tf.transpose(voxels, order))
        affine = tf.gather(affine, self._axes, axis=1)
        self.in_plane_spacing_mm = _to_nanometre(_column_lengths(affine)[:2])
        self.voxel_area_mm2 = tf.norm(tf.linalg.cross(affine[:, 0], affine[:, 1]))
        self.slice_spacing_mm = _to_nanometre(tf.abs(tf.linalg.det(affine)) / self.voxel_area_mm2)

    def read_slice(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scaled intensities of a slice, counted from the inferior end.

        Returns:
            float64 (right-left, posterior-anterior), where voxels that were not finite have the mean of the
            finite ones, and int64 (), their number.
        """
        index = tf.where(self._is_flipped[2], self.shape[2] - 1 - index, index)
        stored = self._slices[index]
        stored = tf.cond(
            self._axes[0] < self._axes[1], lambda: tf.transpose(stored, [1, 0, 2]), lambda: stored
        )
        stored = _flip(_flip(stored, 0, self._is_flipped[0]), 1, self._is_flipped[1])
        stored = _flip(stored, 2, self._header.is_swapped)
        values = tf.switch_case(
            self._header.type_index, [_decoder(stored, dtype) for dtype in VOXEL_TYPES.values()]
        )
        values = tf.reshape(values, tf.shape(stored)[:2])
        zero = tf.constant(0, tf.int64)
        return tf.cond(
            self._header.is_float, lambda: self._finite(values), lambda: (self._scaled(values), zero)
        )

    def _scaled(self, values: tf.Tensor) -> tf.Tensor:
        """Intensities of stored values that are finite."""
        largest = tf.reduce_max(tf.abs(values)) * tf.abs(self._header.slope) + tf.abs(self._header.intercept)
        values = require(self._header.source, [(largest <= MAX_INTENSITY, TOO_LARGE)], values)
        return tf.cond(
            self._header.is_scaled,
            lambda: values * self._header.slope + self._header.intercept,
            lambda: values,
        )

    def _finite(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_finite = tf.math.is_finite(values)
        n_replaced = tf.size(values, tf.int64) - tf.math.count_nonzero(is_finite)

        def replaced() -> tf.Tensor:
            known = self._scaled(tf.where(is_finite, values, 0.0))
            total = tf.reduce_sum(tf.where(is_finite, known, 0.0))
            count = tf.maximum(tf.math.count_nonzero(is_finite, dtype=tf.float64), 1.0)
            return tf.where(is_finite, known, total / count)

        return tf.cond(n_replaced > 0, replaced, lambda: self._scaled(values)), n_replaced

    def require(self, checks: Sequence[tuple[tf.Tensor, str | tf.Tensor]]) -> None:
        """Let the slices be read only if conditions hold (see `require`)."""
        self._slices = require(self._header.source, checks, self._slices)

    def in_file_order(self, of_slices: tf.Tensor) -> tf.Tensor:
        """One value per slice, from the inferior end, to the order of the file."""
        return _flip(of_slices, 0, self._is_flipped[2])

    def write(self, slices: tf.Tensor) -> tf.Tensor:
        """The file of a result on this image's grid, as `Volume.write_result` writes it.

        Args:
            slices: uint8 or float32 (slice, right-left, posterior-anterior).

        Returns:
            string (), an uncompressed NIfTI-1 file in the byte order of the source.
        """
        for canonical, axis in ((0, 1), (1, 2), (2, 0)):
            slices = _flip(slices, axis, self._is_flipped[canonical])
        # Position of each stored axis, slowest first, in `slices`.
        positions = tf.gather(tf.constant([1, 2, 0]), tf.argsort(self._axes, stable=True))
        slices = tf.transpose(slices, positions[::-1])
        voxels = tf.reshape(tf.bitcast(slices, tf.uint8), [-1, slices.dtype.size])
        voxels = tf.reshape(_flip(voxels, 1, self._header.is_swapped), [-1])
        return to_string(tf.concat([self._header.of_result(slices.dtype), voxels], 0))


def read_nifti(data: tf.Tensor, source: tf.Tensor, n_files: tf.Tensor | int = 1) -> StoredImage:
    """Read a NIfTI-1 file, after every check that can be made before its voxels are used.

    Args:
        data: string (), the file, gzip-compressed or not.
        source: string (), what error messages call it.
        n_files: int32 (), how many files share what a request may have (`keras_scgm.limits`).

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, if the file cannot be used.
    """
    data = require(source, [(tf.strings.length(data) > 0, "the file is empty; copy it again")], data)
    n_sent = tf.cast(tf.strings.length(data), tf.int64)
    n_files = tf.cast(n_files, tf.int64)
    most_bytes = tf.minimum(FREE_UNPACKED_BYTES // n_files + UNPACKED_RATIO * n_sent, MAX_UNPACKED_BYTES)
    most_slices = tf.cast(FREE_SLICES // n_files + n_sent // BYTES_PER_SLICE, tf.int32)
    is_gzip = tf.strings.substr(data, 0, 2) == b"\x1f\x8b"
    data = tf.cond(is_gzip, lambda: _unpacked(data, source, tf.cast(most_bytes, tf.int32)), lambda: data)
    n_bytes = tf.strings.length(data)
    # Padded, so that every field can be read before anything is known of the file.
    padded = tf.strings.substr(data, 0, HEADER_BYTES) + b"\0" * HEADER_BYTES
    block = tf.strings.substr(padded, 0, HEADER_BYTES)
    magic = tf.strings.substr(block, 344, 4)
    not_nifti = "not a NIfTI file; give a .nii or .nii.gz file"
    checks = [
        (
            tf.strings.substr(block, 4, 3) != b"n+2",
            "a NIfTI-2 file, which is not served; convert it to NIfTI-1",
        ),
        (
            tf.logical_or(magic == b"n+1\0", tf.strings.substr(block, 128, 4) != b"DICM"),
            "a DICOM file, not NIfTI; convert it, for example with dcm2niix",
        ),
        (magic != b"ni1\0", "header of a .hdr/.img pair; convert it to a single .nii file"),
        (magic == b"n+1\0", not_nifti),
        (n_bytes >= HEADER_BYTES, not_nifti),
    ]
    header = tf.ensure_shape(tf.io.decode_raw(require(source, checks, block), tf.uint8), [HEADER_BYTES])
    return _Header(header, source).image(data, most_slices)


class _Header:
    """The fields of a NIfTI-1 header and what is wrong with them."""

    def __init__(self, header: tf.Tensor, source: tf.Tensor) -> None:
        self.bytes, self.source = header, source
        little = _values(header[40:42], tf.int16, tf.constant(False))[0]
        wrong_size = tf.reduce_all(header[:4] == tf.constant([0, 0, 1, 92], tf.uint8))
        self.is_swapped = tf.where(little == 0, wrong_size, tf.logical_or(little < 0, little > 7))
        dim = tf.cast(self._field(40, 8, tf.int16), tf.int32)
        self.n_dims = dim[0]
        self.is_used = tf.range(1, 8) <= self.n_dims
        self.shape = tf.where(self.is_used, dim[1:], 1)
        self.qfac_and_spacing = tf.cast(self._field(76, 8, tf.float32), tf.float64)
        self.spacing_mm = self.qfac_and_spacing[1:4]
        code = tf.cast(self._field(70, 1, tf.int16)[0], tf.int32)
        self.type_code = code
        self.is_float = tf.reduce_any(tf.constant(FLOAT_CODES) == code)
        self.type_index = tf.argmax(tf.constant(list(VOXEL_TYPES)) == code, output_type=tf.int32)
        self.offset = tf.cast(self._field(108, 1, tf.float32)[0], tf.float64)
        slope, intercept = tf.unstack(tf.cast(self._field(112, 2, tf.float32), tf.float64))
        magnitude = tf.bitwise.bitwise_and(self._field(112, 1, tf.int32)[0], 2**31 - 1)
        self.is_subnormal = tf.logical_and(magnitude > 0, magnitude < 2**23)
        self.is_scaled = tf.logical_and(slope != 0, tf.math.is_finite(slope))
        self.slope = tf.where(self.is_scaled, slope, 1.0)
        self.intercept = tf.where(self.is_scaled, intercept, 0.0)
        self.quaternion = tf.cast(self._field(256, 3, tf.float32), tf.float64)
        self.qform_code, self.sform_code = tf.unstack(tf.cast(self._field(252, 2, tf.int16), tf.int32))
        sizes = tf.constant([dtype.size for dtype in VOXEL_TYPES.values()])
        self.voxel_bytes = tf.gather(sizes, self.type_index)

    def _field(self, offset: int, count: int, dtype: tf.DType) -> tf.Tensor:
        return _values(self.bytes[offset : offset + count * dtype.size], dtype, self.is_swapped)

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
        return _flip(tf.bitcast(tf.constant(value, dtype), tf.uint8), 0, self.is_swapped)

    def image(self, data: tf.Tensor, most_slices: tf.Tensor) -> StoredImage:
        # Sizes are compared in floating point: what a damaged header claims can overflow an integer.
        offset = tf.maximum(tf.floor(self.offset), VOXEL_OFFSET)
        claimed = offset + tf.reduce_prod(tf.cast(self.shape, tf.float64)) * tf.cast(
            self.voxel_bytes, tf.float64
        )
        n_bytes = tf.strings.length(data)
        affine = self._affine()
        checks = self._shape_and_type_checks()
        checks += self._affine_checks(affine)
        checks += [
            (tf.math.is_finite(self.intercept), "scl_inter is not finite; mend scl_inter in the header"),
            (tf.logical_not(self.is_subnormal), "scl_slope is too small; mend scl_slope in the header"),
            (
                tf.logical_and(self.offset >= 0, self.offset < 2.0**62),
                "vox_offset is unusable; the header is damaged",
            ),
            (
                claimed <= MAX_UNPACKED_BYTES,
                f"more than {MAX_UNPACKED_BYTES >> 20} MiB of data; segment it with keras-scgm segment",
            ),
            (
                tf.cast(n_bytes, tf.float64) >= claimed,
                tf.strings.format(
                    "the header claims {} bytes of data, the file holds {}; it is cut short or its header is "
                    "damaged; copy it again",
                    [tf.cast(tf.minimum(claimed, MAX_UNPACKED_BYTES), tf.int64), n_bytes],
                ),
            ),
            (
                tf.logical_or(self.sform_code > 0, self.qform_code > 0),
                "no usable affine, qform and sform codes are both 0, so the axial axis is unknown; mend "
                "qform or sform in the header",
            ),
            (
                tf.reduce_prod(tf.cast(self.shape[3:], tf.float64)) == 1,
                "more than one frame; send one frame, or the average of all",
            ),
        ]
        affine = require(self.source, checks, affine)
        axes, _ = orientation(affine)
        shape = require(self.source, self._size_checks(affine, axes, most_slices), self.shape[2::-1])
        stored = tf.strings.substr(data, tf.cast(offset, tf.int32), tf.reduce_prod(shape) * self.voxel_bytes)
        voxels = tf.reshape(tf.io.decode_raw(stored, tf.uint8), tf.concat([shape, [self.voxel_bytes]], 0))
        return StoredImage(self, voxels, affine)

    def _size_checks(
        self, affine: tf.Tensor, axes: tf.Tensor, most_slices: tf.Tensor
    ) -> list[tuple[tf.Tensor, str | tf.Tensor]]:
        low, high = PLAUSIBLE_SPACING_MM
        in_plane_mm = tf.gather(_column_lengths(affine), axes[:2])
        right_left, posterior_anterior, n_slices = tf.unstack(tf.gather(self.shape, axes))
        n_voxels = [tf.cast(right_left, tf.float64), tf.cast(posterior_anterior, tf.float64)]
        field_mm = in_plane_mm * tf.stack(n_voxels)
        sides_mm = tf.strings.as_string(tf.cast(tf.round(field_mm), tf.int64))
        return [
            (
                tf.logical_and(tf.reduce_min(in_plane_mm) >= low, tf.reduce_max(in_plane_mm) <= high),
                f"axial voxels outside {low:g} to {high:g} mm; check the units and the orientation in the header",
            ),
            (
                n_voxels[0] * n_voxels[1] <= MAX_SLICE_VOXELS,
                filled(
                    TOO_MANY_VOXELS,
                    tf.strings.as_string(right_left),
                    tf.strings.as_string(posterior_anterior),
                ),
            ),
            (field_mm[0] * field_mm[1] <= MAX_FIELD_MM2, filled(TOO_WIDE, sides_mm[0], sides_mm[1])),
            (
                n_slices <= most_slices,
                tf.strings.format(
                    "{} axial slices, and a file of this size may have {}; send it uncompressed or segment it with "
                    "keras-scgm segment",
                    [n_slices, most_slices],
                ),
            ),
        ]

    def _shape_and_type_checks(self) -> list[tuple[tf.Tensor, str | tf.Tensor]]:
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
        return [
            (has_slices, "the dimensions hold no slice; the header is damaged"),
            (positive, "the voxel spacing is not positive; mend pixdim in the header"),
            (
                tf.reduce_all(tf.constant(COLOUR_CODES) != self.type_code),
                "colour (RGB) voxels; convert to one gray-scale channel",
            ),
            (
                tf.reduce_all(tf.constant(COMPLEX_CODES) != self.type_code),
                "complex voxels; save the magnitude image",
            ),
            (
                known,
                tf.strings.format(
                    "voxel type code {} is not supported; convert to float32", [self.type_code]
                ),
            ),
        ]

    def _affine(self) -> tf.Tensor:
        sform = tf.reshape(tf.cast(self._field(280, 12, tf.float32), tf.float64), [3, 4])[:, :3]
        affine = tf.where(self.sform_code != 0, sform, self._qform())
        # A 2-D file may leave out its normal.
        normal = tf.linalg.cross(affine[:, 0], affine[:, 1])
        length = tf.norm(normal)
        normal /= tf.where(length > 0, length, 1.0)
        is_left_out = tf.logical_and(self.n_dims == 2, tf.reduce_all(affine[:, 2] == 0))
        return tf.concat([affine[:, :2], tf.where(is_left_out, normal, affine[:, 2])[:, tf.newaxis]], 1)

    def _qform(self) -> tf.Tensor:
        qfac = self.qfac_and_spacing[0]
        return self._rotation() * self.spacing_mm * tf.stack([tf.ones_like(qfac), tf.ones_like(qfac), qfac])

    def _rotation(self) -> tf.Tensor:
        squared = 1 - tf.reduce_sum(self.quaternion**2)
        a = tf.sqrt(tf.where(squared < QUATERNION_TOLERANCE, tf.zeros_like(squared), squared))
        b, c, d = tf.unstack(self.quaternion)
        scale = 2 / (a * a + b * b + c * c + d * d)
        return tf.stack(
            [
                tf.stack([1 - scale * (c * c + d * d), scale * (b * c - a * d), scale * (b * d + a * c)]),
                tf.stack([scale * (b * c + a * d), 1 - scale * (b * b + d * d), scale * (c * d - a * b)]),
                tf.stack([scale * (b * d - a * c), scale * (c * d + a * b), 1 - scale * (b * b + c * c)]),
            ]
        )

    def disagreements(self, affine: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Where qform or pixdim contradict the sform, as in `keras_scgm.nifti`: conditions and warnings."""
        is_stored = self.is_used[:3]

        def per_axis(values: tf.Tensor, separator: str) -> tf.Tensor:
            return tf.strings.reduce_join(tf.boolean_mask(values, is_stored), separator=separator)

        def any_axis(is_so: tf.Tensor) -> tf.Tensor:
            return tf.reduce_any(tf.logical_and(is_so, is_stored))

        def by(spacing_mm: tf.Tensor) -> tf.Tensor:
            return per_axis(tf.strings.as_string(spacing_mm, precision=3, shortest=True), " x ")

        has_sform = self.sform_code != 0
        has_qform = tf.logical_and(self.qform_code > 0, tf.reduce_all(tf.math.is_finite(self.quaternion)))
        sform_mm, pixdim_mm = _to_nanometre(_column_lengths(affine)), _to_nanometre(self.spacing_mm)
        is_scaled = any_axis(tf.abs(sform_mm - pixdim_mm) > SPACING_TOLERANCE * pixdim_mm)
        others = tf.where(self.qform_code > 0, "qform and pixdim say", "pixdim says")

        qfac = tf.where(self.qfac_and_spacing[0] < 0, tf.constant(-1.0, tf.float64), 1.0)
        qform = self._rotation() * tf.stack([tf.ones_like(qfac), tf.ones_like(qfac), qfac])
        qform = tf.where(has_qform, qform, tf.eye(3, dtype=tf.float64))
        cosines = tf.reduce_sum(qform * _closest_rotation(affine), axis=0)
        smallest = tf.reduce_min(tf.where(is_stored, cosines, 1.0))
        angle_deg = _to_nanometre(tf.acos(tf.clip_by_value(smallest, -1.0, 1.0)) * (180 / math.pi))
        differs = tf.reduce_all(tf.stack([has_sform, has_qform, angle_deg > DIRECTION_TOLERANCE_DEG]))
        (q_axes, q_signs), (s_axes, s_signs) = _stored_axes(qform), _stored_axes(affine)
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
            (
                tf.logical_and(has_sform, is_scaled),
                filled(SPACING_WARNING, by(sform_mm), others, by(pixdim_mm)),
            ),
            (tf.logical_and(differs, is_exchange), filled(EXCHANGE_WARNING, exchanged, *codes)),
            (tf.logical_and(differs, tf.logical_not(is_exchange)), filled(DIRECTION_WARNING, angle)),
        ]

    def _affine_checks(self, affine: tf.Tensor) -> list[tuple[tf.Tensor, str | tf.Tensor]]:
        qform_is_usable = tf.reduce_all(
            tf.stack(
                [
                    tf.reduce_all(self.spacing_mm >= 0),
                    tf.abs(self.qfac_and_spacing[0]) == 1,
                    1 - tf.reduce_sum(self.quaternion**2) > -QUATERNION_TOLERANCE,
                ]
            )
        )
        # As in `keras_scgm.nifti`: a thousandth of the box that the edges span is flat for every purpose.
        full = tf.abs(tf.linalg.det(affine)) > 1e-3 * tf.reduce_prod(_column_lengths(affine))
        origin = tf.where(
            self.sform_code != 0, self._field(280, 12, tf.float32)[3::4], self._field(268, 3, tf.float32)
        )
        is_finite = tf.reduce_all(
            tf.math.is_finite(tf.concat([affine, tf.cast(origin, tf.float64)[:, tf.newaxis]], 1))
        )
        has_none = tf.logical_and(self.sform_code <= 0, self.qform_code <= 0)
        return [
            (
                tf.reduce_any(tf.stack([has_none, self.sform_code != 0, qform_is_usable])),
                "no usable affine; mend qform or sform in the header",
            ),
            (
                tf.logical_or(has_none, tf.logical_and(full, is_finite)),
                "no usable affine, it maps the voxels onto a plane, a line or not at all; mend qform or "
                "sform in the header",
            ),
        ]


def require(
    source: tf.Tensor, checks: Sequence[tuple[tf.Tensor, str | tf.Tensor]], value: tf.Tensor
) -> tf.Tensor:
    """`value`, once every condition holds; otherwise the request fails with the first message.

    Args:
        source: string (), what the message is about.
        checks: pairs of a bool () tensor and the message if it is false, in order.
        value: what depends on the conditions.
    """
    message = tf.constant("")
    for condition, text in reversed(checks):
        message = tf.where(condition, message, text)
    ok = message == ""
    with tf.control_dependencies([tf.debugging.Assert(ok, [tf.strings.join([source, ": ", message])])]):
        return tf.identity(value)


def filled(template: str, *texts: tf.Tensor) -> tf.Tensor:
    """`template.format(*texts)` for string () tensors."""
    first, *others = template.split("{}")
    return tf.strings.join([first, *(part for pair in zip(texts, others, strict=True) for part in pair)])


def _to_nanometre(spacing_mm: tf.Tensor) -> tf.Tensor:
    """Spacings without the rounding errors of the header they come from, as in `keras_scgm.volume`."""
    # TensorFlow makes a plain division by a constant a product with its inverse, which rounds otherwise.
    return tf.math.divide_no_nan(tf.round(spacing_mm * 1e6), tf.constant(1e6, tf.float64))


def _unpacked(data: tf.Tensor, source: tf.Tensor, most_bytes: tf.Tensor) -> tf.Tensor:
    """The content of a gzip stream of one or more members, if it is no more than `most_bytes`."""
    body = tf.maximum(tf.strings.length(data) - len(_BGZIP_END), 0)
    is_bgzip = tf.strings.substr(data, body, len(_BGZIP_END)) == _BGZIP_END
    data = tf.cond(is_bgzip, lambda: tf.strings.substr(data, 0, body), lambda: data)
    n_bytes = tf.strings.length(data)
    step = -(-n_bytes // UNPACKING_STEPS)

    def look_further(size: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        _, content = _inflate(tf.strings.substr(data, 0, size))
        return size + step, tf.strings.length(content)

    # The decompressor has no limit of its own: a look at growing parts finds a small file that unpacks to
    # something vast before all of it is in memory.
    _, unpacked = tf.while_loop(
        lambda size, unpacked: tf.logical_and(size < n_bytes, unpacked <= most_bytes),
        look_further,
        [step, tf.constant(0)],
    )
    too_large = tf.strings.format(
        "unpacks to more than {} MiB; send it uncompressed or segment it with keras-scgm segment",
        [most_bytes // 2**20],
    )
    data = require(source, [(unpacked <= most_bytes, too_large)], data)
    is_whole, content = _inflate(data + _END_MEMBER)
    length = tf.strings.length(content) - len(_END_MARK)
    end = tf.strings.substr(content, tf.maximum(length, 0), len(_END_MARK))
    checks = [
        (
            tf.logical_and(is_whole, end == _END_MARK),
            "gzip data damaged or cut short; copy the file again",
        ),
        (length <= most_bytes, too_large),
    ]
    return tf.strings.substr(require(source, checks, content), 0, tf.maximum(length, 0))


def _inflate(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a gzip stream could be read, and what it holds.

    The decompressor's own error cannot be caught in a graph, but a data set can leave out an element that
    fails.
    """
    contents = tf.data.Dataset.from_tensors(data).map(lambda stream: tf.io.decode_compressed(stream, "GZIP"))
    return contents.ignore_errors().reduce(
        (tf.constant(False), tf.constant("")), lambda _, content: (tf.constant(True), content)
    )


def orientation(affine: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which stored axes an affine maps to right-left, posterior-anterior and inferior-superior.

    The rule is that of nibabel's `io_orientation`: the closest rotation decides, its clearest axis first.

    Args:
        affine: float64 (3, 3), one column for each stored axis.

    Returns:
        int32 (3,) stored axis behind each canonical axis, and bool (3,) whether it runs the other way.
    """
    world_of_stored, sign_of_stored = _stored_axes(affine)
    axes = tf.argsort(world_of_stored, stable=True)
    return axes, tf.gather(sign_of_stored, axes) != tf.constant(CANONICAL_SIGNS, tf.float64)


def _stored_axes(affine: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 (3,) world axis behind each stored axis, and float64 (3,) its sign, -1 or 1."""
    rotation = _closest_rotation(affine)
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


def _closest_rotation(affine: tf.Tensor) -> tf.Tensor:
    _, left, right = tf.linalg.svd(affine / _column_lengths(affine))
    return tf.linalg.matmul(left, right, transpose_b=True)


def _column_lengths(affine: tf.Tensor) -> tf.Tensor:
    x, y, z = tf.unstack(affine)
    return tf.sqrt(x * x + y * y + z * z)


def _flip(tensor: tf.Tensor, axis: int, wanted: tf.Tensor) -> tf.Tensor:
    return tf.cond(wanted, lambda: tf.reverse(tensor, [axis]), lambda: tensor)


def _values(raw: tf.Tensor, dtype: tf.DType, is_swapped: tf.Tensor) -> tf.Tensor:
    values = tf.reshape(raw, [-1, dtype.size])
    return tf.bitcast(tf.where(is_swapped, values[:, ::-1], values), dtype)


def _decoder(stored: tf.Tensor, dtype: tf.DType) -> object:
    def decode() -> tf.Tensor:
        values = tf.reshape(stored, [-1, dtype.size] if dtype.size > 1 else [-1])
        return tf.cast(tf.bitcast(values, dtype), tf.float64)

    return decode


def to_string(values: tf.Tensor) -> tf.Tensor:
    """uint8 (n,) to a string of n bytes; a serialized tensor ends with them."""
    serialized = tf.io.serialize_tensor(values)
    n_bytes = tf.size(values)
    return tf.strings.substr(serialized, tf.strings.length(serialized) - n_bytes, n_bytes)


def to_bytes(values: tf.Tensor) -> tf.Tensor:
    """The memory of numbers as a string; `tf.io.decode_raw` is the way back."""
    return to_string(tf.reshape(tf.bitcast(tf.reshape(values, [-1]), tf.uint8), [-1]))
