"""One HTML file to look at: tables, box plots, every failure in slices and in 3-D. It needs no network.

Needs the optional packages of the extra `report`.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours, marching_cubes

from keras_scgm import checks
from keras_scgm.datasets.raters import majority
from keras_scgm.evaluation.cases import CanonicalMask, Case, read_image
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, LOWER_IS_BETTER
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.summary import agreement, of_cases, slice_areas, volumes
from keras_scgm.evaluation.tables import UNITS, all_tables, number
from keras_scgm.files import replaced
from keras_scgm.views import brightness_range, fitting_half_width_mm

HALF_WIDTH_MM = 10.0
"""Of the square part of a slice that is shown, unless the contours need more."""
MAX_SLICES = 60
"""Slices of a case at most, the worst; its heading says how many are left out."""
MAX_FACES = 20_000
"""Triangles of a case, shared by its surfaces; ten cases then stay below 15 MB."""
MODEL_COLOURS = ("#ff4d5a", "#ffb000", "#c77dff", "#ff8fab", "#f4f1de")
RATER_COLOURS = ("#4cc9f0", "#80ed99", "#72a0ff", "#2ec4b6", "#b8f2e6")
MESH_COLOUR = "#f28e2b"
AGREEMENT_COLUMNS = 3
PLAIN = {
    "template": "plotly_dark",
    "margin": {"l": 40, "r": 10, "t": 40, "b": 10},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
}
DASHES = ("none", "6 3", "2 2")
"""Of contours in pixels, for when the colours come round again."""
RATERS = "raters, each against the others"
RATERS_COLOUR = "#8d99ae"


def write_report(evaluation: Evaluation, path: str | Path, with_published: bool = False) -> None:
    """Write the report; the masks and images are read again for the pictures.

    Args:
        evaluation: what to show.
        path: HTML file, replaced if it exists.
        with_published: add the paper's columns to the tables, marked as such.

    Raises:
        InputError: the file cannot be written, or a mask is no longer what it was.
    """
    path = checks.path("path", path)
    meshes = {}
    cases = []
    for case in _worst_first(evaluation):
        picture = _picture(evaluation, case)
        if picture is None:
            continue
        cases.append(picture)
        meshes[case.case_id] = json.loads(picture.mesh.to_json())
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("keras_scgm.evaluation").joinpath("report.html").read_text("utf-8")
    )
    text = template.render(
        evaluation=evaluation,
        tables=all_tables(evaluation, with_published),
        case_rows=_case_rows(evaluation),
        areas=AREA_COLUMNS,
        metrics=[f"{name} ({UNITS[name]})" if name in UNITS else name for name in CHALLENGE_METRICS],
        cases=cases,
        layers=_layers(evaluation),
        plotly=get_plotlyjs(),
        boxes=_script_json(json.loads(_box_plots(evaluation).to_json())),
        agreement=_script_json(json.loads(_agreement_plots(evaluation).to_json())),
        meshes=_script_json(meshes),
    )
    _write(path, text)


@dataclass(frozen=True)
class Layer:
    """What one model or rater drew, which the report can hide.

    Args:
        number: from 0.
        name: of the model or the rater.
        is_rater: whether it is a rater's.
        colour: of its contours.
        dash: of its contours, as in SVG.
    """

    number: int
    name: str
    is_rater: bool
    colour: str
    dash: str

    @property
    def label(self) -> str:
        if self.is_rater:
            return f"rater {self.name}"
        return f"model {self.name}" if self.name.startswith("rater ") else self.name


@dataclass(frozen=True)
class Tile:
    """A slice with the contours of all masks, as parts of an SVG; lengths in mm.

    Args:
        label: number of the slice, and Dice coefficients.
        width: of the whole, a square.
        box: (left, top, width, height) of the image in it, which may end before or after it.
        png: the image, base64.
        contours: layer and path of each mask.
    """

    label: str
    width: float
    box: tuple[float, float, float, float]
    png: str
    contours: Sequence[tuple[Layer, str]]


@dataclass(frozen=True)
class Picture:
    """What the report shows of a case."""

    case_id: str
    scores: Sequence[str]
    tiles: Sequence[Tile]
    left_out: str
    mesh: go.Figure


def _worst_first(evaluation: Evaluation) -> list[Case]:
    values = [of_cases(evaluation.of_model(model), "DSC") for model in evaluation.models]

    def worst(case: Case) -> float:
        found = [of_model[case.case_id] for of_model in values if case.case_id in of_model]
        return min((-1.0 if math.isnan(value) else value for value in found), default=-1.0)

    return sorted(evaluation.cases, key=worst)


@dataclass(frozen=True)
class CaseRow:
    """A model on a case, the mean over raters of every metric of Table 2, of areas and of volumes."""

    model: str
    case_id: str
    site_id: str
    cells: Sequence[str]


AREA_COLUMNS = ("mean area (mm2)", "raters' area (mm2)", "volume (mm3)", "raters' volume (mm3)")


def _case_rows(evaluation: Evaluation) -> list[CaseRow]:
    """A row for each model and case, the worst DSC first."""
    rows = []
    for model in evaluation.models:
        scores = evaluation.of_model(model)
        values = {metric: of_cases(scores, metric) for metric in CHALLENGE_METRICS}
        sites = {score.case_id: score.site_id or "" for score in scores}
        areas, sizes = _mean_areas(scores), volumes(scores)
        for case_id, dsc in values["DSC"].items():
            cells = [number(values[metric][case_id], 3) for metric in CHALLENGE_METRICS]
            cells += [number(value) for value in areas[case_id]]
            cells += [number(value, 1) for value in sizes[case_id]]
            rows.append((-1.0 if math.isnan(dsc) else dsc, CaseRow(model, case_id, sites[case_id], cells)))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _mean_areas(scores: Sequence[Score]) -> dict[str, tuple[float, float]]:
    """Case -> mean area in mm2 over slices with gray matter, by one model and by its raters on average."""
    names = ("mean_area_prediction_mm2", "mean_area_reference_mm2")
    found: defaultdict[str, list[list[float]]] = defaultdict(list)
    for score in scores:
        found[score.case_id].append([score.details[name] for name in names])
    return {case_id: tuple(np.mean(pairs, axis=0).tolist()) for case_id, pairs in found.items()}


def _layers(evaluation: Evaluation) -> list[Layer]:
    """Models in the order given, then raters by name."""
    raters = sorted({rater for case in evaluation.cases for rater in case.references})
    layers: list[Layer] = []
    for names, palette, is_rater in (
        (evaluation.models, MODEL_COLOURS, False),
        (raters, RATER_COLOURS, True),
    ):
        for position, name in enumerate(names):
            dash = DASHES[position // len(palette) % len(DASHES)]
            layers.append(Layer(len(layers), name, is_rater, palette[position % len(palette)], dash))
    return layers


def _box_plots(evaluation: Evaluation) -> go.Figure:
    """Every metric in a panel of its own, as in the paper's Figure 6; each point is a pair of case and rater."""
    names = [f"{name} ({UNITS[name]})" if name in UNITS else name for name in CHALLENGE_METRICS]
    titles = [
        f"{label} {'↓' if name in LOWER_IS_BETTER else '↑'}"
        for name, label in zip(CHALLENGE_METRICS, names, strict=True)
    ]
    figure = make_subplots(
        rows=2, cols=5, subplot_titles=titles, horizontal_spacing=0.05, vertical_spacing=0.16
    )
    groups = [
        (layer.label, layer.colour, evaluation.of_model(layer.name))
        for layer in _layers(evaluation)
        if not layer.is_rater
    ]
    if evaluation.rater_scores:
        groups.append((RATERS, RATERS_COLOUR, list(evaluation.rater_scores)))
    for panel, metric in enumerate(CHALLENGE_METRICS):
        for name, colour, scores in groups:
            values = [score.challenge[metric] for score in scores]
            box = go.Box(
                y=[None if math.isnan(value) else value for value in values],
                text=[f"{score.case_id}, {score.maker} against {score.rater}" for score in scores],
                name=name,
                legendgroup=name,
                showlegend=panel == 0,
                marker={"color": colour, "size": 4},
                boxpoints="all",
                pointpos=0,
                jitter=0.5,
            )
            figure.add_trace(box, row=panel // 5 + 1, col=panel % 5 + 1)
    figure.update_xaxes(showticklabels=False)
    figure.update_layout(height=560, legend={"orientation": "h"}, **PLAIN)
    return figure


def _agreement_plots(evaluation: Evaluation) -> go.Figure:
    """Areas of slices as Bland and Altman (1986) plot them, a panel for each model."""
    layers = [layer for layer in _layers(evaluation) if not layer.is_rater]
    pairs = [slice_areas(evaluation.of_model(layer.name)) for layer in layers]
    found = [agreement(of_model.values()) for of_model in pairs]
    columns = min(len(layers), AGREEMENT_COLUMNS)
    rows = math.ceil(len(layers) / columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=[
            f"{html.escape(layer.label)}: bias {number(one.bias)}, "
            f"limits {number(one.low)} to {number(one.high)} mm², {one.n} slices"
            for layer, one in zip(layers, found, strict=True)
        ],
        horizontal_spacing=0.04,
        vertical_spacing=0.2 / rows,
    )
    for panel, (layer, of_model, one) in enumerate(zip(layers, pairs, found, strict=True)):
        place = {"row": panel // columns + 1, "col": panel % columns + 1}
        areas = np.array([*of_model.values()], float).reshape(-1, 2)
        points = go.Scatter(
            x=areas.mean(axis=1).round(3),
            y=(areas[:, 0] - areas[:, 1]).round(3),
            text=[f"{html.escape(case_id)}, slice {k}" for case_id, k in of_model],
            mode="markers",
            marker={"color": layer.colour, "size": 6, "opacity": 0.7},
            hovertemplate="%{text}: mean %{x} mm², difference %{y} mm²<extra></extra>",
            showlegend=False,
        )
        figure.add_trace(points, **place)
        figure.add_hline(y=0, line={"color": "#3b4652", "width": 1}, **place)
        for value, dash in ((one.bias, "solid"), (one.low, "dash"), (one.high, "dash")):
            if not math.isnan(value):
                figure.add_hline(y=value, line={"color": "#e6e8eb", "width": 1.5, "dash": dash}, **place)
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title="mean of model and raters (mm²)", showticklabels=True, row=rows)
    figure.update_yaxes(title="model - raters (mm²)", col=1)
    figure.update_layout(height=60 + 340 * rows, **PLAIN)
    return figure


def _picture(evaluation: Evaluation, case: Case) -> Picture | None:
    """Slices and 3-D view of a case, None if none of its masks could be used."""
    layers = _layers(evaluation)
    used = {score.maker for score in evaluation.scores if score.case_id == case.case_id}
    raters = {score.rater for score in evaluation.scores if score.case_id == case.case_id}
    masks: dict[Layer, CanonicalMask] = {}
    for layer in layers:
        if not layer.is_rater and layer.name in used and layer.name in case.predictions:
            path = case.predictions[layer.name]
            masks[layer] = evaluation.reader.prediction(path, list(case.references.values()))
    if not masks:
        return None
    grid = next(iter(masks.values()))
    for layer in layers:
        if layer.is_rater and layer.name in raters and layer.name in case.references:
            masks[layer] = evaluation.reader.reference(case.references[layer.name], grid)
    masks = {layer: mask for layer, mask in masks.items() if not mask.difference(grid)}
    image = read_image(case.image, grid) if case.image is not None else None
    tiles, left_out = _tiles(masks, image, grid)
    return Picture(
        case_id=case.case_id,
        scores=[_scores_line(evaluation.of_model(model), model, case.case_id) for model in evaluation.models],
        tiles=tiles,
        left_out=left_out,
        mesh=_mesh(masks),
    )


def _scores_line(scores: Sequence[Score], model: str, case_id: str) -> str:
    values = {metric: of_cases(scores, metric) for metric in ("DSC", "HSD", "MSD")}
    if case_id not in values["DSC"]:
        return f"{model}: no result"
    cells = [f"{name} {number(of_case[case_id], 3)}" for name, of_case in values.items()]
    found, wanted = _mean_areas(scores)[case_id]
    return f"{model}: {', '.join(cells)}, mean area {number(found)} mm² (raters {number(wanted)})"


def _tiles(
    masks: Mapping[Layer, CanonicalMask], image: np.ndarray | None, grid: CanonicalMask
) -> tuple[list[Tile], str]:
    """The slices in which any mask has something, in one scale, and how many are left out."""
    anywhere = np.any([mask.voxels for mask in masks.values()], axis=0)
    filled = np.flatnonzero(anywhere.any(axis=(0, 1)))
    if not filled.size:
        filled = np.arange(anywhere.shape[2])
    dice = {int(k): _dice_of_models(masks, int(k)) for k in filled}
    worst_first = sorted(
        dice, key=lambda k: min((v for v in dice[k].values() if not math.isnan(v)), default=1)
    )
    shown = sorted(worst_first[:MAX_SLICES])
    left_out = ""
    if len(shown) < len(dice):
        left_out = f"{len(dice) - len(shown)} of {len(dice)} slices are left out, those with the best Dice coefficients"
    spacing_mm = (float(grid.spacing_mm[0]), float(grid.spacing_mm[1]))
    marked = {k: np.argwhere(anywhere[:, :, k]) for k in shown}
    half_mm = fitting_half_width_mm([m for m in marked.values() if len(m)], spacing_mm, HALF_WIDTH_MM)
    tiles = []
    for k in shown:
        center = marked[k].mean(axis=0) if len(marked[k]) else (np.array(anywhere.shape[:2]) - 1) / 2
        half = half_mm / np.array(spacing_mm)
        low = np.clip(np.floor(center - half), 0, np.array(anywhere.shape[:2]) - 1).astype(int)
        high = np.clip(np.ceil(center + half) + 1, low + 1, anywhere.shape[:2]).astype(int)
        window = slice(low[0], high[0]), slice(low[1], high[1])
        # Where the corner of the tile lies, right and anterior, counted in voxels from the edge of the first.
        corner = center + 0.5 + np.array((-half[0], half[1]))
        box = ((low[0] - corner[0]), (corner[1] - high[1]), high[0] - low[0], high[1] - low[1])
        pixels = np.zeros(high - low) if image is None else image[(*window, k)]
        tiles.append(
            Tile(
                label=f"slice {k}: " + ", ".join(f"{name} {number(one)}" for name, one in dice[k].items()),
                width=2 * half_mm,
                box=(
                    box[0] * spacing_mm[0],
                    box[1] * spacing_mm[1],
                    box[2] * spacing_mm[0],
                    box[3] * spacing_mm[1],
                ),
                png=_png(pixels, anywhere[(*window, k)], spacing_mm),
                contours=[
                    (layer, _svg_path(mask.voxels[:, :, k], corner, spacing_mm))
                    for layer, mask in reversed(list(masks.items()))
                ],
            )
        )
    return tiles, left_out


def _dice_of_models(masks: Mapping[Layer, CanonicalMask], k: int) -> dict[str, float]:
    """Model -> mean Dice coefficient of a slice over the raters, NaN if both are empty."""
    sections = {layer: mask.voxels[:, :, k] for layer, mask in masks.items()}
    raters = [section for layer, section in sections.items() if layer.is_rater]
    dice = {}
    for layer, found in sections.items():
        if not layer.is_rater:
            values = [
                2 * np.count_nonzero(found & wanted) / (found.sum() + wanted.sum())
                for wanted in raters
                if found.any() or wanted.any()
            ]
            dice[layer.label] = float(np.mean(values)) if values else math.nan
    return dice


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
        section: the whole slice, right to left and posterior to anterior.
        corner: right anterior corner of the tile, in voxels from the edge of the first one.
        spacing_mm: voxel spacing in the order of the axes.
    """
    marked = np.argwhere(section)
    if not len(marked):
        return ""
    low, high = marked.min(axis=0), marked.max(axis=0) + 1
    parts = []
    for line in find_contours(np.pad(section[low[0] : high[0], low[1] : high[1]], 1).astype(float), 0.5):
        # From the centre of a padded voxel to the edge of the first voxel.
        points = line - 0.5 + low
        x_mm = (points[:, 0] - corner[0]) * spacing_mm[0]
        y_mm = (corner[1] - points[:, 1]) * spacing_mm[1]
        parts.append("M" + " ".join(f"{x:.2f},{y:.2f}" for x, y in zip(x_mm, y_mm, strict=True)) + "Z")
    return "".join(parts)


def _mesh(masks: Mapping[Layer, CanonicalMask]) -> go.Figure:
    """The first model's mask and the raters' majority, to be turned with the mouse, as in Figure 7."""
    raters = [mask for layer, mask in masks.items() if layer.is_rater]
    surfaces = [
        (layer.label, mask.voxels, layer.colour if layer.number else MESH_COLOUR)
        for layer, mask in masks.items()
        if not layer.is_rater
    ]
    agreed = majority(np.stack([mask.voxels for mask in raters]))
    figure = go.Figure()
    for position, (name, voxels, colour) in enumerate((*surfaces, ("raters' majority", agreed, "#9aa5b1"))):
        if not voxels.any():
            continue
        is_raters = position == len(surfaces)
        vertices, faces = _surface(voxels, raters[0].spacing_mm, MAX_FACES // (len(surfaces) + 1))
        x, y, z = vertices.T.astype(np.float32).round(2)
        i, j, k = faces.T.astype(np.uint16 if len(vertices) < 2**16 else np.int32)
        figure.add_trace(
            go.Mesh3d(
                x=x,
                y=y,
                z=z,
                i=i,
                j=j,
                k=k,
                name=name,
                color=colour,
                opacity=0.25 if is_raters else 1.0,
                visible=True if position == 0 or is_raters else "legendonly",
                showlegend=True,
                hoverinfo="name",
            )
        )
    axis = {"title": "", "showticklabels": False, "showbackground": False, "showgrid": False}
    figure.update_layout(
        template="plotly_dark",
        height=460,
        margin=dict.fromkeys("lrtb", 0),
        paper_bgcolor="rgba(0,0,0,0)",
        legend={"x": 0, "y": 1},
        scene={
            "xaxis": axis | {"title": "right to left"},
            "yaxis": axis | {"title": "posterior to anterior"},
            "zaxis": axis | {"title": "inferior to superior"},
            "aspectmode": "data",
            "camera": {"eye": {"x": 1.8, "y": -1.8, "z": 1.0}},
        },
    )
    return figure


def _surface(voxels: np.ndarray, spacing_mm: np.ndarray, most_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (point, 3) in mm and triangles of a mask, coarser where there would be too many."""
    bounds = [np.flatnonzero(voxels.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    box = tuple(slice(first, last + 1) for first, last in bounds)
    smooth = gaussian_filter(np.pad(voxels[box], 2).astype(np.float32), (0.7, 0.7, 0.4))
    step = 1
    while True:
        level = min(0.5, 0.9 * float(smooth[::step, ::step, ::step].max()))
        vertices, faces, _, _ = marching_cubes(smooth, level, spacing=tuple(spacing_mm), step_size=step)
        if len(faces) <= most_faces or step == 8:
            return vertices, faces
        step += 1


def _script_json(content: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(content, separators=(",", ":")).replace("</", "<\\/")


def _write(path: Path, text: str) -> None:
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
