"""Writes the scores and tables of an evaluation as CSV, LaTeX, text and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_scgm import checks
from keras_scgm.evaluation.bland_altman import bland_altman, slice_areas, volumes
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, FCN_METRICS, SLICE_COLUMNS
from keras_scgm.evaluation.groups import by_rater, by_site, challenge_summary, fcn_summary
from keras_scgm.evaluation.inter_rater import inter_rater_agreement
from keras_scgm.evaluation.paired_tests import compare_models
from keras_scgm.evaluation.paper_tables import published
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.table import UNITS
from keras_scgm.evaluation.tables import all_tables, summary_text
from keras_scgm.evaluation.tissues import GM
from keras_scgm.files import staged, write_rows

TABLES = ("table2", "table3", "breakdown", "raters", "models", "agreement", "table1")


def write_evaluation(evaluation: Evaluation, folder: str | Path, with_published: bool = False) -> list[Path]:
    """Write `cases.csv`, `slices.csv`, every table as CSV and LaTeX, `summary.txt` and `summary.json`.

    Units are in the column names of the CSV files of cases and slices.

    Args:
        evaluation: Result of `evaluate`.
        folder: Output folder, made if missing; its tables of an earlier evaluation are replaced or removed.
        with_published: Whether to add Table 1, and the columns of the paper to Tables 2 and 3.

    Returns:
        The paths of the files.

    Raises:
        InputError: the folder cannot be written to; nothing is left behind.
    """
    checks.instance(Evaluation, "what evaluate returned")("evaluation", evaluation)
    folder = checks.path("folder", folder)
    former = [f"{name}{ending}" for name in TABLES for ending in (".csv", ".tex")]
    with staged(folder, former) as staging:
        _write_cases(staging / "cases.csv", evaluation.scores)
        _write_slices(staging / "slices.csv", evaluation.scores)
        for table in all_tables(evaluation, with_published):
            table.write_csv(staging / f"{table.name}.csv")
            (staging / f"{table.name}.tex").write_text(table.latex(), encoding="utf-8")
        text = summary_text(evaluation, with_published)
        (staging / "summary.txt").write_text(text, encoding="utf-8")
        content = json.dumps(summary_json(evaluation), indent=1, allow_nan=False)
        (staging / "summary.json").write_text(content + "\n", encoding="utf-8")
        written = sorted(path.name for path in staging.iterdir())
    return [folder / name for name in written]


def summary_json(evaluation: Evaluation) -> dict[str, Any]:
    """All numbers of the tables, with full precision; undefined values are None."""

    def of(scores: Sequence[Score]) -> dict[str, Any]:
        return {metric: asdict(challenge_summary(scores, metric)) for metric in CHALLENGE_METRICS}

    models = {}
    for model in evaluation.models:
        scores = evaluation.of_model(model)
        models[model] = {
            "n_cases": len({score.case_id for score in scores}),
            "parameters": evaluation.parameters.get(model),
            "table2": of(scores),
            "table3": {metric: asdict(fcn_summary(scores, metric)) for metric in FCN_METRICS},
            "sites": {name: of(part) for name, part in by_site(evaluation, model).items()},
            "raters": {name: of(part) for name, part in by_rater(evaluation, model).items()},
            "areas_mm2": asdict(bland_altman(slice_areas(scores).values())),
            "volumes_mm3": asdict(bland_altman(volumes(scores).values())),
        }
    content = {
        "tissue": evaluation.tissue,
        "models": models,
        "inter_rater": [asdict(agreement) for agreement in inter_rater_agreement(evaluation)],
        "comparisons": [asdict(test) for test in compare_models(evaluation)],
        "published": published() if evaluation.tissue == GM else None,
        "annotated_only": evaluation.annotated_only,
        "warnings": list(evaluation.warnings),
        "errors": list(evaluation.errors),
    }
    return _without_nan(content)


def _write_cases(path: Path, scores: Sequence[Score]) -> None:
    rows = [
        _names(s)
        | {metric_column(name): value for name, value in s.challenge.items()}
        | dict(s.fcn)
        | {_detail_column(name): value for name, value in s.details.items()}
        for s in scores
    ]
    write_rows(path, rows)


def _write_slices(path: Path, scores: Sequence[Score]) -> None:
    columns = {name: metric_column(name) for name in SLICE_COLUMNS}
    rows = [
        _names(s) | {column: values[name] for name, column in columns.items()}
        for s in scores
        for values in s.slices
    ]
    write_rows(path, rows, [*_names(scores[0]), *columns.values()])


def _names(score: Score) -> dict[str, Any]:
    """Cells that say what a row is of."""
    return {
        "model": score.annotator,
        "case": score.case_id,
        "site": score.site_id or "",
        "rater": score.rater,
    }


def metric_column(metric: str) -> str:
    """Column of a metric in the tables of cases and slices, with its unit."""
    unit = {"mm": "_mm", "%": "_percent"}.get(UNITS.get(metric, ""), "")
    return f"{metric}{unit}"


def _detail_column(name: str) -> str:
    return f"{name}_mm" if name.startswith(("HSD", "MSD")) else name


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
