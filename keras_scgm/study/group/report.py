"""The text of the group, `group.md`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version

import pandas as pd

from keras_scgm.errors import first_of
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import CohortTable
from keras_scgm.study.group.measures import overview_region
from keras_scgm.study.group.outliers import LIMIT_Z
from keras_scgm.study.group.outliers import MIN_PARTICIPANTS as MIN_FOR_Z
from keras_scgm.study.group.sites import MIN_PARTICIPANTS as MIN_AT_SITE
from keras_scgm.study.group.tables import GroupTable

MAX_LISTED = 20
"""Rows of a list in the text; the tables have all."""


def group_text(
    cohort: CohortTable,
    tables: Mapping[str, GroupTable],
    figures: Collection[str],
    marks_of_none: Sequence[str],
) -> str:
    """What a person reads first: who was analysed, and the results with their figures, in Markdown.

    Args:
        cohort: What was analysed.
        tables: The tables by name.
        figures: Names of the figures, without .png.
        marks_of_none: Images that are marked but not in the study.
    """
    region = overview_region(cohort.regions)
    sections = [
        _who(cohort, marks_of_none),
        _spread(tables["by_level"], region),
        _outliers(tables["outliers"], "outliers" in figures),
        _sessions(cohort, tables, region),
        _repeats(tables, region),
        _sites(cohort, tables, region),
        [
            f"Written by keras-scgm {version('keras-scgm')}. The columns of every table are explained in the JSON file "
            "beside it."
        ],
    ]
    return "\n\n".join(part for section in sections for part in section if part) + "\n"


def _who(cohort: CohortTable, marks_of_none: Sequence[str]) -> list[str]:
    images, values = cohort.images, cohort.values
    failed, excluded = images[images["status"] != "segmented"], images[images["excluded"]]
    used = images[(images["status"] == "segmented") & ~images["excluded"]]
    n_sessions = len(
        values.loc[values["session_id"] != UNKNOWN, ["participant_id", "session_id"]].drop_duplicates()
    )
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in used["verdict"].value_counts().items())
    lines = [
        f"{_count(used['participant_id'].nunique(), 'participant')}, "
        + (f"{_count(n_sessions, 'session')}, " if n_sessions else "")
        + f"{_count(len(used), 'image')} (verdicts: {verdicts}).",
        f"Left out: {len(excluded)} marked by a person, {len(failed)} not segmented.",
    ]
    if (used["verdict"] == "fail").any():
        lines.append("Images with the verdict fail are in all results unless a person has excluded them.")
    if marks_of_none:
        lines.append(
            f"{_count(len(marks_of_none), 'mark')} of images that are not in this study: "
            f"{first_of(marks_of_none, MAX_LISTED)}."
        )
    parts = ["# Group", " ".join(lines)]
    for title, rows, reason in (("Excluded", excluded, None), ("Not segmented", failed, "error")):
        items = [row["image"] + (f": {row[reason]}" if reason else "") for _, row in rows.iterrows()]
        if items:
            shown = [f"- {item}" for item in items[:MAX_LISTED]]
            rest = [f"- and {len(items) - MAX_LISTED} more"] if len(items) > MAX_LISTED else []
            parts += [f"{title}:", "\n".join([*shown, *rest])]
    return parts


def _spread(table: GroupTable, region: str) -> list[str]:
    names = ["measure", "unit", "n_participants", "mean", "sd", "cov_percent", "median", "min", "max"]
    return [
        "## Area by level",
        f"Region {region}; all regions in `by_level.tsv`. Runs are averaged within a session and sessions within a "
        "participant, so that each participant counts once.",
        _markdown(_of_region(table, region), names),
        _figure("by_level"),
    ]


def _outliers(table: GroupTable, has_figure: bool) -> list[str]:
    rows = table.rows
    marked, judged = rows[rows["outlier"] == "yes"], rows[rows["outlier"] != UNKNOWN]
    text = (
        f"{_count(len(marked), 'value')} of {len(judged)} with an absolute robust z-score of at least {LIMIT_Z} within "
        "scanner and region (median and median absolute deviation of its images)."
    )
    if len(judged) < len(rows):
        text += (
            f" {len(rows) - len(judged)} have no z-score: fewer than {MIN_FOR_Z} participants on the scanner, or no "
            "spread."
        )
    parts = ["## Outliers", text]
    if len(marked):
        most = marked.groupby(["image", "region"], observed=True, sort=False).agg(
            z=("z", "first"),
            measures=("measure", ", ".join),
            scanner=("scanner", "first"),
            verdict=("verdict", "first"),
        )
        shown = most.head(MAX_LISTED).reset_index()
        parts.append(_markdown(shown, ["image", "region", "z", "measures", "scanner", "verdict"]))
        more = (
            f"The {MAX_LISTED} most extreme of {len(most)} images and regions; "
            if len(most) > MAX_LISTED
            else ""
        )
        parts.append(f"{more}z: that of the first measure. All values in `outliers.tsv`.")
    return [*parts, _figure("outliers") if has_figure else ""]


def _sessions(cohort: CohortTable, tables: Mapping[str, GroupTable], region: str) -> list[str]:
    if "session_tests" not in tables:
        return ["## Sessions", "No participant has several sessions."]
    names = [
        "first_session",
        "later_session",
        "measure",
        "unit",
        "n_participants",
        "difference",
        "low",
        "high",
    ]
    text = (
        f"Later minus first session, mean over participants with its 95 % bootstrap interval (region {region}; p: "
        "Wilcoxon signed-rank test). All regions in `session_tests.tsv`, each participant in "
        "`session_differences.tsv`."
    )
    parts = [text, _markdown(_of_region(tables["session_tests"], region), [*names, "percent", "p", "p_holm"])]
    differences = tables["session_differences"].rows
    changed = differences.loc[differences["same_scanner"] == "no", "participant_id"].unique()
    if changed.size:
        parts.append(
            f"On another scanner than the first session: {_count(changed.size, 'participant')} "
            f"({first_of(changed, MAX_LISTED)})."
        )
    shown = _shown(_of_region(tables["session_differences"], region), cohort)
    beyond = shown[shown["beyond_repeatability"] == "yes"]
    if not beyond.empty:
        names = ["participant_id", "later_session", "measure", "difference", "percent"]
        most = f", {MAX_LISTED} of {len(beyond)}" if len(beyond) > MAX_LISTED else ""
        parts += [
            f"Differences beyond the repeatability coefficient{most}:",
            _markdown(beyond.head(MAX_LISTED), names),
        ]
    return ["## Sessions", *parts, _figure("sessions")]


def _repeats(tables: Mapping[str, GroupTable], region: str) -> list[str]:
    if "test_retest" not in tables:
        return ["## Test-retest", "No participant has runs that repeat an image."]
    names = ["measure", "unit", "n_participants", "within_sd", "cov_percent", "repeatability"]
    names += ["icc", "icc_low", "icc_high", "bias", "limit_low", "limit_high"]
    return [
        "## Test-retest",
        f"Runs that repeat each other (region {region}; all in `test_retest.tsv`). CoV: root mean square over "
        "participants; ICC: two-way random effects, absolute agreement, of the first two runs; bias and limits of "
        "agreement: second minus first run.",
        _markdown(_of_region(tables["test_retest"], region), names),
        _figure("test_retest"),
    ]


def _sites(cohort: CohortTable, tables: Mapping[str, GroupTable], region: str) -> list[str]:
    if "sites" not in tables:
        return ["## Sites and vendors", "Neither the site nor the manufacturer of the scanner is known."]
    values = _shown(_of_region(tables["sites"], region), cohort)
    cells = [f"{_cell(mean)} ({_cell(sd)})" for mean, sd in zip(values["mean"], values["sd"], strict=True)]
    by = ["factor", "name", "n_participants"]
    wide = values.assign(cells=cells, measure=values["measure"].astype(str)).pivot(
        index=by, columns="measure", values="cells"
    )
    names = [measure.column for measure in cohort.shown if measure.column in wide]
    parts = [
        f"Mean (standard deviation) over participants, region {region}; all in `sites.tsv`.",
        _markdown(wide.reset_index(), [*by, *names]),
    ]
    if "site_effects" in tables:
        names = ["factor", "measure", "n_groups", "counted", "n", "adjusted_for", "f", "p", "p_holm"]
        parts += [
            f"F tests of linear models, all in `site_effects.tsv`; a site needs {MIN_AT_SITE} participants. Vendors "
            "are compared by the means of their sites where these are known.",
            _markdown(_of_region(tables["site_effects"], region), [*names, "partial_eta_squared"]),
        ]
    else:
        parts.append("There are too few participants or groups for a comparison.")
    return ["## Sites and vendors", *parts, _figure("sites")]


def _shown(rows: pd.DataFrame, cohort: CohortTable) -> pd.DataFrame:
    """Rows of the measures of the figures."""
    return rows[rows["measure"].isin([measure.column for measure in cohort.shown])]


def _figure(name: str) -> str:
    return f"![{name}]({name}.png)"


def _of_region(table: GroupTable, region: str) -> pd.DataFrame:
    return table.rows[table.rows["region"] == region]


def _markdown(rows: pd.DataFrame, names: list[str]) -> str:
    cells = rows[names].map(_cell)
    return str(
        cells.rename(columns=lambda name: name.replace("_", " ")).to_markdown(
            index=False, disable_numparse=True
        )
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return UNKNOWN if pd.isna(value) else f"{value:.3g}"
    return UNKNOWN if pd.isna(value) else str(value).replace("|", "\\|")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
