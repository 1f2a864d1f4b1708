"""The head of the mosaic: name, verdict, warnings, and which slices it shows."""

from __future__ import annotations

import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_scgm.messages import shown_dsc
from keras_scgm.morphometry import SliceArea
from keras_scgm.picture.section import CONTOUR, CORD_CONTOUR, Tint
from keras_scgm.quality.verdicts import Quality, SliceQuality, Verdict
from keras_scgm.volume import Volume, Voxels

MAX_SLICES = 200
"""Maximum number of slices in a picture; the head says which are left out."""
VERDICT_COLOURS: dict[Verdict, str] = {"fail": "#d55e00", "review": "#f0e442", "pass": "#56b4e9"}
"""From worst to best; colours of Okabe and Ito's palette, which colour-blind people can tell apart, too."""
WARNING = "#ffb000"
TEXT, FAINT = "white", "#bbbbbb"

MARGIN = 9
"""Pixels beside text."""
TITLE, LINE = 23, 17
"""Heights of letters in pixels."""
LINE_STEP = 30
LISTED_RANGES = 20


class Result(Protocol):
    """Attributes of a result that pictures need; `keras_scgm.Segmentation` has them."""

    @property
    def volume(self) -> Volume: ...
    @property
    def mask_voxels(self) -> Voxels: ...
    @property
    def cord_voxels(self) -> Voxels | None: ...
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


def draw_head(
    result: Result,
    present: Sequence[int],
    wanted: Sequence[int],
    shown: Sequence[int],
    tints: Sequence[Tint],
    width: int,
) -> Image.Image:
    volume, quality = result.volume, result.quality
    judged = [
        (volume.stored_slice_index(k), quality.slices[k].verdict, quality.slices[k].reason) for k in wanted
    ]
    names = " + ".join(item["name"] for item in result.record["weights"])
    plain, bold, title = font_of(LINE), font_of(LINE + 2, bold=True), font_of(TITLE, bold=True)
    verdict = f"{quality.verdict}, predicted DSC {shown_dsc(quality.predicted_dsc)}"
    settings = (
        f"weights {names}; gray matter {result.record['gray_matter_volume_mm3']:.0f} mm³; "
        "R: patient's right; for research, not for diagnosis"
    )
    texts = [
        (Path(volume.source).name, TEXT, title),
        (verdict, VERDICT_COLOURS[quality.verdict], bold),
        (settings, FAINT, plain),
        *((line, colour, plain) for line, colour in _outlines(result)),
        (_selection(result, present, wanted), FAINT, plain),
        *(
            (f"{place} panel of each slice: {tint.legend}", FAINT, plain)
            for place, tint in zip(("second", "third"), tints, strict=False)
        ),
        *((f"warning: {warning}", WARNING, plain) for warning in result.warnings),
        *((line, VERDICT_COLOURS[verdict], plain) for verdict, line in reasons_of(judged)),
        *((line, WARNING, plain) for line in _left_out(volume, wanted, shown, quality.slices)),
    ]
    lines = [
        (line, colour, font)
        for text, colour, font in texts
        for line in wrapped(text, font, width - 2 * MARGIN)
    ]
    head = Image.new("RGB", (width, LINE_STEP * len(lines) + 2 * MARGIN), "black")
    pen = ImageDraw.Draw(head)
    for number, (line, colour, font) in enumerate(lines):
        pen.text((MARGIN, MARGIN + LINE_STEP * (number + 0.5)), line, colour, font, "lm")
    return head


def _outlines(result: Result) -> Iterator[tuple[str, str]]:
    """Which outline is of which tissue, in its colour, and the mean areas; nothing without a cord."""
    if result.cord_voxels is None:
        return
    both = [area for area in result.areas if area.n_voxels and area.cord_area_mm2 > 0]
    gray, cord = ("", "")
    if both:
        gray_mm2, cord_mm2 = (
            math.fsum(areas) / len(both)
            for areas in zip(*((area.area_mm2, area.cord_area_mm2) for area in both), strict=True)
        )
        gray = f", mean area {gray_mm2:.1f} mm²"
        cord = (
            f", mean area {cord_mm2:.1f} mm², gray matter / cord {gray_mm2 / cord_mm2:.2f} (slices with both)"
        )
    yield f"outline of the gray matter{gray}", CONTOUR
    yield f"outline of the cord{cord}", CORD_CONTOUR


def _selection(result: Result, present: Sequence[int], wanted: Sequence[int]) -> str:
    """Which slices there are to show."""
    volume = result.volume
    n_with_cord = sum(area.cord_area_mm2 > 0 for area in result.areas)
    of_cord = f", {n_with_cord} the cord" if result.cord_voxels is not None else ""
    if not present:
        return f"none of {volume.n_slices} slices has gray matter{of_cord}"
    parts = [f"{len(present)} of {volume.n_slices} slices have gray matter{of_cord}"]
    between = set(range(present[0], present[-1] + 1)) - set(present)
    if between:
        parts.append(f"{len(between)} between them have none ({_named(volume, sorted(between))})")
    beyond = set(wanted) - between - set(present)
    if beyond:
        parts.append(f"{len(beyond)} at the ends have the cord alone ({_named(volume, sorted(beyond))})")
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


def reasons_of(judged: Iterable[tuple[int, Verdict, str]]) -> Iterator[tuple[Verdict, str]]:
    """Reasons with the slices to which they apply, the worst verdict first.

    Args:
        judged: Number in the file, verdict and reason of each slice.
    """
    alike = defaultdict(list)
    for place, verdict, reason in judged:
        alike[verdict, reason].append(place)
    for verdict in VERDICT_COLOURS:
        if verdict != "pass":
            reasons = {reason: places for (of, reason), places in alike.items() if of == verdict}
            for reason, places in sorted(reasons.items(), key=lambda item: -len(item[1])):
                yield verdict, f"{verdict}, {reason}: {_ranges(places, LISTED_RANGES)}"


def _named(volume: Volume, indices: Sequence[int]) -> str:
    """Numbers of slices as in the file."""
    return _ranges([volume.stored_slice_index(k) for k in indices], MAX_SLICES + 1)


def _ranges(places: Sequence[int], most: int) -> str:
    """Numbers of slices, consecutive ones as a range; how many there are if the ranges are too many."""
    stored = np.sort(places)
    runs = np.split(stored, np.flatnonzero(np.diff(stored) > 1) + 1)
    if len(runs) > most:
        return f"{len(stored)} slices"
    ranges = ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"slice {ranges}" if len(stored) == 1 else f"slices {ranges}"


@cache
def font_of(height: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of Matplotlib, which has the letters of most languages; importing Matplotlib takes 0.1 s."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = distribution("matplotlib").locate_file(f"matplotlib/mpl-data/fonts/ttf/{name}")
    return ImageFont.truetype(str(file), height)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    return textwrap.wrap(text, int(width / font.getlength("n")))
