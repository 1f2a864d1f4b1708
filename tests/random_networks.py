"""Networks with random weights, and slices for them."""

import keras
import numpy as np


def randomize(model, seed=0):
    """Random weights and moving statistics, so that no normalization is the identity."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


def slices_of(*size, channels=1, batch=2):
    """Noise, float32 (batch, *size, channels)."""
    return np.random.default_rng(1).normal(size=(batch, *size, channels)).astype("float32")
