"""Spinal cord gray matter segmentation with deep dilated convolutions (Perone et al. 2017)."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# The command imports what its verb needs, which may do without Keras. Everyone else gets the public names at
# once, and with them the registration of every Keras object.
if TYPE_CHECKING or "keras_scgm_cli" not in sys.modules:
    from keras_scgm.augmentation import AugmentationLayer, AugmentationSpec, augment
    from keras_scgm.callbacks import PolyLearningRate, StopOnDeadNetwork
    from keras_scgm.errors import InputError
    from keras_scgm.evaluation import evaluate
    from keras_scgm.losses import DiceCrossEntropyLoss, DiceLoss
    from keras_scgm.metrics import HardDice, SoftDice
    from keras_scgm.models import DilatedGMNet, UNet
    from keras_scgm.pretrained import list_weights
    from keras_scgm.segmentation import Segmentation, SegmentationSettings, Segmenter, segment

if TYPE_CHECKING:
    from keras_scgm.serving.export import export_saved_model

__all__ = [
    "AugmentationLayer",
    "AugmentationSpec",
    "DiceCrossEntropyLoss",
    "DiceLoss",
    "DilatedGMNet",
    "HardDice",
    "InputError",
    "PolyLearningRate",
    "Segmentation",
    "SegmentationSettings",
    "Segmenter",
    "SoftDice",
    "StopOnDeadNetwork",
    "UNet",
    "augment",
    "evaluate",
    "export_saved_model",
    "list_weights",
    "segment",
]

_MODULES = [
    "keras_scgm.augmentation",
    "keras_scgm.callbacks",
    "keras_scgm.errors",
    "keras_scgm.evaluation",
    "keras_scgm.losses",
    "keras_scgm.metrics",
    "keras_scgm.models",
    "keras_scgm.pretrained",
    "keras_scgm.segmentation",
    "keras_scgm.serving.export",
]


def __getattr__(name: str) -> Any:
    """A public name that has not been imported yet."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return next(getattr(module, name) for module in map(import_module, _MODULES) if hasattr(module, name))
