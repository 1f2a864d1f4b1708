"""The picture to check a result by: a mosaic of slices with the contour of the gray matter."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import binary_dilation

from keras_scgm.segmentation import Segmentation

MAX_SLICES = 20
COLUMNS = 5
HALF_WIDTH_MM = 16.0
CORD_RIM_MM = 1.0
CONTOUR = "#ff4d5a"
REFERENCE = "#3ddc84"
WARNING = "#ffb000"
TEXT, FAINT = "white", "#bbbbbb"

TILE, GAP = 304, 12
"""Pixels of a slice, and between two of them."""
MIN_WIDTH = 3 * (TILE + GAP)
MARGIN = 9
TITLE, LINE, LABEL = 23, 17, 15
"""Heights of letters in pixels."""
LINE_STEP = 30
LETTERS_PER_PIXEL = 1 / 8.6
"""Of a line of text."""
BLUR = 1.0
"""Pixels; a contour is where the blurred mask is neither in nor out, some two pixels wide."""


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
    width = max(min(COLUMNS, len(shown)) * (TILE + GAP), MIN_WIDTH)
    head = _head(result, len(shown), width)
    rows = math.ceil(len(shown) / COLUMNS)
    picture = Image.new("RGB", (width, head.height + rows * (TILE + GAP)), "black")
    picture.paste(head)
    small = _font(LABEL)
    center = None
    for tile, k in enumerate(shown):
        row, column = divmod(tile, COLUMNS)
        section = np.asarray(mask[:, :, k])
        if section.any():
            center = np.argwhere(section).mean(axis=0)
        image = volume.read_slices(k, k + 1)[0][0]
        drawn = draw_section(image, ((section, CONTOUR),), center, volume.in_plane_spacing_mm)
        area = by_slice[volume.stored_slice_index(k)]
        pen = ImageDraw.Draw(drawn)
        label = f"slice {area.slice}  {area.area_mm2:.1f} mm²"
        texts = (
            (MARGIN, label, WARNING if area.warning else TEXT, "la"),
            (TILE // 2, "R", FAINT, "lm"),
        )
        for top, text, colour, anchor in texts:
            pen.text((MARGIN, top), text, colour, small, anchor, stroke_width=1, stroke_fill="black")
        picture.paste(drawn, (column * (TILE + GAP) + GAP // 2, head.height + row * (TILE + GAP) + GAP // 2))
    picture.save(path, format="PNG", compress_level=2)


def _head(result: Segmentation, n_shown: int, width: int) -> Image.Image:
    names = " + ".join(item["name"] for item in result.record["weights"])
    summary = (
        f"weights {names}; gray matter {result.record['gray_matter_volume_mm3']:.0f} mm³; "
        f"{n_shown} of {result.volume.n_slices} slices; R: patient's right; for research, not for diagnosis"
    )
    lines = [(Path(result.volume.source).name, TEXT, _font(TITLE, bold=True))]
    letters = int((width - 2 * MARGIN) * LETTERS_PER_PIXEL)
    for text, colour in ((summary, FAINT), *((f"warning: {text}", WARNING) for text in result.warnings)):
        lines += [(line, colour, _font(LINE)) for line in textwrap.wrap(text, letters)]
    head = Image.new("RGB", (width, LINE_STEP * len(lines) + 2 * MARGIN), "black")
    pen = ImageDraw.Draw(head)
    for number, (line, colour, font) in enumerate(lines):
        pen.text((MARGIN, MARGIN + LINE_STEP * (number + 0.5)), line, colour, font, "lm")
    return head


def _font(height: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's font, without the time that importing Matplotlib takes."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = distribution("matplotlib").locate_file(f"matplotlib/mpl-data/fonts/ttf/{name}")
    return ImageFont.truetype(str(file), height)


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
    return float(darkest), float(max(brightest, darkest + np.spacing(np.float32(abs(darkest)))))


def draw_section(
    image: np.ndarray,
    contours: Sequence[tuple[np.ndarray, str]],
    center: np.ndarray | None,
    spacing_mm: tuple[float, float],
) -> Image.Image:
    """Draw the cord in a slice with contours over it, 32 mm wide.

    Args:
        image: (right to left, posterior to anterior).
        contours: masks of the same shape with their colours; the last sets the brightness.
        center: of the section in voxels; None takes the middle of the image.
        spacing_mm: of the voxels.

    Returns:
        RGB, `TILE` pixels wide and high, anterior up and right on the left.
    """
    if center is None:
        center = (np.array(image.shape) - 1) / 2
    half = HALF_WIDTH_MM / np.array(spacing_mm)
    low = np.clip(np.floor(center - half), 0, np.array(image.shape) - 1).astype(int)
    high = np.clip(np.ceil(center + half) + 1, low + 1, image.shape).astype(int)
    region = (slice(low[0], high[0]), slice(low[1], high[1]))
    # Pillow counts from the edge of the first pixel, rows first and downwards.
    step = 2 * half / TILE
    left, top = center[0] - half[0] - low[0] + 0.5, center[1] + half[1] - low[1] + 0.5
    window = (step[0], 0.0, left, 0.0, -step[1], top)

    def magnified(values: np.ndarray) -> Image.Image:
        """Values of the region, from 0 to 255, on the picture's pixels."""
        small = Image.fromarray(np.ascontiguousarray(values.T.astype(np.uint8)))
        return small.transform(
            (TILE, TILE), Image.Transform.AFFINE, window, resample=Image.Resampling.BILINEAR
        )

    crop = image[region]
    darkest, brightest = _brightness_range(crop, contours[-1][0][region], spacing_mm)
    gray = np.clip((crop - darkest) / (brightest - darkest), 0, 1)
    drawn = magnified(np.rint(255 * gray)).convert("RGB")
    for section, colour in contours:
        inside = magnified(np.where(section[region], 255, 0)).point([0] * 128 + [255] * 128)
        blurred = inside.filter(ImageFilter.GaussianBlur(BLUR))
        drawn.paste(
            colour, mask=blurred.point([min(255, 2 * (255 - abs(2 * level - 255))) for level in range(256)])
        )
    return drawn
