"""Draws one slice: cord, fluid, spine and what lies around them, each as an implicit contour.

Structures are painted one over the other on a `Canvas`. Their sizes follow the vertebral level: neck with
airway and great vessels, thorax with ribs and lungs, lumbar spine with large vertebral bodies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from keras_scgm.datasets.phantom.anatomy import CordShape, Dials, Floats, capsule_distance, coverage

N_SCALARS = 768
"""Dials of one slice that are plain numbers; those of its smooth fields follow."""
_EXTENT_MM = 208.0
_FINE_MM, _COARSE_MM = 4.0, 16.0
_N_FINE, _N_COARSE = 4, 3
_FINE_SIDE, _COARSE_SIDE = int(_EXTENT_MM / _FINE_MM), int(_EXTENT_MM / _COARSE_MM)
N_DIALS = N_SCALARS + _N_FINE * _FINE_SIDE**2 + _N_COARSE * _COARSE_SIDE**2

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


@lru_cache(maxsize=64)
def _spline_weights(n: int, spacing_mm: float, knot_mm: float, knots: int) -> Floats:
    """Cubic B-spline weights of `knots` values on `n` centred pixels, scaled to keep unit variance."""
    position = ((np.arange(n) - (n - 1) / 2) * spacing_mm / knot_mm + (knots - 1) / 2)[:, None]
    t = np.abs(position - np.arange(knots))
    weights = np.where(t < 1, 2 / 3 - t * t + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    return (weights / math.sqrt(0.4794)).astype(np.float32)


def smooth_field(knot_values: Floats, shape: tuple[int, int], spacing_mm: float, knot_mm: float) -> Floats:
    """Random field of about unit variance that varies over `knot_mm`, [*shape]."""
    rows = _spline_weights(shape[0], spacing_mm, knot_mm, knot_values.shape[0])
    columns = _spline_weights(shape[1], spacing_mm, knot_mm, knot_values.shape[1])
    return rows @ knot_values.astype(np.float32) @ columns.T


def speckle(rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float, grain_mm: float) -> Floats:
    """Fine tissue texture of about unit variance and grain `grain_mm`, [*shape]."""
    knots = [math.ceil(n * spacing_mm / grain_mm) + 3 for n in shape]
    return smooth_field(rng.standard_normal(knots, dtype=np.float32), shape, spacing_mm, grain_mm)


Disc = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """Where the cord lies in the picture: centre in mm from the middle (left, front), rotation in radians."""

    left_mm: float = 0.0
    front_mm: float = 0.0
    rotation: float = 0.0


class Canvas:
    """Picture under way, with the body's coordinates of every pixel.

    Attributes:
        u, v: body coordinates in mm from the centre of the cord, to the left and to the front, [x, y].
        image: brightness so far, [x, y].
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
        """Makes the contours painted from now on uneven by the given displacement in mm."""
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


def _ellipse(u: Floats, v: Floats, a: float, b: float) -> Floats:
    outer = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    return outer * (outer - 1) / (np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2) + 1e-4)


def _rounded_box(u: Floats, v: Floats, a: float, b: float, corner: float) -> Floats:
    du, dv = np.abs(u) - (a - corner), np.abs(v) - (b - corner)
    outside = np.sqrt(np.maximum(du, 0) ** 2 + np.maximum(dv, 0) ** 2)
    return outside + np.minimum(np.maximum(du, dv), 0) - corner


@dataclass(frozen=True)
class Scene:
    """What is to be drawn around and in the cord.

    Attributes:
        level: vertebral level, 1 to 21.
        cord: whether there is a cord; otherwise the sac holds nerve roots alone.
        bare: ex vivo, nothing but fluid around the cord.
    """

    level: float
    cord: bool = True
    bare: bool = False


