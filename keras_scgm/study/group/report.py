"""The text of the group, `group.md`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version

import pandas as pd

from keras_scgm.errors import counted, first_of
from keras_scgm.segmentation.edited_masks import EDITED
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import CohortTable, overview_region
from keras_scgm.study.group.linear_models import MIN_KNOWN, MIN_PARTICIPANTS
from keras_scgm.study.group.measures import IN_SLICE, is_level
from keras_scgm.study.group.outliers import LIMIT_Z, MIN_IN_GROUP
from keras_scgm.study.group.outliers import MIN_PARTICIPANTS as MIN_FOR_Z
from keras_scgm.study.group.repeats import repeated_runs
from keras_scgm.study.group.tables import GroupTable

MAX_LISTED = 20
"""Rows of a list in the text; the tables have all."""


def group_text(
    cohort: CohortTable,
    tables: Mapping[str, GroupTable],
    figures: Collection[str],
    warnings: Sequence[str],
) -> str:
    """What a person reads first: who was analysed, and the results with their figures, in Markdown.

    Args:
        cohort: What was analysed.
        tables: The tables by name.
        figures: Names of the figures, without .png.
        warnings: Those of `warnings_of`.
    """
    sections = [
        _who(cohort, warnings),
        _spread(cohort, tables["by_level"]),
        _outliers(tables["outliers"], "outliers" in figures),
        _sessions(cohort, tables),
        _repeats(cohort, tables),
        _groups(cohort, tables),
        _sites(cohort, tables),
        [
            f"Written by keras-scgm {version('keras-scgm')}. The columns of every table are explained in the JSON file "
            "beside it."
        ],
    ]
    return "\n\n".join(part for section in sections for part in section if part) + "\n"


def warnings_of(
    cohort: CohortTable,
    marks_of_none: Sequence[str],
    marked_before: Sequence[str],
    not_measured: Sequence[str],
) -> list[str]:
    """Reasons why the results may be wrong, one line each.

    Args:
        cohort: What is analysed.
        marks_of_none: Images that are marked but not in the study.
        marked_before: Images whose masks are not those that were marked.
        not_measured: Images whose masks were edited after they were measured.
    """
    used, values, found = cohort.used, cohort.values, []
    mixed = (
        ("version", "versions of the program", UNKNOWN),
        ("weights", "weights", UNKNOWN),
        ("settings", "settings", "the defaults"),
    )
    for name, what, if_unknown in mixed:
        counts = used[name].replace(UNKNOWN, if_unknown).value_counts()
        if len(counts) > 1:
            shares = ", ".join(f"{count} by {text}" for text, count in counts.items())
            found.append(f"several {what}: {shares}. Their areas are not comparable; run participant --force")
    first = cohort.measures[0]
    if first == IN_SLICE:
        found.append(
            "areas are in the slice, not perpendicular to the cord, since these weights do not know the cord; run "
            "participant with --cord ours"
        )
    measured = set(values.loc[values["measure"] == first.column, "image"])
    not_known = [image for image in used["image"] if image not in measured]
    with_levels = set(values.loc[values["region"].astype(str).map(is_level), "image"])
    without = [image for image in used["image"] if image not in with_levels] if with_levels else []
    incomplete = [f"{image} ({region})" for image, region in cohort.incomplete]
    if cohort.unread_ages:
        ages = [f"{participant} ({age})" for participant, age in cohort.unread_ages]
        found.append(
            f"{counted(len(ages), 'age')} not known, as not a number such as 45.5: {first_of(ages, MAX_LISTED)}"
        )
    if cohort.unread_times:
        times = [f"{image} ({time})" for image, time in cohort.unread_times]
        found.append(
            f"{counted(len(times), 'acq_time')} not read, as not like 2021-02-05T10:00:00, and sessions are in the "
            f"order of their names: {first_of(times, MAX_LISTED)}"
        )
    of_images = (
        (
            incomplete,
            "without all levels of a range, and left out of the range",
        ),
        (
            not_known,
            f"without {first.column}, as of one slice or without a cord, in no row of it",
        ),
        (
            without,
            "without levels, in no row of a level; run participant again with the levels of all images",
        ),
        (not_measured, "edited by hand and not measured since; run participant again"),
        (
            marked_before,
            "marked with an earlier mask, and the mark counts; look at the mask on the quality page",
        ),
        (marks_of_none, "marked, but not in this study"),
    )
    return found + [
        f"{counted(len(images), 'image')} {what}: {first_of(images, MAX_LISTED)}"
        for images, what in of_images
        if images
    ]


def _who(cohort: CohortTable, warnings: Sequence[str]) -> list[str]:
    values, used = cohort.values, cohort.used
    without_result = cohort.images[cohort.images["status"] != "segmented"]
    failed, missing = (
        without_result[without_result["has_image"] == has_image] for has_image in (True, False)
    )
    excluded = cohort.images[cohort.images["excluded"] != ""]
    n_sessions = len(
        values.loc[values["session_id"] != UNKNOWN, ["participant_id", "session_id"]].drop_duplicates()
    )
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in used["verdict"].value_counts().items())
    lines = [
        f"{counted(used['participant_id'].nunique(), 'participant')}, "
        + (f"{counted(n_sessions, 'session')}, " if n_sessions else "")
        + f"{counted(len(used), 'image')} (verdicts: {verdicts}).",
        f"Left out: {len(excluded)} marked by a person, {len(failed)} not segmented, {len(missing)} without an "
        "image.",
    ]
    if (used["verdict"] == "fail").any():
        lines.append("Images with the verdict fail are in all results unless a person has excluded them.")
    if n_edited := (used["reason"] == EDITED).sum():
        lines.append(f"{counted(n_edited, 'image')} with masks that were edited by hand.")
    parts = ["# Group", " ".join(lines), *(f"**Warning**: {warning}" for warning in warnings)]
    parts += _acquisitions(cohort)
    for title, rows, reason in (
        ("Excluded", excluded, "excluded"),
        ("Not segmented", failed, "error"),
        ("Without an image", missing, "error"),
        ("Analysed with warnings", used[used["warnings"] != UNKNOWN], "warnings"),
    ):
        items = [f"{row['image']}: {row[reason]}" for _, row in rows.iterrows()]
        if items:
            shown = [f"- {item}" for item in items[:MAX_LISTED]]
            rest = [f"- and {len(items) - MAX_LISTED} more"] if len(items) > MAX_LISTED else []
            parts += [f"{title}:", "\n".join([*shown, *rest])]
    return parts


def _acquisitions(cohort: CohortTable) -> list[str]:
    """What the statistics do with several acquisitions of a session."""
    kinds = cohort.used.groupby(["participant_id", "session_id"])["acquisition"].agg(["nunique", set])
    several = kinds[kinds["nunique"] > 1]
    if several.empty:
        return []
    names = first_of(sorted(set().union(*several["set"])), MAX_LISTED)
    return [
        f"**Several acquisitions in {counted(len(several), 'session')}** ({names}): the statistics "
        "use their mean; differences between sessions are computed for each acquisition."
    ]


def _spread(cohort: CohortTable, table: GroupTable) -> list[str]:
    region = overview_region(cohort.values)
    names = ["measure", "unit", "n_participants", "mean", "sd", "cov_percent", "median", "min", "max"]
    if is_level(region):
        part = (
            f"This text reports vertebral level {region}, which most participants have. Rows of the region `all` "
            "average different parts of the cord in different images."
        )
    else:
        part = (
            f"**Vertebral levels are not known**: the region {region} averages different parts of the cord in "
            "different images, so a difference may be one of coverage. Give levels to `participant`."
        )
    return [
        "## Area by level",
        f"{part} All regions are in `by_level.tsv`. Runs are averaged within a session and sessions within a "
        "participant, so that each participant counts once.",
        _markdown(_of_region(table, region), names),
        _figure("by_level"),
    ]


def _outliers(table: GroupTable, has_figure: bool) -> list[str]:
    rows = table.rows
    marked, judged = rows[rows["outlier"] == "yes"], rows[rows["outlier"] != UNKNOWN]
    text = (
        f"{counted(len(marked), 'value')} of {len(judged)} with an absolute robust z-score of at least {LIMIT_Z} "
        "within scanner and region, from the median of the own group (median and median absolute deviation of images)."
    )
    if len(judged) < len(rows):
        text += (
            f" {len(rows) - len(judged)} have no z-score: fewer than {MIN_FOR_Z} participants on the scanner or "
            f"{MIN_IN_GROUP} of the group, or no spread."
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


def _sessions(cohort: CohortTable, tables: Mapping[str, GroupTable]) -> list[str]:
    if "session_tests" not in tables:
        return ["## Sessions", "No participant has several sessions."]
    differences = tables["session_differences"].rows
    region = overview_region(differences)
    names = ["first_session", "later_session", "same_scanner", "measure", "unit", "n_participants"]
    order = ", ".join(cohort.sessions)
    parts = [
        f"Order of the sessions: {order}, by the time in `acq_time`."
        if cohort.has_times
        else f"**Order of the sessions: {order}, by their names.** If that is not their order in time, give `acq_time` "
        "in sessions.tsv, scans.tsv or the list.",
        f"Later minus first session, mean over participants with its 95 % interval by Student's t (region {region}; p: "
        "Wilcoxon signed-rank test). All regions in `session_tests.tsv`, each participant in "
        "`session_differences.tsv`.",
        _markdown(
            _of_region(tables["session_tests"], region),
            [*names, "difference", "low", "high", "percent", "p", "p_holm"],
        ),
    ]
    changed = differences.loc[differences["same_scanner"] == "no", "participant_id"].unique()
    if changed.size:
        parts.append(
            f"On another scanner than the first session, and tested apart: {counted(changed.size, 'participant')} "
            f"({first_of(changed, MAX_LISTED)})."
        )
    shown = _shown(_of_region(tables["session_differences"], region), cohort)
    beyond = shown[shown["beyond_repeatability"] == "yes"]
    if not beyond.empty:
        names = ["participant_id", "later_session", "measure", "difference", "percent"]
        most = f", {MAX_LISTED} of {len(beyond)}" if len(beyond) > MAX_LISTED else ""
        parts += [
            f"Differences on one scanner beyond what runs of a session explain{most}:",
            _markdown(beyond.head(MAX_LISTED), names),
        ]
    return ["## Sessions", *parts, _figure("sessions")]


def _repeats(cohort: CohortTable, tables: Mapping[str, GroupTable]) -> list[str]:
    if "test_retest" not in tables:
        return ["## Test-retest", "No participant has runs that repeat an image."]
    region = overview_region(repeated_runs(cohort))
    names = ["measure", "unit", "n_participants", "within_sd", "cov_percent", "repeatability"]
    names += ["icc", "icc_low", "icc_high", "bias", "limit_low", "limit_high"]
    return [
        "## Test-retest",
        f"Runs that repeat each other (region {region}; all in `test_retest.tsv`). CoV: root mean square over "
        "participants; ICC: two-way random effects, absolute agreement, of the first two runs; bias and limits of "
        "agreement: second minus first run. Of a participant with repeats in several sessions or acquisitions those of "
        "the first count.",
        _markdown(_of_region(tables["test_retest"], region), names),
        _figure("test_retest"),
    ]


def _groups(cohort: CohortTable, tables: Mapping[str, GroupTable]) -> list[str]:
    if "groups" not in tables:
        return []
    region = overview_region(cohort.values)
    parts = _means(cohort, tables["groups"], region, ["group"])
    if "group_differences" in tables:
        names = ["group", "compared_with", "measure", "n", "n_compared_with", "adjusted_for"]
        parts += [
            "Differences in linear models with their 95 % intervals; Hedges' g is not adjusted. All in "
            f"`group_differences.tsv`; a group needs {MIN_PARTICIPANTS} participants.",
            _markdown(
                _of_region(tables["group_differences"], region),
                [*names, "difference", "low", "high", "hedges_g", "p", "p_holm"],
            ),
            *_not_separable(_of_region(tables["group_differences"], region)),
            *_gaps(cohort),
        ]
    else:
        parts.append(f"No two groups have {MIN_PARTICIPANTS} participants, so that none are compared.")
    return ["## Groups", *parts]


def _sites(cohort: CohortTable, tables: Mapping[str, GroupTable]) -> list[str]:
    if "sites" not in tables:
        return ["## Sites and vendors", "Neither the site nor the manufacturer of the scanner is known."]
    factor = tables["sites"].rows["factor"].iloc[0]
    region = overview_region(cohort.values[cohort.values[factor] != UNKNOWN])
    parts = _means(cohort, tables["sites"], region, ["factor", "name"])
    if "site_effects" in tables:
        names = ["factor", "measure", "n_groups", "counted", "n", "adjusted_for", "f", "p", "p_holm"]
        parts += [
            f"F tests of linear models, all in `site_effects.tsv`; a site needs {MIN_PARTICIPANTS} participants. "
            "Vendors are compared by the means of their sites where these are known.",
            _markdown(_of_region(tables["site_effects"], region), [*names, "partial_eta_squared"]),
            *_not_separable(_of_region(tables["site_effects"], region)),
            *_gaps(cohort),
        ]
    else:
        parts.append(
            "There are too few participants, sites or vendors for a comparison of sites and vendors."
        )
    return ["## Sites and vendors", *parts, _figure("sites")]


def _not_separable(tests: pd.DataFrame) -> list[str]:
    """Why some tests have no result."""
    without = tests[tests["p"].isna() & (tests["adjusted_for"] != UNKNOWN)]
    if without.empty:
        return []
    names = ", ".join(sorted(without["adjusted_for"].unique()))
    return [
        f"**No p where it is n/a**: what the model is adjusted for ({names}) tells these groups apart by itself, so "
        "that its effect and theirs cannot be separated, or there are too few participants for it."
    ]


def _gaps(cohort: CohortTable) -> list[str]:
    """Of whom a covariate is not known, and what that means."""
    people = cohort.participants
    known = people.notna().sum()
    gaps = [
        f"{name} is known of {known[name]} of {len(people)} participants"
        + (", too few to adjust for it" if known[name] < MIN_KNOWN * len(people) else "")
        for name in people
        if known[name] < len(people)
    ]
    return (
        [f"{'; '.join(gaps)}. Participants without it are left out where a model is adjusted for it."]
        if gaps
        else []
    )


def _means(cohort: CohortTable, table: GroupTable, region: str, by: list[str]) -> list[str]:
    """Mean and standard deviation, with a column for each measure of the figures."""
    values = _shown(_of_region(table, region), cohort)
    columns = (values[name] for name in ("mean", "sd", "n_participants"))
    cells = [f"{_cell(mean)} ({_cell(sd)}; {n})" for mean, sd, n in zip(*columns, strict=True)]
    wide = values.assign(cells=cells, measure=values["measure"].astype(str)).pivot(
        index=by, columns="measure", values="cells"
    )
    names = [measure.column for measure in cohort.shown if measure.column in wide]
    return [
        f"Mean (standard deviation; number) over participants, region {region}; all in `{table.name}.tsv`.",
        _markdown(wide.reset_index(), [*by, *names]),
    ]


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
