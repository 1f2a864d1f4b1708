"""The picture to check a result by: a mosaic of slices with the contour of the gray matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation

from keras_scgm.segmentation import Segmentation

MAX_SLICES = 20
COLUMNS = 5
HALF_WIDTH_MM = 16.0
CORD_RIM_MM = 1.0
CONTOUR = "#ff4d5a"
REFERENCE = "#3ddc84"
WARNING = "#ffb000"


def save_mosaic(result: Segmentation, path: Path) -> None:
    """Draw at most 20 slices, evenly spaced over those with gray matter, as PNG.

    Radiological convention: anterior is up, the patient's right is on the left.

    Args:
        result: the segmentation.
        path: file to write.
    """
    volume = result.volume
    mask = volume.axial_view(result.mask_voxels)
    by_slice = {area.slice: area for area in result.areas}
    shown = _chosen_slices([by_slice[volume.stored_slice_index(k)].n_voxels for k in range(volume.n_slices)])
    rows = math.ceil(len(shown) / COLUMNS)
    columns = min(COLUMNS, len(shown))
    warnings = [f"warning: {text}" for text in result.warnings]
    head_inches = 0.62 + 0.2 * len(warnings)
    width, height = max(2.1 * columns, 6.3), 2.1 * rows + head_inches
    figure = Figure(figsize=(width, height), facecolor="black")
    FigureCanvasAgg(figure)
    names = " + ".join(item["name"] for item in result.record["weights"])
    figure.text(0.01, 1 - 0.24 / height, Path(volume.source).name, color="white", fontsize=11, weight="bold")
    summary = (
        f"weights {names}; gray matter {result.record['gray_matter_volume_mm3']:.0f} mm³; "
        f"{len(shown)} of {volume.n_slices} slices; R: patient's right; for research, not for diagnosis"
    )
    figure.text(0.01, 1 - 0.46 / height, summary, color="#bbbbbb", fontsize=8)
    for line, text in enumerate(warnings):
        y = 1 - (0.68 + 0.2 * line) / height
        figure.text(0.01, y, text, color=WARNING, fontsize=8)
    top = 1 - head_inches / height
    center = None
    for tile, k in enumerate(shown):
        row, column = divmod(tile, COLUMNS)
        axes = figure.add_axes(
            (
                (column + 0.02) * 2.1 / width,
                top - (row + 0.98) * 2.1 / height,
                0.96 * 2.1 / width,
                0.96 * 2.1 / height,
            )
        )
        section = np.asarray(mask[:, :, k])
        if section.any():
            center = np.argwhere(section).mean(axis=0)
        image = volume.read_slices(k, k + 1)[0][0]
        draw_section(axes, image, ((section, CONTOUR),), center, volume.in_plane_spacing_mm)
        area = by_slice[volume.stored_slice_index(k)]
        colour = WARNING if area.warning else "white"
        label = f"slice {area.slice}  {area.area_mm2:.1f} mm²"
        axes.text(0.03, 0.97, label, color=colour, fontsize=7, va="top", transform=axes.transAxes)
        axes.text(0.03, 0.5, "R", color="#bbbbbb", fontsize=7, va="center", transform=axes.transAxes)
    figure.savefig(
        path, dpi=150, facecolor="black", metadata={"Software": None}, pil_kwargs={"compress_level": 3}
    )


def _chosen_slices(n_voxels: list[int]) -> list[int]:
    present = np.flatnonzero(n_voxels)
    candidates = present if len(present) else np.arange(len(n_voxels))
    picks = np.linspace(0, len(candidates) - 1, min(MAX_SLICES, len(candidates)))
    return [int(candidates[round(pick)]) for pick in picks]


def _brightness_range(
    crop: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[float, float]:
    """Gray scale that shows gray against white matter; fluid may saturate."""
    if not mask.any():
        darkest, brightest = np.percentile(crop, (1, 99.5))
    else:
        cord = binary_dilation(mask, iterations=max(1, round(CORD_RIM_MM / max(spacing_mm))))
        low, high = np.percentile(crop[cord], (2, 98))
        darkest, brightest = low - 1.2 * (high - low), high + 0.3 * (high - low)
    return float(darkest), float(max(brightest, darkest + np.finfo(np.float32).tiny))


def draw_section(
    axes: Axes,
    image: np.ndarray,
    contours: Sequence[tuple[np.ndarray, str]],
    center: np.ndarray | None,
    spacing_mm: tuple[float, float],
) -> None:
    """Draw the cord in a slice with contours over it.

    Args:
        axes: to draw on.
        image: (right to left, posterior to anterior).
        contours: masks of the same shape with their colours; the last sets the brightness.
        center: of the section in voxels; None takes the middle of the image.
        spacing_mm: of the voxels.
    """
    if center is None:
        center = (np.array(image.shape) - 1) / 2
    half = HALF_WIDTH_MM / np.array(spacing_mm)
    low = np.clip(np.floor(center - half), 0, np.array(image.shape) - 1).astype(int)
    high = np.clip(np.ceil(center + half) + 1, low + 1, image.shape).astype(int)
    crop = image[low[0] : high[0], low[1] : high[1]]
    mask = contours[-1][0]
    darkest, brightest = _brightness_range(crop, mask[low[0] : high[0], low[1] : high[1]], spacing_mm)
    axes.imshow(
        crop.T,
        origin="lower",
        cmap="gray",
        vmin=darkest,
        vmax=brightest,
        extent=(low[0] - 0.5, high[0] - 0.5, low[1] - 0.5, high[1] - 0.5),
        aspect=spacing_mm[1] / spacing_mm[0],
        interpolation="bilinear",
    )
    columns, rows = (np.arange(length) for length in image.shape)
    for section, colour in contours:
        if section.any():
            axes.contour(
                columns, rows, section.T.astype(float), levels=[0.5], colors=[colour], linewidths=0.9
            )
    axes.set_xlim(center[0] - half[0], center[0] + half[0])
    axes.set_ylim(center[1] - half[1], center[1] + half[1])
    axes.set_axis_off()
