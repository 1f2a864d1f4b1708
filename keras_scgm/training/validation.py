"""Dice coefficients of whole volumes on their own grid, through the pipeline that users run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.nifti import read_volume
from keras_scgm.prediction import Weights
from keras_scgm.segmentation import SegmentationSettings, Segmenter


def volume_dice(segmenter: Segmenter, annotated: AnnotatedVolume) -> float:
    """Dice coefficient of a segmented volume, the mean over its raters; NaN if neither finds anything.

    Args:
        segmenter: with the weights to judge.
        annotated: an image with masks; only its labelled slices count.
    """
    result = segmenter.segment(annotated.image)
    found = np.moveaxis(result.volume.axial_view(result.mask_voxels) > 0, 2, 0)
    stored = range(result.volume.n_slices) if annotated.labelled_slices is None else annotated.labelled_slices
    slices = sorted(result.volume.stored_slice_index(index) for index in stored)
    scores = []
    for path in annotated.masks:
        values, _ = read_volume(path).read_slices(0, result.volume.n_slices)
        wanted = annotated.label_value
        truth = values != 0 if wanted is None else np.rint(values) == wanted
        scores.append(_dice(found[slices], truth[slices]))
    return float(np.mean(scores))


def mean_volume_dice(weights: Weights, volumes: Sequence[AnnotatedVolume]) -> float:
    """Mean of `volume_dice` over the volumes in which there is something to find."""
    segmenter = Segmenter(weights, SegmentationSettings(keep_probabilities=False))
    return float(np.nanmean([volume_dice(segmenter, annotated) for annotated in volumes]))


def _dice(found: np.ndarray, truth: np.ndarray) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")
