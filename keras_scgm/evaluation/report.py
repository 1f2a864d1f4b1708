"""One HTML file to look at: tables, box plots, every failure in slices and in 3-D. It needs no network.

Needs the optional packages of the extra `report`.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.measure import find_contours, marching_cubes

from keras_scgm.errors import InputError
from keras_scgm.evaluation.cases import CanonicalMask, Case, read_image
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, LOWER_IS_BETTER
from keras_scgm.evaluation.scores import Evaluation
from keras_scgm.evaluation.summary import of_cases
from keras_scgm.evaluation.tables import UNITS, all_tables, number

HALF_WIDTH_MM = 10.0
MAX_SLICES = 20
MAX_FACES = 20_000
"""Triangles of a case, shared by its surfaces; ten cases then stay below 15 MB."""
MODEL_COLOURS = ("#ff4d5a", "#ffb000", "#c77dff", "#ff8fab", "#f4f1de")
RATER_COLOURS = ("#4cc9f0", "#80ed99", "#72a0ff", "#2ec4b6", "#b8f2e6")
MESH_COLOUR = "#f28e2b"
RATERS = "raters, each against the others"


def write_report(evaluation: Evaluation, path: str | Path, with_published: bool = False) -> None:
    """Write the report; the masks and images are read again for the pictures.

    Args:
        evaluation: what to show.
        path: HTML file, replaced if it exists.
        with_published: add the paper's columns to the tables, marked as such.

    Raises:
        InputError: the file cannot be written, or a mask is no longer what it was.
    """
    path = Path(path)
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
        metrics=[f"{name} ({UNITS[name]})" if name in UNITS else name for name in CHALLENGE_METRICS],
        cases=cases,
        colours=_colours(evaluation),
        plotly=get_plotlyjs(),
        boxes=_script_json(json.loads(_box_plots(evaluation).to_json())),
        meshes=_script_json(meshes),
    )
    _write(path, text)


@dataclass(frozen=True)
class Tile:
    """A slice with the contours of all masks, as parts of an SVG in mm."""

    label: str
    width_mm: float
    height_mm: float
    png: str
    contours: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """What the report shows of a case."""

    case_id: str
    scores: str
    tiles: Sequence[Tile]
    mesh: go.Figure


def _worst_first(evaluation: Evaluation) -> list[Case]:
    values = [of_cases(evaluation.of_model(model), "DSC") for model in evaluation.models]

    def worst(case: Case) -> float:
        found = [of_model[case.case_id] for of_model in values if case.case_id in of_model]
        return min((-1.0 if math.isnan(value) else value for value in found), default=-1.0)

    return sorted(evaluation.cases, key=worst)


@dataclass(frozen=True)
class CaseRow:
    """A model on a case, the mean over raters of every metric of Table 2."""

    model: str
    case_id: str
    site_id: str
    cells: Sequence[str]


def _case_rows(evaluation: Evaluation) -> list[CaseRow]:
    """A row for each model and case, the worst DSC first."""
    rows = []
    for model in evaluation.models:
        scores = evaluation.of_model(model)
        values = {metric: of_cases(scores, metric) for metric in CHALLENGE_METRICS}
        sites = {score.case_id: score.site_id or "" for score in scores}
        for case_id, dsc in values["DSC"].items():
            cells = [number(values[metric][case_id], 3) for metric in CHALLENGE_METRICS]
            rows.append((-1.0 if math.isnan(dsc) else dsc, CaseRow(model, case_id, sites[case_id], cells)))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _colours(evaluation: Evaluation) -> dict[str, str]:
    raters = sorted({rater for case in evaluation.cases for rater in case.references})
    colours = {name: MODEL_COLOURS[i % len(MODEL_COLOURS)] for i, name in enumerate(evaluation.models)}
    return colours | {f"rater {name}": RATER_COLOURS[i % len(RATER_COLOURS)] for i, name in enumerate(raters)}


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
    groups = {model: evaluation.of_model(model) for model in evaluation.models}
    if evaluation.rater_scores:
        groups[RATERS] = list(evaluation.rater_scores)
    colours = _colours(evaluation) | {RATERS: "#8d99ae"}
    for panel, metric in enumerate(CHALLENGE_METRICS):
        for name, scores in groups.items():
            values = [score.challenge[metric] for score in scores]
            box = go.Box(
                y=[None if math.isnan(value) else value for value in values],
                text=[f"{score.case_id}, {score.maker} against {score.rater}" for score in scores],
                name=name,
                legendgroup=name,
                showlegend=panel == 0,
                marker={"color": colours[name], "size": 4},
                boxpoints="all",
                pointpos=0,
                jitter=0.5,
            )
            figure.add_trace(box, row=panel // 5 + 1, col=panel % 5 + 1)
    figure.update_xaxes(showticklabels=False)
    figure.update_layout(
        template="plotly_dark",
        height=560,
        margin={"l": 40, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure


def _picture(evaluation: Evaluation, case: Case) -> Picture | None:
    """Slices and 3-D view of a case, None if none of its masks could be used."""
    used = {score.maker for score in evaluation.scores if score.case_id == case.case_id}
    raters = {score.rater for score in evaluation.scores if score.case_id == case.case_id}
    masks: dict[str, CanonicalMask] = {}
    for model, path in case.predictions.items():
        if model in used:
            masks[model] = evaluation.reader.prediction(path, list(case.references.values()))
    if not masks:
        return None
    grid = next(iter(masks.values()))
    for rater, path in case.references.items():
        if rater in raters:
            masks[f"rater {rater}"] = evaluation.reader.reference(path, grid)
    masks = {name: mask for name, mask in masks.items() if not mask.difference(grid)}
    image = read_image(case.image, grid) if case.image is not None else None
    lines = []
    for model in evaluation.models:
        values = {metric: of_cases(evaluation.of_model(model), metric) for metric in ("DSC", "HSD", "MSD")}
        if case.case_id in values["DSC"]:
            cells = (f"{name} {number(of_case[case.case_id], 3)}" for name, of_case in values.items())
            lines.append(f"{model}: {', '.join(cells)}")
    return Picture(
        case_id=case.case_id,
        scores="; ".join(lines),
        tiles=list(_tiles(masks, image, grid, _colours(evaluation))),
        mesh=_mesh(masks, evaluation),
    )


def _tiles(
    masks: Mapping[str, CanonicalMask],
    image: np.ndarray | None,
    grid: CanonicalMask,
    colours: Mapping[str, str],
) -> Iterator[Tile]:
    anywhere = np.any([mask.voxels for mask in masks.values()], axis=0)
    filled = np.flatnonzero(anywhere.any(axis=(0, 1)))
    if not filled.size:
        filled = np.arange(anywhere.shape[2])
    shown = filled[np.linspace(0, filled.size - 1, min(MAX_SLICES, filled.size)).round().astype(int)]
    spacing_mm = grid.spacing_mm[:2]
    half = np.ceil(HALF_WIDTH_MM / spacing_mm).astype(int)
    for k in shown:
        marked = np.argwhere(anywhere[:, :, k])
        center = marked.mean(axis=0) if len(marked) else np.array(anywhere.shape[:2]) / 2
        low = np.clip(np.round(center).astype(int) - half, 0, None)
        high = np.minimum(low + 2 * half + 1, anywhere.shape[:2])
        window = slice(low[0], high[0]), slice(low[1], high[1])
        shape = high - low
        pixels = np.zeros(shape) if image is None else image[(*window, k)]
        scores = [
            f"{name} {_dice(mask, masks, int(k))}"
            for name, mask in masks.items()
            if not name.startswith("rater ")
        ]
        yield Tile(
            label=f"slice {k}: " + ", ".join(scores),
            width_mm=float(shape[0] * spacing_mm[0]),
            height_mm=float(shape[1] * spacing_mm[1]),
            png=_png(pixels, anywhere[(*window, k)], float(spacing_mm.max())),
            contours=[
                (colours[name], _svg_path(mask.voxels[(*window, k)], spacing_mm))
                for name, mask in reversed(list(masks.items()))
            ],
        )


def _dice(mask: CanonicalMask, masks: Mapping[str, CanonicalMask], k: int) -> str:
    """Mean Dice coefficient of a slice over the raters."""
    found = mask.voxels[:, :, k]
    values = []
    for name, other in masks.items():
        wanted = other.voxels[:, :, k]
        if name.startswith("rater ") and (found.any() or wanted.any()):
            values.append(2 * np.count_nonzero(found & wanted) / (found.sum() + wanted.sum()))
    return f"{np.mean(values):.2f}" if values else "-"


def _png(pixels: np.ndarray, mask: np.ndarray, spacing_mm: float) -> str:
    """Base64 of the slice with anterior up, in a gray scale that shows gray against white matter."""
    cord = binary_dilation(mask, iterations=max(1, round(1.5 / spacing_mm)))
    low, high = np.percentile(pixels[cord] if mask.any() else pixels, (2, 98))
    darkest, brightest = low - 1.2 * (high - low), high + 0.3 * (high - low)
    scaled = (pixels - darkest) / max(brightest - darkest, np.finfo(np.float32).tiny)
    gray = (255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(gray[:, ::-1].T)).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _svg_path(mask: np.ndarray, spacing_mm: np.ndarray) -> str:
    """Contours of a slice in mm from the picture's upper left corner."""
    parts = []
    for line in find_contours(np.pad(mask, 1).astype(float), 0.5):
        x_mm = (line[:, 0] - 0.5) * spacing_mm[0]
        y_mm = (mask.shape[1] - line[:, 1] + 0.5) * spacing_mm[1]
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in zip(x_mm, y_mm, strict=True))
        parts.append(f"M{points}Z")
    return "".join(parts)


def _mesh(masks: Mapping[str, CanonicalMask], evaluation: Evaluation) -> go.Figure:
    """The first model's mask and the raters' majority, to be turned with the mouse, as in Figure 7."""
    figure = go.Figure()
    raters = [mask for name, mask in masks.items() if name.startswith("rater ")]
    colours = _colours(evaluation) | {evaluation.models[0]: MESH_COLOUR}
    surfaces = {name: mask.voxels for name, mask in masks.items() if not name.startswith("rater ")}
    surfaces["raters' majority"] = np.mean([mask.voxels for mask in raters], axis=0) >= 0.5
    for position, (name, voxels) in enumerate(surfaces.items()):
        if not voxels.any():
            continue
        is_raters = name == "raters' majority"
        vertices, faces = _surface(voxels, raters[0].spacing_mm, MAX_FACES // len(surfaces))
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
                color="#9aa5b1" if is_raters else colours[name],
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".keras_scgm_", dir=path.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: writing failed ({reason}); free space or change folder") from error
