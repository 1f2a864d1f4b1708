"""The picture to check a result by: a mosaic of slices with the contour of the gray matter."""

from __future__ import annotations

import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from keras_scgm.morphometry import SliceArea
from keras_scgm.quality import Quality, SliceQuality, Verdict
from keras_scgm.views import brightness_range, fitting_half_width_mm
from keras_scgm.volume import BLOCK_BYTES, Volume, Voxels

MAX_SLICES = 200
"""Slices in a picture at most; the head says which are left out."""
HALF_WIDTH_MM = 16.0
"""Of the square part of a slice that is drawn, unless the gray matter needs more."""
SCALE_BAR_MM = 10.0
CONTOUR = "#ff4d5a"
REFERENCE = "#3ddc84"
VERDICT_COLOURS: dict[Verdict, str] = {"fail": "#d55e00", "review": "#f0e442", "pass": "#56b4e9"}
"""From worst to best; of Okabe and Ito's palette, whose colours look different to colour-blind people, too."""
WARNING = "#ffb000"
TEXT, FAINT = "white", "#bbbbbb"

PROBABILITY_COLOUR, SPREAD_COLOUR = "#2fb4ff", "#8a2be2"
LARGEST_SPREAD = 0.5
"""Standard deviation of a probability that is 0 as often as 1."""
OPAQUENESS = 0.7
"""Of the full tint."""

GAP, MARGIN, FRAME = 12, 9, 3
"""Pixels between cells, beside text and of a frame."""
MIN_WIDTH = 948
"""Pixels of the whole picture."""
TITLE, LINE = 23, 17
"""Heights of letters in pixels."""
LINE_STEP = 30
LISTED_RANGES = 20
BLUR = 1.0
"""Pixels; a contour is where the blurred mask is neither in nor out, some two pixels wide."""


