"""The picture to check a result by: a mosaic of slices with the contours of gray matter and cord."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_scgm.messages import verdict_text
from keras_scgm.morphometry import SliceArea
from keras_scgm.picture.head import (
    MARGIN,
    MAX_SLICES,
    TEXT,
    VERDICT_COLOURS,
    Result,
    draw_head,
    font_of,
    wrapped,
)
from keras_scgm.picture.section import CONTOUR, CORD_CONTOUR, HALF_WIDTH_MM, Tint, View, draw_section
from keras_scgm.quality.verdicts import SliceQuality, Verdict
from keras_scgm.views import centred_squares
from keras_scgm.volume import BLOCK_BYTES, Volume, Voxels

SCALE_BAR_MM = 10.0
PROBABILITY_COLOUR, SPREAD_COLOUR = "#2fb4ff", "#ff40ff"
LARGEST_SPREAD = 0.25
"""Standard deviation of the full tint; few voxels have more. That of a probability that is 0 as often as 1 is 0.5."""

GAP, FRAME = 12, 3
"""Pixels between cells, and of a frame."""
MIN_WIDTH = 948
"""Pixels of the whole picture."""


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels; a cell holds the panels of a slice and the caption above them.

    Args:
        tile: Width and height of a panel.
        letters: Height of the letters of a caption.
        panels: Number of panels in a cell.
        columns: Number of cells in a row.
    """

    tile: int
    letters: int
    panels: int
    columns: int

    @classmethod
    def of(cls, n_slices: int, n_panels: int) -> _Layout:
        """Large tiles for a usual volume, two thirds of their width for a long one."""
        tile, letters, panels_in_row = (304, 15, 5) if n_slices <= 60 else (200, 12, 10)
        return cls(tile, letters, n_panels, math.ceil(panels_in_row / n_panels))

    @property
    def line_step(self) -> int:
        return round(1.3 * self.letters)

    @property
    def panel_step(self) -> int:
        return self.tile + FRAME

    @property
    def width(self) -> int:
        """Of all panels of a cell together."""
        return self.panels * self.panel_step - FRAME


def save_mosaic(result: Result, path: Path, soft: bool = False) -> None:
    """Write a PNG of all slices from the first to the last with gray matter or cord, inferior first.

    Radiological convention: anterior is up, the patient's right is on the left. All slices have the same scale, at
    which all masks are visible. The caption of a slice has its area (and that of the cord), its verdict, its predicted
    DSC and the reason of the verdict. If there are more than `MAX_SLICES`, slices that fail are chosen first, then
    those to be reviewed, then those that pass, each kind evenly spaced, and the head of the picture says which are left
    out. The uncertainty, if it was computed, is a tint over the slice in a second panel, without the contour of the
    gray matter, which lies where the network is uncertain.

    Args:
        result: The segmentation.
        path: File to write.
        soft: Whether to show the probabilities as a tint, too.
    """
    volume = result.volume
    slices = result.quality.slices
    areas = {area.slice: area for area in result.areas}
    of_slices = [areas[volume.stored_slice_index(k)] for k in range(volume.n_slices)]
    present = [k for k, area in enumerate(of_slices) if area.n_voxels]
    filled = [k for k, area in enumerate(of_slices) if area.n_voxels or area.cord_area_mm2 > 0]
    wanted = range(filled[0], filled[-1] + 1) if filled else range(volume.n_slices)
    shown = chosen_slices(wanted, [one.verdict for one in slices])
    tints = _tints(result, soft)
    layout = _Layout.of(len(shown), 1 + len(tints))
    masks = [_marked(volume, result.mask_voxels, shown)]
    if result.cord_voxels is not None:
        masks.insert(0, _marked(volume, result.cord_voxels, shown))
    views = _views(volume, masks, layout.tile)
    small = font_of(layout.letters)
    captions = {k: _caption(of_slices[k], slices[k], small, layout.width) for k in shown}
    columns = min(layout.columns, len(shown))
    width = max(columns * (layout.width + GAP), MIN_WIDTH)
    head = draw_head(result, present, wanted, shown, tints, width)
    rows = [shown[first : first + columns] for first in range(0, len(shown), columns)]
    heights = [GAP + layout.line_step * max(len(captions[k]) for k in row) + layout.tile for row in rows]
    bottoms = head.height + np.cumsum(heights)
    picture = Image.new("RGB", (width, int(bottoms[-1]) + GAP), "black")
    picture.paste(head)
    pen = ImageDraw.Draw(picture)
    for cell, (k, panels) in enumerate(_painted(volume, masks, views, tints)):
        row, column = divmod(cell, columns)
        left, top = column * (layout.width + GAP) + GAP // 2, int(bottoms[row]) - layout.tile
        colour = VERDICT_COLOURS[slices[k].verdict]
        for number, line in enumerate(captions[k]):
            above = layout.line_step * (len(captions[k]) - number - 0.5) + FRAME
            pen.text((left, top - above), line, colour if number else TEXT, small, "lm")
        for number, panel in enumerate(panels):
            picture.paste(panel, (left + number * layout.panel_step, top))
        _mark(pen, left, top, views[k], small)
        if slices[k].verdict != "pass":
            box = (left, top, left + layout.width - 1, top + layout.tile - 1)
            pen.rectangle(box, outline=colour, width=FRAME)
    picture.save(path, format="PNG", compress_level=2)