class Fields:
    """Smooth random fields of one slice, from its dials."""

    def __init__(self, numbers: Floats, shape: tuple[int, int], spacing_mm: float):
        split = _N_FINE * _FINE_SIDE**2
        fine = numbers[:split].reshape(_N_FINE, _FINE_SIDE, _FINE_SIDE)
        coarse = numbers[split:].reshape(_N_COARSE, _COARSE_SIDE, _COARSE_SIDE)
        self.tone, self.fold, self.wave_u, self.wave_v = (
            smooth_field(knots, shape, spacing_mm, _FINE_MM) for knots in fine
        )
        self.bend_u, self.bend_v, self.bias = (
            smooth_field(knots, shape, spacing_mm, _COARSE_MM) for knots in coarse
        )


@dataclass(frozen=True)
class Drawing:
    """A drawn slice before acquisition, float32 [x, y].

    Attributes:
        image: brightness, "gray_matter" = 1.
        gray_matter, cord: fractions, 0 to 1.
        bias: smooth field of unit variance, for the receive field.
    """

    image: Floats
    gray_matter: Floats
    cord: Floats
    bias: Floats


def draw_slice(
    scene: Scene,
    tissues: Mapping[str, float],
    numbers: Floats,
    *,
    shape: tuple[int, int],
    spacing_mm: float,
    pose: Pose,
    rng: np.random.Generator,
) -> Drawing:
    """Draws one axial slice.

    Args:
        scene: what to draw.
        tissues: brightness by tissue name.
        numbers: `N_DIALS` standard normal numbers, the shape of everything.
        shape: pixels along both axes, to the left and to the front.
        spacing_mm: width of a pixel.
        pose: where the cord lies.
        rng: fine texture of tissues.

    Returns:
        The drawing, on the given grid.
    """
    parts = numbers[:N_SCALARS].reshape(6, -1)
    fields = Fields(numbers[N_SCALARS:], shape, spacing_mm)
    body, sac_dials, spine_dials, clutter, cord_dials, detail = (Dials(part) for part in parts)
    bend_mm = body.uniform(0.2, 1.0)
    canvas = Canvas(shape, spacing_mm, pose, (bend_mm * fields.bend_u, bend_mm * fields.bend_v))
    section = CordShape.average(scene.level).varied(cord_dials)
    texture = speckle(rng, shape, spacing_mm, 1.1)
    if scene.bare:
        _draw_bath(canvas, section, tissues, fields, body)
    else:
        sac = _Sac.around(section, scene.level, sac_dials)
        _draw_soft_tissue(canvas, sac, scene.level, tissues, fields, texture, body)
        rough_mm = body.uniform(0.3, 1.0)
        canvas.roughen(rough_mm * fields.wave_u, rough_mm * fields.wave_v)
        _draw_clutter(canvas, tissues, clutter)
        _draw_spine(canvas, sac, scene.level, tissues, fields, spine_dials)
        fine_mm = body.uniform(0.05, 0.3)
        canvas.roughen(fine_mm * fields.wave_u, fine_mm * fields.wave_v)
        _draw_sac(canvas, sac, tissues, fields, sac_dials)
        if scene.cord:
            _draw_roots(canvas, sac, section, tissues, detail)
        else:
            _draw_cauda_equina(canvas, sac, tissues, detail)
    gray_matter, cord = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    if scene.cord:
        _draw_cord(canvas, section, tissues, fields, texture, detail, gray_matter, cord)
    np.maximum(canvas.image, 0.0, out=canvas.image)
    return Drawing(canvas.image, gray_matter, cord, fields.bias)


def _draw_bath(
    canvas: Canvas, section: CordShape, tissues: Mapping[str, float], fields: Fields, dials: Dials
) -> None:
    """Fluid of an ex vivo cord, with its container, shreds of dura and roots."""
    canvas.image += np.float32(tissues["csf"]) * (1 + 0.04 * fields.tone)
    radius = dials.uniform(9.0, 26.0)
    off_u, off_v = dials.normal(0.0, 0.15) * radius, dials.normal(0.0, 0.15) * radius
    ring = np.sqrt((canvas.u - off_u) ** 2 + (canvas.v - off_v) ** 2)
    canvas.paint(radius - ring, tissues["air"])
    canvas.paint(np.abs(ring - radius) - 0.5, tissues["wall"], opacity=dials.uniform(0.0, 1.0))
    thick, loose = dials.uniform(0.1, 0.5), dials.uniform(0.1, 2.0)
    dura = np.abs(section.cord_distance(canvas.u, canvas.v) - loose - 0.4 * fields.wave_u) - thick
    canvas.paint(dura, tissues["dura"], opacity=max(0.0, dials.uniform(-1.2, 0.9)))
    for _ in range(14):
        angle, far = dials.uniform(-math.pi, math.pi), dials.uniform(0.4, 3.0)
        out = section.half_width_mm + far
        u, v, r = out * math.sin(angle), 0.75 * out * math.cos(angle), dials.log_uniform(0.15, 0.7)
        name = "nerve" if dials.chance(0.8) else "air"
        canvas.capsule((u, v, r), (u + dials.normal(), v + dials.normal(), r), tissues[name])


