"""Surfaces of masks for the 3-D view of a case."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from keras_scgm.datasets.raters import majority
from keras_scgm.evaluation.mask_reader import CanonicalMask
from keras_scgm.evaluation.report.layers import Layer

MAX_FACES = 20_000
"""Maximum number of triangles of all surfaces of a case; ten cases then stay below 15 MB."""

MESH_COLOUR = "#f28e2b"


def mesh_of(masks: Mapping[Layer, CanonicalMask]) -> go.Figure:
    """Surfaces of the models and of the raters' majority, as in Figure 7."""
    raters = [mask for layer, mask in masks.items() if layer.is_rater]
    surfaces = [
        (layer.label, mask.voxels, layer.colour if layer.number else MESH_COLOUR)
        for layer, mask in masks.items()
        if not layer.is_rater
    ]
    agreed = majority(np.stack([mask.voxels for mask in raters]))
    figure = go.Figure()
    for position, (name, voxels, colour) in enumerate((*surfaces, ("raters' majority", agreed, "#9aa5b1"))):
        if not voxels.any():
            continue
        is_raters = position == len(surfaces)
        vertices, faces = _surface(voxels, raters[0].spacing_mm, MAX_FACES // (len(surfaces) + 1))
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
                name=name,
                color=colour,
                opacity=0.25 if is_raters else 1.0,
                visible=True if position == 0 or is_raters else "legendonly",
                showlegend=True,
                hoverinfo="name",
            )
        )
    axis = {"title": "", "showticklabels": False, "showbackground": False, "showgrid": False}
    figure.update_layout(
        template="plotly_dark",
        height=460,
        margin=dict.fromkeys("lrtb", 0),
        paper_bgcolor="rgba(0,0,0,0)",
        legend={"x": 0, "y": 1},
        scene={
            "xaxis": axis | {"title": "right to left"},
            "yaxis": axis | {"title": "posterior to anterior"},
            "zaxis": axis | {"title": "inferior to superior"},
            "aspectmode": "data",
            "camera": {"eye": {"x": 1.8, "y": -1.8, "z": 1.0}},
        },
    )
    return figure


def _surface(voxels: np.ndarray, spacing_mm: np.ndarray, most_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (point, 3) in mm and triangles of a mask, with a larger step if there are too many."""
    bounds = [np.flatnonzero(voxels.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    box = tuple(slice(first, last + 1) for first, last in bounds)
    smooth = gaussian_filter(np.pad(voxels[box], 2).astype(np.float32), (0.7, 0.7, 0.4))
    step = 1
    while True:
        level = min(0.5, 0.9 * float(smooth[::step, ::step, ::step].max()))
        vertices, faces, _, _ = marching_cubes(smooth, level, spacing=tuple(spacing_mm), step_size=step)
        if len(faces) <= most_faces or step == 8:
            return vertices, faces
        step += 1
