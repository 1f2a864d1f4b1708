"""The cord: white matter, gray matter, fissure, septum, central canal and vessels on its surface."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_scgm.datasets.phantom.anatomy import CordShape, Dials, Floats, capsule_distance, coverage
from keras_scgm.datasets.phantom.canvas import Canvas
from keras_scgm.datasets.phantom.fields import Fields


def draw_cord(
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
        r = dials.uniform(0.1, 0.5)
        value = tissues["vein"] if dials.chance(0.4) else tissues["dura"]
        canvas.capsule((*place, r), (*place, r), value, soft_mm=0.3, opacity=dials.uniform(0.0, 0.9))
