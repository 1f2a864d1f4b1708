"""Bootstrap intervals."""

import numpy as np

from keras_scgm.evaluation.summary import bootstrap_interval


def test_bootstrap_interval_covers_the_mean():
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        low, high = bootstrap_interval(rng.normal(3, 1, 30), seed)
        hits += low < 3 < high
    assert 51 <= hits <= 60
    assert np.isnan(bootstrap_interval(np.ones(1))).all()


def test_fewer_than_six_values_give_no_interval():
    assert np.isnan(bootstrap_interval(np.arange(5.0))).all()
    low, high = bootstrap_interval(np.arange(6.0))
    assert 0 < low < 2.5 < high < 5
