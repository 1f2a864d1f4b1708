"""Shape of the spinal cord and of its gray matter at every vertebral level, as numbers.

Coordinates are millimetres from the centre of the cord: `u` to the subject's left, `v` to the front. The gray
matter of one side is a tree of seven discs (commissure, ventral horn, dorsal horn) joined by tapered
capsules, and the other side is its mirror image. The contour of the cord is a cosine series of the angle from
the front.

Sources:
    C1 to C7: fitted to the AMU7T population averages (72 people, 7 T; Taso et al., MAGMA 2014 and NeuroImage
    2016; github.com/spinalcordtoolbox/template_AMU7T, MIT). Figures only, no images.
    T1 to the conus: outer diameters of Frostell et al., Front Neurol 2016 (C5 13.3 x 7.4, T8 8.3 x 6.3, L3
    9.4 x 7.5 mm), areas of Kameyama et al., Spine 1996 and Ko et al., Spinal Cord 2004; gray matter area of
    Papinutto et al., PLOS ONE 2015, doi 10.1371/journal.pone.0118576 (about 5 to 6 mm2 at T9); horns after
    textbook sections.
    Spread between people: cord area C3 75 +- 9 mm2, gray matter 14 to 18 mm2 (Papinutto et al. 2015; Fradet
    et al., Clin Biomech 2014). People are drawn with longer and thicker horns than the population average, whose
    thin parts are worn away by averaging: 16.8 mm2 of gray matter at C3 and 18.6 at C4 on average, against 12.1
    and 13.6 in the population averages. Size of the cord (82 +- 11 mm2 at C3) and reach of the horns lie between
    those averages and what a published network (`large`) marks in T2*-weighted scans without labels
    (`benchmarks/drawn_shapes.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from io import StringIO

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from keras_scgm import checks

Floats = NDArray[np.floating]

FIRST_LEVEL = 1.0
"""Vertebral level C1. Levels count on: C7 is 7, T1 is 8, T12 is 19, L1 is 20."""
LAST_LEVEL = 21.0
"""Vertebral level L2, where the conus ends."""

_LEVELS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 17, 19, 20, 21], float)
# Per row (v, radius) of the commissure in the midline, then (u, v, radius) of six discs: lateral end of the
# commissure, middle of the ventral horn, its lateral corner, neck, middle and tip of the dorsal horn.
_NODES = np.loadtxt(
    StringIO("""
    1.25 0.35 1.29 1.22 0.36 1.3 1.88 0.19 1.63 1.23 0.15 1.61 0.07 0.16 2.14 -0.76 0.24 2.81 -1.65 0.34
    1.27 0.33 1.51 1.16 0.31 1.45 1.71 0.29 1.88 1.11 0.15 1.88 -0.03 0.19 2.35 -0.9 0.25 2.84 -1.73 0.35
    0.93 0.36 1.75 0.92 0.16 1.84 1.03 0.79 2.58 1.05 0.15 2 0.12 0.27 2.44 -1.05 0.32 2.92 -1.91 0.41
    0.87 0.36 1.94 0.82 0.24 2.09 1.06 0.76 3.01 1.25 0.38 2.11 0.07 0.26 2.6 -1.03 0.3 3.15 -2.02 0.36
    0.72 0.34 2.02 0.64 0.28 2.18 0.91 0.68 2.89 1.17 0.41 2.18 -0.15 0.19 2.61 -1.05 0.24 3.14 -1.96 0.34
    0.68 0.31 2.13 0.57 0.22 2.19 0.64 0.74 2.98 0.9 0.36 2.23 -0.34 0.18 2.51 -1.13 0.23 3.03 -2 0.32
    0.73 0.29 1.89 0.56 0.18 1.82 0.74 0.59 2.59 0.7 0.16 1.97 -0.31 0.16 2.25 -1.09 0.18 2.6 -1.83 0.25
    0.6 0.28 1.5 0.5 0.2 1.6 0.8 0.5 2.2 0.9 0.25 1.6 -0.3 0.18 1.9 -1.1 0.2 2.25 -1.9 0.26
    0.45 0.2 1 0.5 0.12 1.1 0.95 0.32 1.4 1.45 0.25 1.05 -0.3 0.12 1.3 -1.1 0.14 1.6 -1.95 0.17
    0.4 0.17 0.8 0.42 0.09 0.9 0.95 0.26 1.15 1.45 0.21 0.85 -0.3 0.1 1.05 -1.1 0.13 1.3 -2 0.16
    0.35 0.26 0.9 0.4 0.24 1.1 0.95 0.45 1.4 1.45 0.4 0.95 -0.3 0.26 1.15 -1.1 0.33 1.45 -2.05 0.3
    0.1 0.42 1 0.4 0.45 1.55 0.9 0.78 2.15 1.3 0.75 1.2 -0.5 0.52 1.5 -1.3 0.62 1.85 -2.2 0.42
    0 0.5 0.8 0.3 0.45 1.25 0.6 0.65 1.55 0.9 0.6 1 -0.5 0.48 1.2 -1.15 0.52 1.35 -1.85 0.35
    0 0.3 0.45 0.15 0.26 0.7 0.35 0.36 0.85 0.5 0.33 0.55 -0.3 0.28 0.65 -0.65 0.3 0.75 -1.05 0.2
    """)
)
# Radius in mm at the angle t from the front: sum over k of c[k] cos(k t).
_CONTOUR = np.array(
    [
        [4.58, -0.02, -0.75, -0.10, 0.21, 0.03, -0.15, -0.01, 0.02],
        [4.67, -0.02, -0.86, -0.12, 0.19, 0.03, -0.14, 0.00, 0.01],
        [4.77, -0.05, -1.06, -0.22, 0.23, 0.05, -0.13, -0.01, 0.00],
        [4.95, -0.09, -1.26, -0.33, 0.24, 0.06, -0.13, -0.01, 0.03],
        [4.83, -0.09, -1.25, -0.34, 0.23, 0.09, -0.14, 0.00, 0.05],
        [4.70, -0.07, -1.31, -0.24, 0.28, 0.04, -0.13, 0.01, 0.06],
        [4.28, -0.03, -1.11, -0.15, 0.26, -0.01, -0.13, 0.02, 0.03],
        [4.20, -0.03, -0.90, -0.12, 0.18, 0.00, -0.08, 0.00, 0.02],
        [3.88, -0.02, -0.66, -0.08, 0.10, 0.00, -0.04, 0.00, 0.00],
        [3.63, -0.02, -0.50, -0.05, 0.06, 0.00, -0.03, 0.00, 0.00],
        [3.88, -0.02, -0.50, -0.05, 0.06, 0.00, -0.03, 0.00, 0.00],
        [4.25, -0.02, -0.47, -0.05, 0.06, 0.00, -0.03, 0.00, 0.00],
        [3.45, -0.02, -0.26, -0.03, 0.03, 0.00, -0.02, 0.00, 0.00],
        [2.00, -0.01, -0.10, -0.01, 0.01, 0.00, 0.00, 0.00, 0.00],
    ]
)
_CAPSULES = ((0, 1), (1, 2), (2, 3), (1, 3), (1, 4), (4, 5), (5, 6))
_JOINT_MM = 0.25
_MIN_RADIUS_MM = 0.09
_PEOPLE = np.loadtxt(
    StringIO("""
    0.03 0.07 -0.11 0.08 0.05 -0.04 0.43 0 0.26 0.02 0.09 -0.1 0.07 0.08 0.18 -0.14 0.04 0.71 -0.72 -0.02
    0 0 0.06 0.01 0 0.08 0.3 0 0.2 0.31 0.06 0.07 -0.01 0 0.26 -0.36 0 0.32 -0.65 0
    """)
)
"""What people have beyond the population average, in the order of `_NODES`, in mm at the size of a cervical cord: to
C7, and from T2 on. Averaging people of different shape wears away the tips of the dorsal horns and the front of the
ventral ones. In the neck, discs fitted to drawings are on average as those fitted to what a published network marks
in scans without labels (`benchmarks/drawn_nodes.py`)."""


class Dials:
    """Standard normal numbers read one after the other as the settings of a drawing.

    A drawing is a function of its dials and nothing else, so neighbouring slices of a subject resemble each
    other when their dials do.

    >>> Dials(np.zeros(2)).uniform(2.0, 4.0)
    3.0
    """

    def __init__(self, numbers: Floats) -> None:
        self._numbers = iter(numbers.tolist())

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> float:
        """Gaussian, cut at 2.5 standard deviations so that no drawing is absurd."""
        return mean + sd * min(2.5, max(-2.5, next(self._numbers)))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(ndtr(next(self._numbers)))

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def chance(self, probability: float) -> bool:
        return self.uniform(0.0, 1.0) < probability


@dataclass(frozen=True)
class CordShape:
    """One cross-section of the cord.

    Args:
        level: Vertebral level, 1 (C1) to 21 (L2).
        contour: Cosine coefficients of the radius, mm, [9].
        nodes: (u, v, radius) of the discs of one half of the gray matter, mm, [7, 3].
        asymmetry: Relative width of the left over the right half, and difference of horn radius in mm.
        crescent: Bending of the section around the front, in mm at the lateral edge.
    """

    level: float
    contour: Floats
    nodes: Floats
    asymmetry: tuple[float, float] = (0.0, 0.0)
    crescent: float = 0.0

    @classmethod
    def average(cls, level: float) -> CordShape:
        """Population average at a vertebral level (linear between the levels of the table)."""
        nodes = _discs([np.interp(level, _LEVELS, column) for column in _NODES.T])
        contour = np.array([np.interp(level, _LEVELS, column) for column in _CONTOUR.T])
        return cls(float(level), contour, nodes)

    def varied(self, dials: Dials, *, diseased: bool = False) -> CordShape:
        """Another person's section at the same level: size, flattening, horns, asymmetry, compression.

        Args:
            dials: The person.
            diseased: Compressed more often, and further.
        """
        size = math.exp(dials.normal(0.05, 0.07))
        flat = math.exp(dials.normal(0.055, 0.08))
        compression = dials.uniform(0.4 if diseased else 0.62, 0.9)
        compressed = dials.chance(0.5 if diseased else 0.1)
        if compressed:
            flat *= math.sqrt(compression)
            size *= compression**0.25 if diseased else 1.0
        wide, deep = size / flat, size * flat
        contour = self.contour * np.array([size] + [dials.normal(1.0, 0.25) * size for _ in range(8)])
        contour[2] = size * self.contour[2] + self.contour[0] * size * math.log(flat)
        if diseased:
            # The next term of a flat ellipse, without which a far compressed section has a waist.
            contour[4] += 0.75 * self.contour[0] * size * math.log(flat) ** 2
        own = math.exp(dials.normal(0.0, 0.05))
        relative_size = min(1.0, self.contour[0] / 4.5)
        people = _discs([np.interp(self.level, [7.0, 9.0], column) for column in _PEOPLE.T])
        nodes = (self.nodes + relative_size * people) * np.array(
            [wide**0.8 * own, deep**0.8 * own, size**0.8]
        )
        horn_angle = dials.normal(0.0, 0.07)
        nodes[4:, 0] += horn_angle * (nodes[1, 1] - nodes[4:, 1])
        reach = dials.normal(0.0, 0.1)
        nodes[5:, 0] *= 1 + 0.45 * reach
        nodes[5:, 1] *= 1 + reach
        nodes[2:4, 1] += relative_size * dials.normal(0.0, 0.2)
        # In some people the ventral horns stand upright at either side of the fissure, in others they spread.
        upright = relative_size * min(1.0, max(0.0, dials.normal(0.2, 0.4)))
        nodes[1:4] += upright * np.array([(-0.3, 0.05, 0.0), (-0.4, 0.2, -0.5), (-1.1, 0.7, -0.15)])
        nodes[1:4, 0] = np.maximum(nodes[1:4, 0], (0.6, 0.6, 0.7))
        nodes[:, 2] = np.maximum(nodes[:, 2], _MIN_RADIUS_MM)
        for node in nodes:
            node[0] += relative_size * dials.normal(0.0, 0.11) * (node[0] > 0)
            node[1] += relative_size * dials.normal(0.0, 0.11)
            node[2] *= math.exp(dials.normal(0.0, 0.16))
        # Published areas of gray matter differ by a third between methods (14 to 21 mm2 at C2 to C4), hence the spread.
        nodes[:, 2] = np.maximum(nodes[:, 2] + relative_size * dials.normal(0.0, 0.06), _MIN_RADIUS_MM)
        return replace(
            self,
            contour=contour,
            nodes=nodes,
            asymmetry=(dials.normal(0.0, 0.035), dials.normal(0.0, 0.04)),
            crescent=dials.normal(0.15 + 0.5 * (1 - compression) * compressed, 0.25),
        )

    @property
    def half_width_mm(self) -> float:
        """Distance from the centre to the lateral surface."""
        return float(self.contour[::2] @ [(-1.0) ** k for k in range(5)])

    @property
    def front_mm(self) -> float:
        """Distance from the centre to the anterior surface."""
        return float(self.contour.sum())

    @property
    def back_mm(self) -> float:
        """Distance from the centre to the posterior surface."""
        return float(self.contour @ [(-1.0) ** k for k in range(9)])

    def straighten(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Coordinates in the symmetric section of points of the bent, asymmetric one."""
        bend = self.crescent / self.half_width_mm**2
        return u * (1 - self.asymmetry[0] * np.tanh(u)), v - bend * (u * u - 0.3 * self.half_width_mm**2)

    def cord_distance(self, u: Floats, v: Floats) -> Floats:
        """Signed distance in mm (approximate) of straightened points to the contour, negative inside."""
        radius = np.sqrt(u * u + v * v) + 1e-3
        cosine = v / radius
        twice = 2 * cosine
        ahead = later = np.zeros_like(cosine)
        for coefficient in self.contour[:0:-1]:
            ahead, later = coefficient + twice * ahead - later, ahead
        return radius - (self.contour[0] + cosine * ahead - later)

    def gray_matter_distance(self, u: Floats, v: Floats) -> Floats:
        """Signed distance in mm (approximate) of straightened points to the gray matter, negative inside."""
        side = np.abs(u)
        total = np.zeros_like(side)
        for start, end in _CAPSULES:
            total += np.exp(capsule_distance(side, v, self.nodes[start], self.nodes[end]) * (-1 / _JOINT_MM))
        distance = -_JOINT_MM * np.log(np.maximum(total, 1e-30))
        return distance - self.asymmetry[1] * np.tanh(u)


