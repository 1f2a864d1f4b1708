"""Dice coefficients of whole volumes on their native grid, through the segmentation pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.dice import dice
from keras_scgm.prediction import Weights
from keras_scgm.segmentation import SegmentationConfig, Segmenter


def volume_dice(segmenter: Segmenter, annotated: AnnotatedVolume) -> float:
    """Dice coefficient of a segmented volume, mean over its raters; NaN if all masks are empty.

    Args:
        segmenter: Segmenter with the weights to evaluate.
        annotated: An image with masks; only its labelled slices count.
    """
    result = segmenter.segment(annotated.image)
    found = np.moveaxis(result.volume.axial_view(result.mask_voxels) > 0, 2, 0)
    slices = annotated.slices_of(result.volume)
    scores = [
        dice(found[slices], annotated.read_mask(path, result.volume)[slices]) for path in annotated.masks
    ]
    return float(np.mean(scores))


def mean_volume_dice(weights: Weights, volumes: Sequence[AnnotatedVolume]) -> float:
    """Mean of `volume_dice` over the volumes where it is defined."""
    segmenter = Segmenter(weights, SegmentationConfig(keep_probabilities=False))
    return float(np.nanmean([volume_dice(segmenter, annotated) for annotated in volumes]))
