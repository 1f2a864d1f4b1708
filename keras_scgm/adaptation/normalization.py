"""Statistics of batch normalization on images of another scanner."""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import keras
import numpy as np

BATCH = 8
"""Slices whose statistics are measured together."""


def adapt_statistics(network: keras.Model, slices: np.ndarray, share: float) -> None:
    """Moves the means and variances of batch normalization towards those of unlabelled slices; no weight is trained.

    Args:
        network: The network, which is changed in place.
        slices: Slices without labels, float32 (slice, height, width, 1), as the network takes them in segmentation.
        share: Share of the new statistics, from 0 (nothing changes) to 1.
    """
    layers = normalization_layers(network)
    if not share or not layers:
        return
    before = [statistics(layer) for layer in layers]
    momenta = [layer.momentum for layer in layers]
    # Consecutive slices are of one scan: batches take theirs from all over.
    n_batches = max(1, round(len(slices) / BATCH))
    try:
        for number in range(n_batches):
            for layer in layers:
                # The mean over all batches so far.
                layer.momentum = number / (number + 1)
            network(slices[number::n_batches], training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    for layer, old in zip(layers, before, strict=True):
        for variable, was, now in zip(
            (layer.moving_mean, layer.moving_variance), old, statistics(layer), strict=True
        ):
            variable.assign((1 - share) * was + share * now)


def normalization_layers(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The layers of batch normalization, in their order."""
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]


def normalize_by_domain(
    network: keras.Model, first: Sequence[tuple[np.ndarray, np.ndarray]], count: int
) -> None:
    """Makes batch normalization use other statistics for the first slices of a batch than for the rest.

    Weights are shared between both kinds of slices, as in domain-specific batch normalization (Chang et al. 2019, arXiv
    1906.03950), here without training the affine parameters apart. With one set of statistics for both, learning from
    the one kind would undo what the statistics of the other brought.

    Args:
        network: The network, which is changed in place; its own statistics are those of the rest.
        first: Means and variances, (channel,) each, for every layer of `normalization_layers`.
        count: Number of the first slices.
    """
    for layer, (mean, variance) in zip(normalization_layers(network), first, strict=True):
        layer.call = MethodType(_domain_normalization(mean, variance, count), layer)


def _domain_normalization(first_mean: np.ndarray, first_variance: np.ndarray, count: int) -> Any:
    def call(
        layer: keras.layers.BatchNormalization, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        ops = keras.ops
        is_first = ops.reshape(ops.cast(ops.arange(ops.shape(inputs)[0]) < count, "float32"), (-1, 1, 1, 1))
        mean = is_first * first_mean + (1 - is_first) * layer.moving_mean
        variance = is_first * first_variance + (1 - is_first) * layer.moving_variance
        scale = layer.gamma * ops.rsqrt(variance + layer.epsilon)
        result = ops.cast(inputs, "float32") * scale + (layer.beta - mean * scale)
        return ops.cast(result, layer.compute_dtype)

    return call


def statistics(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """The moving mean and variance of a layer, (channel,) each."""
    mean, variance = map(keras.ops.convert_to_numpy, (layer.moving_mean, layer.moving_variance))
    return mean.copy(), variance.copy()
