"""Confidence intervals of means."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.weightstats import DescrStatsW

from keras_scgm.evaluation.summary import mean_interval


@pytest.mark.parametrize("n", [2, 6, 12])
def test_the_interval_contains_the_mean_of_normal_values_in_95_percent_of_samples(n):
    samples = np.random.default_rng(n).normal(3, 0.5, (2000, n))
    intervals = np.array([mean_interval(values) for values in samples])
    contained = np.mean((intervals[:, 0] < 3) & (intervals[:, 1] > 3))
    # Three standard errors of a share of 0.95 in 2000 samples.
    assert contained == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 2000))


@pytest.mark.parametrize("n", [2, 3, 6, 30])
def test_the_interval_is_that_of_statsmodels_and_of_the_t_test(n):
    values = np.random.default_rng(n).exponential(2, n)
    assert mean_interval(values) == pytest.approx(DescrStatsW(values).tconfint_mean())
    for bound in mean_interval(values):
        assert ttest_1samp(values, bound).pvalue == pytest.approx(0.05)


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [0.0] * 8, [-0.25] * 6, np.array([0.9, 0.8, 0.7]) - np.array([0.8, 0.7, 0.6])],
    ids=["none", "one", "zeros", "equal", "equal but for rounding"],
)
def test_values_that_show_no_spread_have_no_interval(values):
    assert np.isnan(mean_interval(np.array(values))).all()
