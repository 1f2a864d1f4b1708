"""Tables 2 and 3 of the paper and further tables, of the models and raters of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from keras_scgm.evaluation.bland_altman import bland_altman, slice_areas, volumes
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, FCN_METRICS
from keras_scgm.evaluation.groups import by_rater, by_site, challenge_summary, fcn_summary
from keras_scgm.evaluation.inter_rater import inter_rater_agreement
from keras_scgm.evaluation.paired_tests import MIN_SIGNIFICANT, compare_models
from keras_scgm.evaluation.paper_tables import PUBLISHED_NOTE, marked, published, published_cell, table1
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.table import NOTHING, Table, mean_std, number, with_interval, with_unit
from keras_scgm.evaluation.tissues import GM, TISSUE_NAMES, Tissue

TABLE3_NAMES = {
    "dice": "Dice",
    "mean_accuracy": "Mean Accuracy",
    "pixel_accuracy": "Pixel Accuracy",
    "recall": "Recall",
    "precision": "Precision",
    "fw_iu": "Freq. Weighted IU",
    "mean_iu": "Mean IU",
}


def table2(evaluation: Evaluation, with_published: bool = False) -> Table:
    """The challenge's metrics, one column per model, mean (std) over pairs of case and rater.

    Args:
        evaluation: Result of `evaluate`.
        with_published: Whether to add the columns of the paper, marked as such.
    """
    columns = {model: evaluation.of_model(model) for model in evaluation.models}
    rows = []
    for metric in CHALLENGE_METRICS:
        cells = [mean_std(challenge_summary(scores, metric)) for scores in columns.values()]
        if with_published:
            cells += [published_cell(method, metric) for method in published()["table2"].values()]
        rows.append((with_unit(metric), *cells))
    names = [*columns, *(marked(published()["table2"]) if with_published else ())]
    n_pairs = ", ".join(f"{name}: {len(scores)}" for name, scores in columns.items())
    return Table(
        "table2",
        f"{_title_of_table2(evaluation.tissue)}: mean (std) over pairs of case and rater ({n_pairs})",
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
        evaluation: Result of `evaluate`.
        with_published: Whether to add the columns of the paper, marked as such.
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
        cells += [published_cell(method, metric, 4) for method in theirs.values()]
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
        ("Metric name", *columns, *marked(theirs)),
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
        ("model", "group", "n", *map(with_unit, CHALLENGE_METRICS)),
        tuple(rows),
    )


def rater_table(evaluation: Evaluation) -> Table | None:
    """Agreement of raters and models with the raters, None with fewer than two raters."""
    agreements = inter_rater_agreement(evaluation)
    if not agreements:
        return None
    raters = list(agreements[0].raters)
    rows = []
    for agreement in agreements:
        for model, place in agreement.models.items():
            rows.append(
                (
                    with_unit(agreement.metric),
                    *(mean_std(agreement.raters[name]) for name in raters),
                    model,
                    number(place.mean),
                    f"{place.n_raters_reached} of {len(raters)}",
                    with_interval(place.difference, place.interval),
                    NOTHING if math.isnan(place.cases_in_range) else f"{100 * place.cases_in_range:.0f} %",
                )
            )
    return Table(
        "raters",
        "Inter-rater agreement: every rater against the others, mean (std) over pairs, and the models beside it",
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
            "within range: at least as good as the worst rater of that case; intervals: Student's t "
            "over cases, none of equal differences",
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
                with_unit(test.metric),
                test.first,
                test.second,
                str(test.n_cases),
                with_interval(test.difference, test.interval),
                number(test.p_value, 4),
                number(test.p_holm, 4),
            )
            for test in tests
        ),
        (
            f"p: Wilcoxon signed-rank, two-sided; fewer than {MIN_SIGNIFICANT} cases cannot reach p < 0.05; Holm: "
            f"corrected for the {len(tests)} tests; interval: Student's t over cases, none of equal differences",
        ),
    )


def agreement_table(evaluation: Evaluation) -> Table:
    """Bland-Altman figures of slice areas and volumes, each model against the mean of the raters."""
    rows = []
    for model in evaluation.models:
        scores = evaluation.of_model(model)
        for name, pairs in (("slice area (mm2)", slice_areas(scores)), ("volume (mm3)", volumes(scores))):
            found = bland_altman(pairs.values())
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
    """All tables for which the evaluation has data, in reading order; Tables 1 and 3 are of gray matter."""
    is_gray = evaluation.tissue == GM
    with_published = with_published and is_gray
    tables = [
        table2(evaluation, with_published),
        table3(evaluation, with_published) if is_gray else None,
        breakdown(evaluation),
        rater_table(evaluation),
        comparison_table(evaluation),
        agreement_table(evaluation),
        table1() if with_published else None,
    ]
    found = [table for table in tables if table is not None]
    if is_gray:
        return found
    name = TISSUE_NAMES[evaluation.tissue].capitalize()
    return [replace(table, title=f"{name}. {table.title}") for table in found]


def tables_text(evaluation: Evaluation, with_published: bool = False) -> str:
    """All tables, one below the other."""
    return "\n".join(table.text() for table in all_tables(evaluation, with_published))


def summary_text(evaluation: Evaluation, with_published: bool = False) -> str:
    """All tables, warnings and errors."""
    parts = [tables_text(evaluation, with_published)]
    for title, lines in (("Warnings", evaluation.warnings), ("Errors", evaluation.errors)):
        if lines:
            parts.append("\n".join([f"{title} ({len(lines)})", "", *lines]) + "\n")
    return "\n".join(parts)


def _title_of_table2(tissue: Tissue) -> str:
    return "Table 2" if tissue == GM else "Metrics of Table 2"


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
