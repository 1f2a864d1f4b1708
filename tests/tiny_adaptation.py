"""Settings of an adaptation of seconds, for tests."""

from dataclasses import replace

from keras_scgm.adaptation import AdaptationConfig, GuardConfig
from keras_scgm.augmentation import AugmentationConfig

TINY = AdaptationConfig(
    epochs=2,
    steps_per_epoch=2,
    synthetic_slices=1,
    real_slices=2,
    labelled_slices=1,
    window_px=32,
    learning_rate=1e-4,
    augmentation=AugmentationConfig(flip_left_right=0.5, noise=0.2, mask_interpolation="linear"),
)
LENIENT = GuardConfig(
    predicted_drop=1.0,
    scan_drop=1.0,
    least_agreement=0.0,
    cov_rise=1e6,
    synthetic_drop=1.0,
    required_gain=0.0,
    synthetic_subjects=1,
)
STRICT = replace(LENIENT, required_gain=1.0)