@dataclass(frozen=True)
class _Sac:
    """Dural sac: half axes and centre relative to the cord, mm; `crescent` bends it around the front."""

    half_width: float
    half_depth: float
    centre: tuple[float, float]
    crescent: float
    body_half_width: float
    body_depth: float

    @classmethod
    def around(cls, section: CordShape, level: float, dials: Dials) -> _Sac:
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
        return _ellipse(across * self.half_width, bent, self.half_width, self.half_depth)


def _draw_soft_tissue(
    canvas: Canvas,
    sac: _Sac,
    level: float,
    tissues: Mapping[str, float],
    fields: Fields,
    texture: Floats,
    dials: Dials,
) -> None:
    """Muscles with their septa, fat, skin and the air outside."""
    u, v = canvas.u, canvas.v
    muscle = tissues["muscle"] * (1 + dials.uniform(0.01, 0.1) * fields.tone)
    muscle *= 1 + dials.uniform(0.01, 0.09) * texture
    canvas.image += muscle
    down = v - sac.back
    angle = np.arctan2(np.abs(u) + 0.5, -down)
    radius = np.sqrt(u * u + down * down)
    turns, rings = dials.uniform(0.8, 2.2), dials.uniform(8.0, 16.0)
    lobules = fields.tone * fields.fold + 0.3 * texture - dials.uniform(1.0, 2.5)
    canvas.paint(-lobules, tissues["septum"], soft_mm=0.6, opacity=dials.uniform(0.0, 0.9))
    phases = [
        ramp + 0.35 * coarse + dials.uniform(0.03, 0.12) * fine + dials.uniform(0.0, 1.0)
        for ramp, fine, coarse in (
            (angle * turns + 0.015 * radius, fields.fold, fields.bend_u),
            (radius / rings + 0.25 * angle, fields.wave_u, fields.bend_v),
            (radius / rings - 0.8 * angle, fields.wave_v, fields.bend_u),
        )
    ]
    belly = np.floor(phases[0]) * 12.99 + np.floor(phases[1]) * 78.23 + np.sign(u) * 3.1
    canvas.image *= 1 + dials.uniform(0.0, 0.12) * np.sin(belly)
    for phase, shown in zip(phases, (fields.wave_v, fields.tone, fields.wave_u), strict=True):
        step_u, step_v = np.gradient(phase, canvas.spacing_mm)
        line = np.abs(phase - np.round(phase)) / np.sqrt(step_u**2 + step_v**2 + 1e-3)
        width = dials.log_uniform(0.1, 0.7) * np.clip(1 + 0.7 * shown, 0.0, 2.5)
        broken = dials.uniform(0.0, 0.7)
        there = np.clip(dials.uniform(0.0, 1.1) + 0.4 * fields.fold + broken * texture, 0.0, 1.0)
        if dials.chance(0.5):
            canvas.paint(line - width - 0.4, tissues["ligament"], soft_mm=0.8, opacity=0.6 * there)
        value = tissues["ligament"] if dials.chance(0.35) else tissues["septum"]
        canvas.paint(line - width, value, soft_mm=0.6, opacity=dials.uniform(0.3, 1.0) * there)
    wide, deep = (dials.uniform(52.0, 72.0), dials.uniform(50.0, 66.0)) if level < 8 else (150.0, 100.0)
    behind = dials.uniform(45.0, 75.0) if level < 8 else dials.uniform(40.0, 80.0)
    skin = _ellipse(u, v - (deep - behind), wide, deep) + 1.5 * fields.bend_u
    if float(skin.max()) > -12.0:
        canvas.paint(-skin - dials.uniform(3.0, 12.0), tissues["fat"], soft_mm=0.8)
        canvas.paint(-skin - 1.6, tissues["skin"], soft_mm=0.5)
        canvas.paint(-skin, tissues["air"], soft_mm=0.5)


