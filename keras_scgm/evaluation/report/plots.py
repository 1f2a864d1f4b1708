"""Box plots of the metrics and Bland-Altman plots of the areas."""

from __future__ import annotations

import html
import math

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from keras_scgm.evaluation.bland_altman import bland_altman, slice_areas
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, LOWER_IS_BETTER
from keras_scgm.evaluation.report.layers import layers_of
from keras_scgm.evaluation.scores import Evaluation
from keras_scgm.evaluation.table import UNITS, number, with_unit

RATERS = "raters, each against the others"
RATERS_COLOUR = "#8d99ae"
AGREEMENT_COLUMNS = 3
BOX_COLUMNS = 5
HIGHEST = {None: 1, "%": 100}
"""What a metric can have at most, by its unit; distances have no limit."""
PLAIN = {
    "template": "plotly_dark",
    "margin": {"l": 40, "r": 10, "t": 40, "b": 10},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
}


def without_markup(text: str) -> str:
    """A text in which Plotly, which knows some HTML, sees its characters alone."""
    return html.escape(text, quote=False)


def box_plots(evaluation: Evaluation) -> go.Figure:
    """Every metric in a panel of its own, as in the paper's Figure 6; each point is a pair of case and rater."""
    titles = [f"{with_unit(name)} {'↓' if name in LOWER_IS_BETTER else '↑'}" for name in CHALLENGE_METRICS]
    rows = math.ceil(len(CHALLENGE_METRICS) / BOX_COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=BOX_COLUMNS,
        subplot_titles=titles,
        horizontal_spacing=0.05,
        vertical_spacing=0.32 / rows,
    )
    groups = [
        (layer.label, layer.colour, evaluation.of_model(layer.name))
        for layer in layers_of(evaluation)
        if not layer.is_rater
    ]
    if evaluation.rater_scores:
        groups.append((RATERS, RATERS_COLOUR, list(evaluation.rater_scores)))
    for panel, metric in enumerate(CHALLENGE_METRICS):
        place = {"row": panel // BOX_COLUMNS + 1, "col": panel % BOX_COLUMNS + 1}
        low = None if metric == "CC" else 0
        figure.update_yaxes(minallowed=low, maxallowed=HIGHEST.get(UNITS.get(metric)), **place)
        for name, colour, scores in groups:
            values = [score.challenge[metric] for score in scores]
            box = go.Box(
                y=[None if math.isnan(value) else value for value in values],
                text=[
                    without_markup(f"{score.case_id}, {score.annotator} against {score.rater}")
                    for score in scores
                ],
                name=without_markup(name),
                legendgroup=name,
                showlegend=panel == 0,
                marker={"color": colour, "size": 4},
                boxpoints="all",
                pointpos=0,
                jitter=0.5,
            )
            figure.add_trace(box, **place)
    figure.update_xaxes(showticklabels=False)
    figure.update_layout(height=280 * rows, legend={"orientation": "h"}, **PLAIN)
    return figure


def bland_altman_plots(evaluation: Evaluation) -> go.Figure:
    """Areas of slices as Bland and Altman (1986) plot them, a panel for each model."""
    layers = [layer for layer in layers_of(evaluation) if not layer.is_rater]
    pairs = [slice_areas(evaluation.of_model(layer.name)) for layer in layers]
    found = [bland_altman(of_model.values()) for of_model in pairs]
    columns = min(len(layers), AGREEMENT_COLUMNS)
    rows = math.ceil(len(layers) / columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=[
            f"{without_markup(layer.label)}: bias {number(one.bias)}, "
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
            text=[f"{without_markup(case_id)}, slice {k} from inferior" for case_id, k in of_model],
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
