"""Disease within the cord: lesions of white and gray matter, and a cavity (syrinx).

Compression is a matter of the section (`CordShape.varied`). Lesions differ from white matter as gray matter does or
more, as those of multiple sclerosis and of degeneration do in T2*-weighted images; they leave the anatomy as it is, and
so the masks. A cavity is full of fluid, pushes what is around it aside, and is part of the cord but no gray matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from keras_scgm.datasets.phantom.anatomy import CordShape, Dials, Floats
from keras_scgm.datasets.phantom.canvas import ellipse_distance

_LESIONS = 3
"""Most lesions of a slice."""


@dataclass(frozen=True)
class Oval:
    """An ellipse in the section: centre and half axes to the left and to the front, mm."""

    u: float
    v: float
    half_width_mm: float
    half_depth_mm: float

    def distance(self, u: Floats, v: Floats) -> Floats:
        """Signed distance in mm (approximate), negative inside."""
        return ellipse_distance(u - self.u, v - self.v, self.half_width_mm, self.half_depth_mm)


@dataclass(frozen=True)
class Lesion:
    """A lesion of white or gray matter.

    Args:
        oval: Its extent.
        gaps: Brightness less that of white matter, in differences of gray from white matter.
        opacity: How much of what is under it is covered, 0 to 1.
        soft_mm: Width of its edge.
    """

    oval: Oval
    gaps: float
    opacity: float
    soft_mm: float


@dataclass(frozen=True)
class Disease:
    """Lesions and the cavity of a slice; by default a healthy one."""

    lesions: tuple[Lesion, ...] = ()
    cavity: Oval | None = None

    @classmethod
    def drawn(cls, section: CordShape, dials: Dials) -> Self:
        """Up to three lesions anywhere in the cord; in one slice of five a cavity near its middle."""
        lesions = []
        for _ in range(_LESIONS):
            here = dials.chance(0.45)
            angle, reach = dials.uniform(-math.pi, math.pi), 0.85 * math.sqrt(dials.uniform(0.0, 1.0))
            depth = section.front_mm if math.cos(angle) > 0 else section.back_mm
            size, aspect = dials.log_uniform(0.5, 2.5), dials.log_uniform(0.5, 2.0)
            oval = Oval(
                reach * section.half_width_mm * math.sin(angle),
                reach * depth * math.cos(angle),
                size * aspect**0.5,
                size / aspect**0.5,
            )
            lesion = Lesion(
                oval, dials.log_uniform(0.4, 3.0), dials.uniform(0.4, 1.0), dials.uniform(0.2, 1.0)
            )
            lesions += [lesion] * here
        hollow, width, aspect = dials.chance(0.2), dials.log_uniform(0.4, 2.2), dials.uniform(0.5, 1.2)
        off_u, off_v = dials.normal(0.0, 0.15), section.nodes[0, 1] - dials.uniform(-0.2, 0.6)
        width = min(width, 0.45 * section.half_width_mm)
        depth = min(width * aspect, 0.4 * (section.front_mm + section.back_mm) / 2)
        return cls(tuple(lesions), Oval(off_u, off_v, width, depth) if hollow else None)

    def before(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Where points of the section lay before the cavity pushed them aside, areas unchanged."""
        if self.cavity is None:
            return u, v
        off_u, off_v = u - self.cavity.u, v - self.cavity.v
        squared = (off_u / self.cavity.half_width_mm) ** 2 + (off_v / self.cavity.half_depth_mm) ** 2
        scale = np.sqrt(np.maximum(1 - 1 / np.maximum(squared, 1e-6), 0.0))
        return self.cavity.u + scale * off_u, self.cavity.v + scale * off_v
