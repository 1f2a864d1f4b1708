"""Figure of a calibration: scores of every threshold, reliability and slice areas."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from keras_scgm.calibration.choice import Calibration
from keras_scgm.evaluation.bland_altman import LIMIT_STDS
from keras_scgm.evaluation.tissues import TISSUE_NAMES
from keras_scgm.figures import PALETTE, write_figure

TICKS = (0.0001, 0.01, 0.5, 0.99, 0.9999)
LINES = {"dsc": ("DSC", "-"), "precision": ("precision", "--"), "recall": ("recall", "-.")}
"""Label and style of each score."""


def draw(calibration: Calibration, path: Path) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    curve, reliability, areas = figure.subplots(1, 3)
    _draw_curve(curve, calibration)
    _draw_reliability(reliability, calibration)
    _draw_areas(areas, calibration)
    write_figure(path, figure, dpi=120)


def _draw_curve(axes: Axes, calibration: Calibration) -> None:
    for (name, (label, style)), colour in zip(LINES.items(), PALETTE, strict=False):
        axes.plot(calibration.thresholds, getattr(calibration, name), style, color=colour, label=label)
    end = ", end of the range" if calibration.is_at_end else ""
    axes.axvline(calibration.threshold, color="black", label=f"chosen, {calibration.threshold:.3g}{end}")
    before = calibration.thresholds[calibration.used]
    axes.axvline(before, color="gray", linestyle=":", label=f"before, {before:.3g}")
    axes.set_xscale("logit")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(
        xlabel="threshold",
        ylabel="score, mean over volumes and raters",
        title=f"{TISSUE_NAMES[calibration.tissue]}, {calibration.n_volumes} validation volumes",
    )
    axes.legend(fontsize=8)


def _draw_reliability(axes: Axes, calibration: Calibration) -> None:
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
    axes.plot(calibration.confidence, calibration.frequency, marker="o")
    axes.set(xlabel="predicted probability", ylabel="share of voxels marked by raters", title="reliability")


def _draw_areas(axes: Axes, calibration: Calibration) -> None:
    """Bland and Altman, Lancet 1986: difference against mean, with bias and limits of agreement."""
    difference = calibration.areas_mm2[:, 0] - calibration.areas_mm2[:, 1]
    bias, limit = difference.mean(), LIMIT_STDS * difference.std(ddof=1) if len(difference) > 1 else 0.0
    axes.scatter(calibration.areas_mm2.mean(axis=1), difference, s=8)
    for height, style in ((bias, "-"), (bias - limit, ":"), (bias + limit, ":")):
        axes.axhline(height, color="black", linestyle=style)
    axes.set(
        xlabel="mean of predicted and reference area, mm²",
        ylabel="predicted minus reference, mm²",
        title=f"slice areas: bias {bias:.2f} ± {limit:.2f} mm²",
    )
