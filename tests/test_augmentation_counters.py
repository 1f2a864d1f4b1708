"""Random numbers of the augmentation."""

import math

import numpy as np
import pytest
from keras import ops

from keras_scgm.augmentation.counters import normal, sample_keys, uniform


def test_random_numbers_are_uniform_normal_and_uncorrelated():
    keys = sample_keys(0, 0, 64)
    flat = ops.convert_to_numpy(uniform(keys, "a", (4096,)))
    counts, _ = np.histogram(flat, bins=256, range=(0, 1))
    expected = flat.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 5 * math.sqrt(2 * 255)
    assert flat.min() >= 0
    assert flat.max() < 1
    bell = ops.convert_to_numpy(normal(keys, "b", (4095,)))
    assert bell.shape == (64, 4095)
    assert np.mean(bell) == pytest.approx(0, abs=0.01)
    assert np.var(bell) == pytest.approx(1, abs=0.02)
    assert np.mean(bell**4) == pytest.approx(3, abs=0.1)
    for lag in (1, 2, 64):
        assert abs(np.corrcoef(bell[:, lag:].ravel(), bell[:, :-lag].ravel())[0, 1]) < 0.01
    between = np.corrcoef(bell) - np.eye(64)
    assert np.abs(between).max() < 5 / math.sqrt(4095)
