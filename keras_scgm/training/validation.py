"""Whole volumes through the segmentation pipeline: Dice coefficients on the native grid, and the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_scgm.calibration import CalibratedTissue, calibrate, is_calibrated, write_calibration
from keras_scgm.datasets import AnnotatedVolume, labelled_part
from keras_scgm.dice import dice
from keras_scgm.errors import InputError
from keras_scgm.prediction import Weights
from keras_scgm.pretrained import CORD, WeightsCard, card_path
from keras_scgm.segmentation import SegmentationConfig, Segmenter
from keras_scgm.training.config import TrainingConfig


def volume_dice(segmenter: Segmenter, annotated: AnnotatedVolume) -> float:
    """Dice coefficient of a segmented volume, mean over its raters; NaN if all masks are empty.

    Args:
        segmenter: Segmenter with the weights to evaluate.
        annotated: An image with masks; only its labelled slices count, and of a long volume with few of them no other
            is segmented.
    """
    part = labelled_part(annotated)
    result = segmenter.segment(part.image)
    found = part.labelled(result.volume.axial_view(result.mask_voxels)) > 0
    return float(np.mean([dice(found, part.read_mask(path, result.volume)) for path in annotated.masks]))


def choose_threshold(
    weights: Path, volumes: Sequence[AnnotatedVolume], config: TrainingConfig
) -> tuple[str, ...]:
    """Chooses the thresholds of trained weights as `keras_scgm.calibration` does, and writes them into their card.

    A curve and a figure go beside the weights, those of the cord into the folder `cord`. What was chosen before stays.

    Args:
        weights: File of the weights, with a card.
        volumes: Validation volumes.
        config: Settings of the training; nothing is chosen without an objective.

    Returns:
        Why a threshold that was to be chosen stays as it is, one line each.
    """
    if config.threshold_objective is None:
        return ()
    warnings = []
    tissues: dict[CalibratedTissue, Path] = {"gm": weights.parent}
    if CORD in config.tissues:
        tissues["cord"] = weights.parent / "cord"
    for tissue, folder in tissues.items():
        card = WeightsCard.read(card_path(weights))
        if is_calibrated(card, tissue):
            continue
        try:
            found = calibrate(weights, volumes, config.threshold_objective, tissue)
        except InputError as error:
            warnings.append(f"threshold not chosen: {error}")
            continue
        if found.is_at_end:
            warnings.append(
                f"threshold not chosen: {found.threshold:g} was best, the end of the range; the network may have "
                "learned nothing"
            )
        else:
            write_calibration(found, weights, folder)
    return tuple(warnings)


def mean_volume_dice(
    weights: Weights, volumes: Sequence[AnnotatedVolume], threshold: float | None = None
) -> float:
    """Mean of `volume_dice` over the volumes where it is defined; a threshold of None is that of the card."""
    segmenter = Segmenter(weights, SegmentationConfig(threshold=threshold, keep_probabilities=False))
    return float(np.nanmean([volume_dice(segmenter, annotated) for annotated in volumes]))
