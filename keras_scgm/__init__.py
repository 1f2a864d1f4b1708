"""Spinal cord gray matter segmentation with deep dilated convolutions (Perone et al. 2017)."""

from keras_scgm.errors import InputError
from keras_scgm.models import DilatedGMNet, UNet
from keras_scgm.pretrained import list_weights
from keras_scgm.segmentation import Segmentation, SegmentationSettings, Segmenter, segment

__all__ = [
    "DilatedGMNet",
    "InputError",
    "Segmentation",
    "SegmentationSettings",
    "Segmenter",
    "UNet",
    "list_weights",
    "segment",
]
