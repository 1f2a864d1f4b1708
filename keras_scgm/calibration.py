"""Chooses the threshold of a network on validation volumes.

The paper cut at 0.999, which was not optimised (3.4.1), and its precision suffered. Here every threshold is tried at
once, on the image's own grid, where segmentation cuts by default.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.special import expit

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume, annotated_volumes, check_volumes
from keras_scgm.errors import InputError
from keras_scgm.files import replaced, staged
from keras_scgm.prediction import Weights
from keras_scgm.pretrained import SUFFIXES, WeightsCard, resolve_weights, weights_stem
from keras_scgm.segmentation import SegmentationConfig, Segmenter

Objective = Literal["dsc", "balance", "area"]

THRESHOLDS = expit(np.arange(-100, 101) / 10)
"""Evenly spaced in the logit, from 0.00005 to 0.99995: networks are sure, so the ends matter."""

RELIABILITY_BINS = 10
MARK = "calibrated: "
"""How the pipeline of a card's score begins if it was measured by a calibration."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What every threshold gives on the validation volumes, and the one that was chosen.

    Args:
        objective: "dsc" for the best mean Dice coefficient, "balance" for equal mean precision and recall,
            "area" for a mean difference of slice areas of zero.
        thresholds: (t,) increasing.
        dsc: (t,) mean over volumes and raters.
        precision: (t,) likewise; NaN where no volume has any gray matter left.
        recall: (t,) likewise.
        area_bias_mm2: (t,) mean over slices of the area minus that of the raters' mean.
        chosen: index of the chosen threshold.
        used: index of the threshold that the card had, or the nearest to it.
        areas_mm2: (slice, 2) area at the chosen threshold and mean of the raters' areas, all volumes.
        confidence: (bin,) mean probability of the voxels in bins of equal width, NaN for an empty bin.
        frequency: (bin,) share of them that the raters marked.
        n_volumes: how many there were.
        card: of the weights, with the threshold that they had.
    """

    objective: Objective
    thresholds: np.ndarray
    dsc: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    area_bias_mm2: np.ndarray
    chosen: int
    used: int
    areas_mm2: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray
    n_volumes: int
    card: WeightsCard

    @property
    def threshold(self) -> float:
        """The chosen one, to five digits."""
        return float(f"{self.thresholds[self.chosen]:.5g}")

    @property
    def is_at_end(self) -> bool:
        """Whether no threshold was good: the best is the first or the last that was tried."""
        return self.chosen in (0, len(self.thresholds) - 1)


class _Tally:
    """Voxel counts of one volume at all thresholds, from one histogram per slice and rater."""

    def __init__(self, probabilities: np.ndarray, truths: np.ndarray, voxel_area_mm2: float) -> None:
        """Probabilities (slice, rows, columns) and masks (rater, slice, rows, columns)."""
        bins = np.searchsorted(THRESHOLDS, probabilities)
        self.found = np.stack([_above(section) for section in bins])
        self.hits = np.stack([_above(bins[truth]) for truth in truths])
        self.truth = truths.sum(axis=(1, 2, 3))
        self.areas_mm2 = self.found * voxel_area_mm2
        self.true_areas_mm2 = truths.sum(axis=(2, 3)).mean(axis=0) * voxel_area_mm2
        part = np.minimum((probabilities * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1).ravel()
        share = truths.mean(axis=0).ravel()
        weights = (np.ones(share.size), probabilities.ravel(), share)
        self.bins = np.stack([np.bincount(part, weight, RELIABILITY_BINS) for weight in weights])

    @property
    def rates(self) -> np.ndarray:
        """(3, t): Dice coefficient, precision and recall, mean over raters."""
        found, truth = self.found.sum(axis=0), self.truth[:, np.newaxis]
        precision = np.where(found > 0, self.hits / np.maximum(found, 1), np.nan)
        return np.stack([2 * self.hits / (found + truth), precision, self.hits / truth]).mean(axis=1)


def calibrate(
    weights: Weights,
    volumes: Sequence[AnnotatedVolume],
    objective: Objective = "dsc",
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Segment the validation volumes and choose the threshold.

    Of several thresholds that are equally good, the middle one is taken.

    Args:
        weights: known name, file, or model.
        volumes: with masks; none that the network was trained on. Only their labelled slices count.
        objective: what is to be best.
        progress: called with (volumes done, volumes in all).

    Raises:
        InputError: a volume cannot be used, or nothing is labelled.
    """
    checks.one_of(get_args(Objective))("objective", objective)
    checks.optional(checks.function)("progress", progress)
    labelled = [volume for volume in annotated_volumes("volumes", volumes) if volume.masks]
    check_volumes(labelled)
    segmenter = Segmenter(weights, SegmentationConfig())
    tallies = []
    for number, annotated in enumerate(labelled, start=1):
        tallies.append(_tally(segmenter, annotated))
        if progress:
            progress(number, len(labelled))
    dsc, precision, recall = _known_mean(np.stack([tally.rates for tally in tallies]))
    areas_mm2 = np.concatenate([tally.areas_mm2 for tally in tallies])
    true_areas_mm2 = np.concatenate([tally.true_areas_mm2 for tally in tallies])
    area_bias_mm2 = (areas_mm2 - true_areas_mm2[:, np.newaxis]).mean(axis=0)
    loss = {"dsc": -dsc, "balance": np.abs(precision - recall), "area": np.abs(area_bias_mm2)}[objective]
    best = np.flatnonzero(loss <= np.nanmin(loss) + 1e-9)
    chosen = int(best[len(best) // 2])
    n_voxels, probability, marked = np.sum([tally.bins for tally in tallies], axis=0)
    n_voxels[n_voxels == 0] = np.nan
    return Calibration(
        objective=objective,
        thresholds=THRESHOLDS,
        dsc=dsc,
        precision=precision,
        recall=recall,
        area_bias_mm2=area_bias_mm2,
        chosen=chosen,
        used=int(np.abs(THRESHOLDS - segmenter.threshold).argmin()),
        areas_mm2=np.stack([areas_mm2[:, chosen], true_areas_mm2], axis=1),
        confidence=probability / n_voxels,
        frequency=marked / n_voxels,
        n_volumes=len(tallies),
        card=segmenter.networks.cards[0],
    )


def write_calibration(calibration: Calibration, weights: str | Path, folder: Path) -> Path:
    """Write the curve as CSV, the figure, and the choice into the weights' card.

    The card beside a weights file of one's own is rewritten. Weights known by name, or without a card, stay
    as they are: a copy goes into the folder, with its card.

    Args:
        calibration: of these weights.
        weights: known name or file.
        folder: for the figure, the curve and perhaps the copy.

    Returns:
        The weights file beside which the card with the chosen threshold stands.

    Raises:
        InputError: the weights cannot be had, or something cannot be written.
    """
    checks.instance(Calibration, "what calibrate returned")("calibration", calibration)
    folder = checks.path("folder", folder)
    path, own_card = resolve_weights(weights)
    in_place = own_card is not None and str(weights).endswith(SUFFIXES)
    if not in_place and folder.resolve() == path.parent.resolve():
        raise InputError(
            f"{folder}: holds the weights themselves; choose another folder for the calibrated copy"
        )
    card = calibration.card
    card = replace(
        card,
        name=card.name if in_place else f"{card.name}-calibrated",
        url=None,
        file=path.name,
        threshold=calibration.threshold,
        threshold_space="native",
        scores=[
            *(score for score in card.scores if not str(score.get("pipeline", "")).startswith(MARK)),
            {
                "image": f"{calibration.n_volumes} validation volumes",
                "metric": "DSC",
                "value": round(float(calibration.dsc[calibration.chosen]), 4),
                "pipeline": f"{MARK}threshold chosen on them for {calibration.objective}",
            },
        ],
    )
    with staged(folder) as staging:
        _write_curve(calibration, staging / "calibration.csv")
        _draw(calibration, staging / "calibration.png")
        if not in_place:
            shutil.copyfile(path, staging / path.name)
            (staging / f"{weights_stem(path)}.json").write_text(card.to_json(), encoding="utf-8")
    if not in_place:
        return folder / path.name
    with replaced(path.with_name(f"{weights_stem(path)}.json")) as temporary:
        temporary.write_text(card.to_json(), encoding="utf-8")
    return path


def _tally(segmenter: Segmenter, annotated: AnnotatedVolume) -> _Tally:
    result = segmenter.segment(annotated.image)
    volume = result.volume
    probabilities = np.moveaxis(
        volume.axial_view(np.asarray(result.probabilities.dataobj).reshape(volume.voxels.shape)), 2, 0
    )
    slices = annotated.slices_of(volume)
    truths = []
    for path in annotated.masks:
        truths.append(annotated.read_mask(path, volume)[slices])
        if not truths[-1].any():
            raise InputError(f"{path}: no gray matter in it; leave it out, or check its label")
    return _Tally(probabilities[slices], np.stack(truths), volume.voxel_area_mm2)


def _above(bins: np.ndarray) -> np.ndarray:
    """(t,) how many values lie above each threshold, from the number of thresholds below each value."""
    counts = np.bincount(bins.ravel(), minlength=len(THRESHOLDS) + 1)
    return counts[::-1].cumsum()[::-1][1:]


def _known_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN, NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _write_curve(calibration: Calibration, path: Path) -> None:
    names = ("threshold", "dsc", "precision", "recall", "area_bias_mm2")
    columns = (
        calibration.thresholds,
        calibration.dsc,
        calibration.precision,
        calibration.recall,
        calibration.area_bias_mm2,
    )
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(names)
        for row in zip(*columns, strict=True):
            table.writerow("" if np.isnan(value) else f"{value:.6g}" for value in row)


def _draw(calibration: Calibration, path: Path) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    curve, reliability, areas = figure.subplots(1, 3)
    _draw_curve(curve, calibration)
    _draw_reliability(reliability, calibration)
    _draw_areas(areas, calibration)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _draw_curve(axes: Axes, calibration: Calibration) -> None:
    for name in ("dsc", "precision", "recall"):
        axes.plot(calibration.thresholds, getattr(calibration, name), label=name.replace("dsc", "DSC"))
    axes.axvline(calibration.threshold, color="black", label=f"chosen, {calibration.threshold:.3g}")
    before = calibration.thresholds[calibration.used]
    axes.axvline(before, color="gray", linestyle=":", label=f"before, {before:.3g}")
    axes.set_xscale("logit")
    axes.set_xticks([0.0001, 0.01, 0.5, 0.99, 0.9999])
    axes.set(xlabel="threshold", title=f"{calibration.n_volumes} validation volumes")
    axes.legend(fontsize=8)


def _draw_reliability(axes: Axes, calibration: Calibration) -> None:
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
    axes.plot(calibration.confidence, calibration.frequency, marker="o")
    axes.set(xlabel="predicted probability", ylabel="share of voxels marked by raters", title="reliability")


def _draw_areas(axes: Axes, calibration: Calibration) -> None:
    """Bland and Altman, Lancet 1986: difference against mean, with bias and limits of agreement."""
    difference = calibration.areas_mm2[:, 0] - calibration.areas_mm2[:, 1]
    bias, limit = difference.mean(), 1.96 * difference.std(ddof=1) if len(difference) > 1 else 0.0
    axes.scatter(calibration.areas_mm2.mean(axis=1), difference, s=8)
    for height, style in ((bias, "-"), (bias - limit, ":"), (bias + limit, ":")):
        axes.axhline(height, color="black", linestyle=style)
    axes.set(
        xlabel="mean of predicted and reference area, mm²",
        ylabel="predicted minus reference, mm²",
        title=f"slice areas: bias {bias:.2f} ± {limit:.2f} mm²",
    )
