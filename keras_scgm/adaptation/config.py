"""Settings of an adaptation and of its guard."""

from __future__ import annotations

from dataclasses import dataclass

from keras_scgm import checks
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.errors import InputError
from keras_scgm.json_config import JsonConfig

STUDENT = AugmentationConfig(
    rotation_degrees=10.0,
    shift_px=4.0,
    scaling=0.1,
    flip_left_right=0.5,
    elastic_px=1.0,
    elastic_smoothness_px=10.0,
    elastic_probability=0.5,
    channel_shift=0.15,
    noise=0.5,
    bias_field=0.2,
    gamma=0.5,
    contrast=0.25,
    intensity_probability=0.8,
    mask_interpolation="linear",
)
"""Changes of the images that the student sees. The teacher sees them unchanged."""


@dataclass(frozen=True)
class AdaptationConfig(JsonConfig):
    """Settings of an adaptation; together with the images and the first weights they determine the result.

    Args:
        epochs: Number of epochs; each ends with a checkpoint.
        steps_per_epoch: Number of batches per epoch.
        synthetic_slices: Number of synthetic slices in a batch, which keep the network from forgetting.
        real_slices: Number of slices without labels in a batch.
        labelled_slices: Number of labelled slices in a batch, if there are any.
        window_px: Pixels along each side of the windows around the cord that a step sees. Segmentation keeps the
            windows of the weights.
        learning_rate: Initial learning rate of Adam; it falls to 0 (paper equation 4).
        ema_momentum: Momentum of the teacher, the running average of the student's weights (Tarvainen and Valpola
            2017, equation 1).
        consistency_weight: Weight of the consistency loss after the ramp-up; 0 leaves it out.
        temperature: Divisor of the logits of the teacher's probabilities: 1 leaves them as they are, less moves them to
            0 and 1 (Berthelot et al. 2019, arXiv 1905.02249, equation 7), so that a student who is unsure in changed
            images does not make the teacher unsure.
        ramp_up: Part of the steps in which that weight rises from near 0 (same source, section 3).
        labelled_weight: Weight of the loss on labelled slices beside that on synthetic ones.
        augmentation: Changes of the real slices that the student sees, and of labelled ones; synthetic slices have
            its changes of intensity.
        statistics_share: Share of the unlabelled images in the statistics of batch normalization: 0 keeps those of the
            weights, 1 replaces them.
        statistics_only: Whether nothing but these statistics changes.
        held_back: Part of the scans that only the guard sees.
        seed: Seed of the part that is held back, of the batches and of the augmentation, 0 to 2**32 - 1.

    Raises:
        keras_scgm.errors.InputError: A field breaks its rule.

    Example:

    >>> config = AdaptationConfig(epochs=2, seed=1)
    >>> AdaptationConfig.from_json(config.to_json()) == config
    True
    """

    epochs: int = 4
    steps_per_epoch: int = 50
    synthetic_slices: int = 2
    real_slices: int = 3
    labelled_slices: int = 2
    window_px: int = 112
    learning_rate: float = 1e-3
    ema_momentum: float = 0.98
    consistency_weight: float = 3.0
    temperature: float = 0.5
    ramp_up: float = 0.3
    labelled_weight: float = 1.0
    augmentation: AugmentationConfig = STUDENT
    statistics_share: float = 1.0
    statistics_only: bool = False
    held_back: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        count, share = checks.integer(1), checks.number(0, 1)
        checks.check_fields(
            self,
            **dict.fromkeys(
                ("epochs", "steps_per_epoch", "synthetic_slices", "real_slices", "labelled_slices"), count
            ),
            window_px=checks.integer(16),
            learning_rate=checks.number(above=0),
            ema_momentum=checks.number(0, below=1),
            consistency_weight=checks.number(0),
            temperature=checks.number(above=0),
            ramp_up=share,
            labelled_weight=checks.number(0),
            augmentation=checks.instance(AugmentationConfig),
            statistics_share=share,
            statistics_only=checks.flag,
            held_back=checks.number(0, below=1),
            seed=checks.seed,
        )
        if self.statistics_only and not self.statistics_share:
            raise InputError(
                "statistics_only with a statistics_share of 0 changes nothing; choose a share above 0"
            )

    @property
    def steps(self) -> int:
        """Batches of the whole adaptation."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class GuardConfig(JsonConfig):
    """What an adapted network must fulfil before it is accepted.

    Args:
        predicted_drop: Largest fall of the mean predicted Dice coefficient of the scans that were held back.
        scan_drop: Largest fall of that of a single scan.
        least_agreement: Lowest mean Dice coefficient of the masks before and after; that predicted for the masks
            before, if it is lower, since poor masks need not be agreed with.
        cov_rise: Largest rise of the coefficient of variation between scan and rescan, percentage points.
        synthetic_drop: Largest fall of the mean Dice coefficient on synthetic subjects.
        required_gain: Rise of the mean predicted Dice coefficient without which nothing is accepted; 0 accepts a
            network that is as good.
        synthetic_subjects: Number of synthetic subjects, from the sites of the challenge in turn.

    Raises:
        keras_scgm.errors.InputError: A field breaks its rule.
    """

    predicted_drop: float = 0.005
    scan_drop: float = 0.02
    least_agreement: float = 0.85
    cov_rise: float = 0.2
    synthetic_drop: float = 0.01
    required_gain: float = 0.005
    synthetic_subjects: int = 4

    def __post_init__(self) -> None:
        share = checks.number(0, 1)
        checks.check_fields(
            self,
            **dict.fromkeys(
                ("predicted_drop", "scan_drop", "least_agreement", "synthetic_drop", "required_gain"), share
            ),
            cov_rise=checks.number(0),
            synthetic_subjects=checks.integer(1),
        )