def chosen_slices(wanted: Sequence[int], verdicts: Sequence[Verdict]) -> list[int]:
    """At most `MAX_SLICES` of the slices, the worst verdicts first, evenly spaced among those of one verdict.

    Args:
        wanted: Numbers of slices, in order.
        verdicts: Verdict of every slice of the volume.
    """
    chosen: list[int] = []
    for verdict in VERDICT_COLOURS:
        alike = [k for k in wanted if verdicts[k] == verdict]
        room = min(len(alike), MAX_SLICES - len(chosen))
        chosen += [alike[int(place)] for place in np.linspace(0, len(alike) - 1, room)]
    return sorted(chosen)


def _tints(result: Result, soft: bool) -> list[Tint]:
    tints = []
    if soft and result.probability_voxels is not None:
        tints.append(
            Tint(result.probability_voxels, 1.0, PROBABILITY_COLOUR, "probability, from 0 (clear) to 1")
        )
    if result.uncertainty_voxels is not None:
        legend = f"uncertainty (standard deviation of the probability), from 0 (clear) to {LARGEST_SPREAD:g} or more"
        tints.append(
            Tint(result.uncertainty_voxels, LARGEST_SPREAD, SPREAD_COLOUR, legend, is_on_border=True)
        )
    return tints


def _parts(volume: Volume, shown: Sequence[int]) -> Iterator[list[int]]:
    """The slices in parts that fit in memory; some files give many slices in the time of one."""
    most = max(1, BLOCK_BYTES // (8 * math.prod(volume.in_plane_shape)))
    part: list[int] = []
    for k in shown:
        if part and k - part[0] >= most:
            yield part
            part = []
        part.append(k)
    yield part


def _marked(volume: Volume, mask: Voxels, shown: Sequence[int]) -> dict[int, np.ndarray]:
    """Voxels (voxel, 2) of a mask in each slice."""
    marked: dict[int, np.ndarray] = {}
    for part in _parts(volume, shown):
        sections = volume.axial_slices(mask, part[0], part[-1] + 1)
        marked |= {k: np.argwhere(sections[k - part[0]]) for k in part}
    return marked


def _views(volume: Volume, masks: Sequence[Mapping[int, np.ndarray]], pixels: int) -> dict[int, View]:
    """Views of one scale on the first mask, or where it is empty on the next, see `centred_squares`."""
    marked = {k: next((mask[k] for mask in masks if len(mask[k])), points) for k, points in masks[0].items()}
    spacing_mm = volume.in_plane_spacing_mm
    centers, half_width_mm = centred_squares(marked, volume.in_plane_shape, spacing_mm, HALF_WIDTH_MM)
    return {
        k: View(center, half_width_mm, spacing_mm, pixels) for k, center in zip(marked, centers, strict=True)
    }


def _caption(area: SliceArea, predicted: SliceQuality, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    of_cord = f" of {area.cord_area_mm2:.1f}" if area.cord_area_mm2 > 0 else ""
    verdict = verdict_text(predicted.verdict, predicted.predicted_dsc)
    title = f"slice {area.slice}  {area.area_mm2:.1f}{of_cord} mm²"
    return [title, verdict, *wrapped(predicted.reason, font, width)]


def _painted(
    volume: Volume,
    masks: Sequence[Mapping[int, np.ndarray]],
    views: Mapping[int, View],
    tints: Sequence[Tint],
) -> Iterator[tuple[int, list[Image.Image]]]:
    """The panels of each slice, with the contours of its masks: the cord, if it is known, and the gray matter."""
    colours = (CORD_CONTOUR, CONTOUR)[-len(masks) :]
    for part in _parts(volume, list(masks[0])):
        first, stop = part[0], part[-1] + 1
        images, _ = volume.view_slices(first, stop)
        tinted = [(volume.axial_slices(tint.voxels, first, stop), tint) for tint in tints]
        for k in part:
            contours = []
            for mask, colour in zip(masks, colours, strict=True):
                section = np.zeros(volume.in_plane_shape, bool)
                section[tuple(mask[k].T)] = True
                contours.append((section, colour))
            panels = [draw_section(images[k - first], contours, views[k])]
            for values, tint in tinted:
                shown = [*contours[:-1], (contours[-1][0], None)] if tint.is_on_border else contours
                overlay = (values[k - first] / tint.full, tint.colour)
                panels.append(draw_section(images[k - first], shown, views[k], overlay))
            yield k, panels


def _mark(pen: ImageDraw.ImageDraw, left: int, top: int, view: View, font: ImageFont.FreeTypeFont) -> None:
    """The patient's right, and a bar of 10 mm in the lower left corner."""
    write = partial(pen.text, fill=TEXT, font=font, stroke_width=1, stroke_fill="black")
    write((left + MARGIN, top + view.pixels // 2), "R", anchor="lm")
    length = round(SCALE_BAR_MM * view.pixels / (2 * view.half_width_mm))
    bottom = top + view.pixels - MARGIN
    pen.rectangle((left + MARGIN - 1, bottom - 4, left + MARGIN + length, bottom), "white", "black")
    write((left + MARGIN, bottom - 8), f"{SCALE_BAR_MM:g} mm", anchor="ls")
