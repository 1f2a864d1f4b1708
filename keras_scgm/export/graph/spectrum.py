"""Power spectra along both axes of the axial plane, in a graph."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_scgm.export.graph.nifti import StoredImage
from keras_scgm.segmentation.spectrum import MAX_LENGTH, PROBES


class GraphSpectrum(NamedTuple):
    """What `keras_scgm.segmentation.spectrum.Spectrum` holds.

    Args:
        power: float64 (frequency,).
        length: int32 ().
        spacing_mm: float64 ().
    """

    power: tf.Tensor
    length: tf.Tensor
    spacing_mm: tf.Tensor


def power_spectra(image: StoredImage) -> tuple[GraphSpectrum, GraphSpectrum]:
    """Along right-left and posterior-anterior, as of `keras_scgm.segmentation.spectrum`."""
    start = tf.maximum(0, (image.shape[:2] - MAX_LENGTH) // 2)

    def middle(number: tf.Tensor) -> tf.Tensor:
        intensities, _ = image.read_slice((2 * number + 1) * image.shape[2] // (2 * PROBES))
        return intensities[start[0] : start[0] + MAX_LENGTH, start[1] : start[1] + MAX_LENGTH]

    slices = tf.map_fn(
        middle,
        tf.range(PROBES),
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([None, None], tf.float64),
    )
    (top, bottom), (left, right) = _varied(slices, 1), _varied(slices, 2)
    slices = slices[:, top:bottom, left:right]
    right_left_mm, anterior_posterior_mm = tf.unstack(image.in_plane_spacing_mm)
    return (
        _spectrum(tf.transpose(slices, [0, 2, 1]), right_left_mm),
        _spectrum(slices, anterior_posterior_mm),
    )


def _varied(slices: tf.Tensor, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    others = [0, 3 - axis]
    is_varied = tf.reduce_max(slices, others) > tf.reduce_min(slices, others)
    varied = tf.where(tf.logical_or(is_varied, tf.logical_not(tf.reduce_any(is_varied))))[:, 0]
    return varied[0], varied[-1] + 1


def _spectrum(lines: tf.Tensor, spacing_mm: tf.Tensor) -> GraphSpectrum:
    length = tf.shape(lines)[2]
    window = tf.signal.hann_window(length, periodic=False, dtype=tf.float64)
    power = tf.reduce_sum(tf.abs(tf.signal.rfft(lines * window)) ** 2, [0, 1])
    return GraphSpectrum(power, length, spacing_mm)
