"""Search for better augmentation settings, at random as in the paper (3.4.1) or guided by earlier trials.

A trial is one `keras_scgm.training.train`, scored by the Dice coefficient of whole validation volumes. `config` holds
the settings, `search` is the entry, `trainings` translates between trials and trainings, `oracle` has KerasTuner
propose and distribute the trials, and `results` writes what was found.
"""

from keras_scgm.tuning.config import AUGMENTATION_RANGES, OPTIONAL_RANGES, STRATEGIES, TuningConfig
from keras_scgm.tuning.results import Trial, TuningResult
from keras_scgm.tuning.search import tune

__all__ = [
    "AUGMENTATION_RANGES",
    "OPTIONAL_RANGES",
    "STRATEGIES",
    "Trial",
    "TuningConfig",
    "TuningResult",
    "tune",
]
