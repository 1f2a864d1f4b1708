"""The slices of an image as one picture, with the outlines of their tissues, for a quality page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_scgm.grids import canonical_grid, check_same_grid
from keras_scgm.nifti import read_volume
from keras_scgm.picture import chosen_slices
from keras_scgm.quality.verdicts import Verdict
from keras_scgm.views import brightness_range, centred_squares, shown_region
from keras_scgm.volume import Volume
from keras_scgm.webpage import PAGE_HALF_WIDTH_MM, outlines

CONTEXT_MM = 6.0
"""What the viewer shows beyond the tiles, mm."""
MAX_PIXELS = 2_000_000
"""Pixels of a sheet; slices of larger ones are thinned out, so that a sheet takes less than a megabyte."""
WEBP_QUALITY = 90
"""The mean error is below 1 % of the gray scale in real images of 0.4 to 0.9 mm."""
CORD, GRAY_MATTER = 127, 254
"""Gray values in a sheet of labels."""


@dataclass(frozen=True)
class Tile:
    """A slice on a sheet; lengths in mm.

    Args:
        slice: Number of the slice in the file.
        left: Left edge of the square part that is shown, from that of the slice on the sheet.
        top: Upper edge, likewise.
        x: Left edge of the slice on the sheet.
        y: Upper edge.
        paths: SVG paths of the outlines by tissue, the topmost last; unit: half a voxel, from the corner of the slice.
    """

    slice: int
    left: float
    top: float
    x: float
    y: float
    paths: Mapping[str, str]


@dataclass(frozen=True)
class Sheet:
    """Slices of an image side by side; lengths in mm.

    Args:
        tiles: Its slices, inferior first.
        width: Width of the part of a slice that is shown.
        size: Width and height of the sheet.
        scale: Width and height of half a voxel.
        data: What the page needs for pictures and the viewer, for JSON. `sheet` and `labels` are pictures, in
            which slices of `shape` pixels stand in rows of `columns`; `slices` are their numbers from the inferior end,
            out of `n_slices`; `ranges` are the intensities of black and white in each; `affine` leads from the pixel
            (right-left, posterior-anterior, inferior-superior) to mm in RAS+ world coordinates.
        n_left_out: Number of slices that are not on it.
    """

    tiles: Sequence[Tile]
    width: float
    size: tuple[float, float]
    scale: tuple[float, float]
    data: Mapping[str, Any]
    n_left_out: int


def sheet_of(image: Path, masks: Mapping[str, Path], verdicts: Mapping[int, Verdict]) -> Sheet:
    """All slices from the first to the last with a tissue, and those beyond whose verdict is not "pass".

    Args:
        image: The image.
        masks: Its masks by tissue, "gm" first; values from 0.5 count.
        verdicts: Verdicts by the number of the slice in the file.

    Raises:
        InputError: A file cannot be read, or a mask lies on another grid.
    """
    volume = read_volume(image)
    found = {tissue: _marked(path, volume) for tissue, path in masks.items()}
    anywhere = np.any(list(found.values()), axis=0)
    filled = np.flatnonzero(anywhere.any(axis=(1, 2)))
    stored = [volume.stored_slice_index(k) for k in range(volume.n_slices)]
    of_slices = [verdicts.get(index, "pass") for index in stored]
    between = range(filled[0], filled[-1] + 1) if filled.size else range(volume.n_slices)
    wanted = [k for k, verdict in enumerate(of_slices) if k in between or verdict != "pass"]
    shown = chosen_slices(wanted, of_slices)
    centred_on = list(found.values())[::-1]
    marked = {
        k: next((points for mask in centred_on if len(points := np.argwhere(mask[k]))), np.empty((0, 2)))
        for k in shown
    }
    spacing_mm = np.array(volume.in_plane_spacing_mm)
    centers, half_mm = centred_squares(
        marked, volume.in_plane_shape, volume.in_plane_spacing_mm, PAGE_HALF_WIDTH_MM
    )
    half, reach = half_mm / spacing_mm, (half_mm + CONTEXT_MM) / spacing_mm
    low = np.floor(centers - reach).min(axis=0).astype(int)
    size = np.ceil(centers + reach).max(axis=0).astype(int) + 1 - low
    step = max(1, math.ceil(math.sqrt(len(shown) * math.prod(size) / MAX_PIXELS)))
    size += -size % step
    columns = math.ceil(math.sqrt(len(shown)))
    size_mm = size * spacing_mm
    tiles, sections, labels, ranges = [], [], [], []
    for place, (k, center) in enumerate(zip(shown, centers, strict=True)):
        row, column = divmod(place, columns)
        pixels = volume.view_slices(k, k + 1)[0][0]
        part = shown_region(center, half, volume.in_plane_shape)
        darkest, brightest = brightness_range(pixels[part], found["gm"][k][part], volume.in_plane_spacing_mm)
        gray = np.rint(255 * np.clip((pixels - darkest) / (brightest - darkest), 0, 1))
        tissue = np.where(found["gm"][k], GRAY_MATTER, CORD * anywhere[k])
        sections.append(_window(gray, low, size, step))
        labels.append(_window(tissue, low, size, step))
        ranges.append([darkest, brightest])
        edge = center + 0.5 - low
        tiles.append(
            Tile(
                slice=stored[k],
                left=float((edge - half)[0] * spacing_mm[0]),
                top=float((size - edge - half)[1] * spacing_mm[1]),
                x=float(column * size_mm[0]),
                y=float(row * size_mm[1]),
                paths={name: _path(mask[k], low, size) for name, mask in reversed(found.items())},
            )
        )
    affine = canonical_grid(volume.voxels.shape, volume.affine)[1]
    affine[:3, 3] += affine[:3, :2] @ low
    affine[:3, :2] *= step
    data = {
        "sheet": _picture(sections, columns, "webp", quality=WEBP_QUALITY, method=4),
        "labels": _picture(labels, columns, "png", optimize=True),
        "columns": columns,
        "shape": (size // step).tolist(),
        "slices": shown,
        "n_slices": volume.n_slices,
        "ranges": ranges,
        "affine": affine[:3].tolist(),
    }
    rows = math.ceil(len(shown) / columns)
    return Sheet(
        tiles,
        width=2 * half_mm,
        size=(float(columns * size_mm[0]), float(rows * size_mm[1])),
        scale=(float(spacing_mm[0] / 2), float(spacing_mm[1] / 2)),
        data=data,
        n_left_out=len(wanted) - len(shown),
    )


def _marked(path: Path, volume: Volume) -> np.ndarray:
    """A mask as (slice, right-left, posterior-anterior)."""
    mask = read_volume(path)
    check_same_grid(volume, mask)
    values, _ = mask.view_slices(0, mask.n_slices)
    return values >= 0.5


def _window(section: np.ndarray, low: np.ndarray, size: np.ndarray, step: int) -> np.ndarray:
    """Part of a slice as rows of pixels, anterior first; 0 beyond the edge."""
    window = np.zeros(size, np.uint8)
    start, stop = np.maximum(low, 0), np.minimum(low + size, section.shape)
    window[tuple(map(slice, start - low, stop - low))] = section[tuple(map(slice, start, stop))]
    return window[::step, ::step][:, ::-1].T


def _picture(sections: Sequence[np.ndarray], columns: int, kind: str, **options: Any) -> str:
    """Slices side by side as a data URL."""
    height, width = sections[0].shape
    sheet = np.zeros((math.ceil(len(sections) / columns) * height, columns * width), np.uint8)
    for place, section in enumerate(sections):
        row, column = divmod(place, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = section
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _path(section: np.ndarray, low: np.ndarray, size: np.ndarray) -> str:
    """Outlines of a slice as an SVG path of relative whole numbers, without points on straight lines."""
    return "".join(_closed((2 * (line - low) - (0, 2 * size[1])) * (1, -1)) for line in outlines(section))


def _closed(points: np.ndarray) -> str:
    points = np.rint(points).astype(int)[:-1]
    steps = np.diff(points, axis=0, append=points[:1])
    is_corner = (steps != np.roll(steps, 1, axis=0)).any(axis=1)
    points = points[is_corner]
    moves = np.diff(points, axis=0)
    return f"M{points[0, 0]} {points[0, 1]}l{' '.join(_joined(moves))}z"


def _joined(moves: np.ndarray) -> Iterator[str]:
    for x, y in moves.tolist():
        yield f"{x}{'' if y < 0 else ' '}{y}"