def _draw_clutter(canvas: Canvas, tissues: Mapping[str, float], dials: Dials) -> None:
    """Vessels, lymph nodes, tendons and fat lobules without a fixed place, outside the spine."""
    names = ("vein", "artery", "fat", "septum", "ligament", "nerve", "disc", "muscle")
    for _ in range(14):
        angle, far = dials.uniform(-math.pi, math.pi), dials.uniform(14.0, 40.0)
        u, v = far * math.sin(angle), far * math.cos(angle)
        length, r = dials.uniform(0.0, 7.0), dials.log_uniform(0.25, 2.5)
        turn, name = dials.uniform(0.0, math.pi), names[int(dials.uniform(0, 7.999))]
        end = (u + length * math.cos(turn), v + length * math.sin(turn), r * dials.uniform(0.4, 1.0))
        canvas.capsule((u, v, r), end, tissues[name], soft_mm=0.5, opacity=dials.uniform(0.3, 1.0))


def _draw_spine(
    canvas: Canvas, sac: _Sac, level: float, tissues: Mapping[str, float], fields: Fields, dials: Dials
) -> None:
    """Vertebra or disc in front, arch and spinous process behind, foramina, vessels and viscera."""
    u, v = canvas.u, canvas.v
    neck, lumbar = level < 7.8, level > 18
    wide, depth = sac.body_half_width, sac.body_depth
    front = sac.front + dials.uniform(0.4, 2.0)
    rim = dials.uniform(0.6, 1.6)
    disc_level = dials.chance(0.4)
    core = tissues["disc"] if disc_level else tissues["marrow"]

    if neck:
        _draw_neck_viscera(canvas, front + depth, tissues, dials)
    else:
        _draw_trunk_viscera(canvas, front + depth, wide, tissues, dials)

    middle = front + 0.5 * depth
    taper = 1 - dials.uniform(0.0, 0.5) * (v - middle) / depth
    side_u = (u - sac.centre[0]) / np.clip(taper, 0.5, 1.5) + dials.normal(0.0, 0.03) * (v - middle)
    hollow = dials.uniform(0.0, 1.5) * (1 - np.minimum((u / wide) ** 2, 1.0))
    body = _rounded_box(side_u, v - middle + hollow, wide, 0.5 * depth, dials.uniform(0.25, 0.48) * depth)
    body += 0.4 * fields.wave_v
    canvas.paint(body, tissues["cortex"], soft_mm=0.6)
    glow = np.clip(-body / (dials.uniform(0.15, 0.5) * depth), 0.0, 1.0)
    inside = core * (1 + 0.15 * fields.tone)
    edge = inside + dials.uniform(0.0, 1.0) * (1 - glow) * (tissues["cortex"] - inside)
    canvas.paint(body + rim, edge, soft_mm=1.0)

    rim_mm, soft = dials.uniform(0.4, 1.4), dials.uniform(0.5, 1.4)
    foramen, arch = dials.chance(0.5), dials.uniform(0.0, 1.0)
    pillar_v, rise = dials.uniform(-2.0, 4.5), dials.uniform(-2.0, 4.0)
    pillar_r = dials.uniform(2.5, 6.0) * (1.3 if lumbar else 1.0)
    lamina_r, flavum_r = dials.uniform(1.2, 2.6), dials.uniform(0.8, 2.4)
    roof_v = sac.back - lamina_r - dials.uniform(0.0, 1.2)
    spinous, bifid, steep = dials.uniform(-6.0, 20.0), dials.uniform(0.0, 5.0), dials.uniform(0.0, 0.6)
    marrow = tissues["marrow"] + dials.uniform(0.0, 1.0) * (tissues["cortex"] - tissues["marrow"])
    tip = (sac.centre[0] + dials.normal(0.0, 1.0), roof_v - max(spinous, 1.0), dials.uniform(0.8, 2.6))
    pieces: list[tuple[Disc, Disc]] = []
    flavum: list[tuple[Disc, Disc]] = []
    for side in (-1, 1):
        edge_u = sac.centre[0] + side * (sac.half_width + pillar_r + dials.uniform(-0.8, 2.0))
        edge_v = sac.centre[1] + pillar_v + dials.normal(0.0, 0.7)
        out_u = edge_u + side * dials.uniform(2.0, 10.0)
        pillar = (edge_u, edge_v, pillar_r * dials.uniform(0.7, 1.0))
        pieces.append((pillar, (out_u, edge_v + rise, pillar_r * dials.uniform(0.5, 1.0))))
        if not foramen:
            pieces.append((pillar, (side * 0.85 * wide, front + 0.25 * depth, 0.7 * pillar_r)))
        bend = (
            sac.centre[0] + side * 0.62 * sac.half_width,
            sac.centre[1] - 0.72 * sac.half_depth - lamina_r - 0.3,
            lamina_r,
        )
        roof = (sac.centre[0] + side * 0.6, roof_v, lamina_r)
        (pieces if arch < 0.65 else flavum).append(((edge_u, edge_v - 0.4 * pillar_r, lamina_r * 1.2), bend))
        (pieces if arch < 0.65 else flavum).append((bend, roof))
        if level < 7 and spinous > 3 and bifid > 1:
            pieces.append((tip, (tip[0] + side * bifid, tip[1] - 0.8 * bifid, 1.2)))
    if spinous > 0:
        pieces.append(((sac.centre[0], roof_v, lamina_r * 1.1), tip))
    cleft = (tip[0] + dials.normal(0.0, 0.5), tip[1] - dials.uniform(2.0, 8.0), dials.uniform(0.5, 5.0))
    dim = tissues["ligament"] if dials.chance(0.7) else tissues["septum"]
    canvas.capsule(
        (sac.centre[0], roof_v - 1.0, dials.uniform(1.0, 4.0)),
        cleft,
        dim,
        soft_mm=2.5,
        opacity=dials.uniform(0.0, 1.0),
    )
    for start, end in flavum:
        canvas.capsule(start, end, tissues["ligament"], soft_mm=soft, grow_mm=flavum_r - lamina_r)
    canvas.bone(pieces, marrow, tissues["cortex"], rim_mm, soft_mm=soft)
    nuchal = (sac.centre[0] + dials.normal(0.0, 0.6), tip[1] - 30.0, dials.uniform(0.1, 0.8))
    line = tissues["septum"] if dials.chance(0.5) else tissues["ligament"]
    canvas.capsule((*tip[:2], dials.uniform(0.2, 0.9)), nuchal, line, soft_mm=0.8, opacity=1 - steep)
    _draw_foramina(canvas, sac, wide, front, tissues, dials, nerves=neck or foramen, arteries=neck)


