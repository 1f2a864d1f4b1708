"""Scores summarised by case, site and rater."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.summary import Summary


def challenge_summary(scores: Iterable[Score], metric: str) -> Summary:
    """Summary of a metric of Table 2 over pairs of case and rater, as in the caption of the table."""
    return Summary.of(score.challenge[metric] for score in scores)


def fcn_summary(scores: Iterable[Score], metric: str) -> Summary:
    """Summary of a metric of Table 3 over slices, as in the paper."""
    return Summary.of(row[metric] for score in scores for row in score.slices)


def of_cases(scores: Iterable[Score], metric: str) -> dict[str, float]:
    """A metric of Table 2 for each case, the mean over raters; NaN if undefined for one of them.

    Raters of one volume are not independent; tests and intervals therefore use cases.
    """
    values: defaultdict[str, list[float]] = defaultdict(list)
    for score in scores:
        values[score.case_id].append(score.challenge[metric])
    return {case_id: float(np.mean(of_case)) for case_id, of_case in values.items()}


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
