"""Inter-rater agreement, and the agreement of models with the raters beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, LOWER_IS_BETTER
from keras_scgm.evaluation.groups import challenge_summary, of_cases
from keras_scgm.evaluation.scores import Evaluation
from keras_scgm.evaluation.summary import Summary, mean_interval


@dataclass(frozen=True)
class ModelAgreement:
    """Agreement of a model with the raters, in one metric.

    Args:
        mean: Mean of the model against all raters, over cases.
        n_raters_reached: Number of raters whose mean agreement with the others is not better than the model's.
        difference: Mean over cases of the model's value minus the mean of the raters.
        interval: 95 % confidence interval of the difference over cases, as `mean_interval` has it.
        cases_in_range: Fraction of the cases in which the model is at least as good as the worst rater.
        n_cases: Number of cases in which the metric is defined for the model and all raters.
    """

    mean: float
    n_raters_reached: int
    difference: float
    interval: tuple[float, float]
    cases_in_range: float
    n_cases: int


@dataclass(frozen=True)
class InterRaterAgreement:
    """Agreement of the raters with each other, in one metric, and of the models with the raters.

    Args:
        metric: Name of a metric of Table 2.
        raters: Summary of each rater against the others, over pairs.
        rater_means: Mean of each rater over cases; the value of a case is the mean over the other raters.
        models: Agreement of every model with the same raters.
    """

    metric: str
    raters: Mapping[str, Summary]
    rater_means: Mapping[str, float]
    models: Mapping[str, ModelAgreement]

    @property
    def bounds(self) -> tuple[float, float]:
        """Means of the (worst, best) rater."""
        means = sorted(self.rater_means.values(), reverse=self.metric in LOWER_IS_BETTER)
        return means[0], means[-1]


def inter_rater_agreement(evaluation: Evaluation) -> list[InterRaterAgreement]:
    """Agreement of every rater with the others, and of the models with the raters, in every metric of Table 2.

    Args:
        evaluation: Evaluation with at least two raters; otherwise the list is empty.
    """
    names = sorted({score.annotator for score in evaluation.rater_scores})
    if not names:
        return []
    of_rater = {
        name: [score for score in evaluation.rater_scores if score.annotator == name] for name in names
    }
    agreements = []
    for metric in CHALLENGE_METRICS:
        case_values = {name: of_cases(scores, metric) for name, scores in of_rater.items()}
        agreements.append(
            InterRaterAgreement(
                metric=metric,
                raters={name: challenge_summary(scores, metric) for name, scores in of_rater.items()},
                rater_means={name: Summary.of(values.values()).mean for name, values in case_values.items()},
                models={
                    model: _model_agreement(of_cases(evaluation.of_model(model), metric), case_values, metric)
                    for model in evaluation.models
                },
            )
        )
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
    rater_means = [Summary.of(of[case] for case in usable if case in of).mean for of in raters.values()]
    mean = Summary.of(reached).mean
    return ModelAgreement(
        mean=mean,
        n_raters_reached=sum(sign * mean >= sign * value for value in rater_means),
        difference=Summary.of(reached - human).mean,
        interval=mean_interval(reached - human),
        cases_in_range=Summary.of(sign * reached >= sign * worst).mean,
        n_cases=len(usable),
    )
