"""Ghosts: weaker copies of the image, shifted along an axis, as motion and aliasing leave them.

A copy of strength g at distance d multiplies the spectrum along that axis by 1 + g exp(-2 pi i f d), so the logarithm
of the power ripples by about 2 g cos(2 pi f d) over the frequency f, and the spectrum of that logarithm, the cepstrum,
has a peak of g at d (Bogert, Healy and Tukey 1963, who found the echoes of earthquakes so).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from keras_scgm.segmentation.spectrum import Spectrum

LOWEST_PER_MM, HIGHEST_PER_MM = 0.05, 0.8
"""Frequencies that are looked at: below are the large shapes of the anatomy, above mostly noise."""
ACQUIRED_SHARE = 0.9
"""Share of the acquired frequencies that is looked at, since scanners filter the highest."""
DEGREE = 5
"""Degree of the polynomial that is the anatomy's part of the logarithm."""
FLOOR, ROUNDING, LEAST_POWER = 3e-4, 1e-12, 1e-280
"""Power that is added to all frequencies: over the largest of those that are looked at, since the gaps that linear
interpolation leaves in the spectrum are no ripple; over the largest of all, above rounding errors; and at least, for
images that are empty or whose squares are no normal numbers."""
MIN_FREQUENCIES = 20
"""Frequencies with fewer of which no statement is made: fields below 26 mm, or 50 mm with voxels of 1 mm."""
MIN_DISTANCE_MM, DISTANCE_STEP_MM = 5.0, 0.25
"""Distances that are looked at, up to half of the field of view: nearer copies look like blur."""


class Ghost(NamedTuple):
    """The strongest copy along an axis.

    Args:
        strength: Brightness over that of the image, mostly underestimated; 0 if no statement is made.
        distance_mm: Distance from the image.
    """

    strength: float
    distance_mm: float


def strongest_ghost(spectrum: Spectrum, acquired_mm: float) -> Ghost:
    """The strongest copy, of an image of this acquired spacing along the axis."""
    field_mm = spectrum.length * spectrum.spacing_mm
    frequency = np.arange(len(spectrum.power)) / field_mm
    highest = min(HIGHEST_PER_MM, ACQUIRED_SHARE / (2 * acquired_mm))
    is_seen = (frequency >= LOWEST_PER_MM) & (frequency <= highest)
    n_seen = np.count_nonzero(is_seen)
    if n_seen < MIN_FREQUENCIES:
        return Ghost(0.0, 0.0)
    seen, power = frequency[is_seen], spectrum.power[is_seen]
    logarithm = np.log(power + FLOOR * power.max() + ROUNDING * spectrum.power.max() + LEAST_POWER)
    powers = np.linspace(-1.0, 1.0, n_seen)[:, np.newaxis] ** np.arange(DEGREE + 1)
    anatomy, _ = np.linalg.qr(powers)
    ripple = logarithm - anatomy @ (anatomy.T @ logarithm)
    distance_mm = np.arange(MIN_DISTANCE_MM, field_mm / 2, DISTANCE_STEP_MM)
    # Copies of opposite phase darken the image, and their peaks are negative.
    cepstrum = np.abs(np.cos(2 * math.pi * np.outer(distance_mm, seen)) @ ripple) / n_seen
    peak = int(cepstrum.argmax())
    return Ghost(float(cepstrum[peak]), float(distance_mm[peak]))
