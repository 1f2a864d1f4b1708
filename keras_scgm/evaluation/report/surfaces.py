"""Surfaces of masks for the 3-D view of a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from keras_scgm.datasets.raters import majority
from keras_scgm.evaluation.mask_reader import CanonicalMask
from keras_scgm.evaluation.report.layers import Layer
from keras_scgm.evaluation.report.plots import without_markup
from keras_scgm.evaluation.tissues import CORD, Tissue
from keras_scgm.volume import bounding_box

MAX_FACES = 20_000
"""Maximum number of triangles of all surfaces of a case; ten cases then stay below 15 MB."""

MAX_STEP = 8
"""Voxels that a triangle spans at most; as many are empty beyond a mask, so that its surface is closed."""
PAD = 2

DIRECTIONS = ("RL", "PA", "IS")
"""First and last end of each axis: right and left, posterior and anterior, inferior and superior."""
LETTER_DISTANCE = 0.12
"""Distance of the letters from the surfaces in their longest side."""

RATERS_COLOUR = "#9aa5b1"
CORD_COLOUR = "#e8e4d8"


@dataclass(frozen=True)
class _Solid:
    """A mask whose surface is shown."""

    name: str
    voxels: np.ndarray
    colour: str
    opacity: float
    is_hidden: bool = False


def mesh_of(masks: Mapping[Tissue, Mapping[Layer, CanonicalMask]]) -> go.Figure:
    """Surfaces of the models and of the raters' majority, as in Figure 7, in that of the cord.

    The first model and the raters are shown, and the first cord around them; the others appear when they are chosen.
    """
    inner = next(iter(masks))
    solids = list(_solids(masks[inner]))
    if CORD in masks and inner != CORD:
        cords = [
            replace(solid, name=f"{solid.name}, cord", colour=CORD_COLOUR, opacity=0.15, is_hidden=number > 0)
            for number, solid in enumerate(solid for solid in _solids(masks[CORD]) if solid.voxels.any())
        ]
        solids += cords
    spacing_mm = next(iter(masks[inner].values())).spacing_mm
    figure = go.Figure()
    corners_mm = []
    for solid in solids:
        if not solid.voxels.any():
            continue
        vertices, faces = _surface(solid.voxels, spacing_mm, MAX_FACES // len(solids))
        corners_mm += [vertices.min(axis=0), vertices.max(axis=0)]
        x, y, z = vertices.T.astype(np.float32).round(2)
        i, j, k = faces.T.astype(np.uint16 if len(vertices) < 2**16 else np.int32)
        figure.add_trace(
            go.Mesh3d(
                x=x,
                y=y,
                z=z,
                i=i,
                j=j,
                k=k,
                name=without_markup(solid.name),
                color=solid.colour,
                opacity=solid.opacity,
                visible="legendonly" if solid.is_hidden else True,
                showlegend=True,
                hoverinfo="name",
            )
        )
    low_mm, high_mm = (bound(corners_mm or [np.zeros(3), np.ones(3)], axis=0) for bound in (np.min, np.max))
    extent_mm = high_mm - low_mm
    hidden = {"visible": False}
    figure.update_layout(
        template="plotly_dark",
        height=460,
        margin=dict.fromkeys("lrtb", 0),
        paper_bgcolor="rgba(0,0,0,0)",
        legend={"x": 0, "y": 1},
        scene={
            # Plotly's axes are right-handed, and those of the voxels left-handed.
            "xaxis": hidden | {"autorange": "reversed"},
            "yaxis": hidden,
            "zaxis": hidden,
            "annotations": list(_directions(low_mm, high_mm)),
            # The longest side is 1, so that the camera sees a cord of any length.
            "aspectmode": "manual",
            "aspectratio": dict(zip("xyz", extent_mm / extent_mm.max(), strict=True)),
            "camera": {"eye": {"x": 1.2, "y": -1.2, "z": 0.6}},
        },
    )
    return figure


def _directions(low_mm: np.ndarray, high_mm: np.ndarray) -> Iterator[dict[str, Any]]:
    """Letters of the directions around a box: above and below it, and around its lower end."""
    distance_mm = LETTER_DISTANCE * (high_mm - low_mm).max()
    for axis, letters in enumerate(DIRECTIONS):
        for letter, end in zip(
            letters, (low_mm[axis] - distance_mm, high_mm[axis] + distance_mm), strict=True
        ):
            place = np.array([*(low_mm + high_mm)[:2] / 2, low_mm[2]])
            place[axis] = end
            yield dict(zip("xyz", place.tolist(), strict=True)) | {"text": letter, "showarrow": False}


def _solids(masks: Mapping[Layer, CanonicalMask]) -> Iterator[_Solid]:
    """The models' masks of a tissue, of which the first is shown, and the raters' majority."""
    models = [(layer, mask) for layer, mask in masks.items() if not layer.is_rater]
    for position, (layer, mask) in enumerate(models):
        yield _Solid(layer.label, mask.voxels, layer.colour, 1.0, is_hidden=position > 0)
    raters = [mask.voxels for layer, mask in masks.items() if layer.is_rater]
    if raters:
        yield _Solid("raters' majority", majority(np.stack(raters)), RATERS_COLOUR, 0.25)


def _surface(voxels: np.ndarray, spacing_mm: np.ndarray, most_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (point, 3) in mm from the first voxel, and triangles of a mask, with a larger step if too many."""
    box = bounding_box(voxels)
    smooth = gaussian_filter(np.pad(voxels[box], (PAD, MAX_STEP)).astype(np.float32), (0.7, 0.7, 0.4))
    step = 1
    while True:
        level = min(0.5, 0.9 * float(smooth[::step, ::step, ::step].max()))
        vertices, faces, _, _ = marching_cubes(smooth, level, spacing=tuple(spacing_mm), step_size=step)
        if len(faces) <= most_faces or step == MAX_STEP:
            return vertices + (np.array([part.start for part in box]) - PAD) * spacing_mm, faces
        step += 1
