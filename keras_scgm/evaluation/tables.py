"""The paper's tables with our numbers, as text, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from keras_scgm import checks
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, FCN_METRICS, SLICE_COLUMNS
from keras_scgm.evaluation.comparison import compare_models, inter_rater_ceiling
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.summary import (
    MIN_RESAMPLED,
    Summary,
    agreement,
    by_rater,
    by_site,
    challenge_summary,
    fcn_summary,
    slice_areas,
    volumes,
)
from keras_scgm.files import staged

TABLES = ("table2", "table3", "breakdown", "raters", "models", "table1")
UNITS = {"MSD": "mm", "HSD": "mm", "SHD": "mm", "SMD": "mm", "TPR": "%", "TNR": "%", "PPV": "%", "CC": "%"}
TABLE3_NAMES = {
    "dice": "Dice",
    "mean_accuracy": "Mean Accuracy",
    "pixel_accuracy": "Pixel Accuracy",
    "recall": "Recall",
    "precision": "Precision",
    "fw_iu": "Freq. Weighted IU",
    "mean_iu": "Mean IU",
}
MARK = "published"
PUBLISHED_NOTE = (
    "published: as printed in the paper, on the challenge's hidden test set (Table 2) or its ex vivo test slices "
    "(Table 3), not on these cases; its distances may be defined otherwise"
)
NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A table ready to be shown.

    Args:
        name: of its files.
        title: what it shows, and over what its means run.
        columns: headings; the first column names the rows.
        rows: cells as text.
        notes: below it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns."""
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]
        lines = [self.title, ""]
        for row in (self.columns, *self.rows):
            first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([first, *others]).rstrip())
        return "\n".join([*lines, *self.notes]) + "\n"

    def latex(self) -> str:
        """A tabular with the rules of booktabs."""
        head, *body = [" & ".join(map(_latex_escape, row)) + r" \\" for row in (self.columns, *self.rows)]
        rules = [rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}", r"\toprule", head, r"\midrule"]
        comments = [f"% {line}" for line in (self.title, *self.notes)]
        return "\n".join([*comments, *rules, *body, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def write_csv(self, path: Path) -> None:
        """The cells, with the headings in the first row."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows((self.columns, *self.rows))


@cache
def published() -> Mapping[str, Any]:
    """Tables 1 to 3 as printed in the paper: `table1` (columns and rows), `table2` and `table3` (method,
    metric, mean and standard deviation)."""
    return json.loads(files("keras_scgm.evaluation").joinpath("published.json").read_text(encoding="utf-8"))


def table1() -> Table:
    """Table 1 of the paper: set-up of the compared methods."""
    content = published()["table1"]
    return Table(
        "table1",
        f"Table 1 ({MARK}): parameters of each compared method",
        tuple(content["columns"]),
        tuple(map(tuple, content["rows"])),
    )


def table2(evaluation: Evaluation, with_published: bool = False) -> Table:
    """The challenge's metrics, one column per model, mean (std) over pairs of case and rater.

    Args:
        evaluation: what to show.
        with_published: add the paper's columns, marked as such.
    """
    columns = {model: evaluation.of_model(model) for model in evaluation.models}
    rows = []
    for metric in CHALLENGE_METRICS:
        cells = [mean_std(challenge_summary(scores, metric)) for scores in columns.values()]
        if with_published:
            cells += [f"{m[metric][0]:.2f} ({m[metric][1]:.2f})" for m in published()["table2"].values()]
        rows.append((_with_unit(metric), *cells))
    names = [*columns, *(_marked(published()["table2"]) if with_published else ())]
    n_pairs = ", ".join(f"{name}: {len(scores)}" for name, scores in columns.items())
    return Table(
        "table2",
        f"Table 2: mean (std) over pairs of case and rater ({n_pairs})",
        ("", *names),
        tuple(rows),
        (
            *_undefined_note(columns),
            *_annotated_note(evaluation),
            *([PUBLISHED_NOTE] if with_published else []),
        ),
    )


def table3(evaluation: Evaluation, with_published: bool = False) -> Table:
    """Two-class metrics, one column per model, mean (std) over the slices of all pairs of case and rater.

    Args:
        evaluation: what to show.
        with_published: add the paper's columns, marked as such.
    """
    columns = {model: evaluation.of_model(model) for model in evaluation.models}
    theirs = published()["table3"] if with_published else {}
    known = [evaluation.parameters.get(model) for model in columns] + [
        m["parameters"] for m in theirs.values()
    ]
    rows = [("Num. of Params.", *(NOTHING if n is None else f"{n:,}" for n in known))]
    undefined = []
    for metric in FCN_METRICS:
        summaries = {model: fcn_summary(scores, metric) for model, scores in columns.items()}
        cells = [mean_std(summary, 4) for summary in summaries.values()]
        cells += [f"{m[metric][0]:.4f} ({m[metric][1]:.2f})" for m in theirs.values()]
        rows.append((TABLE3_NAMES[metric], *cells))
        undefined += [
            f"{TABLE3_NAMES[metric]} {model} {summary.n_undefined}"
            for model, summary in summaries.items()
            if summary.n_undefined
        ]
    notes = (
        [f"slices without gray matter, undefined and left out: {', '.join(undefined)}"] if undefined else []
    )
    n_slices = ", ".join(f"{name}: {sum(len(s.slices) for s in scores)}" for name, scores in columns.items())
    return Table(
        "table3",
        f"Table 3: mean (std) over slices ({n_slices})",
        ("Metric name", *columns, *_marked(theirs)),
        tuple(rows),
        (*notes, *_annotated_note(evaluation), *([PUBLISHED_NOTE] if with_published else [])),
    )


def breakdown(evaluation: Evaluation) -> Table | None:
    """Table 2 of each model at each site, with each site left out, and against each rater.

    Returns:
        None for one rater at one site.
    """
    if max(len(evaluation.sites), len(evaluation.raters)) < 2:
        return None
    rows = []
    for model in evaluation.models:
        groups = {"all": evaluation.of_model(model)}
        groups |= by_site(evaluation, model) | by_rater(evaluation, model)
        for name, scores in groups.items():
            cells = (mean_std(challenge_summary(scores, metric)) for metric in CHALLENGE_METRICS)
            rows.append((model, name, str(len(scores)), *cells))
    return Table(
        "breakdown",
        "By site and rater: mean (std) over pairs of case and rater",
        ("model", "group", "n", *map(_with_unit, CHALLENGE_METRICS)),
        tuple(rows),
    )


def rater_table(evaluation: Evaluation) -> Table | None:
    """Every rater against the others and where the models stand, None with fewer than two raters."""
    ceilings = inter_rater_ceiling(evaluation)
    if not ceilings:
        return None
    raters = list(ceilings[0].raters)
    rows = []
    for ceiling in ceilings:
        for model, place in ceiling.models.items():
            rows.append(
                (
                    _with_unit(ceiling.metric),
                    *(mean_std(ceiling.raters[name]) for name in raters),
                    model,
                    number(place.mean),
                    f"{place.n_raters_reached} of {len(raters)}",
                    _interval(place.difference, place.interval),
                    NOTHING if math.isnan(place.cases_in_range) else f"{100 * place.cases_in_range:.0f} %",
                )
            )
    return Table(
        "raters",
        "Inter-rater ceiling: every rater against the others, mean (std) over pairs, and the models beside it",
        (
            "",
            *(f"rater {name}" for name in raters),
            "model",
            "mean",
            "raters reached",
            "model - mean rater [95 %]",
            "cases within rater range",
        ),
        tuple(rows),
        (
            "raters reached: raters whose mean agreement with the others is not better than the model's with all; "
            "within range: at least as good as the worst rater of that case; intervals: bootstrap over cases, "
            f"none of fewer than {MIN_RESAMPLED}",
        ),
    )


def comparison_table(evaluation: Evaluation) -> Table | None:
    """Paired tests between the models, None for a single model or a single case."""
    tests = compare_models(evaluation)
    if max((test.n_cases for test in tests), default=0) < 2:
        return None
    return Table(
        "models",
        "Models compared on the same cases, each case the mean over its raters",
        ("", "first", "second", "n", "first - second [95 %]", "p", "p (Holm)"),
        tuple(
            (
                _with_unit(test.metric),
                test.first,
                test.second,
                str(test.n_cases),
                _interval(test.difference, test.interval),
                number(test.p_value, 4),
                number(test.p_holm, 4),
            )
            for test in tests
        ),
        (
            f"p: Wilcoxon signed-rank, two-sided; Holm: corrected for the {len(tests)} tests; "
            f"interval: bootstrap over cases; fewer than {MIN_RESAMPLED} cases have none and cannot reach "
            "p < 0.05",
        ),
    )


def agreement_table(evaluation: Evaluation) -> Table:
    """Bland-Altman figures of slice areas and volumes, each model against the mean of the raters."""
    rows = []
    for model in evaluation.models:
        scores = evaluation.of_model(model)
        for name, pairs in (("slice area (mm2)", slice_areas(scores)), ("volume (mm3)", volumes(scores))):
            found = agreement(pairs.values())
            limits = ", ".join(number(limit) for limit in (found.low, found.high))
            rows.append(
                (model, name, str(found.n), number(found.reference), number(found.bias), f"[{limits}]")
            )
    return Table(
        "agreement",
        "Areas and volumes (Bland and Altman 1986): model minus the mean of its raters",
        ("model", "", "n", "mean reference", "bias", "95 % limits of agreement"),
        tuple(rows),
        ("slices in which the model or a rater has something; limits: bias and 1.96 standard deviations",),
    )


def all_tables(evaluation: Evaluation, with_published: bool = False) -> list[Table]:
    """Every table that the evaluation has something for, in reading order."""
    tables = [
        table2(evaluation, with_published),
        table3(evaluation, with_published),
        breakdown(evaluation),
        rater_table(evaluation),
        comparison_table(evaluation),
        agreement_table(evaluation),
        table1() if with_published else None,
    ]
    return [table for table in tables if table is not None]


def tables_text(evaluation: Evaluation, with_published: bool = False) -> str:
    """All tables, one below the other."""
    return "\n".join(table.text() for table in all_tables(evaluation, with_published))


def summary_text(evaluation: Evaluation, with_published: bool = False) -> str:
    """All tables, and what was left out."""
    parts = [tables_text(evaluation, with_published)]
    for title, lines in (("Warnings", evaluation.warnings), ("Errors", evaluation.errors)):
        if lines:
            parts.append("\n".join([f"{title} ({len(lines)})", "", *lines]) + "\n")
    return "\n".join(parts)


def summary_json(evaluation: Evaluation) -> dict[str, Any]:
    """All numbers of the tables, with full precision; what is undefined is None."""

    def of(scores: Iterable[Score]) -> dict[str, Any]:
        scores = list(scores)
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
            "areas_mm2": asdict(agreement(slice_areas(scores).values())),
            "volumes_mm3": asdict(agreement(volumes(scores).values())),
        }
    content = {
        "models": models,
        "inter_rater": [asdict(ceiling) for ceiling in inter_rater_ceiling(evaluation)],
        "comparisons": [asdict(test) for test in compare_models(evaluation)],
        "published": published(),
        "annotated_only": evaluation.annotated_only,
        "warnings": list(evaluation.warnings),
        "errors": list(evaluation.errors),
    }
    return _without_nan(content)


def write_evaluation(evaluation: Evaluation, folder: str | Path, with_published: bool = False) -> list[Path]:
    """Write `cases.csv`, `slices.csv`, every table as CSV and LaTeX, `summary.txt` and `summary.json`.

    Units are in the column names of the CSV files of cases and slices.

    Args:
        evaluation: what to write.
        folder: made if missing; files of these names are replaced, and removed where the evaluation has no such table.
        with_published: add the paper's columns to Tables 2 and 3, and Table 1.

    Returns:
        The files.

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


def mean_std(summary: Summary, decimals: int = 2) -> str:
    """`0.85 (0.04)`, as in the paper; the deviation has two decimals."""
    if not summary.n:
        return NOTHING
    return f"{summary.mean:.{decimals}f} ({NOTHING if math.isnan(summary.std) else f'{summary.std:.2f}'})"


def number(value: float, decimals: int = 2) -> str:
    """A number as a cell."""
    return NOTHING if math.isnan(value) else f"{value:.{decimals}f}"


def _interval(value: float, interval: tuple[float, float]) -> str:
    if math.isnan(interval[0]):
        return number(value, 3)
    low, high = (number(bound, 3) for bound in interval)
    return f"{number(value, 3)} [{low}, {high}]"


def _write_cases(path: Path, scores: Sequence[Score]) -> None:
    rows = [
        {"model": s.maker, "case": s.case_id, "site": s.site_id or "", "rater": s.rater}
        | {_column(name): value for name, value in s.challenge.items()}
        | dict(s.fcn)
        | {_detail_column(name): value for name, value in s.details.items()}
        for s in scores
    ]
    _write_rows(path, list(rows[0]), rows)


def _write_slices(path: Path, scores: Sequence[Score]) -> None:
    rows = [
        {"model": s.maker, "case": s.case_id, "site": s.site_id or "", "rater": s.rater} | dict(values)
        for s in scores
        for values in s.slices
    ]
    _write_rows(path, ["model", "case", "site", "rater", *map(_column, SLICE_COLUMNS)], rows)


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([["" if value != value else value for value in row.values()] for row in rows])


def _column(metric: str) -> str:
    unit = {"mm": "_mm", "%": "_percent"}.get(UNITS.get(metric, ""), "")
    return f"{metric}{unit}"


def _detail_column(name: str) -> str:
    return f"{name}_mm" if name.startswith(("HSD", "MSD")) else name


def _with_unit(metric: str) -> str:
    return f"{metric} ({UNITS[metric]})" if metric in UNITS else metric


def _marked(methods: Iterable[str]) -> list[str]:
    return [f"{method} ({MARK})" for method in methods]


def _undefined_note(columns: Mapping[str, Sequence[Score]]) -> list[str]:
    summaries = {
        (model, metric): challenge_summary(scores, metric)
        for model, scores in columns.items()
        for metric in CHALLENGE_METRICS
    }
    counted = [
        f"{metric} {model} {s.n_undefined}" for (model, metric), s in summaries.items() if s.n_undefined
    ]
    return [f"undefined and left out: {', '.join(counted)}"] if counted else []


def _annotated_note(evaluation: Evaluation) -> list[str]:
    if not evaluation.annotated_only:
        return []
    compared, left_out = (
        int(sum(score.details[name] for score in evaluation.scores))
        for name in ("n_slices_compared", "n_slices_left_out")
    )
    return [f"annotated slices only: {compared} compared, {left_out} without annotation left out"]


def _latex_escape(text: str) -> str:
    for character in "&%_#$":
        text = text.replace(character, rf"\{character}")
    return text


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
