"""From an image to its gray matter and cord, and how far the result can be trusted."""

from keras_scgm.segmentation.config import SegmentationConfig
from keras_scgm.segmentation.result import Segmentation
from keras_scgm.segmentation.segmenter import Progress, Segmenter, segment

__all__ = ["Progress", "Segmentation", "SegmentationConfig", "Segmenter", "segment"]