def _discs(row: list[float]) -> Floats:
    """(u, v, radius) of the discs of half a section from a row of a table, [7, 3]."""
    return np.array([0.0, *row]).reshape(7, 3)


def capsule_distance(u: Floats, v: Floats, start: Floats, end: Floats) -> Floats:
    """Signed distance in mm to a capsule that tapers from one disc (u, v, radius) to another."""
    (u0, v0, r0), (du, dv, dr) = map(float, start), map(float, np.subtract(end, start))
    along_u, along_v = u - u0, v - v0
    t = (along_u * du + along_v * dv) * (1 / (du * du + dv * dv + 1e-9))
    np.clip(t, 0.0, 1.0, out=t)
    along_u -= t * du
    along_v -= t * dv
    return np.sqrt(along_u * along_u + along_v * along_v) - (r0 + dr * t)


def coverage(distance: Floats, soft_mm: float) -> Floats:
    """Part of a pixel inside a contour at a signed distance from its centre, 0 to 1.

    Args:
        distance: Signed distance to the contour, mm, negative inside.
        soft_mm: Width of the ramp, at least the pixel's width.
    """
    fraction = distance * (-1 / soft_mm)
    fraction += 0.5
    return np.clip(fraction, 0.0, 1.0, out=fraction)


def average_section(level: float, *, size: int = 200, spacing_mm: float = 0.25) -> tuple[Floats, Floats]:
    """Population average of gray matter and cord, centred.

    Args:
        level: Vertebral level, 1 (C1) to 21 (L2).
        size: Pixels along both sides.
        spacing_mm: Width of a pixel.

    Returns:
        Gray matter and cord, fractions 0 to 1, [size, size], axes to the left and to the front.

    Raises:
        InputError: An argument breaks its rule.
    """
    level = checks.number(FIRST_LEVEL, LAST_LEVEL)("level", level)
    size, spacing_mm = checks.integer(1)("size", size), checks.number(above=0)("spacing_mm", spacing_mm)
    axis = (np.arange(size) - (size - 1) / 2) * spacing_mm
    u, v = np.meshgrid(axis, axis, indexing="ij")
    shape = CordShape.average(level)
    gray_matter = coverage(shape.gray_matter_distance(u, v), spacing_mm)
    return gray_matter, coverage(shape.cord_distance(u, v), spacing_mm)
