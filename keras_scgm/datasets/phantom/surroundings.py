"""What lies around the dural sac: muscles, fat and skin, vertebrae, vessels and viscera.

They follow the vertebral level: neck with airway and great vessels, thorax with ribs and lungs, lumbar spine with
large vertebral bodies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from keras_scgm.datasets.phantom.anatomy import Dials, Floats
from keras_scgm.datasets.phantom.canvas import Canvas, Disc, ellipse_distance, rounded_box_distance
from keras_scgm.datasets.phantom.fields import Fields
from keras_scgm.datasets.phantom.sac import Sac


def draw_soft_tissue(
    canvas: Canvas,
    sac: Sac,
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
    skin = ellipse_distance(u, v - (deep - behind), wide, deep) + 1.5 * fields.bend_u
    if float(skin.max()) > -12.0:
        canvas.paint(-skin - dials.uniform(3.0, 12.0), tissues["fat"], soft_mm=0.8)
        canvas.paint(-skin - 1.6, tissues["skin"], soft_mm=0.5)
        canvas.paint(-skin, tissues["air"], soft_mm=0.5)


def draw_clutter(canvas: Canvas, tissues: Mapping[str, float], dials: Dials) -> None:
    """Vessels, lymph nodes, tendons and fat lobules without a fixed place, outside the spine."""
    names = ("vein", "artery", "fat", "septum", "ligament", "nerve", "disc", "muscle")
    for _ in range(14):
        angle, far = dials.uniform(-math.pi, math.pi), dials.uniform(14.0, 40.0)
        u, v = far * math.sin(angle), far * math.cos(angle)
        length, r = dials.uniform(0.0, 7.0), dials.log_uniform(0.25, 2.5)
        turn, name = dials.uniform(0.0, math.pi), names[int(dials.uniform(0, 7.999))]
        end = (u + length * math.cos(turn), v + length * math.sin(turn), r * dials.uniform(0.4, 1.0))
        canvas.capsule((u, v, r), end, tissues[name], soft_mm=0.5, opacity=dials.uniform(0.3, 1.0))


def draw_spine(
    canvas: Canvas, sac: Sac, level: float, tissues: Mapping[str, float], fields: Fields, dials: Dials
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
    body = rounded_box_distance(
        side_u, v - middle + hollow, wide, 0.5 * depth, dials.uniform(0.25, 0.48) * depth
    )
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
    sac: Sac,
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
