"""What an adaptation changed: a table of slices, and pictures before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from keras_scgm.adaptation.guard import Compared, Judgement
from keras_scgm.dice import dice
from keras_scgm.figures import write_figure
from keras_scgm.files import csv_cell, write_rows, write_text
from keras_scgm.picture import CONTOUR, CORD_CONTOUR, HALF_WIDTH_MM, View, draw_section
from keras_scgm.segmentation import Segmentation
from keras_scgm.views import centred_squares

REPORT, CHANGES, PICTURES = "guard.json", "changes.csv", "changes.png"
SCANS, SLICES = 4, 5
"""Scans and slices of each that are shown: those that changed most."""
LETTERS_PER_COLUMN = 30
"""Of the name of a scan; a longer one takes another line."""


def write_report(folder: Path, judgement: Judgement, compared: Sequence[Compared]) -> None:
    """Writes the verdict of the guard (`guard.json`), all slices (`changes.csv`) and pictures (`changes.png`).

    Args:
        folder: Folder of the adaptation.
        judgement: Verdict of the guard.
        compared: Results on the scans that were held back.
    """
    write_text(folder / REPORT, judgement.to_json())
    write_rows(folder / CHANGES, [row for pair in compared for row in _rows(pair)])
    save_pictures(folder / PICTURES, compared)


def save_pictures(path: Path, compared: Sequence[Compared]) -> None:
    """Draws the slices whose gray matter changed most, before and below them after, as PNG.

    Args:
        path: File to replace.
        compared: Results on scans.
    """
    write_figure(path, draw_changes(compared), dpi=110)


def draw_changes(compared: Sequence[Compared]) -> Figure:
    """The figure of `save_pictures`; one line of text if nothing changed."""
    by_agreement = sorted(compared, key=lambda pair: np.nan_to_num(pair.agreement))
    shown = [(pair, chosen) for pair in by_agreement if (chosen := _most_changed(pair))][:SCANS]
    if not shown:
        figure = Figure(figsize=(6, 0.5))
        figure.suptitle("the gray matter of no slice changed", fontsize=9)
        return figure
    columns = max(len(chosen) for _, chosen in shown)
    figure = Figure(figsize=(max(4.4, 2.2 * columns) + 0.3, 4.9 * len(shown) + 0.4), layout="constrained")
    figure.suptitle("red: gray matter, blue: cord; A is up, R on the left", fontsize=9)
    parts = figure.subfigures(len(shown), squeeze=False).flat
    for part, (pair, chosen) in zip(parts, shown, strict=True):
        name = Path(pair.before.volume.source).name
        part.suptitle("\n".join(wrap(name, LETTERS_PER_COLUMN * columns)), fontsize=8)
        grid = part.subplots(2, columns, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        for line, when, result in zip(grid, ("before", "after"), (pair.before, pair.after), strict=True):
            line[0].set_ylabel(when, fontsize=8)
            for axes, k in zip(line, chosen, strict=False):
                axes.imshow(_section(pair, result, k))
        for axes, k in zip(grid[0], chosen, strict=False):
            axes.set_title(_change(pair, k), fontsize=8)
    return figure


def _change(pair: Compared, k: int) -> str:
    """Agreement and areas of the gray matter of a slice before and after."""
    before, after = (_masks(result)[:, :, k] for result in (pair.before, pair.after))
    volume = pair.before.volume
    areas = " → ".join(f"{mask.sum() * volume.voxel_area_mm2:.1f}" for mask in (before, after))
    return f"slice {volume.stored_slice_index(k)}, DSC between {dice(before, after):.3f}\n{areas} mm²"


def _rows(pair: Compared) -> list[dict[str, Any]]:
    volume = pair.before.volume
    masks = [_masks(result) for result in (pair.before, pair.after)]
    agreement = {
        volume.stored_slice_index(k): dice(masks[0][:, :, k], masks[1][:, :, k])
        for k in range(volume.n_slices)
    }
    rows = []
    for before, after in zip(pair.before.areas, pair.after.areas, strict=True):
        row: dict[str, Any] = {"scan": Path(volume.source).name, "slice": before.slice}
        for name in ("area_mm2", "cord_area_mm2", "predicted_dsc"):
            row |= {
                f"{name}_{when}": csv_cell(getattr(one, name), ".4f")
                for when, one in (("before", before), ("after", after))
            }
        rows.append(row | {"dsc_between": csv_cell(agreement[before.slice], ".4f")})
    return rows


def _masks(result: Segmentation) -> np.ndarray:
    """Gray matter, bool (right-left, posterior-anterior, slice from the inferior end)."""
    return np.asarray(result.volume.axial_view(result.mask_voxels)) > 0


def _most_changed(pair: Compared) -> list[int]:
    """Slices with the most voxels of gray matter that differ, in the order of the scan."""
    changed = np.count_nonzero(_masks(pair.before) != _masks(pair.after), axis=(0, 1))
    order = np.argsort(-changed, kind="stable")
    return sorted(int(k) for k in order[:SLICES] if changed[k])


def _section(pair: Compared, result: Segmentation, k: int) -> Any:
    volume = result.volume
    image = volume.read_slices(k, k + 1)[0][0]
    both = np.argwhere(_masks(pair.before)[:, :, k] | _masks(pair.after)[:, :, k])
    spacing_mm = volume.in_plane_spacing_mm
    (center,), half_width_mm = centred_squares({k: both}, volume.in_plane_shape, spacing_mm, HALF_WIDTH_MM)
    contours = [(_masks(result)[:, :, k], CONTOUR)]
    if result.cord_voxels is not None:
        cord = np.asarray(volume.axial_view(result.cord_voxels))[:, :, k] > 0
        contours.insert(0, (cord, CORD_CONTOUR))
    return draw_section(image, contours, View(center, half_width_mm, spacing_mm))
