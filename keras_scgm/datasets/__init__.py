"""Data sets of images and masks: finding, checking and splitting them, and loading their slices."""

from keras_scgm.datasets.annotated_volume import AnnotatedVolume, annotated_volumes
from keras_scgm.datasets.bids import find_bids
from keras_scgm.datasets.folds import held_out, site_folds, subject_folds
from keras_scgm.datasets.header_checks import check_volumes
from keras_scgm.datasets.labelled_slices import LabelledPart, labelled_part
from keras_scgm.datasets.layouts import find_dataset
from keras_scgm.datasets.raters import RATER_MODES, smooth_contour
from keras_scgm.datasets.scgm_challenge import find_challenge
from keras_scgm.datasets.slice_loading import (
    AnnotatedSlices,
    check_slices,
    load_slices,
    native_spacing_mm,
)
from keras_scgm.datasets.splits import SliceSplit, Split, evenly_spaced_split, paper_split, split_slices

__all__ = [
    "RATER_MODES",
    "AnnotatedSlices",
    "AnnotatedVolume",
    "LabelledPart",
    "SliceSplit",
    "Split",
    "annotated_volumes",
    "check_slices",
    "check_volumes",
    "evenly_spaced_split",
    "find_bids",
    "find_challenge",
    "find_dataset",
    "held_out",
    "labelled_part",
    "load_slices",
    "native_spacing_mm",
    "paper_split",
    "site_folds",
    "smooth_contour",
    "split_slices",
    "subject_folds",
]