class Result(Protocol):
    """What a picture shows, with the attributes of `keras_scgm.Segmentation`, which is one."""

    @property
    def volume(self) -> Volume: ...
    @property
    def mask_voxels(self) -> Voxels: ...
    @property
    def probability_voxels(self) -> Voxels | None: ...
    @property
    def uncertainty_voxels(self) -> Voxels | None: ...
    @property
    def areas(self) -> Sequence[SliceArea]: ...
    @property
    def quality(self) -> Quality: ...
    @property
    def warnings(self) -> Sequence[str]: ...
    @property
    def record(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class View:
    """The square part of a slice that is drawn.

    Args:
        center: voxels (right-left, posterior-anterior).
        half_width_mm: from the centre to the edges.
        spacing_mm: voxel spacing in the same order.
        pixels: width and height of the drawing.
    """

    center: np.ndarray
    half_width_mm: float
    spacing_mm: tuple[float, float]
    pixels: int = 304


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels; a cell is the panels of a slice with its caption above.

    Args:
        tile: width and height of a panel.
        letters: height of the letters of a caption.
        panels: in a cell.
        columns: cells in a row.
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


@dataclass(frozen=True)
class _Tint:
    """Values shown in a panel of their own, over the slice.

    Args:
        voxels: values on the stored grid.
        full: value that gets the full tint; 0 gets none.
        colour: of the tint.
        legend: for the head of the picture.
    """

    voxels: Voxels
    full: float
    colour: str
    legend: str


def save_mosaic(result: Result, path: Path, soft: bool = False) -> None:
    """Draw every slice from the first to the last with gray matter, inferior first, as PNG.

    Radiological convention: anterior is up, the patient's right is on the left. All slices have one scale,
    which holds all of the mask. Above each stand its area, its verdict, its predicted DSC and what speaks
    against it. Of more than `MAX_SLICES` slices, those that fail come before those to be reviewed and these
    before those that pass, each kind evenly spaced, and the head of the picture says which are left out.
    The spread of several passes, if there were any, is a tint over the slice in a second panel.

    Args:
        result: the segmentation.
        path: file to write.
        soft: show the probabilities in the same way.
    """
    volume = result.volume
    slices = result.quality.slices
    areas = {area.slice: area for area in result.areas}
    present = [k for k in range(volume.n_slices) if areas[volume.stored_slice_index(k)].n_voxels]
    wanted = range(present[0], present[-1] + 1) if present else range(volume.n_slices)
    shown = _chosen(wanted, slices)
    tints = _tints(result, soft)
    layout = _Layout.of(len(shown), 1 + len(tints))
    marked = _marked(volume, result.mask_voxels, shown)
    views = _views(volume, marked, layout.tile)
    small = _font(layout.letters)
    captions = {
        k: _caption(areas[volume.stored_slice_index(k)], slices[k], small, layout.width) for k in shown
    }
    columns = min(layout.columns, len(shown))
    width = max(columns * (layout.width + GAP), MIN_WIDTH)
    head = _head(result, present, wanted, shown, tints, width)
    rows = [shown[first : first + columns] for first in range(0, len(shown), columns)]
    heights = [GAP + layout.line_step * max(len(captions[k]) for k in row) + layout.tile for row in rows]
    bottoms = head.height + np.cumsum(heights)
    picture = Image.new("RGB", (width, int(bottoms[-1]) + GAP), "black")
    picture.paste(head)
    pen = ImageDraw.Draw(picture)
    for cell, (k, panels) in enumerate(_drawn(volume, marked, views, tints)):
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


def _chosen(wanted: Sequence[int], slices: Sequence[SliceQuality]) -> list[int]:
    """At most `MAX_SLICES` of the slices, the worst verdicts first, evenly spaced among those of one verdict."""
    chosen: list[int] = []
    for verdict in VERDICT_COLOURS:
        alike = [k for k in wanted if slices[k].verdict == verdict]
        room = min(len(alike), MAX_SLICES - len(chosen))
        chosen += [alike[int(place)] for place in np.linspace(0, len(alike) - 1, room)]
    return sorted(chosen)


def _tints(result: Result, soft: bool) -> list[_Tint]:
    tints = []
    if soft and result.probability_voxels is not None:
        tints.append(_Tint(result.probability_voxels, 1.0, PROBABILITY_COLOUR, "probability"))
    if result.uncertainty_voxels is not None:
        legend = "uncertainty (standard deviation of the probability)"
        tints.append(_Tint(result.uncertainty_voxels, LARGEST_SPREAD, SPREAD_COLOUR, legend))
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
    """Voxels (voxel, 2) of the gray matter in each slice."""
    marked: dict[int, np.ndarray] = {}
    for part in _parts(volume, shown):
        sections = volume.axial_slices(mask, part[0], part[-1] + 1)
        marked |= {k: np.argwhere(sections[k - part[0]]) for k in part}
    return marked


def _views(volume: Volume, marked: Mapping[int, np.ndarray], pixels: int) -> dict[int, View]:
    """Views of one scale on the gray matter.

    A slice without any is shown where its neighbours have theirs, and the whole field if no slice has any.
    """
    filled = {k: points for k, points in marked.items() if len(points)}
    spacing_mm = volume.in_plane_spacing_mm
    half_width_mm = max(np.multiply(volume.in_plane_shape, spacing_mm)) / 2
    centers = np.tile((np.array(volume.in_plane_shape) - 1) / 2, (len(marked), 1))
    if filled:
        half_width_mm = fitting_half_width_mm(filled.values(), spacing_mm, HALF_WIDTH_MM)
        known = np.transpose([points.mean(axis=0) for points in filled.values()])
        centers = np.transpose([np.interp(list(marked), list(filled), along) for along in known])
    return {
        k: View(center, half_width_mm, spacing_mm, pixels) for k, center in zip(marked, centers, strict=True)
    }


def _caption(area: SliceArea, judged: SliceQuality, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    dsc = "" if math.isnan(judged.predicted_dsc) else f", predicted DSC {judged.predicted_dsc:.2f}"
    title = f"slice {area.slice}  {area.area_mm2:.1f} mm²"
    return [title, f"{judged.verdict}{dsc}", *_wrapped(judged.reason, font, width)]


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    return textwrap.wrap(text, int(width / font.getlength("n")))


def _drawn(
    volume: Volume, marked: Mapping[int, np.ndarray], views: Mapping[int, View], tints: Sequence[_Tint]
) -> Iterator[tuple[int, list[Image.Image]]]:
    """The panels of each slice."""
    for part in _parts(volume, list(marked)):
        first, stop = part[0], part[-1] + 1
        images, _ = volume.view_slices(first, stop)
        tinted = [(volume.axial_slices(tint.voxels, first, stop), tint) for tint in tints]
        for k in part:
            section = np.zeros(volume.in_plane_shape, bool)
            section[tuple(marked[k].T)] = True
            overlays = (None, *((values[k - first] / tint.full, tint.colour) for values, tint in tinted))
            contours = ((section, CONTOUR),)
            yield k, [draw_section(images[k - first], contours, views[k], overlay) for overlay in overlays]


def _mark(pen: ImageDraw.ImageDraw, left: int, top: int, view: View, font: ImageFont.FreeTypeFont) -> None:
    """The patient's right, and a bar of 10 mm in the lower left corner."""
    write = partial(pen.text, fill=TEXT, font=font, stroke_width=1, stroke_fill="black")
    write((left + MARGIN, top + view.pixels // 2), "R", anchor="lm")
    length = round(SCALE_BAR_MM * view.pixels / (2 * view.half_width_mm))
    bottom = top + view.pixels - MARGIN
    pen.rectangle((left + MARGIN - 1, bottom - 4, left + MARGIN + length, bottom), "white", "black")
    write((left + MARGIN, bottom - 8), f"{SCALE_BAR_MM:g} mm", anchor="ls")


def _head(
    result: Result,
    present: Sequence[int],
    wanted: Sequence[int],
    shown: Sequence[int],
    tints: Sequence[_Tint],
    width: int,
) -> Image.Image:
    volume, quality = result.volume, result.quality
    names = " + ".join(item["name"] for item in result.record["weights"])
    plain, bold, title = _font(LINE), _font(LINE + 2, bold=True), _font(TITLE, bold=True)
    verdict = f"{quality.verdict}, predicted DSC {quality.predicted_dsc:.2f}"
    settings = (
        f"weights {names}; gray matter {result.record['gray_matter_volume_mm3']:.0f} mm³; "
        "R: patient's right; for research, not for diagnosis"
    )
    texts = [
        (Path(volume.source).name, TEXT, title),
        (verdict, VERDICT_COLOURS[quality.verdict], bold),
        (settings, FAINT, plain),
        (_selection(volume, present, wanted), FAINT, plain),
        *(
            (f"{place} panel of each slice: {tint.legend}, from 0 (clear) to {tint.full:g}", FAINT, plain)
            for place, tint in zip(("second", "third"), tints, strict=False)
        ),
        *((f"warning: {warning}", WARNING, plain) for warning in result.warnings),
        *((line, colour, plain) for line, colour in _reasons(volume, wanted, quality.slices)),
        *((line, WARNING, plain) for line in _left_out(volume, wanted, shown, quality.slices)),
    ]
    lines = [
        (line, colour, font)
        for text, colour, font in texts
        for line in _wrapped(text, font, width - 2 * MARGIN)
    ]
    head = Image.new("RGB", (width, LINE_STEP * len(lines) + 2 * MARGIN), "black")
    pen = ImageDraw.Draw(head)
    for number, (line, colour, font) in enumerate(lines):
        pen.text((MARGIN, MARGIN + LINE_STEP * (number + 0.5)), line, colour, font, "lm")
    return head


def _selection(volume: Volume, present: Sequence[int], wanted: Sequence[int]) -> str:
    """Which slices there are to show."""
    if not present:
        return f"none of {volume.n_slices} slices has gray matter"
    parts = [f"{len(present)} of {volume.n_slices} slices have gray matter"]
    gaps = sorted(set(wanted) - set(present))
    if gaps:
        parts.append(f"{len(gaps)} between them have none ({_named(volume, gaps)})")
    ends = sorted(set(range(volume.n_slices)) - set(wanted))
    if ends:
        parts.append(f"{len(ends)} at the ends have none and are not shown ({_named(volume, ends)})")
    return "; ".join(parts)


def _left_out(
    volume: Volume, wanted: Sequence[int], shown: Sequence[int], slices: Sequence[SliceQuality]
) -> Iterator[str]:
    missing = sorted(set(wanted) - set(shown))
    if missing:
        counts = Counter(slices[k].verdict for k in missing)
        kinds = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICT_COLOURS if counts[verdict])
        yield (
            f"{len(missing)} of these slices are left out of this picture of {MAX_SLICES} ({kinds}): "
            f"{_named(volume, missing)}"
        )


def _reasons(
    volume: Volume, wanted: Sequence[int], slices: Sequence[SliceQuality]
) -> Iterator[tuple[str, str]]:
    """What speaks against which slices, the worst verdict first, and the colour of the verdict."""
    alike = defaultdict(list)
    for k in wanted:
        if slices[k].verdict != "pass":
            alike[slices[k].verdict, slices[k].reason].append(k)
    for verdict, colour in VERDICT_COLOURS.items():
        reasons = {reason: indices for (of, reason), indices in alike.items() if of == verdict}
        for reason, indices in sorted(reasons.items(), key=lambda item: -len(item[1])):
            yield f"{verdict}, {reason}: {_named(volume, indices, LISTED_RANGES)}", colour


def _named(volume: Volume, indices: Sequence[int], most: int = MAX_SLICES + 1) -> str:
    """Numbers of slices as in the file, consecutive ones as a range; how many there are if the ranges are too many."""
    stored = np.sort([volume.stored_slice_index(k) for k in indices])
    runs = np.split(stored, np.flatnonzero(np.diff(stored) > 1) + 1)
    if len(runs) > most:
        return f"{len(stored)} slices"
    ranges = ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"slice {ranges}" if len(stored) == 1 else f"slices {ranges}"


@cache
def _font(height: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's font, without the time that importing Matplotlib takes."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = distribution("matplotlib").locate_file(f"matplotlib/mpl-data/fonts/ttf/{name}")
    return ImageFont.truetype(str(file), height)


def draw_section(
    image: np.ndarray,
    contours: Sequence[tuple[np.ndarray, str]],
    view: View,
    tint: tuple[np.ndarray, str] | None = None,
) -> Image.Image:
    """Draw a part of a slice with contours over it.

    Args:
        image: (right to left, posterior to anterior).
        contours: masks of the same shape with their colours; the last sets the brightness.
        view: the part.
        tint: values from 0 (clear) to 1 of the same shape, and their colour; contours lie over it.

    Returns:
        RGB, anterior up and right on the left; black beyond the edge of the image.
    """
    center = view.center
    half = view.half_width_mm / np.array(view.spacing_mm)
    low = np.clip(np.floor(center - half), 0, np.array(image.shape) - 1).astype(int)
    high = np.clip(np.ceil(center + half) + 1, low + 1, image.shape).astype(int)
    region = (slice(low[0], high[0]), slice(low[1], high[1]))
    # Pillow counts from the edge of the first pixel, rows first and downwards.
    step = 2 * half / view.pixels
    left, top = center[0] - half[0] - low[0] + 0.5, center[1] + half[1] - low[1] + 0.5
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
    drawn = magnified(np.rint(255 * gray)).convert("RGB")
    if tint is not None:
        values, colour = tint
        drawn.paste(colour, mask=magnified(np.rint(255 * OPAQUENESS * np.clip(values[region], 0, 1))))
    for section, colour in contours:
        inside = magnified(np.where(section[region], 255, 0)).point([0] * 128 + [255] * 128)
        blurred = inside.filter(ImageFilter.GaussianBlur(BLUR))
        drawn.paste(
            colour, mask=blurred.point([min(255, 2 * (255 - abs(2 * level - 255))) for level in range(256)])
        )
    return drawn
