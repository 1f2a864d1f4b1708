"""Where annotated slices come from."""

from keras_scgm.datasets.annotated_volume import (
    AnnotatedSlices,
    AnnotatedVolume,
    SliceSplit,
    Split,
    annotated_volumes,
    check_volumes,
    evenly_spaced_split,
    load_slices,
)
from keras_scgm.datasets.bids import find_bids
from keras_scgm.datasets.layouts import find_volumes
from keras_scgm.datasets.raters import RATER_MODES, smooth_contour
from keras_scgm.datasets.scgm_challenge import find_challenge, paper_split

__all__ = [
    "RATER_MODES",
    "AnnotatedSlices",
    "AnnotatedVolume",
    "SliceSplit",
    "Split",
    "annotated_volumes",
    "check_volumes",
    "evenly_spaced_split",
    "find_bids",
    "find_challenge",
    "find_volumes",
    "load_slices",
    "paper_split",
    "smooth_contour",
]