def _draw_foramina(
    canvas: Canvas,
    sac: _Sac,
    wide: float,
    front: float,
    tissues: Mapping[str, float],
    dials: Dials,
    *,
    nerves: bool,
    arteries: bool,
) -> None:
    """Root ganglia in their fat and, in the neck, the vertebral arteries in their foramina."""
    fat, around, ringed = dials.uniform(0.0, 0.9), dials.uniform(0.3, 1.6), dials.uniform(0.0, 1.0)
    ganglion_value = tissues["ganglion"] if dials.chance(0.7) else tissues["vein"]
    flow, ganglion_seen = dials.uniform(0.0, 1.0), dials.uniform(0.3, 1.0)
    for side in (-1, 1):
        place = (
            sac.centre[0] + side * (sac.half_width + dials.uniform(1.5, 6.0)),
            sac.centre[1] + dials.uniform(2.0, 8.0),
        )
        r, stretch = dials.uniform(1.2, 3.0), dials.normal(0.0, 1.2)
        inner = (sac.centre[0] + side * sac.half_width * 0.9, sac.centre[1] + dials.uniform(0.5, 4.0), 0.9)
        vessel = (side * (wide + dials.uniform(0.5, 4.0)), front + dials.uniform(1.0, 8.0))
        vessel_r, slim = dials.uniform(1.0, 2.3), dials.uniform(-0.8, 0.8)
        if nerves:
            canvas.capsule(inner, (*place, r + around), tissues["epidural"], soft_mm=1.0, opacity=fat)
            end = (place[0] + stretch, place[1] + abs(stretch), 0.9 * r)
            canvas.capsule((*place, r), end, ganglion_value, soft_mm=0.7, opacity=ganglion_seen)
        if arteries:
            end = (vessel[0] + slim, vessel[1] + 0.5 * slim, vessel_r)
            ring = tissues["cortex"] if ringed < 0.5 else tissues["vein"]
            canvas.capsule((*vessel, vessel_r + 1.0), end, ring, soft_mm=0.8, opacity=min(1.0, 1.5 * ringed))
            value = tissues["artery"] if flow < 0.7 else tissues["muscle"]
            canvas.capsule((*vessel, vessel_r), end, value, soft_mm=0.6)


