"""Searches for better settings of a training, at random as in the paper (3.4.1) or guided by earlier trials.

A trial is one `keras_scgm.training.train`, or the fit of a network of the user, scored by the Dice coefficient of whole
validation volumes. `config` holds the strategy and the ranges, `spaces` turns ranges into a search space, `search` is
the entry, `trial_setup` holds what all trials share, `tuners` has KerasTuner propose, distribute and run them, `record`
keeps the files and says how the search goes on, and `results` holds what was found.
"""

from keras_scgm.tuning.config import (
    AUGMENTATION_RANGES,
    OPTIONAL_RANGES,
    STRATEGIES,
    SearchConfig,
    TuningConfig,
)
from keras_scgm.tuning.results import Trial, TuningResult
from keras_scgm.tuning.search import tune

__all__ = [
    "AUGMENTATION_RANGES",
    "OPTIONAL_RANGES",
    "STRATEGIES",
    "SearchConfig",
    "Trial",
    "TuningConfig",
    "TuningResult",
    "tune",
]
