"""Reading NIfTI files in a graph, after every check that can be made before voxels are used."""

from __future__ import annotations

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.nifti.affine import affine_checks, column_lengths, header_affine, orientation
from keras_scgm.export.graph.nifti.header import HEADER_BYTES, VOXEL_OFFSET, Header
from keras_scgm.export.graph.nifti.image import StoredImage
from keras_scgm.export.graph.nifti.unpacking import unpacked
from keras_scgm.export.graph.refusals import Check, filled, require
from keras_scgm.limits import (
    BYTES_PER_SLICE,
    FREE_SLICES,
    FREE_UNPACKED_BYTES,
    MAX_FIELD_MM2,
    MAX_SLICE_VOXELS,
    MAX_UNPACKED_BYTES,
    UNPACKED_RATIO,
)
from keras_scgm.nifti.affine import PLAUSIBLE_SPACING_MM


def read_nifti(data: tf.Tensor, source: tf.Tensor, n_files: tf.Tensor | int = 1) -> StoredImage:
    """Read a NIfTI-1 file, after every check that can be made before its voxels are used.

    Args:
        data: string (), the file, gzip-compressed or not.
        source: string (), what error messages call it.
        n_files: int32 (), how many files share what a request may have (`keras_scgm.limits`).

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, if the file cannot be used.
    """
    data = require(source, [(tf.strings.length(data) > 0, messages.EMPTY_FILE)], data)
    n_sent = tf.cast(tf.strings.length(data), tf.int64)
    n_files = tf.cast(n_files, tf.int64)
    most_bytes = tf.minimum(FREE_UNPACKED_BYTES // n_files + UNPACKED_RATIO * n_sent, MAX_UNPACKED_BYTES)
    most_slices = tf.cast(FREE_SLICES // n_files + n_sent // BYTES_PER_SLICE, tf.int32)
    is_gzip = tf.strings.substr(data, 0, 2) == b"\x1f\x8b"
    data = tf.cond(is_gzip, lambda: unpacked(data, source, tf.cast(most_bytes, tf.int32)), lambda: data)
    n_bytes = tf.strings.length(data)
    # Padded, so that every field can be read before anything is known of the file.
    padded = tf.strings.substr(data, 0, HEADER_BYTES) + b"\0" * HEADER_BYTES
    block = tf.strings.substr(padded, 0, HEADER_BYTES)
    magic = tf.strings.substr(block, 344, 4)
    checks = [
        (
            tf.strings.substr(block, 4, 3) != b"n+2",
            "a NIfTI-2 file, which is not served; convert it to NIfTI-1",
        ),
        (
            tf.logical_or(magic == b"n+1\0", tf.strings.substr(block, 128, 4) != b"DICM"),
            messages.DICOM_FILE,
        ),
        (magic != b"ni1\0", messages.PAIR_HEADER),
        (magic == b"n+1\0", messages.NOT_NIFTI),
        (n_bytes >= HEADER_BYTES, messages.NOT_NIFTI),
    ]
    header = tf.ensure_shape(tf.io.decode_raw(require(source, checks, block), tf.uint8), [HEADER_BYTES])
    return _image(Header(header, source), data, most_slices)


def _image(header: Header, data: tf.Tensor, most_slices: tf.Tensor) -> StoredImage:
    # Sizes are compared in floating point: what a damaged header claims can overflow an integer.
    offset = tf.maximum(tf.floor(header.offset), VOXEL_OFFSET)
    claimed = offset + tf.reduce_prod(tf.cast(header.shape, tf.float64)) * tf.cast(
        header.voxel_bytes, tf.float64
    )
    n_bytes = tf.strings.length(data)
    affine = header_affine(header)
    checks = header.shape_and_type_checks()
    checks += affine_checks(header, affine)
    checks += [
        (tf.math.is_finite(header.intercept), messages.INTERCEPT_NOT_FINITE),
        (tf.logical_not(header.is_subnormal), messages.SLOPE_TOO_SMALL),
        (
            tf.logical_and(header.offset >= 0, header.offset < 2.0**62),
            filled(messages.BAD_OFFSET, tf.strings.as_string(header.offset, shortest=True)),
        ),
        (
            claimed <= MAX_UNPACKED_BYTES,
            f"more than {MAX_UNPACKED_BYTES >> 20} MiB of data; segment it with keras-scgm segment",
        ),
        (
            tf.cast(n_bytes, tf.float64) >= claimed,
            filled(
                messages.CUT_SHORT,
                *(
                    tf.strings.as_string(size) + " bytes"
                    for size in (tf.cast(tf.minimum(claimed, MAX_UNPACKED_BYTES), tf.int64), n_bytes)
                ),
            ),
        ),
        (
            tf.logical_or(header.sform_code > 0, header.qform_code > 0),
            messages.NO_ORIENTATION.format("write it into qform or sform of the header"),
        ),
        (
            tf.reduce_prod(tf.cast(header.shape[3:], tf.float64)) == 1,
            filled(
                messages.FRAMES,
                tf.strings.as_string(tf.reduce_prod(header.shape[3:])),
                tf.strings.reduce_join(tf.strings.as_string(header.shape[:3]), separator=" x "),
                "send one of them, or their average",
            ),
        ),
    ]
    affine = require(header.source, checks, affine)
    axes, _ = orientation(affine)
    shape = require(header.source, _size_checks(header, affine, axes, most_slices), header.shape[2::-1])
    stored = tf.strings.substr(data, tf.cast(offset, tf.int32), tf.reduce_prod(shape) * header.voxel_bytes)
    voxels = tf.reshape(tf.io.decode_raw(stored, tf.uint8), tf.concat([shape, [header.voxel_bytes]], 0))
    row = tf.cast(header.shape[0] * header.voxel_bytes, tf.float64)
    return StoredImage(header, voxels, affine, tf.cast(n_bytes, tf.float64) >= claimed + row)


def _size_checks(header: Header, affine: tf.Tensor, axes: tf.Tensor, most_slices: tf.Tensor) -> list[Check]:
    low, high = PLAUSIBLE_SPACING_MM
    in_plane_mm = tf.gather(column_lengths(affine), axes[:2])
    right_left, posterior_anterior, n_slices = tf.unstack(tf.gather(header.shape, axes))
    n_voxels = [tf.cast(right_left, tf.float64), tf.cast(posterior_anterior, tf.float64)]
    field_mm = in_plane_mm * tf.stack(n_voxels)
    steps_mm = tf.strings.as_string(in_plane_mm, shortest=True)
    sides_mm = tf.strings.as_string(tf.cast(tf.round(field_mm), tf.int64))
    return [
        (
            tf.logical_and(tf.reduce_min(in_plane_mm) >= low, tf.reduce_max(in_plane_mm) <= high),
            filled(messages.IMPLAUSIBLE_SPACING, steps_mm[0], steps_mm[1], f"{low:g}", f"{high:g}"),
        ),
        (
            n_voxels[0] * n_voxels[1] <= MAX_SLICE_VOXELS,
            filled(
                messages.TOO_MANY_VOXELS,
                tf.strings.as_string(right_left),
                tf.strings.as_string(posterior_anterior),
            ),
        ),
        (field_mm[0] * field_mm[1] <= MAX_FIELD_MM2, filled(messages.TOO_WIDE, sides_mm[0], sides_mm[1])),
        (
            n_slices <= most_slices,
            tf.strings.format(
                "{} axial slices, and a file of this size may have {}; send it uncompressed or segment it with "
                "keras-scgm segment",
                [n_slices, most_slices],
            ),
        ),
    ]