def _draw_neck_viscera(canvas: Canvas, front: float, tissues: Mapping[str, float], dials: Dials) -> None:
    airway = dials.uniform(5.0, 9.0)
    far = front + dials.uniform(9.0, 17.0) + airway
    for side in (-1, 1):
        colli = (side * dials.uniform(6.0, 10.0), front + dials.uniform(-1.0, 2.0), dials.uniform(2.5, 5.0))
        canvas.capsule(colli, (colli[0] * 1.3, colli[1] - 4.0, 3.0), tissues["muscle"] * 0.9, soft_mm=1.0)
        carotid, r = (
            (side * dials.uniform(20.0, 29.0), front + dials.uniform(0.0, 12.0)),
            dials.uniform(2.5, 4.0),
        )
        canvas.capsule((*carotid, r), (*carotid, r), tissues["artery"], soft_mm=0.6)
        jugular = (carotid[0] + side * dials.uniform(5.0, 9.0), carotid[1] - dials.uniform(0.0, 6.0))
        canvas.capsule((*jugular, dials.uniform(2.0, 5.5)), (*jugular, 3.0), tissues["vein"], soft_mm=0.6)
    canvas.capsule((-4.0, front + 6.0, 2.5), (5.0, front + 6.0, 2.5), tissues["muscle"] * 1.1, soft_mm=1.0)
    tube: tuple[Disc, Disc] = ((0.0, far, airway), (0.0, far + 4.0, airway))
    canvas.bone([tube], tissues["air"], tissues["wall"], 1.5, soft_mm=0.8)


def _draw_trunk_viscera(
    canvas: Canvas, front: float, wide: float, tissues: Mapping[str, float], dials: Dials
) -> None:
    aorta, r = (dials.uniform(3.0, 20.0), front + dials.uniform(4.0, 9.0)), dials.uniform(7.0, 12.0)
    for side in (-1, 1):
        lung_u, lung_v = side * (wide + dials.uniform(24.0, 34.0)), front + dials.uniform(-18.0, 0.0)
        filled = dials.chance(0.5)
        name = "air" if filled else "muscle"
        canvas.capsule(
            (lung_u, lung_v, 20.0), (lung_u * 1.5, lung_v + 25.0, 30.0), tissues[name], soft_mm=1.5
        )
        rib = (side * (wide + 2.0), front - 1.1 * wide, dials.uniform(2.0, 4.0))
        end = (side * (wide + dials.uniform(14.0, 26.0)), rib[1] - dials.uniform(4.0, 16.0), 3.0)
        canvas.bone([(rib, end)], tissues["marrow"], tissues["cortex"], 0.9, soft_mm=0.8)
    canvas.bone([((*aorta, r), (*aorta, r))], tissues["artery"], tissues["wall"], 1.0, soft_mm=0.8)


def _draw_sac(canvas: Canvas, sac: _Sac, tissues: Mapping[str, float], fields: Fields, dials: Dials) -> None:
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


