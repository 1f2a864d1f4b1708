"""Inter-rater agreement, and the agreement of models with the raters beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_scgm import checks
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, LOWER_IS_BETTER
from keras_scgm.evaluation.groups import of_cases
from keras_scgm.evaluation.paired_tests import METRICS_OF_TABLE_2
from keras_scgm.evaluation.scores import Evaluation
from keras_scgm.evaluation.summary import Summary, bootstrap_interval


@dataclass(frozen=True)
class ModelAgreement:
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
class InterRaterAgreement:
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
    models: Mapping[str, ModelAgreement]

    @property
    def all_raters(self) -> float:
        """Mean of the raters' means."""
        return float(np.mean(list(self.rater_means.values())))

    @property
    def bounds(self) -> tuple[float, float]:
        """Means of the (worst, best) rater."""
        means = sorted(self.rater_means.values(), reverse=self.metric in LOWER_IS_BETTER)
        return means[0], means[-1]


def inter_rater_agreement(
    evaluation: Evaluation, metrics: Sequence[str] = CHALLENGE_METRICS
) -> list[InterRaterAgreement]:
    """Agreement of every rater with the others, and where the models stand beside it.

    Args:
        evaluation: with at least two raters; otherwise the list is empty.
        metrics: of Table 2.
    """
    metrics = checks.several(checks.one_of(CHALLENGE_METRICS), METRICS_OF_TABLE_2)("metrics", metrics)
    names = sorted({score.annotator for score in evaluation.rater_scores})
    if not names:
        return []
    agreements = []
    for metric in metrics:
        of_rater = {
            name: [score for score in evaluation.rater_scores if score.annotator == name] for name in names
        }
        case_values = {name: of_cases(scores, metric) for name, scores in of_rater.items()}
        agreement = InterRaterAgreement(
            metric=metric,
            raters={n: Summary.of(s.challenge[metric] for s in of_rater[n]) for n in names},
            rater_means={
                name: Summary.of(list(values.values())).mean for name, values in case_values.items()
            },
            models={},
        )
        models = {
            model: _model_agreement(of_cases(evaluation.of_model(model), metric), case_values, metric)
            for model in evaluation.models
        }
        agreements.append(replace(agreement, models=models))
    return agreements


def _model_agreement(
    model: Mapping[str, float], raters: Mapping[str, Mapping[str, float]], metric: str
) -> ModelAgreement:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    cases = {case: [of[case] for of in raters.values() if case in of] for case in model}
    usable = [case for case, values in cases.items() if values and np.isfinite([model[case], *values]).all()]
    reached = np.array([model[case] for case in usable])
    human = np.array([np.mean(cases[case]) for case in usable])
    worst = np.array([sign * min(sign * value for value in cases[case]) for case in usable])
    rater_means = [Summary.of([of[case] for case in usable if case in of]).mean for of in raters.values()]
    mean = Summary.of(reached.tolist()).mean
    return ModelAgreement(
        mean=mean,
        n_raters_reached=sum(sign * mean >= sign * value for value in rater_means),
        difference=Summary.of((reached - human).tolist()).mean,
        interval=bootstrap_interval(reached - human),
        cases_in_range=Summary.of((sign * reached >= sign * worst).astype(float).tolist()).mean,
        n_cases=len(usable),
    )
