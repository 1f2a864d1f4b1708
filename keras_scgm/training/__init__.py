"""Training by the paper's protocol (3.4), on annotated or synthetic slices.

`config` holds the settings and presets, `data_config` those of the data. `sources` finds the data and `batches`
serves it, `network` is the network as it is trained, `objective` its loss and learning rate, `devices` shares its
batches among accelerators, `validation` judges it, `checkpoint` keeps what was reached, `progress` shows it and `loop`
runs them all; `folds` runs several trainings.
"""

from keras_scgm.training.batches import Batches, SliceBatches, SyntheticBatches
from keras_scgm.training.config import PRESETS, TrainingConfig
from keras_scgm.training.data_config import DataConfig
from keras_scgm.training.devices import all_devices
from keras_scgm.training.folds import FoldsResult, train_folds
from keras_scgm.training.loop import TrainingResult, train
from keras_scgm.training.network import fine_tuned
from keras_scgm.training.sources import annotated_source, synthetic_source

__all__ = [
    "PRESETS",
    "Batches",
    "DataConfig",
    "FoldsResult",
    "SliceBatches",
    "SyntheticBatches",
    "TrainingConfig",
    "TrainingResult",
    "all_devices",
    "annotated_source",
    "fine_tuned",
    "synthetic_source",
    "train",
    "train_folds",
]
