"""The cord: white matter, gray matter, fissure, septum, central canal and vessels on its surface."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_scgm.datasets.phantom.anatomy import CordShape, Dials, Floats, capsule_distance, coverage
from keras_scgm.datasets.phantom.canvas import Canvas
from keras_scgm.datasets.phantom.disease import Disease
from keras_scgm.datasets.phantom.fields import Fields

_MARKED_BEYOND_MM = 0.03
"""Raters mark gray matter a little beyond where it has half of its brightness, as a published network that learned from
them does: in scans without labels it marked 4.5 % more area than ours, trained without this."""

_UNMARKED_RIM_MM = 0.4
"""Raters end a dorsal horn before the surface of the cord, wherever its brightness ends, as that network does: it left
0.54 mm in scans without labels and 0.69 mm in drawings, where ours, trained without this, left 0.44 mm in both."""


def draw_cord(
    canvas: Canvas,
    section: CordShape,
    tissues: Mapping[str, float],
    fields: Fields,
    texture: Floats,
    dials: Dials,
    disease: Disease,
    gray_matter: Floats,
    cord: Floats,
) -> None:
    """White matter with rim and columns, gray matter, fissure, septum, central canal, disease and vessels."""
    box = canvas.box(0.0, 0.0, section.half_width_mm + 1.5)
    straight = section.straighten(canvas.u[box], canvas.v[box])
    u, v = disease.before(*straight)
    outer = section.cord_distance(u, v)
    inner = np.maximum(section.gray_matter_distance(u, v), outer + 0.15)
    grain = texture[box] * dials.uniform(0.0, 0.05)

    gap = tissues["gray_matter"] - tissues["white_matter"]
    white = tissues["white_matter"] * (1 + grain + 0.02 * fields.tone[box])
    white -= gap * _dorsal_columns(u, v, section, dials)
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

    gray_soft = dials.uniform(0.15, 0.45)
    gray = tissues["gray_matter"] * (1 + grain + dials.normal(0.0, 0.02) * v)
    gray += gap * _unevenness(u, v, section, fields.fold[box], dials)
    # Between the tip of a dorsal horn and the surface white matter is partly gray (Lissauer's tract).
    tip = section.nodes[6] * (1, 1, 0) + (0, 0, dials.uniform(0.1, 0.3))
    tract = capsule_distance(np.abs(u), v, tip, tip * (1.4, 1.4, 1))
    canvas.paint(tract, gray, box, soft_mm=0.3, opacity=cord[box] * dials.uniform(0.0, 0.6))
    canvas.paint(inner, gray, box, soft_mm=gray_soft)
    marked = np.maximum(inner - _MARKED_BEYOND_MM, outer + _UNMARKED_RIM_MM)
    inside = coverage(marked, canvas.spacing_mm)
    gray_matter[box] = np.minimum(inside, cord[box])

    for lesion in disease.lesions:
        value = tissues["white_matter"] + lesion.gaps * gap
        opacity = lesion.opacity * cord[box]
        canvas.paint(lesion.oval.distance(u, v), value, box, soft_mm=lesion.soft_mm, opacity=opacity)
    if disease.cavity is not None:
        fluid = canvas.paint(disease.cavity.distance(*straight), tissues["csf"], box)
        gray_matter[box] *= 1 - fluid

    canal = (0.0, section.nodes[0, 1] - 0.05, dials.uniform(0.05, 0.3))
    canvas.capsule(canal, canal, tissues["csf"], opacity=dials.uniform(0.0, 0.6))
    for place in ((surface[0], section.front_mm + 0.25), (dials.normal(0.0, 0.3), -section.back_mm - 0.2)):
        r = dials.uniform(0.1, 0.5)
        value = tissues["vein"] if dials.chance(0.4) else tissues["dura"]
        canvas.capsule((*place, r), (*place, r), value, soft_mm=0.3, opacity=dials.uniform(0.0, 0.9))


def _dorsal_columns(u: Floats, v: Floats, section: CordShape, dials: Dials) -> Floats:
    """How much further from gray matter the dorsal columns are in brightness than other white matter, in gaps.

    Measured in scans of four scanners without labels: 0.3 beside the horns, 0.1 to 0.2 near the midline.
    """
    horn_u, horn_v, _ = section.nodes[:3:-1].T
    beyond_horn = np.abs(u) - np.interp(v, horn_v, horn_u) - 0.5 * np.maximum(horn_v[0] - v, 0.0)
    columns = coverage(np.maximum(beyond_horn, v - section.nodes[0, 1]), 0.6)
    gracile = np.exp(-np.square(u / (0.4 * section.nodes[5, 0])))
    return (dials.normal(0.31, 0.15) - dials.normal(0.2, 0.15) * gracile) * columns


def _unevenness(u: Floats, v: Floats, section: CordShape, fold: Floats, dials: Dials) -> Floats:
    """Brightness of gray matter beyond its usual one, in gaps: of ventral horns higher, most of all in their middle."""
    faded = dials.uniform(0.0, 0.35) * np.clip(0.6 + fold, 0.0, 1.0)
    middle_u, middle_v, middle_mm = 0.5 * (section.nodes[2] + section.nodes[3])
    off_u, off_v = np.abs(u) - middle_u - dials.normal(0.0, 0.3), v - middle_v - dials.normal(0.0, 0.3)
    core = np.exp(-(off_u * off_u + off_v * off_v) / (0.3 + middle_mm**2))
    return dials.normal(0.1, 0.07) * v - faded + dials.uniform(-0.2, 0.8) * core
