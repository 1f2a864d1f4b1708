"""Computes and writes everything of the group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from keras_scgm.errors import InputError, first_of
from keras_scgm.figures import write_figure
from keras_scgm.files import staged
from keras_scgm.outputs import edited_masks
from keras_scgm.study.derivatives import DerivativePaths
from keras_scgm.study.group import figures
from keras_scgm.study.group.cohort_table import CohortTable, read_cohort
from keras_scgm.study.group.groups import group_differences, group_values
from keras_scgm.study.group.outliers import outliers
from keras_scgm.study.group.repeats import reliability, repeated_runs
from keras_scgm.study.group.report import group_text, warnings_of
from keras_scgm.study.group.sessions import session_differences, session_tests
from keras_scgm.study.group.sites import site_effects, site_values
from keras_scgm.study.group.spread import spread
from keras_scgm.study.group.tables import GroupTable
from keras_scgm.study.page import read_marks
from keras_scgm.study.page.marks import mask_id

FOLDER = "group"
TEXT = "group.md"
TABLES = (
    "by_level",
    "outliers",
    "session_differences",
    "session_tests",
    "test_retest",
    "groups",
    "group_differences",
    "sites",
    "site_effects",
)
FIGURES = ("by_level", "outliers", "sessions", "test_retest", "sites")
FILES = (
    TEXT,
    *(f"{name}{end}" for name in TABLES for end in (".tsv", ".json")),
    *(f"{name}.png" for name in FIGURES),
)
"""Everything that may be in the folder; what a new result lacks is removed."""

DPI = 120


def write_group(
    output: Path, exclude: Path | None, report: Callable[[str], None], doubts: Sequence[str]
) -> list[Path]:
    """Analyse the summary of a study; see `keras_scgm.study.group.analyse`."""
    marks = read_marks(exclude) if exclude else {}
    cohort = read_cohort(
        output,
        {
            image: f"{mark.mark}, {mark.comment}" if mark.comment else mark.mark
            for image, mark in marks.items()
            if mark.is_excluded
        },
    )
    masks = dict(zip(cohort.images["image"], cohort.images["mask"], strict=True))
    unknown = [image for image in marks if image not in masks]
    if unknown and len(unknown) == len(marks):
        raise InputError(
            f"{exclude}: no marked image is in the study ({first_of(unknown)}); are these its marks?"
        )
    marked_before = [
        image
        for image, mark in marks.items()
        if mark.mask_sha256 and image in masks and mark.mask_sha256 != mask_id(output / masks[image])
    ]
    not_measured = [
        row["image"]
        for _, row in cohort.used.iterrows()
        if (edited := edited_masks(DerivativePaths(output / row["mask"]))) and edited.changed
    ]
    warnings = [*doubts, *warnings_of(cohort, unknown, marked_before, not_measured)]
    tables = group_tables(cohort)
    drawn = group_figures(cohort, tables)
    folder = output / FOLDER
    with staged(folder, FILES) as staging:
        for table in tables.values():
            table.write(staging)
        for name, figure in drawn.items():
            write_figure(staging / f"{name}.png", figure, DPI)
        (staging / TEXT).write_text(group_text(cohort, tables, drawn, warnings), encoding="utf-8")
        written = sorted(path.name for path in staging.iterdir())
    for warning in warnings:
        report(warning)
    return [folder / name for name in written]


def group_tables(cohort: CohortTable) -> dict[str, GroupTable]:
    """The tables that a study has, by name."""
    repeats = reliability(cohort)
    differences = session_differences(cohort, repeats)
    found = (
        spread(cohort),
        outliers(cohort),
        differences,
        session_tests(differences, cohort) if differences else None,
        repeats,
        group_values(cohort),
        group_differences(cohort),
        site_values(cohort),
        site_effects(cohort),
    )
    return {table.name: table for table in found if table is not None}


def group_figures(cohort: CohortTable, tables: Mapping[str, GroupTable]) -> dict[str, Figure]:
    """The figures that a study has, by name."""
    by_level, scores = tables["by_level"], tables["outliers"]
    drawn = {"by_level": figures.draw_spread(cohort, by_level, scores)}
    if scores.rows["z"].notna().any():
        drawn["outliers"] = figures.draw_outliers(cohort, scores)
    if "session_differences" in tables:
        drawn["sessions"] = figures.draw_sessions(cohort, tables["session_differences"])
    if "test_retest" in tables:
        drawn["test_retest"] = figures.draw_repeats(cohort, repeated_runs(cohort))
    if "sites" in tables:
        drawn["sites"] = figures.draw_sites(cohort)
    return drawn
