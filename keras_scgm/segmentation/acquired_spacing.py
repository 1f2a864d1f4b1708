"""The voxel spacing behind an interpolated image, where its spectrum tells it.

Scanners interpolate by filling k-space with zeros. Without a strong filter, an image of coarse voxels then has sharp
edges with ringing beside them, which networks take for more gray matter than there is, and the header tells nothing.
"""

from __future__ import annotations

import numpy as np

from keras_scgm.segmentation.spectrum import Spectrum

MIN_LENGTH = 64
"""Voxels of a line, with fewer of which no statement is made."""
BANDS = 20
"""Equal parts of the frequencies up to Nyquist's."""
FIRST_BAND, LAST_BAND = 4, 16
"""Last band of what was acquired: with fewer any image looks empty beyond, with more the spacing hardly changes."""
MIN_STEP = 16.0
"""Least power in every band of what was acquired, over the most beyond it. It is 24 to 10,000 and more for zeros in
k-space, and up to 4.5 between bands of images that were not interpolated so."""


def acquired_spacing_mm(spectrum: Spectrum) -> float:
    """Spacing of what was acquired along the axis, to some 5 %; else that of the voxels."""
    if spectrum.length < MIN_LENGTH:
        return spectrum.spacing_mm
    half = spectrum.length // 2
    band = np.arange(1, half) * BANDS // half
    mean = np.bincount(band, spectrum.power[1:half], BANDS) / np.bincount(band, minlength=BANDS)
    for last in range(FIRST_BAND, LAST_BAND + 1):
        # The band after it holds the edge.
        if mean[: last + 1].min() > MIN_STEP * mean[last + 2 :].max():
            return spectrum.spacing_mm / ((last + 1.5) / BANDS)
    return spectrum.spacing_mm
