"""Statistics of batch normalization on other images."""

import keras
import numpy as np
import pytest

from keras_scgm.adaptation.normalization import adapt_statistics, normalize_by_domain, statistics


@pytest.fixture
def network() -> keras.Model:
    slices = keras.Input((None, None, 1))
    layer = keras.layers.BatchNormalization(momentum=0.3, name="norm")
    return keras.Model(slices, layer(slices))


SLICES = np.random.default_rng(0).normal(3, 2, (20, 4, 4, 1)).astype(np.float32)


def test_all_of_the_statistics_are_replaced(network: keras.Model) -> None:
    adapt_statistics(network, SLICES, 1.0)
    # Two batches of ten slices, every second one in each.
    batches = [SLICES[first::2] for first in (0, 1)]
    mean, variance = statistics(network.get_layer("norm"))
    np.testing.assert_allclose(mean, np.mean([part.mean() for part in batches]), rtol=1e-5)
    np.testing.assert_allclose(variance, np.mean([part.var() for part in batches]), rtol=1e-4)
    assert network.get_layer("norm").momentum == 0.3


def test_a_share_lies_between(network: keras.Model) -> None:
    adapt_statistics(network, SLICES, 1.0)
    whole = statistics(network.get_layer("norm"))
    other = keras.models.clone_model(network)
    adapt_statistics(other, SLICES, 0.25)
    for start, part, full in zip((0, 1), statistics(other.get_layer("norm")), whole, strict=True):
        np.testing.assert_allclose(part, 0.75 * start + 0.25 * full, rtol=1e-5)


def test_no_share_changes_nothing(network: keras.Model) -> None:
    adapt_statistics(network, SLICES, 0.0)
    assert statistics(network.get_layer("norm")) == (0.0, 1.0)


def test_slices_of_both_kinds_have_statistics_of_their_own(network: keras.Model) -> None:
    other = keras.models.clone_model(network)
    adapt_statistics(other, SLICES, 1.0)
    for model in (network, other):
        model.get_layer("norm").gamma.assign([2.0])
        model.get_layer("norm").beta.assign([-1.0])
    expected = np.concatenate([network(SLICES[:2]), other(SLICES[2:5])])
    normalize_by_domain(other, [statistics(network.get_layer("norm"))], 2)
    np.testing.assert_allclose(other(SLICES[:5], training=False), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(np.subtract(network(SLICES[2:5]), expected[2:])).max() > 1
