"""Draws one slice before acquisition: surroundings, dural sac and cord, painted one over the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_scgm.datasets.phantom.anatomy import CordShape, Dials, Floats
from keras_scgm.datasets.phantom.canvas import Canvas, Pose
from keras_scgm.datasets.phantom.cord import draw_cord
from keras_scgm.datasets.phantom.disease import Disease
from keras_scgm.datasets.phantom.fields import N_SCALARS, Fields, speckle
from keras_scgm.datasets.phantom.sac import Sac, draw_cauda_equina, draw_roots, draw_sac
from keras_scgm.datasets.phantom.surroundings import draw_clutter, draw_soft_tissue, draw_spine


@dataclass(frozen=True)
class Scene:
    """Level and kind of a slice.

    Args:
        level: Vertebral level, 1 to 21.
        cord: Whether there is a cord; otherwise the dural sac contains nerve roots only.
        bare: Whether the cord is ex vivo, surrounded by fluid only.
        diseased: Whether the cord may have lesions or a cavity, and is often compressed.
    """

    level: float
    cord: bool = True
    bare: bool = False
    diseased: bool = False


@dataclass(frozen=True)
class Drawing:
    """A drawn slice before acquisition, float32 [x, y].

    Args:
        image: Brightness, "gray_matter" = 1.
        gray_matter: Fraction of gray matter, 0 to 1.
        cord: Fraction of cord, 0 to 1.
        bias: Smooth field of unit variance, for the receive field.
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
        scene: Level and kind of the slice.
        tissues: Brightness by tissue name.
        numbers: `N_DIALS` standard normal numbers, the shape of everything.
        shape: Pixels along both axes, to the left and to the front.
        spacing_mm: Width of a pixel.
        pose: Position and rotation of the cord.
        rng: Random generator of the fine texture of tissues.

    Returns:
        The drawing, on the given grid.
    """
    parts = numbers[:N_SCALARS].reshape(6, -1)
    fields = Fields(numbers[N_SCALARS:], shape, spacing_mm)
    body, sac_dials, spine_dials, clutter, cord_dials, detail = (Dials(part) for part in parts)
    bend_mm = body.uniform(0.2, 1.0)
    canvas = Canvas(shape, spacing_mm, pose, (bend_mm * fields.bend_u, bend_mm * fields.bend_v))
    section = CordShape.average(scene.level).varied(cord_dials, diseased=scene.diseased)
    disease = Disease.drawn(section, cord_dials) if scene.diseased else Disease()
    texture = speckle(rng, shape, spacing_mm, 1.1)
    if scene.bare:
        _draw_bath(canvas, section, tissues, fields, body)
    else:
        sac = Sac.around(section, scene.level, sac_dials)
        draw_soft_tissue(canvas, sac, scene.level, tissues, fields, texture, body)
        rough_mm = body.uniform(0.3, 1.0)
        canvas.roughen(rough_mm * fields.wave_u, rough_mm * fields.wave_v)
        draw_clutter(canvas, tissues, clutter)
        draw_spine(canvas, sac, scene.level, tissues, fields, spine_dials)
        fine_mm = body.uniform(0.05, 0.3)
        canvas.roughen(fine_mm * fields.wave_u, fine_mm * fields.wave_v)
        draw_sac(canvas, sac, tissues, fields, sac_dials)
        if scene.cord:
            draw_roots(canvas, sac, section, tissues, detail)
        else:
            draw_cauda_equina(canvas, sac, tissues, detail)
    gray_matter, cord = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    if scene.cord:
        draw_cord(canvas, section, tissues, fields, texture, detail, disease, gray_matter, cord)
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
