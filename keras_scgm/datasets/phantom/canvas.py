"""The image being painted: body coordinates of its pixels, and shapes that cover what was painted before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from keras_scgm.datasets.phantom.anatomy import Floats, capsule_distance, coverage

Disc = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """Position of the cord in the image: centre in mm from the middle (left, front), rotation in radians."""

    left_mm: float = 0.0
    front_mm: float = 0.0
    rotation: float = 0.0


class Canvas:
    """Image being painted, with the body coordinates of every pixel.

    Attributes:
        u, v: Body coordinates in mm from the centre of the cord, to the left and to the front, [x, y].
        image: Brightness so far, [x, y].
    """

    def __init__(self, shape: tuple[int, int], spacing_mm: float, pose: Pose, bend: tuple[Floats, Floats]):
        self.shape, self.spacing_mm, self.pose = shape, spacing_mm, pose
        x = ((np.arange(shape[0]) - (shape[0] - 1) / 2) * spacing_mm - pose.left_mm).astype(np.float32)[
            :, None
        ]
        y = ((np.arange(shape[1]) - (shape[1] - 1) / 2) * spacing_mm - pose.front_mm).astype(np.float32)
        self._cos, self._sin = math.cos(pose.rotation), math.sin(pose.rotation)
        self._smooth = (x * self._cos + y * self._sin + bend[0], y * self._cos - x * self._sin + bend[1])
        self.u, self.v = self._smooth
        self.image = np.zeros(shape, np.float32)

    def roughen(self, wave_u: Floats, wave_v: Floats) -> None:
        """Makes the contours painted after this call uneven by the given displacement, mm."""
        self.u, self.v = self._smooth[0] + wave_u, self._smooth[1] + wave_v

    def box(self, u_mm: float, v_mm: float, reach_mm: float) -> tuple[slice, slice]:
        """Pixels within about `reach_mm` of a point of the body."""
        centre = (
            self.pose.left_mm + u_mm * self._cos - v_mm * self._sin,
            self.pose.front_mm + u_mm * self._sin + v_mm * self._cos,
        )
        spans = []
        for middle, n in zip(centre, self.shape, strict=True):
            index, half = middle / self.spacing_mm + (n - 1) / 2, (reach_mm + 2.5) / self.spacing_mm
            spans.append(slice(min(n, max(0, int(index - half))), max(0, min(n, int(index + half) + 1))))
        return spans[0], spans[1]

    def paint(
        self,
        distance: Floats,
        value: float | Floats,
        box: tuple[slice, slice] = (slice(None), slice(None)),
        *,
        soft_mm: float = 0.0,
        opacity: float | Floats = 1.0,
    ) -> Floats:
        """Covers the inside of a contour; returns how much of each pixel was covered."""
        alpha = coverage(distance, max(soft_mm, self.spacing_mm))
        alpha *= opacity
        target = self.image[box]
        target += alpha * (value - target)
        return alpha

    def capsule(
        self,
        start: Disc,
        end: Disc,
        value: float,
        *,
        soft_mm: float = 0.0,
        opacity: float = 1.0,
        grow_mm: float = 0.0,
    ) -> None:
        """Paints a tapered capsule between two discs (u, v, radius), its radius changed by `grow_mm`."""
        reach = 0.5 * math.hypot(start[0] - end[0], start[1] - end[1]) + max(start[2], end[2]) + soft_mm
        box = self.box(0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1]), reach)
        if box[0].start >= box[0].stop or box[1].start >= box[1].stop:
            return
        distance = capsule_distance(self.u[box], self.v[box], np.array(start), np.array(end))
        self.paint(distance - grow_mm, value, box, soft_mm=soft_mm, opacity=opacity)

    def bone(
        self, pieces: list[tuple[Disc, Disc]], core: float, rim: float, rim_mm: float, *, soft_mm: float
    ) -> None:
        """Paints capsules that grow together: the cortex of all first, their marrow over it."""
        for start, end in pieces:
            self.capsule(start, end, rim, soft_mm=soft_mm)
        for start, end in pieces:
            self.capsule(start, end, core, soft_mm=soft_mm, grow_mm=-rim_mm)


def ellipse_distance(u: Floats, v: Floats, a: float, b: float) -> Floats:
    outer = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    return outer * (outer - 1) / (np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2) + 1e-4)


def rounded_box_distance(u: Floats, v: Floats, a: float, b: float, corner: float) -> Floats:
    du, dv = np.abs(u) - (a - corner), np.abs(v) - (b - corner)
    outside = np.sqrt(np.maximum(du, 0) ** 2 + np.maximum(dv, 0) ** 2)
    return outside + np.minimum(np.maximum(du, dv), 0) - corner
