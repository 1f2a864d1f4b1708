"""Random deformations and intensity changes of slices and their masks.

`config` holds the settings and presets, `transforms` draws the parameters of each sample once and applies them,
from the random numbers of `counters`. On top of them `pipeline` serves training and `preview` the eye.
"""

from keras_scgm.augmentation.config import PRESETS, AugmentationConfig
from keras_scgm.augmentation.pipeline import AugmentationLayer, augment, augment_batch
from keras_scgm.augmentation.preview import preview
from keras_scgm.augmentation.transforms import (
    Parameters,
    apply_geometric,
    apply_intensity,
    sample_parameters,
)

__all__ = [
    "PRESETS",
    "AugmentationConfig",
    "AugmentationLayer",
    "Parameters",
    "apply_geometric",
    "apply_intensity",
    "augment",
    "augment_batch",
    "preview",
    "sample_parameters",
]
