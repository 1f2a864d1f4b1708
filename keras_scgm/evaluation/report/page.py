"""Writes the report: one HTML file with tables, plots and pictures that needs no network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plotly.offline import get_plotlyjs

from keras_scgm import checks
from keras_scgm.evaluation.bland_altman import volumes
from keras_scgm.evaluation.cases import Case
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS
from keras_scgm.evaluation.groups import of_cases
from keras_scgm.evaluation.report.case_picture import case_picture, mean_areas
from keras_scgm.evaluation.report.layers import layers_of
from keras_scgm.evaluation.report.plots import bland_altman_plots, box_plots
from keras_scgm.evaluation.scores import Evaluation
from keras_scgm.evaluation.table import Table, number, with_unit
from keras_scgm.evaluation.tables import all_tables
from keras_scgm.evaluation.tissues import CORD, TISSUE_NAMES, Tissue
from keras_scgm.files import write_text
from keras_scgm.webpage import script_json, template

AREA_COLUMNS = ("mean area (mm2)", "raters' area (mm2)", "volume (mm3)", "raters' volume (mm3)")


@dataclass(frozen=True)
class Part:
    """Content of the report for one tissue.

    Args:
        tissue: Short name of the tissue, part of the names of its elements.
        title: Name of the tissue, empty if it is the only one and need not be said.
        tables: Its tables.
        boxes: Box plots as JSON.
        agreement: Bland-Altman plots as JSON.
    """

    tissue: Tissue
    title: str
    tables: Sequence[Table]
    boxes: str
    agreement: str


@dataclass(frozen=True)
class CaseRow:
    """Metrics of Table 2, areas and volumes of a model in a case, means over raters."""

    model: str
    tissue: str
    case_id: str
    site_id: str
    cells: Sequence[str]


def write_report(
    evaluation: Evaluation | Mapping[Tissue, Evaluation], path: str | Path, with_published: bool = False
) -> None:
    """Write the report; the masks and images are read again for the pictures.

    Args:
        evaluation: Result of `evaluate`, or of `evaluate_tissues`.
        path: Path of the HTML file, replaced if it exists.
        with_published: Whether to add the columns of the paper to the tables, marked as such.

    Raises:
        InputError: the file cannot be written, or a mask was changed in the meantime.
    """
    path = checks.path("path", path)
    evaluations = list(evaluation.values()) if isinstance(evaluation, Mapping) else [evaluation]
    first = evaluations[0]
    meshes = {}
    cases, without_result = [], []
    for case in _worst_first(first):
        picture = case_picture(evaluations, case)
        if picture is None:
            without_result.append(case.case_id)
            continue
        cases.append(picture)
        meshes[case.case_id] = json.loads(picture.mesh.to_json())
    text = template("keras_scgm.evaluation", "report.html").render(
        evaluation=first,
        title=_title(evaluations),
        warnings=_lines(evaluations, "warnings"),
        errors=_lines(evaluations, "errors"),
        parts=[_part(one, with_published, is_only=len(evaluations) == 1) for one in evaluations],
        case_rows=[row for one in evaluations for row in _case_rows(one)],
        areas=AREA_COLUMNS,
        metrics=[*map(with_unit, CHALLENGE_METRICS)],
        cases=cases,
        without_result=without_result,
        has_cord=any(c.path and c.tissue == CORD for p in cases for t in p.tiles for c in t.contours),
        layers=layers_of(first),
        plotly=get_plotlyjs(),
        meshes=script_json(meshes),
    )
    write_text(path, text)


def _title(evaluations: Sequence[Evaluation]) -> str:
    names = [TISSUE_NAMES[one.tissue] for one in evaluations]
    *others, last = names
    joined = f"{', '.join(others)} and {last}" if others else last
    return f"{joined.capitalize()} segmentation"


def _lines(evaluations: Sequence[Evaluation], kind: str) -> list[str]:
    """Warnings or errors of all tissues, each once."""
    return list(dict.fromkeys(line for one in evaluations for line in getattr(one, kind)))


def _part(evaluation: Evaluation, with_published: bool, is_only: bool) -> Part:
    return Part(
        tissue=evaluation.tissue,
        title="" if is_only else TISSUE_NAMES[evaluation.tissue].capitalize(),
        tables=all_tables(evaluation, with_published),
        boxes=script_json(json.loads(box_plots(evaluation).to_json())),
        agreement=script_json(json.loads(bland_altman_plots(evaluation).to_json())),
    )


def _worst_first(evaluation: Evaluation) -> list[Case]:
    values = [of_cases(evaluation.of_model(model), "DSC") for model in evaluation.models]

    def worst(case: Case) -> float:
        found = [of_model[case.case_id] for of_model in values if case.case_id in of_model]
        return min((-1.0 if math.isnan(value) else value for value in found), default=-1.0)

    return sorted(evaluation.cases, key=worst)


def _case_rows(evaluation: Evaluation) -> list[CaseRow]:
    """A row for each model and case, the worst DSC first."""
    rows = []
    for model in evaluation.models:
        scores = evaluation.of_model(model)
        values = {metric: of_cases(scores, metric) for metric in CHALLENGE_METRICS}
        sites = {score.case_id: score.site_id or "" for score in scores}
        areas, sizes = mean_areas(scores), volumes(scores)
        for case_id, dsc in values["DSC"].items():
            cells = [number(values[metric][case_id], 3) for metric in CHALLENGE_METRICS]
            cells += [number(value) for value in areas[case_id]]
            cells += [number(value, 1) for value in sizes[case_id]]
            row = CaseRow(model, evaluation.tissue, case_id, sites[case_id], cells)
            rows.append((-1.0 if math.isnan(dsc) else dsc, row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]
