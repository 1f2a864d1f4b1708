"""Spinal cord gray matter segmentation with deep dilated convolutions (Perone et al. 2017)."""

from keras_scgm.augmentation import AugmentationLayer, AugmentationSpec, augment
from keras_scgm.callbacks import PolyLearningRate, StopOnDeadNetwork
from keras_scgm.errors import InputError
from keras_scgm.losses import DiceCrossEntropyLoss, DiceLoss
from keras_scgm.metrics import HardDice, SoftDice
from keras_scgm.models import DilatedGMNet, UNet
from keras_scgm.pretrained import list_weights
from keras_scgm.segmentation import Segmentation, SegmentationSettings, Segmenter, segment

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
    "list_weights",
    "segment",
]
