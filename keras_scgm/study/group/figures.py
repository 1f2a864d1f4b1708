"""Figures of the group, a panel for each measure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_scgm.evaluation.bland_altman import bland_altman
from keras_scgm.figures import PALETTE
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import (
    CohortTable,
    overview_region,
    per_participant,
    per_session,
)
from keras_scgm.study.group.measures import Measure, along_cord
from keras_scgm.study.group.outliers import LIMIT_Z
from keras_scgm.study.group.repeats import first_pairs
from keras_scgm.study.group.tables import GroupTable

COHORT_COLOUR, OUTLIER_COLOUR = PALETTE[0], "#D55E00"

MAX_NAMED = 8
"""Outliers that a panel names."""
MAX_CHARACTERS = 56
"""Width of an axis; regions between are not named where their names would touch."""
MIN_SUMMARIZED = 3
"""Participants from whom on a region or a site has a median, and a region quartiles."""

PANEL_INCHES = (5.4, 3.6)
JITTER = 0.12
GOLDEN_RATIO = 0.618


def draw_spread(cohort: CohortTable, by_level: GroupTable, outliers: GroupTable) -> Figure:
    """A line for each participant along the cord, median and quartiles of the cohort, and the outliers."""
    figure, panels = _panels(cohort.shown)
    regions, label = along_cord(cohort.regions)
    people = per_participant(cohort.values)
    marked = outliers.rows[outliers.rows["outlier"] == "yes"]
    for axes, measure in panels:
        lines = _by_region(people, measure, regions).pivot(
            index="region", columns="participant_id", values="value"
        )
        lines = lines.reindex(regions)
        axes.plot(lines.to_numpy(), color="gray", alpha=0.35, linewidth=0.8, marker=".", markersize=3)
        table = by_level.rows[by_level.rows["measure"] == measure.column].set_index("region")
        table = table[table["n_participants"] >= MIN_SUMMARIZED].reindex(regions)
        if table["median"].notna().any():
            places = np.arange(len(regions))
            axes.fill_between(
                places, table["q25"], table["q75"], color=COHORT_COLOUR, alpha=0.25, label="quartiles"
            )
            axes.plot(
                places, table["median"], color=COHORT_COLOUR, marker="o", label="median of participants"
            )
        _mark_outliers(axes, _placed(_by_region(marked, measure, regions), regions), "value")
        axes.set(xlabel=label, ylabel=measure.title)
        _label_regions(axes, regions)
    _legend(figure, *(axes for axes, _ in panels))
    return figure


def draw_outliers(cohort: CohortTable, outliers: GroupTable) -> Figure:
    """Robust z-scores along the cord."""
    figure, panels = _panels(cohort.shown)
    regions, label = along_cord(cohort.regions)
    rows = outliers.rows[outliers.rows["z"].notna()]
    for axes, measure in panels:
        shown = _placed(_by_region(rows, measure, regions), regions)
        shown["place"] += _jitter(len(shown))
        axes.scatter(shown["place"], shown["z"], s=8, color="gray")
        _mark_outliers(axes, shown[shown["outlier"] == "yes"], "z")
        for height in (-LIMIT_Z, LIMIT_Z):
            axes.axhline(height, color="black", linestyle=":")
        axes.set(xlabel=label, ylabel="robust z-score", title=measure.label)
        _label_regions(axes, regions)
    return figure


def draw_sessions(cohort: CohortTable, differences: GroupTable) -> Figure:
    """A line over the sessions for each participant who has several, and the mean of those who have all.

    Args:
        cohort: What is analysed.
        differences: Result of `keras_scgm.study.group.sessions.session_differences`.
    """
    figure, panels = _panels(cohort.shown)
    region = overview_region(differences.rows)
    values = per_session(cohort.values[cohort.values["session_id"] != UNKNOWN])
    for axes, measure in panels:
        lines = _by_region(values, measure, [region]).pivot(
            index="session_id", columns="participant_id", values="value"
        )
        lines = lines.reindex(cohort.sessions).dropna(how="all").loc[:, lines.notna().sum() > 1]
        complete = lines.dropna(axis="columns")
        axes.plot(lines.to_numpy(), color="gray", alpha=0.5, linewidth=0.8, marker=".", markersize=4)
        if complete.shape[1]:
            label = f"mean of {complete.shape[1]} with all sessions"
            axes.plot(complete.mean(axis=1).to_numpy(), color=COHORT_COLOUR, marker="o", label=label)
        axes.set(
            xlabel="session", ylabel=measure.title, title=f"region {region}, {lines.shape[1]} participants"
        )
        axes.set_xticks(range(len(lines)), lines.index)
    _legend(figure, panels[0][0])
    return figure


def draw_repeats(cohort: CohortTable, repeated: pd.DataFrame) -> Figure:
    """Difference of the first two runs against their mean, with bias and limits of agreement (Bland and Altman).

    Args:
        cohort: What is analysed.
        repeated: Result of `keras_scgm.study.group.repeats.repeated_runs`.
    """
    region = overview_region(repeated)
    figure, panels = _panels([m for m in cohort.shown if (repeated["measure"] == m.column).any()])
    for axes, measure in panels:
        pairs = first_pairs(_by_region(repeated, measure, [region]))
        axes.scatter(pairs.mean(axis=1), pairs["second"] - pairs["first"], s=14, color=COHORT_COLOUR)
        agreement = bland_altman(zip(pairs["second"], pairs["first"], strict=True))
        for height, style in ((agreement.bias, "-"), (agreement.low, ":"), (agreement.high, ":")):
            axes.axhline(height, color="black", linestyle=style)
        limits = f"bias {agreement.bias:.3g}, limits {agreement.low:.3g} to {agreement.high:.3g}"
        axes.set(
            xlabel=f"mean of two runs, {measure.title}",
            ylabel="second minus first run",
            title=f"region {region}: {limits}" if not math.isnan(agreement.low) else f"region {region}",
        )
    return figure


def draw_sites(cohort: CohortTable) -> Figure:
    """Participants of every site, coloured by vendor; of every vendor where sites are not known.

    Sites of at least `MIN_SUMMARIZED` participants have their median.
    """
    figure, panels = _panels(cohort.shown)
    factor = "site" if (cohort.values["site"] != UNKNOWN).any() else "vendor"
    values = cohort.values[cohort.values[factor] != UNKNOWN]
    region = overview_region(values)
    vendors = sorted(values["vendor"].unique())
    colours = {vendor: PALETTE[number % len(PALETTE)] for number, vendor in enumerate(vendors)}
    columns = list(dict.fromkeys(("vendor", factor)))
    places = values[columns].drop_duplicates().sort_values(columns)
    people = per_participant(values, *columns)
    for axes, measure in panels:
        names, medians = [], {}
        for place, (vendor, name) in enumerate(zip(places["vendor"], places[factor], strict=True)):
            shown = _by_region(people, measure, [region])
            shown = shown.loc[(shown["vendor"] == vendor) & (shown[factor] == name), "value"].dropna()
            axes.scatter(
                place + _jitter(len(shown)),
                shown,
                s=10,
                color=colours[vendor],
                alpha=0.6,
                label=vendor if vendor != UNKNOWN else None,
            )
            if len(shown) >= MIN_SUMMARIZED:
                medians[place] = shown.median()
            names.append(f"{name} (n = {len(shown)})")
        if medians:
            at = np.array(list(medians))
            axes.hlines(
                list(medians.values()), at - 0.3, at + 0.3, color="black", linewidth=2, label="median"
            )
        axes.set(xlim=(-0.5, len(places) - 0.5), ylabel=measure.title, title=f"region {region}")
        axes.set_xticks(range(len(places)), names, rotation=45, ha="right", rotation_mode="anchor")
    _legend(figure, *(axes for axes, _ in panels))
    return figure


def _panels(measures: Sequence[Measure]) -> tuple[Figure, list[tuple[Axes, Measure]]]:
    columns = min(2, len(measures))
    rows = -(-len(measures) // columns)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
    return figure, [(figure.add_subplot(rows, columns, n), measure) for n, measure in enumerate(measures, 1)]


def _label_regions(axes: Axes, regions: Sequence[str]) -> None:
    step = math.ceil(len(regions) * (2 + max(map(len, regions))) / MAX_CHARACTERS)
    axes.set_xticks(range(0, len(regions), step), regions[::step])


def _legend(figure: Figure, *panels: Axes) -> None:
    """Legend of some panels above all: places in a panel are searched slowly among many lines."""
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles, loc="outside upper right", ncols=len(handles), fontsize=8)


def _by_region(rows: pd.DataFrame, measure: Measure, regions: Sequence[str]) -> pd.DataFrame:
    """Rows of a measure in some regions; the column `region` as texts."""
    shown = rows[(rows["measure"] == measure.column) & rows["region"].isin(regions)]
    return shown.assign(region=shown["region"].astype(str))


def _placed(rows: pd.DataFrame, regions: Sequence[str]) -> pd.DataFrame:
    return rows.assign(
        place=rows["region"].map({region: float(n) for n, region in enumerate(regions)}).astype(float)
    )


def _mark_outliers(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Rings around outliers, the most extreme first; participants are named once in each region.

    Args:
        axes: Panel.
        rows: Rows with the column `place` along the cord.
        column: Column of the heights.
    """
    axes.scatter(
        rows["place"],
        rows[column],
        40,
        facecolors="none",
        edgecolors=OUTLIER_COLOUR,
        zorder=3,
        label="outlier" if len(rows) else None,
    )
    axes.margins(x=0.12)
    named = rows.drop_duplicates(["participant_id", "region"]).head(MAX_NAMED)
    for name, place, value in zip(named["participant_id"], named["place"], named[column], strict=True):
        axes.annotate(
            name, (place, value), (5, 2), textcoords="offset points", fontsize=7, color=OUTLIER_COLOUR
        )


def _jitter(count: int) -> np.ndarray:
    """Sideways shifts that keep points apart, the same every time; a single point is not shifted."""
    return JITTER * (2 * ((0.5 + np.arange(count) * GOLDEN_RATIO) % 1) - 1)
