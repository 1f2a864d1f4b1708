"""Slices of a case with the contours of all masks, as parts of an SVG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from keras_scgm.dice import dice
from keras_scgm.evaluation.mask_reader import CanonicalMask
from keras_scgm.evaluation.report.layers import Layer
from keras_scgm.evaluation.summary import Summary
from keras_scgm.evaluation.table import number
from keras_scgm.evaluation.tissues import Tissue
from keras_scgm.views import brightness_range, fitting_half_width_mm, shown_region
from keras_scgm.webpage import PAGE_HALF_WIDTH_MM, outlines

MAX_SLICES = 60
"""Maximum number of slices of a case; those with the worst Dice coefficients are shown."""


@dataclass(frozen=True)
class Contour:
    """Outline of a mask in a slice, as an SVG path, which is empty if the mask is."""

    layer: Layer
    tissue: Tissue
    path: str


@dataclass(frozen=True)
class Tile:
    """A slice with the contours of all masks, as parts of an SVG; lengths in mm.

    Args:
        label: Number of the slice from the inferior end, and Dice coefficients.
        width: Width of the square tile.
        box: (left, top, width, height) of the image in it, which may end before or after it.
        png: Image as base64.
        contours: Outlines of the masks, the topmost last.
    """

    label: str
    width: float
    box: tuple[float, float, float, float]
    png: str
    contours: Sequence[Contour]


def tiles_of(
    masks: Mapping[Tissue, Mapping[Layer, CanonicalMask]],
    image: np.ndarray | None,
    grid: CanonicalMask,
    tissues: Sequence[Tissue],
) -> tuple[list[Tile], str]:
    """Slices in which any mask of a compared tissue has something, in one scale, and a line on slices left out.

    Args:
        masks: Masks of the tissues that are drawn; the first sets the gray scale.
        image: Intensities on the grid of the masks.
        grid: Any of the masks.
        tissues: Tissues that were compared; if none of them is drawn, all count that are.
    """
    counted = [tissue for tissue in tissues if tissue in masks] or list(masks)
    anywhere = {
        tissue: np.any([mask.voxels for mask in of_tissue.values()], axis=0)
        for tissue, of_tissue in masks.items()
    }
    drawn = np.any(list(anywhere.values()), axis=0)
    filled = np.flatnonzero(np.any([anywhere[tissue].any(axis=(0, 1)) for tissue in counted], axis=0))
    if not filled.size:
        filled = np.arange(drawn.shape[2])
    scores = {int(k): {t: _dice_of_models(masks[t], int(k)) for t in counted} for k in filled}

    def worst(k: int) -> float:
        return min((v for v in scores[k][counted[0]].values() if not math.isnan(v)), default=1)

    shown = sorted(sorted(scores, key=worst)[:MAX_SLICES])
    left_out = ""
    if len(shown) < len(scores):
        left_out = (
            f"{len(scores) - len(shown)} of {len(scores)} slices are left out, "
            "those with the best Dice coefficients"
        )
    spacing_mm = (float(grid.spacing_mm[0]), float(grid.spacing_mm[1]))
    marked = {k: np.argwhere(drawn[:, :, k]) for k in shown}
    half_mm = fitting_half_width_mm([m for m in marked.values() if len(m)], spacing_mm, PAGE_HALF_WIDTH_MM)
    half = half_mm / np.array(spacing_mm)
    bright = next(iter(anywhere.values()))
    tiles = []
    for k in shown:
        center = marked[k].mean(axis=0) if len(marked[k]) else (np.array(drawn.shape[:2]) - 1) / 2
        rows, columns = window = shown_region(center, half, drawn.shape[:2])
        # Where the corner of the tile lies, right and anterior, counted in voxels from the edge of the first.
        corner = center + 0.5 + np.array((-half[0], half[1]))
        inside = bright[(*window, k)]
        pixels = np.zeros(inside.shape) if image is None else image[(*window, k)]
        tiles.append(
            Tile(
                label=f"slice {k} from inferior: {_label(scores[k])}",
                width=2 * half_mm,
                box=(
                    (rows.start - corner[0]) * spacing_mm[0],
                    (corner[1] - columns.stop) * spacing_mm[1],
                    inside.shape[0] * spacing_mm[0],
                    inside.shape[1] * spacing_mm[1],
                ),
                png=_png(pixels, inside, spacing_mm),
                contours=[
                    Contour(layer, tissue, _svg_path(mask.voxels[:, :, k], corner, spacing_mm))
                    for tissue, of_tissue in reversed(list(masks.items()))
                    for layer, mask in reversed(list(of_tissue.items()))
                ],
            )
        )
    return tiles, left_out


def _label(scores: Mapping[Tissue, Mapping[str, float]]) -> str:
    """Dice coefficients of the models, each with its tissue if there are several."""
    if len(scores) == 1:
        return ", ".join(f"{name} {number(one)}" for name, one in next(iter(scores.values())).items())
    names = next(iter(scores.values()))
    return ", ".join(
        f"{name} "
        + ", ".join(
            f"{tissue} {number(of_tissue.get(name, math.nan))}" for tissue, of_tissue in scores.items()
        )
        for name in names
    )


def _dice_of_models(masks: Mapping[Layer, CanonicalMask], k: int) -> dict[str, float]:
    """Model -> mean Dice coefficient of a slice over the raters, NaN if both are empty."""
    sections = {layer: mask.voxels[:, :, k] for layer, mask in masks.items()}
    raters = [section for layer, section in sections.items() if layer.is_rater]
    values = {}
    for layer, found in sections.items():
        if not layer.is_rater:
            values[layer.label] = Summary.of([dice(found, wanted) for wanted in raters]).mean
    return values


def _png(pixels: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> str:
    """Base64 of the slice with anterior up, in a gray scale that shows gray against white matter."""
    darkest, brightest = brightness_range(pixels, mask, spacing_mm)
    gray = (255 * np.clip((pixels - darkest) / (brightest - darkest), 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(gray[:, ::-1].T)).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _svg_path(section: np.ndarray, corner: np.ndarray, spacing_mm: tuple[float, float]) -> str:
    """Contours of a slice in mm from the tile's upper left corner.

    Args:
        section: The whole slice, right to left and posterior to anterior.
        corner: Right anterior corner of the tile, in voxels from the edge of the first one.
        spacing_mm: Voxel spacing in the order of the axes.
    """
    parts = []
    for points in outlines(section):
        x_mm = (points[:, 0] - corner[0]) * spacing_mm[0]
        y_mm = (corner[1] - points[:, 1]) * spacing_mm[1]
        parts.append("M" + " ".join(f"{x:.2f},{y:.2f}" for x, y in zip(x_mm, y_mm, strict=True)) + "Z")
    return "".join(parts)