def _draw_roots(
    canvas: Canvas, sac: _Sac, section: CordShape, tissues: Mapping[str, float], dials: Dials
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


def _draw_cauda_equina(canvas: Canvas, sac: _Sac, tissues: Mapping[str, float], dials: Dials) -> None:
    """Nerve roots below the conus, crowded at the back of the sac."""
    for _ in range(24):
        u = sac.centre[0] + 0.42 * sac.half_width * dials.normal()
        v = sac.centre[1] + sac.half_depth * dials.uniform(-0.9, 0.4)
        r = dials.uniform(0.3, 0.9)
        canvas.capsule((u, v, r), (u, v, r), tissues["nerve"], soft_mm=0.4, opacity=dials.uniform(0.3, 1.0))


def _draw_cord(
    canvas: Canvas,
    section: CordShape,
    tissues: Mapping[str, float],
    fields: Fields,
    texture: Floats,
    dials: Dials,
    gray_matter: Floats,
    cord: Floats,
) -> None:
    """White matter with rim and columns, gray matter, fissure, septum, central canal and vessels."""
    box = canvas.box(0.0, 0.0, section.half_width_mm + 1.5)
    u, v = section.straighten(canvas.u[box], canvas.v[box])
    outer = section.cord_distance(u, v)
    inner = np.maximum(section.gray_matter_distance(u, v), outer + 0.15)
    grain = texture[box] * dials.uniform(0.0, 0.05)

    white = tissues["white_matter"] * (1 + grain + 0.02 * fields.tone[box])
    horn_line = np.abs(u) - (section.nodes[4, 0] + 0.45 * np.maximum(section.nodes[0, 1] - v, 0.0))
    columns = coverage(np.maximum(horn_line, v - section.nodes[0, 1]), 0.6)
    white *= 1 + dials.normal(0.015, 0.03) * columns
    rim = dials.uniform(0.2, 0.9)
    white *= 1 + dials.normal(-0.05, 0.06) * np.clip(1 + outer / rim, 0.0, 1.0)
    cord[box] = canvas.paint(outer, white, box)

    fissure_depth = section.nodes[0, 1] + section.nodes[0, 2] + dials.uniform(0.1, 0.6)
    surface = (dials.normal(0.0, 0.1), section.front_mm + 0.1, dials.uniform(0.08, 0.4))
    fissure = capsule_distance(u, v, np.array(surface), np.array((surface[0], fissure_depth, 0.06)))
    open_fissure = dials.uniform(0.0, 1.0)
    fissure_value = tissues["csf"] if dials.chance(0.6) else tissues["dura"]
    canvas.paint(fissure, fissure_value, box, opacity=open_fissure)
    septum = capsule_distance(
        u,
        v,
        np.array((dials.normal(0.0, 0.12), -section.back_mm, 0.1)),
        np.array((0.0, section.nodes[0, 1], 0.05)),
    )
    canvas.paint(septum, 0.5 * (tissues["csf"] + tissues["dura"]), box, opacity=dials.uniform(0.0, 0.3))

    gray_soft = dials.uniform(0.25, 0.55)
    gray = tissues["gray_matter"] * (1 + grain + dials.normal(0.0, 0.02) * v)
    gap = tissues["gray_matter"] - tissues["white_matter"]
    gray -= gap * dials.uniform(0.0, 0.35) * np.clip(0.6 + fields.fold[box], 0.0, 1.0)
    canvas.paint(inner, gray, box, soft_mm=gray_soft)
    inside = coverage(inner, canvas.spacing_mm)
    gray_matter[box] = np.minimum(inside, cord[box])

    canal = (0.0, section.nodes[0, 1] - 0.05, dials.uniform(0.05, 0.3))
    canvas.capsule(canal, canal, tissues["csf"], opacity=dials.uniform(0.0, 0.6))
    for place in ((surface[0], section.front_mm + 0.25), (dials.normal(0.0, 0.3), -section.back_mm - 0.2)):
        r = dials.uniform(0.1, 0.35)
        value = tissues["vein"] if dials.chance(0.4) else tissues["dura"]
        canvas.capsule((*place, r), (*place, r), value, soft_mm=0.3, opacity=dials.uniform(0.0, 0.6))
