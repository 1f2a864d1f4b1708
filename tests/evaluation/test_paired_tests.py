"""Paired tests between models."""

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests

from keras_scgm import evaluate
from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    compare_models,
)
from keras_scgm.evaluation.mask_reader import MaskReader
from keras_scgm.evaluation.paired_tests import MIN_SIGNIFICANT, holm, signed_rank_p
from keras_scgm.evaluation.scores import Evaluation, Score


def test_models_are_tested_case_by_case(result, drawn_study):
    tests = {test.metric: test for test in compare_models(result)}
    assert set(tests) == set(CHALLENGE_METRICS)
    dsc = tests["DSC"]
    assert (dsc.first, dsc.second, dsc.n_cases) == ("good", "poor", 6)
    of_case = {
        model: [
            np.mean([s.challenge["DSC"] for s in result.of_model(model) if s.case_id == case.case_id])
            for case in result.cases
        ]
        for model in ("good", "poor")
    }
    differences = np.subtract(of_case["good"], of_case["poor"])
    assert dsc.difference == pytest.approx(differences.mean())
    assert dsc.p_value == pytest.approx(wilcoxon(differences).pvalue) == pytest.approx(2 / 2**6)
    assert 0 < dsc.interval[0] < dsc.difference < dsc.interval[1]
    p_values = [test.p_value for test in tests.values()]
    assert [test.p_holm for test in tests.values()] == pytest.approx(
        multipletests(p_values, method="holm")[1]
    )
    assert compare_models(evaluate(drawn_study / "good", drawn_study / "raters")) == []


def test_equal_models_do_not_differ(drawn_study):
    result = evaluate({"one": drawn_study / "good", "two": drawn_study / "good"}, drawn_study / "raters")
    assert {(test.difference, test.p_value, test.p_holm) for test in compare_models(result)} == {(0, 1, 1)}


def test_cases_and_metrics_that_are_not_known_of_both_models_do_not_count():
    """Cases 1 to 6 are known of both, and the mean distance of none."""
    values = {
        "one": {k: 0.9 + k / 100 for k in range(8)},
        "two": {k: math.nan if k == 7 else 0.8 - k / 100 for k in range(1, 9)},
    }
    scores = tuple(
        Score(
            model, str(k), None, "r1", dict.fromkeys(CHALLENGE_METRICS, value) | {"MSD": math.nan}, {}, {}, ()
        )
        for model, of_model in values.items()
        for k, value in of_model.items()
    )
    evaluation = Evaluation(
        models=("one", "two"),
        cases=(),
        scores=scores,
        rater_scores=(),
        errors=(),
        warnings=(),
        parameters={},
        reader=MaskReader(),
    )
    tests = {test.metric: test for test in compare_models(evaluation)}
    dsc, distance = tests["DSC"], tests["MSD"]
    differences = 0.1 + 2 * np.arange(1, 7) / 100
    assert (dsc.n_cases, dsc.difference) == (6, pytest.approx(differences.mean()))
    assert dsc.p_value == pytest.approx(2 / 2**6)
    assert dsc.p_holm == pytest.approx((len(CHALLENGE_METRICS) - 1) * dsc.p_value)
    assert distance.n_cases == 0
    assert np.isnan([distance.difference, *distance.interval, distance.p_value, distance.p_holm]).all()


def test_the_correction_of_holm_as_in_statsmodels():
    p_values = np.random.default_rng(0).permutation([0.001, 0.004, 0.004, 0.012, 0.02, 0.2, 0.3, 0.6])
    wanted = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(wanted)
    assert holm(np.insert(p_values, [0, 3], math.nan)) == pytest.approx(
        np.insert(wanted, [0, 3], math.nan), nan_ok=True
    )


@pytest.mark.parametrize("n", range(1, MIN_SIGNIFICANT + 2))
def test_the_smallest_p_of_few_differences(n):
    """Zeros do not count, nor do equal differences make p smaller."""
    smallest = pytest.approx(2 / 2**n)
    assert signed_rank_p(np.arange(1.0, n + 1)) == smallest
    assert signed_rank_p(np.full(n, 0.5)) == smallest
    assert signed_rank_p(np.array([*np.arange(1.0, n + 1), 0, 0])) == smallest
    assert signed_rank_p(-np.array([*np.arange(1.0, n + 1), 0, 0])) == smallest
    assert (signed_rank_p(np.full(n, 0.5)) < 0.05) == (n >= MIN_SIGNIFICANT)


def test_differences_that_are_equal_but_for_rounding_are_equal():
    """Areas are voxels times the area of one, and written in a few digits."""
    voxels = np.array([1, 2, 2, 2, 1, 3, 3, -2])
    before = np.array([91, 85, 102, 77, 90, 88, 95, 103])
    differences_mm2 = 0.17 * (before + voxels) - 0.17 * before
    assert np.unique(differences_mm2).size > np.unique(voxels).size
    assert signed_rank_p(differences_mm2) == signed_rank_p(voxels.astype(float))
    assert signed_rank_p(2.0**-30 * voxels) == signed_rank_p(voxels.astype(float))
    assert signed_rank_p(np.array([1.0, 2.0, 4.0, 1e-12])) == signed_rank_p(np.array([1.0, 2.0, 4.0, 0.0]))
