"""Writes the quality pages of a study: HTML files that need no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import staged
from keras_scgm.messages import shown_dsc
from keras_scgm.picture import CONTOUR, CORD_CONTOUR, VERDICT_COLOURS, reasons_of
from keras_scgm.quality.verdicts import Verdict
from keras_scgm.study.derivatives import DerivativePaths, write_description
from keras_scgm.study.page.marks import mask_id
from keras_scgm.study.page.rows import Cells, ImageRow, number, read_rows, verdict_in
from keras_scgm.study.page.sheets import Sheet, sheet_of
from keras_scgm.webpage import script_json, template

PACKAGE = "keras_scgm.study.page"
PAGE, FOLDER = "quality.html", "quality"
"""Name of the only page, and folder of several."""
FAIL_COLOUR = "#ff6b6b"
"""That of the pictures is too dark for text on the gray of the page."""
MAX_IMAGES = 200
MAX_BYTES = 19_500_000
"""Size of a page."""
NIIVUE, LICENCE = "niivue.umd.js.gz", "niivue.LICENSE.txt"

VALUES = (
    ("area_mm2", "gray matter", "mm²", "{:.1f}".format),
    ("cord_area_mm2", "cord", "mm²", "{:.1f}".format),
    ("gm_cord_ratio", "ratio", "", "{:.3f}".format),
    ("contrast_to_noise", "contrast to noise", "", "{:.1f}".format),
    ("predicted_dsc", "predicted DSC", "", shown_dsc),
)
"""Columns of `summary.tsv` in the head of a row: name, words, unit, and what makes a number text."""


@dataclass(frozen=True)
class RowContent:
    """What the template shows of an image.

    Args:
        row: Its tables.
        values: Its values as text.
        problems: Reason of the verdict and warnings.
        reasons: Verdicts other than "pass", and their reasons with the slices to which they apply.
        mask_id: Beginning of the hash of its mask; empty without a mask.
        sheet: Its slices, None if it cannot be shown.
        captions: A line for each slice on the sheet, with its verdict and the reason.
        data: `Sheet.data` as JSON.
    """

    row: ImageRow
    values: Sequence[str]
    problems: Sequence[str]
    reasons: Sequence[tuple[Verdict, str]]
    mask_id: str
    sheet: Sheet | None
    captions: Sequence[tuple[str, Verdict | None, str]]
    data: str


def write_pages(images: str | Path, output: str | Path) -> list[Path]:
    """Write the quality pages of a study: `quality.html`, or pages in `quality/` if one would be too large.

    Every image is a row, the worst verdict first: its slices with the outlines of gray matter and cord, and its
    values. People mark masks by keys; the browser keeps the marks, and the page exports them for `read_marks`.

    Args:
        images: Folder that the paths in the column `image` start from.
        output: Folder of the study with its tables and masks; earlier pages in it are replaced.

    Returns:
        Pages, in their order.

    Raises:
        InputError: There is no `summary.tsv`, it holds no image, or the pages cannot be written.
    """
    images, output = checks.path("images", images), checks.path("output", output)
    found = read_rows(output)
    missing, rows = ([row for row in found if row.is_missing == is_missing] for is_missing in (True, False))
    if not rows:
        raise InputError(f"{output}: the tables hold no image; run the step participant first")
    show = template(PACKAGE, "row.html")
    parts = [show.render(content=_content(row, images, output)) for row in rows]
    page = template(PACKAGE, "quality.html")
    common = {
        "study": write_description(output, images),
        "n_images": len(parts),
        "missing": missing,
        "colours": {"gm": CONTOUR, "cord": CORD_CONTOUR},
        "verdict_colours": VERDICT_COLOURS | {"fail": FAIL_COLOUR},
        "niivue": base64.b64encode(files(PACKAGE).joinpath(NIIVUE).read_bytes()).decode(),
        "licence": files(PACKAGE).joinpath(LICENCE).read_text("utf-8"),
    }
    fixed = len(page.render(rows=[], **common).encode())
    groups = list(_groups(fixed, [len(part.encode()) for part in parts]))
    names = [PAGE] if len(groups) == 1 else [f"quality-{n:02d}.html" for n in range(1, len(groups) + 1)]
    former = sorted(path.name for path in (output / FOLDER).glob("quality-*.html"))
    folder = output if len(groups) == 1 else output / FOLDER
    with staged(folder, former=() if len(groups) == 1 else former) as staging:
        for name, group in zip(names, groups, strict=True):
            text = page.render(
                rows=[parts[place] for place in group],
                first=group.start + 1,
                last=group.stop,
                name=name,
                names=names if len(names) > 1 else [],
                **common,
            )
            (staging / name).write_text(text, encoding="utf-8")
    if len(groups) > 1:
        (output / PAGE).unlink(missing_ok=True)
    else:
        for other in former:
            (output / FOLDER / other).unlink()
    return [folder / name for name in names]


def _groups(fixed: int, sizes: Sequence[int]) -> Iterator[range]:
    """Consecutive rows that fit on a page, from the bytes of a page without rows and those of each row."""
    start, n_bytes = 0, fixed
    for place, size in enumerate(sizes):
        if place - start == MAX_IMAGES or (place > start and n_bytes + size > MAX_BYTES):
            yield range(start, place)
            start, n_bytes = place, fixed
        n_bytes += size
    yield range(start, len(sizes))


def _content(row: ImageRow, images: Path, output: Path) -> RowContent:
    summary = row.summary
    warnings, reason = summary.get("warnings", ""), summary.get("reason", "")
    problems = [text for text in (summary.get("error"), reason not in warnings and reason, warnings) if text]
    mask = output / summary["mask"] if "mask" in summary else None
    sheet = None
    if mask is not None:
        try:
            sheet = sheet_of(images / row.image, _masks(mask), row.verdicts)
        except (InputError, OSError) as error:
            problems.append(f"cannot be shown: {error}")
    if sheet is not None and sheet.n_left_out:
        problems.append(f"{sheet.n_left_out} slices are left out, the best verdicts first")
    return RowContent(
        row=row,
        values=[text for text in (_value(summary, *column) for column in VALUES) if text],
        problems=problems,
        reasons=list(
            reasons_of(
                (place, verdict, row.slices[place].get("reason", ""))
                for place, verdict in row.verdicts.items()
            )
        ),
        mask_id=mask_id(mask) if mask else "",
        sheet=sheet,
        captions=[_caption(row.slices.get(tile.slice, {}), tile.slice) for tile in sheet.tiles]
        if sheet
        else [],
        data=script_json(sheet.data) if sheet else "",
    )


def _masks(gray_matter: Path) -> dict[str, Path]:
    """Gray matter and, if there is one, the cord beside it."""
    cord = DerivativePaths(gray_matter).cord
    return {"gm": gray_matter, "cord": cord} if cord.exists() else {"gm": gray_matter}


def _value(cells: Cells, name: str, words: str, unit: str, shown: Callable[[float], str]) -> str:
    value = number(cells, name)
    return "" if math.isnan(value) else f"{words} {shown(value)} {unit}".rstrip()


def _caption(cells: Cells, place: int) -> tuple[str, Verdict | None, str]:
    level, area, cord, dsc = (
        number(cells, name) for name in ("level", "area_mm2", "cord_area_mm2", "predicted_dsc")
    )
    text = f"slice {place}"
    if not math.isnan(level):
        text += f", level {level:g}"
    if not math.isnan(area):
        text += f", {area:.1f}" + (f" of {cord:.1f}" if cord > 0 else "") + " mm²"
    if not math.isnan(dsc):
        text += f", DSC {shown_dsc(dsc)}"
    return text, verdict_in(cells), cells.get("reason", "")
