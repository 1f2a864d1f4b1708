"""Chooses the threshold of a network on validation volumes.

The paper cut at 0.999, which was not optimised (3.4.1), and its precision suffered. Here all thresholds are tried on
the grid of the image, where segmentation cuts by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from keras_scgm import checks
from keras_scgm.calibration.threshold_counts import THRESHOLDS, ThresholdCounts, mean_of_known
from keras_scgm.datasets import (
    AnnotatedVolume,
    LabelledPart,
    annotated_volumes,
    check_volumes,
    labelled_part,
)
from keras_scgm.errors import InputError
from keras_scgm.evaluation.tissues import CORD, TISSUE_NAMES, named_tissue
from keras_scgm.files import nifti_stem
from keras_scgm.prediction import Weights
from keras_scgm.pretrained import WeightsCard
from keras_scgm.segmentation import SegmentationConfig, Segmenter
from keras_scgm.segmentation.result import kept
from keras_scgm.volume import Volume, Voxels

Objective = Literal["dsc", "balance", "area"]
OBJECTIVES = get_args(Objective)
CalibratedTissue = Literal["gm", "cord"]


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
        tissue: Tissue whose threshold was chosen, "gm" (gray matter) or "cord".
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
    tissue: CalibratedTissue = "gm"

    @property
    def threshold(self) -> float:
        """Chosen threshold."""
        return float(self.thresholds[self.chosen])

    @property
    def is_at_end(self) -> bool:
        """Whether the chosen threshold is the first or the last, so that a better one may lie outside the range."""
        return self.chosen in (0, len(self.thresholds) - 1)


def calibrate(
    weights: Weights,
    volumes: Sequence[AnnotatedVolume],
    objective: Objective = "dsc",
    tissue: CalibratedTissue = "gm",
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Segment the validation volumes and choose the threshold.

    Of several equally good thresholds, the middle one is chosen.

    Args:
        weights: Known name, file, or model.
        volumes: Volumes with masks that the network was not trained on; only their labelled slices count.
        objective: Criterion of the choice, see `Calibration`.
        tissue: "gm", or "cord" for the threshold of the cord, whose masks are then expected: all labels of masks with
            several, such as the gray and white matter of the challenge's.
        progress: Function called with the number of finished volumes and of all volumes.

    Raises:
        InputError: a volume cannot be used, nothing is labelled, or the weights do not segment the cord.
    """
    checks.one_of(OBJECTIVES)("objective", objective)
    checks.one_of(get_args(CalibratedTissue))("tissue", tissue)
    checks.optional(checks.function)("progress", progress)
    labelled = [volume for volume in annotated_volumes("volumes", volumes) if volume.masks]
    check_volumes(labelled)
    segmenter = Segmenter(weights, SegmentationConfig())
    if tissue == CORD and not segmenter.has_cord:
        raise InputError("these weights do not segment the cord; choose others, or calibrate the gray matter")
    threshold = segmenter.networks.thresholds[-1] if tissue == CORD else segmenter.threshold
    counts = []
    for number, annotated in enumerate(labelled, start=1):
        counts.append(_counts(segmenter, annotated, tissue))
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
        used=int(np.abs(THRESHOLDS - threshold).argmin()),
        areas_mm2=np.stack([areas_mm2[:, chosen], true_areas_mm2], axis=1),
        confidence=probability / n_voxels,
        frequency=marked / n_voxels,
        n_volumes=len(counts),
        card=segmenter.networks.cards[0],
        tissue=tissue,
    )


def _counts(segmenter: Segmenter, annotated: AnnotatedVolume, tissue: CalibratedTissue) -> ThresholdCounts:
    part = labelled_part(annotated)
    result = segmenter.segment(part.image)
    volume = result.volume

    def slices_of(voxels: Voxels | None) -> np.ndarray:
        """The labelled slices, (slice, rows, columns)."""
        return part.labelled(volume.axial_view(np.asarray(kept(voxels, "keep_probabilities=True"))))

    if tissue == CORD:
        probabilities = slices_of(result.cord_probability_voxels)
    else:
        probabilities = slices_of(result.probability_voxels)
        if result.cord_voxels is not None:
            # Gray matter is only in the cord, however low its threshold.
            probabilities = np.where(slices_of(result.cord_voxels), probabilities, 0)
    truths = []
    for path in annotated.masks:
        truths.append(_read_cord(part, path, volume) if tissue == CORD else part.read_mask(path, volume))
        if not truths[-1].any():
            raise InputError(f"{path}: no {TISSUE_NAMES[tissue]} in it; leave it out, or check its label")
    return ThresholdCounts(probabilities, np.stack(truths), volume.voxel_area_mm2)


def _read_cord(part: LabelledPart, path: Path, volume: Volume) -> np.ndarray:
    """The cord by one of the raters, bool (slice, right-left, posterior-anterior): every voxel that has a label."""
    named, _ = named_tissue(nifti_stem(path))
    if named not in (CORD, None):
        raise InputError(f"{path}: named as a mask of the {TISSUE_NAMES[named]}; give masks of the cord")
    cord = part.read_mask(path, volume, any_label=True)
    if part.annotated.label_value is not None and np.array_equal(cord, part.read_mask(path, volume)):
        raise InputError(f"{path}: gray matter alone, without white matter; give masks of the cord")
    return cord
