"""A NIfTI image that has passed every check: its slices, and results on its grid, in a graph."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras_scgm import messages
from keras_scgm.export.graph.nifti.affine import column_lengths, orientation, to_nanometre
from keras_scgm.export.graph.nifti.disagreements import disagreements
from keras_scgm.export.graph.nifti.header import VOXEL_TYPES, Header
from keras_scgm.export.graph.processor import once_in_graph
from keras_scgm.export.graph.raw_bytes import flip, to_string
from keras_scgm.export.graph.refusals import Check, filled, require
from keras_scgm.volume import MAX_INTENSITY


class StoredImage:
    """A NIfTI-1 file that has passed every check, as tensors.

    Args:
        header: Header of the file.
        voxels: uint8 (k, j, i, bytes of a voxel), the stored bytes.
        affine: float64 (3, 3), one column in mm for each stored axis.
        has_surplus: bool (), whether the file holds more voxels than its header claims.

    Attributes:
        shape: int32 (3,), voxels along right-left, posterior-anterior and inferior-superior.
        in_plane_spacing_mm: float64 (2,), right-left and posterior-anterior.
        voxel_area_mm2: float64 (), of a voxel in the axial plane.
        slice_spacing_mm: float64 (), distance between the planes of neighbouring slices.
        warnings: Pairs of a bool () tensor, whether the header's geometry has a fault, and the string () warning.
    """

    def __init__(self, header: Header, voxels: tf.Tensor, affine: tf.Tensor, has_surplus: tf.Tensor) -> None:
        self._header = header
        self.warnings = [(has_surplus, messages.SURPLUS), *disagreements(header, affine)]
        # Stored axis behind each canonical axis, and whether it runs the other way in the file.
        self._axes, self._is_flipped = orientation(affine)
        self.shape = tf.gather(header.shape, self._axes)
        # (axial, the two others in the order of the file, bytes of a voxel)
        axial = 2 - self._axes[2]
        order = tf.concat([[axial], tf.boolean_mask(tf.range(3), tf.range(3) != axial), [3]], 0)
        self._slices = tf.cond(axial == 0, lambda: voxels, lambda: tf.transpose(voxels, order))
        affine = tf.gather(affine, self._axes, axis=1)
        self.in_plane_spacing_mm = to_nanometre(column_lengths(affine)[:2])
        self.voxel_area_mm2 = tf.norm(tf.linalg.cross(affine[:, 0], affine[:, 1]))
        self.slice_spacing_mm = to_nanometre(tf.abs(tf.linalg.det(affine)) / self.voxel_area_mm2)

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
        stored = flip(flip(stored, 0, self._is_flipped[0]), 1, self._is_flipped[1])
        header = self._header
        return _intensities(
            stored,
            header.type_index,
            header.is_float,
            header.is_swapped,
            header.is_scaled,
            header.slope,
            header.intercept,
            header.source,
        )

    def require(self, checks: Sequence[Check]) -> None:
        """Let the slices be read only if conditions hold (see `require`)."""
        self._slices = require(self._header.source, checks, self._slices)

    def in_file_order(self, of_slices: tf.Tensor) -> tf.Tensor:
        """One value per slice, from the inferior end, to the order of the file."""
        return flip(of_slices, 0, self._is_flipped[2])

    def write(self, slices: tf.Tensor) -> tf.Tensor:
        """The file of a result on this image's grid, as `Volume.write_result` writes it.

        Args:
            slices: uint8 or float32 (slice, right-left, posterior-anterior).

        Returns:
            string (), an uncompressed NIfTI-1 file in the byte order of the source.
        """
        for canonical, axis in ((0, 1), (1, 2), (2, 0)):
            slices = flip(slices, axis, self._is_flipped[canonical])
        # Position of each stored axis, slowest first, in `slices`.
        positions = tf.gather(tf.constant([1, 2, 0]), tf.argsort(self._axes, stable=True))
        slices = tf.transpose(slices, positions[::-1])
        voxels = tf.reshape(tf.bitcast(slices, tf.uint8), [-1, slices.dtype.size])
        voxels = tf.reshape(flip(voxels, 1, self._header.is_swapped), [-1])
        return to_string(tf.concat([self._header.of_result(slices.dtype), voxels], 0))


@once_in_graph
def _intensities(
    stored: tf.Tensor,
    type_index: tf.Tensor,
    is_float: tf.Tensor,
    is_swapped: tf.Tensor,
    is_scaled: tf.Tensor,
    slope: tf.Tensor,
    intercept: tf.Tensor,
    source: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The scaled values of uint8 (rows, columns, bytes of a voxel), as in `read_slice`."""

    def scaled(values: tf.Tensor) -> tf.Tensor:
        """Of stored values that are finite."""
        largest = tf.reduce_max(tf.abs(values)) * tf.abs(slope) + tf.abs(intercept)
        shown = tf.strings.as_string(largest, precision=3, shortest=True)
        too_intense = filled(messages.TOO_INTENSE, shown, f"{MAX_INTENSITY:g}")
        values = require(source, [(largest <= MAX_INTENSITY, too_intense)], values)
        return tf.cond(is_scaled, lambda: values * slope + intercept, lambda: values)

    def finite() -> tuple[tf.Tensor, tf.Tensor]:
        is_finite = tf.math.is_finite(values)
        n_replaced = tf.size(values, tf.int64) - tf.math.count_nonzero(is_finite)

        def replaced() -> tf.Tensor:
            known = scaled(tf.where(is_finite, values, 0.0))
            total = tf.reduce_sum(tf.where(is_finite, known, 0.0))
            count = tf.maximum(tf.math.count_nonzero(is_finite, dtype=tf.float64), 1.0)
            return tf.where(is_finite, known, total / count)

        return tf.cond(n_replaced > 0, replaced, lambda: scaled(values)), n_replaced

    stored = flip(stored, 2, is_swapped)
    values = tf.switch_case(type_index, [_decoder(stored, dtype) for dtype in VOXEL_TYPES.values()])
    values = tf.reshape(values, tf.shape(stored)[:2])
    return tf.cond(is_float, finite, lambda: (scaled(values), tf.constant(0, tf.int64)))


def _decoder(stored: tf.Tensor, dtype: tf.DType) -> object:
    def decode() -> tf.Tensor:
        values = tf.reshape(stored, [-1, dtype.size] if dtype.size > 1 else [-1])
        return tf.cast(tf.bitcast(values, dtype), tf.float64)

    return decode
