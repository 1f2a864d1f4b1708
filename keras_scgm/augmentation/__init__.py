"""Random deformations and intensity changes of slices and their masks.

`config` holds the settings and presets; `transforms` chooses the parameters of each sample once, by the random numbers
of `counters`, and applies them; `pipeline` does this in training, and `preview` in a picture.
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
