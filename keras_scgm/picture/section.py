"""A part of a slice as an image, with contours and a tint over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from keras_scgm.views import brightness_range, shown_region
from keras_scgm.volume import Voxels

HALF_WIDTH_MM = 16.0
"""Half width of the square part of a slice that is shown, unless the mask needs more."""
CONTOUR, CORD_CONTOUR = "#ff4d5a", "#2f8bff"
"""Of gray matter and cord; colour-blind people can tell them apart, and both are seen on dark and bright tissue."""
REFERENCE = CORD_CONTOUR
"""Of a rater's gray matter, in pictures without the cord."""
OPAQUENESS = 0.85
"""Opacity of the full tint."""
BLUR = 1.0
"""Pixels; the contour, some two pixels wide, is where the blurred mask has middle values."""


@dataclass(frozen=True)
class View:
    """The square part of a slice that is shown.

    Args:
        center: Centre in voxels (right-left, posterior-anterior).
        half_width_mm: Distance from the centre to the edges, mm.
        spacing_mm: Voxel spacing in the same order, mm.
        pixels: Width and height of the image.
    """

    center: np.ndarray
    half_width_mm: float
    spacing_mm: tuple[float, float]
    pixels: int = 304


@dataclass(frozen=True)
class Tint:
    """Values shown as a tint over the slice in a further panel.

    Args:
        voxels: Values on the stored grid.
        full: Least value of the full tint; 0 is clear.
        colour: Colour of the tint.
        legend: Text for the head of the picture.
        is_on_border: Whether the values lie on the border of the gray matter, whose contour would hide them.
    """

    voxels: Voxels
    full: float
    colour: str
    legend: str
    is_on_border: bool = False


def draw_section(
    image: np.ndarray,
    contours: Sequence[tuple[np.ndarray, str | None]],
    view: View,
    tint: tuple[np.ndarray, str] | None = None,
) -> Image.Image:
    """Paint a part of a slice with contours over it.

    Args:
        image: Slice (right to left, posterior to anterior).
        contours: Masks of the same shape with their colours, None for no contour; the last sets the brightness.
        view: The part.
        tint: Values from 0 (clear) to 1 of the same shape, and their colour; contours lie over it.

    Returns:
        RGB image, anterior up and right on the left; black beyond the edge of the slice.
    """
    center = view.center
    half = view.half_width_mm / np.array(view.spacing_mm)
    rows, columns = region = shown_region(center, half, image.shape)
    # Pillow counts from the edge of the first pixel, rows first and downwards.
    step = 2 * half / view.pixels
    left, top = center[0] - half[0] - rows.start + 0.5, center[1] + half[1] - columns.start + 0.5
    window = (step[0], 0.0, left, 0.0, -step[1], top)

    def magnified(values: np.ndarray) -> Image.Image:
        """Values of the region, from 0 to 255, on the picture's pixels."""
        small = Image.fromarray(np.ascontiguousarray(values.T.astype(np.uint8)))
        return small.transform(
            (view.pixels, view.pixels), Image.Transform.AFFINE, window, resample=Image.Resampling.BILINEAR
        )

    crop = image[region]
    darkest, brightest = brightness_range(crop, contours[-1][0][region], view.spacing_mm)
    gray = np.clip((crop - darkest) / (brightest - darkest), 0, 1)
    painted = magnified(np.rint(255 * gray)).convert("RGB")
    if tint is not None:
        values, colour = tint
        painted.paste(colour, mask=magnified(np.rint(255 * OPAQUENESS * np.clip(values[region], 0, 1))))
    for section, contour_colour in contours:
        if contour_colour is None:
            continue
        inside = magnified(np.where(section[region], 255, 0)).point([0] * 128 + [255] * 128)
        blurred = inside.filter(ImageFilter.GaussianBlur(BLUR))
        painted.paste(
            contour_colour,
            mask=blurred.point([min(255, 2 * (255 - abs(2 * level - 255))) for level in range(256)]),
        )
    return painted
