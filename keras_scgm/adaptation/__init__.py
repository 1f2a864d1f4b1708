"""Adaptation of weights to the scanner of unlabelled images, with a guard that refuses what is not better.

`config` holds the settings, `scans` the images as slices, `batches` serves them, `mean_teacher` is the training step
and `normalization` moves the statistics of batch normalization. `guard` judges, `report` shows what changed,
`suggestions` ranks slices to label, and `adapting` runs them all.
"""

from keras_scgm.adaptation.adapting import AdaptationResult, adapt
from keras_scgm.adaptation.config import AdaptationConfig, GuardConfig
from keras_scgm.adaptation.guard import Check, Compared, Judgement, compare
from keras_scgm.adaptation.scans import Scans, find_scans
from keras_scgm.adaptation.suggestions import Suggestion, suggest_slices

__all__ = [
    "AdaptationConfig",
    "AdaptationResult",
    "Check",
    "Compared",
    "GuardConfig",
    "Judgement",
    "Scans",
    "Suggestion",
    "adapt",
    "compare",
    "find_scans",
    "suggest_slices",
]
