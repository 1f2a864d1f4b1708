"""Training by the paper's protocol (3.4), on annotated or synthetic slices.

`config` holds the settings and presets. `sources` finds the data and `batches` serves it, `network` is the
network as it is trained, `devices` shares its batches among accelerators, `validation` judges it, `checkpoint`
keeps what was reached and `loop` runs them all.
"""

from keras_scgm.training.batches import Batches, SliceBatches, SyntheticBatches
from keras_scgm.training.config import PRESETS, TrainingConfig
from keras_scgm.training.devices import all_devices
from keras_scgm.training.loop import TrainingResult, train
from keras_scgm.training.network import fine_tuned
from keras_scgm.training.sources import annotated_source, synthetic_source

__all__ = [
    "PRESETS",
    "Batches",
    "SliceBatches",
    "SyntheticBatches",
    "TrainingConfig",
    "TrainingResult",
    "all_devices",
    "annotated_source",
    "fine_tuned",
    "synthetic_source",
    "train",
]
