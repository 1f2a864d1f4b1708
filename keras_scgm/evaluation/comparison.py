"""Is one model better than another, and is it as good as a human rater."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import wilcoxon

from keras_scgm import checks
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, LOWER_IS_BETTER
from keras_scgm.evaluation.scores import Evaluation
from keras_scgm.evaluation.summary import Summary, bootstrap_interval, of_cases

METRICS_OF_TABLE_2 = f"some of {', '.join(CHALLENGE_METRICS)}"


@dataclass(frozen=True)
class PairedTest:
    """Two models on the cases that both have, in one metric.

    Args:
        first: a model.
        second: the other.
        metric: of Table 2.
        n_cases: in which the metric is defined for both.
        difference: mean over cases of first minus second.
        interval: of the difference, 95 %, bootstrap over cases.
        p_value: Wilcoxon signed-rank test, two-sided; 1 if no case differs, NaN without cases.
        p_holm: the same, corrected by Holm for all tests made together.
    """

    first: str
    second: str
    metric: str
    n_cases: int
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class AgainstRaters:
    """A model beside the raters, in one metric.

    Args:
        mean: of the model against all raters, over cases.
        n_raters_reached: raters whose agreement with the others is not better than the model's, on average.
        difference: mean over cases of the model minus the mean rater.
        interval: of the difference, 95 %, bootstrap over cases.
        cases_in_range: fraction of the cases in which the model is at least as good as the worst rater.
        n_cases: in which the metric is defined for the model and all raters.
    """

    mean: float
    n_raters_reached: int
    difference: float
    interval: tuple[float, float]
    cases_in_range: float
    n_cases: int


@dataclass(frozen=True)
class Ceiling:
    """How far raters agree with each other, in one metric: what a model can be expected to reach.

    Args:
        metric: of Table 2.
        raters: each rater's mask against those of the others, over pairs.
        rater_means: each rater's mean over cases; of a case, the mean over the other raters.
        models: every model against the same raters.
    """

    metric: str
    raters: Mapping[str, Summary]
    rater_means: Mapping[str, float]
    models: Mapping[str, AgainstRaters]

    @property
    def all_raters(self) -> float:
        """Mean of the raters' means."""
        return float(np.mean(list(self.rater_means.values())))

    @property
    def bounds(self) -> tuple[float, float]:
        """Means of the (worst, best) rater."""
        means = sorted(self.rater_means.values(), reverse=self.metric in LOWER_IS_BETTER)
        return means[0], means[-1]


def compare_models(evaluation: Evaluation, metrics: Sequence[str] = CHALLENGE_METRICS) -> list[PairedTest]:
    """Test every pair of models, case by case.

    Args:
        evaluation: of at least two models; with one there is nothing to test and the list is empty.
        metrics: of Table 2.
    """
    metrics = checks.several(checks.one_of(CHALLENGE_METRICS), METRICS_OF_TABLE_2)("metrics", metrics)
    tests = []
    for first, second in combinations(evaluation.models, 2):
        for metric in metrics:
            values, others = (of_cases(evaluation.of_model(name), metric) for name in (first, second))
            differences = np.array([values[case] - others[case] for case in values if case in others])
            differences = differences[~np.isnan(differences)]
            tests.append(
                PairedTest(
                    first=first,
                    second=second,
                    metric=metric,
                    n_cases=differences.size,
                    difference=float(differences.mean()) if differences.size else float("nan"),
                    interval=bootstrap_interval(differences),
                    p_value=_wilcoxon(differences),
                    p_holm=float("nan"),
                )
            )
    corrected = _holm(np.array([test.p_value for test in tests]))
    return [replace(test, p_holm=float(p)) for test, p in zip(tests, corrected, strict=True)]


def inter_rater_ceiling(evaluation: Evaluation, metrics: Sequence[str] = CHALLENGE_METRICS) -> list[Ceiling]:
    """Agreement of every rater with the others, and where the models stand beside it.

    Args:
        evaluation: with at least two raters; otherwise the list is empty.
        metrics: of Table 2.
    """
    metrics = checks.several(checks.one_of(CHALLENGE_METRICS), METRICS_OF_TABLE_2)("metrics", metrics)
    names = sorted({score.maker for score in evaluation.rater_scores})
    if not names:
        return []
    ceilings = []
    for metric in metrics:
        of_rater = {
            name: [score for score in evaluation.rater_scores if score.maker == name] for name in names
        }
        case_values = {name: of_cases(scores, metric) for name, scores in of_rater.items()}
        ceiling = Ceiling(
            metric=metric,
            raters={n: Summary.of(s.challenge[metric] for s in of_rater[n]) for n in names},
            rater_means={name: _nanmean(list(values.values())) for name, values in case_values.items()},
            models={},
        )
        models = {
            model: _against_raters(of_cases(evaluation.of_model(model), metric), case_values, metric)
            for model in evaluation.models
        }
        ceilings.append(replace(ceiling, models=models))
    return ceilings


def _against_raters(
    model: Mapping[str, float], raters: Mapping[str, Mapping[str, float]], metric: str
) -> AgainstRaters:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    cases = {case: [of[case] for of in raters.values() if case in of] for case in model}
    usable = [case for case, values in cases.items() if values and np.isfinite([model[case], *values]).all()]
    reached = np.array([model[case] for case in usable])
    human = np.array([np.mean(cases[case]) for case in usable])
    worst = np.array([sign * min(sign * value for value in cases[case]) for case in usable])
    rater_means = [_nanmean([of[case] for case in usable if case in of]) for of in raters.values()]
    mean = _nanmean(reached.tolist())
    return AgainstRaters(
        mean=mean,
        n_raters_reached=sum(sign * mean >= sign * value for value in rater_means),
        difference=_nanmean((reached - human).tolist()),
        interval=bootstrap_interval(reached - human),
        cases_in_range=_nanmean((sign * reached >= sign * worst).astype(float).tolist()),
        n_cases=len(usable),
    )


def _wilcoxon(differences: np.ndarray) -> float:
    if not differences.size:
        return float("nan")
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _holm(p_values: np.ndarray) -> np.ndarray:
    corrected = np.full(p_values.shape, np.nan)
    order = [i for i in np.argsort(p_values) if not np.isnan(p_values[i])]
    largest = 0.0
    for position, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - position) * p_values[i]))
        corrected[i] = largest
    return corrected


def _nanmean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
