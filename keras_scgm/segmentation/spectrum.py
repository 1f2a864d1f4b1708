"""Power spectra along both axes of the axial plane, which tell how an image was acquired."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_scgm.volume import Volume

PROBES = 5
"""Evenly spaced slices whose spectra are added."""
MAX_LENGTH = 512
"""Voxels along an axis, from the middle of a slice, that are transformed."""


class Spectrum(NamedTuple):
    """Power spectrum along an axis.

    Args:
        power: float64 (frequency,) from 0 to Nyquist's, summed over the lines of all probed slices.
        length: Voxels of a line.
        spacing_mm: Voxel spacing along the axis.
    """

    power: np.ndarray
    length: int
    spacing_mm: float


def power_spectra(volume: Volume) -> tuple[Spectrum, Spectrum]:
    """Spectra along right-left and anterior-posterior of what lies within borders of one intensity."""
    # Some slices are taken more than once if there are few.
    probes = [(2 * number + 1) * volume.n_slices // (2 * PROBES) for number in range(PROBES)]
    slices = np.array([_middle(volume.view_slices(k, k + 1)[0][0]) for k in probes], np.float64)
    slices = slices[:, _varied(slices, 1)][..., _varied(slices, 2)]
    right_left_mm, anterior_posterior_mm = volume.in_plane_spacing_mm
    return (
        _spectrum(np.moveaxis(slices, 1, 2), right_left_mm),
        _spectrum(slices, anterior_posterior_mm),
    )


def _middle(intensities: np.ndarray) -> np.ndarray:
    starts = [max(0, (length - MAX_LENGTH) // 2) for length in intensities.shape]
    return intensities[tuple(slice(start, start + MAX_LENGTH) for start in starts)]


def _varied(slices: np.ndarray, axis: int) -> slice:
    """Positions along an axis of slices (slice, i, j) without those of one intensity at the borders, if any vary."""
    varied = np.flatnonzero(np.ptp(slices, axis=(0, 3 - axis)) > 0)
    return slice(varied[0], varied[-1] + 1) if len(varied) else slice(None)


def _spectrum(lines: np.ndarray, spacing_mm: float) -> Spectrum:
    length = lines.shape[-1]
    power = np.abs(np.fft.rfft(lines * np.hanning(length))) ** 2
    return Spectrum(power.sum(axis=(0, 1)), length, spacing_mm)
