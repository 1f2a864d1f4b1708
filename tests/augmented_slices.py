"""Slices and masks for tests of the augmentation."""

import numpy as np
from keras import ops

from keras_scgm.augmentation import (
    apply_geometric,
    sample_parameters,
)

SIZE = (40, 48)


def slices_of(*size, count=3, channels=1):
    return np.random.default_rng(0).normal(size=(count, *size, channels)).astype("float32")


def hard_masks(*size, count=3):
    return (slices_of(*size, count=count) > 0.5).astype("float32")


def moved(images, masks, parameters, *interpolations):
    return [
        ops.convert_to_numpy(each) for each in apply_geometric(images, masks, parameters, *interpolations)
    ]


def parameters_of(config, images, seed=1, step=0):
    return sample_parameters(config, images.shape, seed, step)
