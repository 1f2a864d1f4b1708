"""Bias and limits of agreement of areas and volumes (Bland and Altman, Lancet 1986)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_scgm.evaluation.scores import Score
from keras_scgm.evaluation.summary import Summary

LIMIT_STDS = 1.96
"""Standard deviations from the bias to the limits of agreement, between which 95 % of differences lie."""


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of two measurements.

    Args:
        n: Number of pairs.
        reference: Mean of the references, NaN without pairs.
        bias: Mean of prediction minus reference.
        low: Lower 95 % limit of agreement, NaN below two pairs.
        high: Upper 95 % limit of agreement.
    """

    n: int
    reference: float
    bias: float
    low: float
    high: float


def bland_altman(pairs: Iterable[tuple[float, float]]) -> BlandAltman:
    """Bias and limits of agreement of pairs (prediction, reference).

    >>> bland_altman([(10.0, 9.0), (12.0, 13.0)]).bias
    0.0
    """
    predictions, references = np.array([*pairs], float).reshape(-1, 2).T
    difference = Summary.of(predictions - references)
    reach = LIMIT_STDS * difference.std
    bias = difference.mean
    return BlandAltman(difference.n, Summary.of(references).mean, bias, bias - reach, bias + reach)


def slice_areas(scores: Iterable[Score]) -> dict[tuple[str, int], tuple[float, float]]:
    """(Case, slice from the inferior end) -> areas in mm2 by one model and by the mean of its raters.

    Slices that are empty in both are left out.
    """
    found: defaultdict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for score in scores:
        for row in score.slices:
            areas_mm2 = row["area_prediction_mm2"], row["area_reference_mm2"]
            found[score.case_id, int(row["slice_from_inferior"])].append(areas_mm2)
    return {key: _mean_pair(pairs) for key, pairs in found.items() if np.any(pairs)}


def volumes(scores: Iterable[Score]) -> dict[str, tuple[float, float]]:
    """Case -> volumes in mm3 by one model and by the mean of its raters."""
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for score in scores:
        details = score.details
        pair = details["volume_prediction_mm3"], details["volume_reference_mm3"]
        found[score.case_id].append(pair)
    return {case_id: _mean_pair(pairs) for case_id, pairs in found.items()}


def _mean_pair(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    prediction, reference = np.mean(pairs, axis=0)
    return float(prediction), float(reference)
