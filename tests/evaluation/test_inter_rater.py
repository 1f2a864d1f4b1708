"""Inter-rater agreement and the models beside it."""

import math

import numpy as np
import pytest

from keras_scgm import evaluate
from keras_scgm.evaluation import (
    inter_rater_agreement,
)
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS
from keras_scgm.evaluation.mask_reader import MaskReader
from keras_scgm.evaluation.scores import Evaluation, Score


def test_inter_rater_agreement(result, drawn_study):
    agreement = next(agreement for agreement in inter_rater_agreement(result) if agreement.metric == "DSC")
    means = {
        name: np.mean([s.challenge["DSC"] for s in result.rater_scores if s.annotator == name])
        for name in ("r1", "r2", "r3")
    }
    assert agreement.rater_means == pytest.approx(means)
    assert agreement.bounds == pytest.approx((min(means.values()), max(means.values())))
    good, poor = agreement.models["good"], agreement.models["poor"]
    assert good.mean == pytest.approx(np.mean([s.challenge["DSC"] for s in result.of_model("good")]))
    assert good.n_raters_reached == 3
    assert good.cases_in_range == 1
    assert good.interval[0] > 0
    assert (poor.n_raters_reached, poor.cases_in_range) == (0, 0)
    assert poor.interval[1] < 0
    distances = next(agreement for agreement in inter_rater_agreement(result) if agreement.metric == "HSD")
    assert distances.bounds[0] > distances.bounds[1]
    assert distances.models["poor"].n_raters_reached == 0
    one_rater = drawn_study / "raters" / "site1-sc01-mask-r1.nii.gz"
    assert inter_rater_agreement(evaluate(drawn_study / "good", one_rater)) == []


def score(annotator, case, rater, value):
    return Score(annotator, str(case), None, rater, dict.fromkeys(CHALLENGE_METRICS, value), {}, {}, ())


def agreements_of(model, *raters):
    """By metric, of a model with raters, whose values beside the others these are; None for a case without a mask."""
    names = "abc"[: len(raters)]
    evaluation = Evaluation(
        models=("m",),
        cases=(),
        scores=tuple(score("m", k, rater, value) for k, value in enumerate(model) for rater in names),
        rater_scores=tuple(
            score(name, k, "another", value)
            for name, values in zip(names, raters, strict=True)
            for k, value in enumerate(values)
            if value is not None
        ),
        errors=(),
        warnings=(),
        parameters={},
        reader=MaskReader(),
    )
    return {agreement.metric: agreement for agreement in inter_rater_agreement(evaluation)}


@pytest.mark.parametrize(
    ("model", "one"),
    [((0.8, 0.9, 0.7), (0.6, 0.8, math.nan)), ((0.8, 0.9, math.nan), (0.6, 0.8, 0.9))],
)
def test_a_case_that_is_undefined_for_one_does_not_count(model, one):
    other = (0.7, 0.6, 0.8)
    agreements = agreements_of(model, one, other)
    expected = agreements_of(model[:2], one[:2], other[:2])
    for metric, agreement in agreements.items():
        assert agreement.models == expected[metric].models, metric
        assert agreement.models["m"].n_cases == 2


def test_cases_that_some_raters_have_not_marked():
    model, one, other, third = (0.8, 0.9, 0.7, 0.5), (0.6, 0.8, 0.9), (0.7, 0.6, 0.8), (0.9, None, 0.65)
    of_model = agreements_of(model, one, other, third)["DSC"].models["m"]
    humans = [(0.6 + 0.7 + 0.9) / 3, (0.8 + 0.6) / 2, (0.9 + 0.8 + 0.65) / 3]
    assert of_model.difference == pytest.approx(0.8 - np.mean(humans))
    assert (of_model.mean, of_model.n_cases, of_model.n_raters_reached) == (pytest.approx(0.8), 3, 3)


def test_a_model_as_good_as_the_raters_reaches_them():
    for metric, agreement in agreements_of((0.5, 0.75), (0.5, 0.75), (0.5, 0.75)).items():
        assert agreement.models["m"].n_raters_reached == 2, metric
        assert agreement.models["m"].cases_in_range == 1, metric


def test_a_model_is_measured_by_the_raters_of_the_same_cases():
    agreements = agreements_of((0.8, 0.9, 0.7), (0.6, 0.8, 0.9), (0.7, 0.6, 0.8))
    # The differences are 0.15, 0.2 and -0.15; Student's t at 97.5 % with 2 degrees of freedom is 4.3027.
    mean = 0.2 / 3
    reach = 4.3027 * math.sqrt(((0.15 - mean) ** 2 + (0.2 - mean) ** 2 + (0.15 + mean) ** 2) / 2 / 3)
    for metric, bounds, n_reached, in_range in (
        ("DSC", (0.7, 2.3 / 3), 2, 2 / 3),
        ("HSD", (2.3 / 3, 0.7), 0, 1 / 3),
    ):
        agreement = agreements[metric]
        assert agreement.rater_means == pytest.approx({"a": 2.3 / 3, "b": 0.7})
        assert agreement.raters["a"].mean == pytest.approx(2.3 / 3)
        assert agreement.bounds == pytest.approx(bounds)
        of_model = agreement.models["m"]
        assert of_model.mean == pytest.approx(0.8)
        assert of_model.difference == pytest.approx(mean)
        assert of_model.interval == pytest.approx((mean - reach, mean + reach), rel=1e-4)
        assert (of_model.n_raters_reached, of_model.n_cases) == (n_reached, 3)
        assert of_model.cases_in_range == pytest.approx(in_range)
