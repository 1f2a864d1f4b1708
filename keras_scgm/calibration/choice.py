"""Chooses the threshold of a network on validation volumes.

The paper cut at 0.999, which was not optimised (3.4.1), and its precision suffered. Here all thresholds are tried on
the grid of the image, where segmentation cuts by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from keras_scgm import checks
from keras_scgm.calibration.threshold_counts import THRESHOLDS, ThresholdCounts, mean_of_known
from keras_scgm.datasets import AnnotatedVolume, annotated_volumes, check_volumes
from keras_scgm.errors import InputError
from keras_scgm.prediction import Weights
from keras_scgm.pretrained import WeightsCard
from keras_scgm.segmentation import SegmentationConfig, Segmenter

Objective = Literal["dsc", "balance", "area"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of every threshold on the validation volumes, and the chosen threshold.

    Args:
        objective: "dsc" for the best mean Dice coefficient, "balance" for equal mean precision and recall,
            "area" for a mean difference of slice areas of zero.
        thresholds: (t,) increasing.
        dsc: (t,) mean over volumes and raters.
        precision: Precision at each threshold, (t,); NaN where no volume has any gray matter left.
        recall: Recall at each threshold, (t,).
        area_bias_mm2: (t,) mean over slices of the area minus that of the raters' mean.
        chosen: Index of the chosen threshold.
        used: Index of the threshold nearest to that of the card.
        areas_mm2: (slice, 2) area at the chosen threshold and mean of the raters' areas, all volumes.
        confidence: (bin,) mean probability of the voxels in bins of equal width, NaN for an empty bin.
        frequency: (bin,) share of these voxels that the raters marked.
        n_volumes: Number of volumes.
        card: Card of the weights, with their former threshold.
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
        """Chosen threshold, rounded to five digits."""
        return float(f"{self.thresholds[self.chosen]:.5g}")

    @property
    def is_at_end(self) -> bool:
        """Whether the chosen threshold is the first or the last, so that a better one may lie outside the range."""
        return self.chosen in (0, len(self.thresholds) - 1)


def calibrate(
    weights: Weights,
    volumes: Sequence[AnnotatedVolume],
    objective: Objective = "dsc",
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Segment the validation volumes and choose the threshold.

    Of several equally good thresholds, the middle one is chosen.

    Args:
        weights: Known name, file, or model.
        volumes: Volumes with masks that the network was not trained on; only their labelled slices count.
        objective: Criterion of the choice, see `Calibration`.
        progress: Function called with the number of finished volumes and of all volumes.

    Raises:
        InputError: a volume cannot be used, or nothing is labelled.
    """
    checks.one_of(get_args(Objective))("objective", objective)
    checks.optional(checks.function)("progress", progress)
    labelled = [volume for volume in annotated_volumes("volumes", volumes) if volume.masks]
    check_volumes(labelled)
    segmenter = Segmenter(weights, SegmentationConfig())
    counts = []
    for number, annotated in enumerate(labelled, start=1):
        counts.append(_counts(segmenter, annotated))
        if progress:
            progress(number, len(labelled))
    dsc, precision, recall = mean_of_known(np.stack([of_volume.rates for of_volume in counts]))
    areas_mm2 = np.concatenate([of_volume.areas_mm2 for of_volume in counts])
    true_areas_mm2 = np.concatenate([of_volume.true_areas_mm2 for of_volume in counts])
    area_bias_mm2 = (areas_mm2 - true_areas_mm2[:, np.newaxis]).mean(axis=0)
    loss = {"dsc": -dsc, "balance": np.abs(precision - recall), "area": np.abs(area_bias_mm2)}[objective]
    best = np.flatnonzero(loss <= np.nanmin(loss) + 1e-9)
    chosen = int(best[len(best) // 2])
    n_voxels, probability, marked = np.sum([of_volume.bins for of_volume in counts], axis=0)
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
        n_volumes=len(counts),
        card=segmenter.networks.cards[0],
    )


def _counts(segmenter: Segmenter, annotated: AnnotatedVolume) -> ThresholdCounts:
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
    return ThresholdCounts(probabilities[slices], np.stack(truths), volume.voxel_area_mm2)
