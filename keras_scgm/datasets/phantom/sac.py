"""The dural sac: its size at each vertebral level, its layers, and the nerve roots in its fluid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_scgm.datasets.phantom.anatomy import CordShape, Dials, Floats
from keras_scgm.datasets.phantom.canvas import Canvas, ellipse_distance
from keras_scgm.datasets.phantom.fields import Fields

# Vertebral level against half width and depth of the vertebral body and half axes of the dural sac, mm.
_SPINE_LEVELS = (1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 13.0, 18.0, 20.0, 21.0)
_SPINE_MM = np.array(
    [
        [9.0, 10.0, 12.5, 8.5],
        [10.0, 13.0, 11.0, 7.6],
        [11.0, 14.5, 9.8, 6.4],
        [12.0, 15.0, 9.6, 6.0],
        [13.5, 16.0, 9.4, 6.0],
        [14.0, 18.0, 8.2, 6.6],
        [14.5, 22.0, 7.6, 6.6],
        [19.0, 29.0, 9.0, 8.0],
        [21.0, 31.0, 9.0, 8.0],
        [22.0, 32.0, 9.0, 7.6],
    ]
)


@dataclass(frozen=True)
class Sac:
    """Dural sac: half axes and centre relative to the cord, mm; `crescent` bends it around the front."""

    half_width: float
    half_depth: float
    centre: tuple[float, float]
    crescent: float
    body_half_width: float
    body_depth: float

    @classmethod
    def around(cls, section: CordShape, level: float, dials: Dials) -> Sac:
        body_half_width, body_depth, half_width, half_depth = (
            float(np.interp(level, _SPINE_LEVELS, column)) for column in _SPINE_MM.T
        )
        scale = math.exp(dials.normal(0.0, 0.1))
        half_width *= scale * math.exp(dials.normal(0.0, 0.06))
        half_depth *= scale * math.exp(dials.normal(0.0, 0.1))
        gap = dials.uniform(0.15, 1.2)
        half_width = max(half_width, section.half_width_mm + 0.8 + gap)
        cord_half_depth = 0.5 * (section.front_mm + section.back_mm)
        half_depth = max(half_depth, cord_half_depth + gap)
        slack_u, slack_v = half_width - section.half_width_mm - 0.5, half_depth - cord_half_depth
        centre = (0.3 * slack_u * dials.normal(), slack_v * dials.uniform(-0.8, 0.75))
        crescent = float(np.interp(level, [2, 3.5, 7, 10], [0.05, 0.35, 0.35, 0.1])) + dials.normal(0.0, 0.12)
        size = math.exp(dials.normal(0.0, 0.08))
        return cls(half_width, half_depth, centre, crescent, body_half_width * size, body_depth * size)

    @property
    def front(self) -> float:
        return self.centre[1] + self.half_depth

    @property
    def back(self) -> float:
        return self.centre[1] - self.half_depth

    def distance(self, u: Floats, v: Floats) -> Floats:
        across = (u - self.centre[0]) / self.half_width
        bent = (v - self.centre[1]) - self.crescent * self.half_depth * np.minimum(across * across, 1.5)
        return ellipse_distance(across * self.half_width, bent, self.half_width, self.half_depth)


def draw_sac(canvas: Canvas, sac: Sac, tissues: Mapping[str, float], fields: Fields, dials: Dials) -> None:
    """Epidural fat and veins, dura and cerebrospinal fluid with its flow pattern."""
    box = canvas.box(*sac.centre, max(sac.half_width, sac.half_depth) + 5.0)
    u, v = canvas.u[box], canvas.v[box]
    distance = sac.distance(u, v) + 0.25 * fields.wave_u[box]
    lateral = np.abs(u - sac.centre[0]) / sac.half_width
    forward = np.clip((v - sac.centre[1]) / sac.half_depth, -1.0, 1.0)
    reach = dials.uniform(0.1, 0.8) + dials.uniform(0.0, 2.2) * np.clip(lateral * (0.4 + forward), 0.0, 1.0)
    reach += dials.uniform(0.0, 2.5) * np.clip(-forward - 0.4, 0.0, 1.0) * dials.chance(0.35)
    reach *= 1 + 0.5 * fields.fold[box]
    canvas.paint(distance - reach, tissues["ligament"], box, soft_mm=1.2, opacity=dials.uniform(0.0, 1.0))
    canvas.paint(distance - reach, tissues["epidural"], box, soft_mm=0.7, opacity=dials.uniform(0.0, 1.0))
    dura = dials.uniform(0.1, 0.7)
    canvas.paint(distance - dura, tissues["dura"], box, soft_mm=0.4, opacity=dials.uniform(0.0, 1.0))
    flow = (
        1
        + dials.uniform(0.0, 0.12) * fields.wave_v[box]
        - dials.uniform(0.0, 0.35) * np.clip(fields.fold[box] - dials.uniform(0.3, 2.5), 0.0, 1.0)
    )
    canvas.paint(distance, tissues["csf"] * flow, box, soft_mm=dials.uniform(0.25, 0.9))


def draw_roots(
    canvas: Canvas, sac: Sac, section: CordShape, tissues: Mapping[str, float], dials: Dials
) -> None:
    """Anterior and posterior roots, denticulate ligaments and vessels on the way through the fluid."""
    shown = max(0.0, dials.uniform(-0.4, 0.8))
    for side in (-1, 1):
        wall_u = sac.centre[0] + side * (sac.half_width - 0.3)
        horn_u, horn_v = side * 1.08 * section.nodes[6, 0], 1.25 * section.nodes[6, 1]
        r = dials.uniform(0.15, 0.5)
        end = (wall_u, sac.centre[1] + dials.uniform(-2.5, 1.5), r * 1.4)
        canvas.capsule((horn_u, horn_v, r), end, tissues["nerve"], soft_mm=0.4, opacity=shown)
        r = dials.uniform(0.15, 0.45)
        start = (side * dials.uniform(1.8, 3.5), 0.85 * section.front_mm, r)
        end = (wall_u, sac.centre[1] + dials.uniform(0.0, 3.0), r * 1.3)
        canvas.capsule(start, end, tissues["nerve"], soft_mm=0.4, opacity=shown * dials.uniform(0.2, 1.0))
        ligament = (wall_u, sac.centre[1] + dials.normal(0.3, 0.6), 0.12)
        start = (side * (section.half_width_mm - 0.2), dials.normal(0.0, 0.3), 0.2)
        canvas.capsule(start, ligament, tissues["dura"], soft_mm=0.3, opacity=dials.uniform(0.0, 0.7))
    for _ in range(8):
        angle, out = dials.uniform(-math.pi, math.pi), dials.uniform(0.1, 1.0)
        u = (section.half_width_mm + out * (sac.half_width - section.half_width_mm)) * math.sin(angle)
        v = (section.front_mm + out * max(sac.half_depth - section.front_mm, 0.3)) * math.cos(angle)
        r, strength = dials.log_uniform(0.12, 0.6), dials.uniform(0.0, 0.8)
        canvas.capsule((u, v, r), (u, v, r), tissues["nerve"], soft_mm=0.4, opacity=strength)


def draw_cauda_equina(canvas: Canvas, sac: Sac, tissues: Mapping[str, float], dials: Dials) -> None:
    """Nerve roots below the conus, crowded at the back of the sac."""
    for _ in range(24):
        u = sac.centre[0] + 0.42 * sac.half_width * dials.normal()
        v = sac.centre[1] + sac.half_depth * dials.uniform(-0.9, 0.4)
        r = dials.uniform(0.3, 0.9)
        canvas.capsule((u, v, r), (u, v, r), tissues["nerve"], soft_mm=0.4, opacity=dials.uniform(0.3, 1.0))
