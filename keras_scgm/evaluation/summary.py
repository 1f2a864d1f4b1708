"""Means with what was left out of them, and intervals by resampling subjects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_scgm.evaluation.scores import Evaluation, Score

RESAMPLES = 9999
CONFIDENCE = 0.95


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
    """Percentile interval of the mean, 95 %, by drawing the values anew; NaN below two values."""
    if values.size < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(values.size, size=(RESAMPLES, values.size))].mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, (tail, 100 - tail))
    return float(low), float(high)


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
