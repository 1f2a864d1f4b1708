"""Means with what was left out of them, and intervals by resampling subjects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_scgm.evaluation.scores import Evaluation, Score

RESAMPLES = 9999
CONFIDENCE = 0.95
MIN_RESAMPLED = 6
"""Fewest values to draw anew from; intervals from fewer are far too narrow."""

LIMIT_STDS = 1.96
"""Standard deviations from the bias to the limits of agreement, between which 95 % of differences lie."""


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of the defined values.

    Args:
        mean: NaN without any value.
        std: with n - 1, NaN below two values.
        n: defined values.
        n_undefined: values left out.
    """

    mean: float
    std: float
    n: int
    n_undefined: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summary of numbers, NaN being undefined."""
        all_values = np.fromiter(values, float)
        defined = all_values[~np.isnan(all_values)]
        return cls(
            mean=float(defined.mean()) if defined.size else float("nan"),
            std=float(defined.std(ddof=1)) if defined.size > 1 else float("nan"),
            n=defined.size,
            n_undefined=all_values.size - defined.size,
        )


def challenge_summary(scores: Iterable[Score], metric: str) -> Summary:
    """Of a metric of Table 2 over pairs of case and rater, as its caption says."""
    return Summary.of(score.challenge[metric] for score in scores)


def fcn_summary(scores: Iterable[Score], metric: str) -> Summary:
    """Of a metric of Table 3 over slices, which is how the paper's numbers come about."""
    return Summary.of(row[metric] for score in scores for row in score.slices)


def of_cases(scores: Iterable[Score], metric: str) -> dict[str, float]:
    """A metric of Table 2 for each case, the mean over raters; NaN if undefined for one of them.

    Raters of one volume are not independent, so tests and intervals take cases.
    """
    values: defaultdict[str, list[float]] = defaultdict(list)
    for score in scores:
        values[score.case_id].append(score.challenge[metric])
    return {case_id: float(np.mean(of_case)) for case_id, of_case in values.items()}


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean, 95 %, by drawing the values anew; NaN below `MIN_RESAMPLED` values."""
    if values.size < MIN_RESAMPLED:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(values.size, size=(RESAMPLES, values.size))].mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, (tail, 100 - tail))
    return float(low), float(high)


@dataclass(frozen=True)
class Agreement:
    """How far measurements differ (Bland and Altman, Lancet 1986).

    Args:
        n: pairs.
        reference: mean of the references, NaN without pairs.
        bias: mean of prediction minus reference.
        low: lower 95 % limit of agreement, NaN below two pairs.
        high: upper limit.
    """

    n: int
    reference: float
    bias: float
    low: float
    high: float


def agreement(pairs: Iterable[tuple[float, float]]) -> Agreement:
    """Bias and limits of agreement of pairs (prediction, reference).

    >>> agreement([(10.0, 9.0), (12.0, 13.0)]).bias
    0.0
    """
    predictions, references = np.array([*pairs], float).reshape(-1, 2).T
    difference = Summary.of(predictions - references)
    reach = LIMIT_STDS * difference.std
    bias = difference.mean
    return Agreement(difference.n, Summary.of(references).mean, bias, bias - reach, bias + reach)


def slice_areas(scores: Iterable[Score]) -> dict[tuple[str, int], tuple[float, float]]:
    """(Case, slice from the inferior end) -> areas in mm2 by one model and by the mean of its raters.

    Slices in which neither has anything are left out.
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


def by_site(evaluation: Evaluation, model: str) -> dict[str, list[Score]]:
    """Scores of a model at each site, and with each site left out; empty for a single or unknown site."""
    if len(evaluation.sites) < 2:
        return {}
    scores = evaluation.of_model(model)
    at = {f"site {site}": [s for s in scores if s.site_id == site] for site in evaluation.sites}
    without = {f"without site {site}": [s for s in scores if s.site_id != site] for site in evaluation.sites}
    return {name: part for name, part in (at | without).items() if part}


def by_rater(evaluation: Evaluation, model: str) -> dict[str, list[Score]]:
    """Scores of a model against each rater; empty for a single rater."""
    if len(evaluation.raters) < 2:
        return {}
    scores = evaluation.of_model(model)
    return {f"rater {rater}": [s for s in scores if s.rater == rater] for rater in evaluation.raters}
