"""The voxel spacing behind an interpolated image, where its spectrum tells it.

Scanners interpolate by filling k-space with zeros. Without a strong filter, an image of coarse voxels then has sharp
edges with ringing beside them, which networks take for more gray matter than there is, and the header tells nothing.
"""

from __future__ import annotations

import numpy as np

from keras_scgm.volume import Volume

PROBES = 5
"""Evenly spaced slices whose spectra are added."""
MAX_LENGTH, MIN_LENGTH = 512, 64
"""Voxels along an axis, from the middle of a slice, that are transformed, and fewer which are not."""
BANDS = 20
"""Equal parts of the frequencies up to Nyquist's."""
FIRST_BAND, LAST_BAND = 4, 16
"""Last band of what was acquired: with fewer any image looks empty beyond, with more the spacing hardly changes."""
MIN_STEP = 16.0
"""Least power in every band of what was acquired, over the most beyond it. It is 24 to 10,000 and more for zeros in
k-space, and up to 4.5 between bands of images that were not interpolated so."""


def acquired_spacing_mm(volume: Volume) -> tuple[float, float]:
    """Spacing of what was acquired, (right-left, anterior-posterior), to some 5 %; else that of the voxels."""
    # Some slices are taken more than once if there are few.
    probes = [(2 * number + 1) * volume.n_slices // (2 * PROBES) for number in range(PROBES)]
    middle = np.array([_middle(volume.view_slices(k, k + 1)[0][0]) for k in probes], np.float64)
    spacing_mm = [
        along_mm / _acquired_share(np.moveaxis(middle, axis, -1))
        for axis, along_mm in zip((1, 2), volume.in_plane_spacing_mm, strict=True)
    ]
    return spacing_mm[0], spacing_mm[1]


def _middle(intensities: np.ndarray) -> np.ndarray:
    starts = [max(0, (length - MAX_LENGTH) // 2) for length in intensities.shape]
    return intensities[tuple(slice(start, start + MAX_LENGTH) for start in starts)]


def _acquired_share(lines: np.ndarray) -> float:
    """Share of the frequencies along the last axis that were acquired, in steps of a band; 1 if no band is empty."""
    length = lines.shape[-1]
    if length < MIN_LENGTH:
        return 1.0
    power = np.abs(np.fft.rfft(lines * np.hanning(length), axis=-1)) ** 2
    half = length // 2
    total = power.sum(axis=tuple(range(power.ndim - 1)))[1:half]
    band = np.arange(1, half) * BANDS // half
    mean = np.bincount(band, total, BANDS) / np.bincount(band, minlength=BANDS)
    for last in range(FIRST_BAND, LAST_BAND + 1):
        # The band after it holds the edge.
        if mean[: last + 1].min() > MIN_STEP * mean[last + 2 :].max():
            return (last + 1.5) / BANDS
    return 1.0
