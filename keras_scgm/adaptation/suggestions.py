"""Slices to label next: those in which the network is least sure, and that are unlike each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.prediction import Weights
from keras_scgm.segmentation import SegmentationConfig, Segmenter

PASSES = 4
"""Predictions of the slightly changed image."""
FEATURES = (
    "area_mm2",
    "width_mm",
    "depth_mm",
    "cord_area_mm2",
    "gm_cord_ratio",
    "symmetry",
    "contrast_to_noise",
    "separation",
    "sharpness",
)
"""Features of `keras_scgm.quality` that tell slices apart: size, shape, contrast, noise and resolution."""


@dataclass(frozen=True)
class Suggestion:
    """A slice to label.

    Args:
        image: The image.
        slice: Index of the slice, as stored in the file.
        uncertainty: Variation of the probabilities over test-time augmentation (`keras_scgm.uncertainty`).
        distance: Distance to the nearest slice that is suggested before it, in standard deviations of the features;
            infinite for the first.
    """

    image: Path
    slice: int
    uncertainty: float
    distance: float


def suggest_slices(
    images: Sequence[str | Path], weights: Weights, count: int, seed: int = 0
) -> tuple[Suggestion, ...]:
    """Rank slices by uncertainty and diversity.

    The first is the least sure one. Each further one has the highest product of its uncertainty and its distance to
    those before it, so that neighbours in a scan, and slices alike, are not suggested together (core-set selection:
    Sener and Savarese 2018, here weighted by the uncertainty).

    Args:
        images: Images without labels.
        weights: Weights that segment them.
        count: Number of slices.
        seed: Seed of the test-time augmentation.

    Returns:
        At most `count` slices with gray matter, the most useful first.

    Raises:
        InputError: An argument breaks its rule, an image cannot be used, or no gray matter is found in any.
    """
    paths = checks.several(checks.path, "paths of images")("images", images)
    count, seed = checks.integer(1)("count", count), checks.seed("seed", seed)
    segmenter = Segmenter(
        weights, SegmentationConfig(uncertainty_passes=PASSES, seed=seed, keep_probabilities=False)
    )
    places: list[tuple[Path, int]] = []
    uncertainty: list[float] = []
    features: list[list[float]] = []
    for path in paths:
        result = segmenter.segment(path)
        of_slice = {
            result.volume.stored_slice_index(k): one.features for k, one in enumerate(result.quality.slices)
        }
        for row in result.areas:
            if not math.isnan(row.uncertainty):
                places.append((path, row.slice))
                uncertainty.append(row.uncertainty)
                features.append([float(getattr(of_slice[row.slice], name)) for name in FEATURES])
    if not places:
        raise InputError(
            "no gray matter was found in any image, so no slice can be suggested; use other weights"
        )
    order, distances = ranked(np.array(uncertainty), standardised(np.array(features)), count)
    return tuple(
        Suggestion(*places[index], uncertainty[index], distance)
        for index, distance in zip(order, distances, strict=True)
    )


def ranked(uncertainty: np.ndarray, vectors: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    """Indices in their order, and the distance of each to those before it.

    Args:
        uncertainty: (slice,), at least 0.
        vectors: (slice, feature).
        count: Number of slices.

    >>> ranked(np.array([3.0, 2.9, 1.0]), np.array([[0.0], [0.1], [5.0]]), 2)
    ([0, 2], [inf, 5.0])
    """
    order = [int(uncertainty.argmax())]
    nearest, distances = np.full(len(vectors), np.inf), [math.inf]
    while len(order) < min(count, len(vectors)):
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[order[-1]], axis=1))
        score = uncertainty * nearest
        score[order] = -1.0
        order.append(int(score.argmax()))
        distances.append(float(nearest[order[-1]]))
    return order, distances


def standardised(vectors: np.ndarray) -> np.ndarray:
    """Features less their mean, divided by their standard deviation; 0 where they are not known or do not vary."""
    known = np.ma.masked_invalid(vectors)
    std = known.std(axis=0).filled(0)
    scaled = (known - known.mean(axis=0)).filled(0)
    return np.divide(scaled, std, out=np.zeros_like(scaled), where=std > 0)
