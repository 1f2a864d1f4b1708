"""Settings of a training, and the presets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import keras
import numpy as np

from keras_scgm import checks
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.calibration import OBJECTIVES
from keras_scgm.errors import InputError
from keras_scgm.json_config import JsonConfig
from keras_scgm.models import BUILDERS, STACK_BUILDERS
from keras_scgm.pretrained import CORD, GRAY_MATTER, known_tissues


@dataclass(frozen=True)
class TrainingConfig(JsonConfig):
    """Settings of a training; together with the data they determine the weights.

    The defaults are the paper's protocol for the challenge (3.4).

    Args:
        architecture: Name of the builder, one of `keras_scgm.models.BUILDERS`.
        model_kwargs: Arguments of the builder, other than those that follow from the tissues.
        tissues: What the network segments, as in `keras_scgm.pretrained.WeightsCard`; one output each.
        initial_weights: Name or file of the initial weights; None for random ones. Outputs are those of the same
            tissues, if the weights have them; otherwise the output layer is random.
        frozen_layers: Names of layers, or of stages (`keras_scgm.models.stages`), that are not trained.
        spacing_mm: Pixel spacing in the slice, mm, in training and afterwards; None for that of the data, which then
            are not resampled (3.4.3).
        window_px: Pixels along each side of the windows, in training and afterwards. Smaller ones take less time, and
            see less of what a cord can be confused with.
        validation_per_site: Number of validation subjects of each site (3.4.1).
        slice_counts: Numbers of evenly spaced slices of every volume for training, validation and test (3.4.3), in
            place of a split by subject; None splits by subject.
        contour_smoothing_mm: Width of the label smoothing on the contours of the masks (3.4.2), mm; 0 for none.
        epochs: Number of epochs; each ends with a validation and a checkpoint.
        steps_per_epoch: Number of batches per epoch.
        batch_size: Number of slices per batch. Networks of stacks get as many whole stacks as fit in, at least one.
        stack_slices: Number of neighbouring slices of a stack, for networks that read stacks (`DilatedGMNet3D`).
        learning_rate: Initial learning rate of Adam.
        schedule: "poly" as in the paper (equation 4) and "cosine" end at 0; "constant" leaves the rate as it is, or to
            a callback.
        power: Exponent p of the poly schedule.
        rate_per: Unit of the schedule, "epoch" as in the paper or "step".
        early_stopping_patience: Number of epochs in a row without a better validation DSC, or loss without validation,
            after which the training ends; None to train all epochs.
        loss: What `keras.losses.get` takes in place of the Dice loss: a name such as "binary_focal_crossentropy", or
            {"class_name": "BinaryFocalCrossentropy", "config": {"gamma": 3.0}}. It compares probabilities with masks of
            (batch, height, width, tissue).
        cross_entropy_weight: Weight of the cross-entropy added to the Dice loss (equation 3), the only loss of the
            paper.
        ema_momentum: Momentum of the running average of the weights, which is then what is validated and saved;
            0 takes the weights as they are.
        augmentation: Augmentation of the slices; not applied to synthetic slices.
        threshold_objective: Criterion of the threshold that is chosen on the validation volumes at the end, as in
            `keras_scgm.calibration.calibrate`; None keeps 0.5.
        seed: Seed of the split, the weights, the order of the data, the augmentation and the dropout, 0 to 2**32 - 1.
        mixed_precision: Whether to compute in bfloat16, which is faster on GPUs and processors that multiply it, and
            much slower on others. On processors convolutions of stacks stay in float32: their gradients in bfloat16 may
            be wrong in TensorFlow.
        xla: Whether TensorFlow compiles the step with XLA, which is faster on GPUs and slower on processors. On JAX
            the step is always compiled.

    Raises:
        InputError: A field breaks its rule.

    Example:

    >>> config = TrainingConfig(epochs=10, seed=1)
    >>> TrainingConfig.from_json(config.to_json()) == config
    True
    """

    architecture: str = "DilatedGMNet"
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tissues: tuple[str, ...] = (GRAY_MATTER,)
    initial_weights: str | None = None
    frozen_layers: tuple[str, ...] = ()
    spacing_mm: float | None = 0.25
    window_px: int = 200
    validation_per_site: int = 2
    slice_counts: tuple[int, int, int] | None = None
    contour_smoothing_mm: float = 0.0
    epochs: int = 1000
    steps_per_epoch: int = 32
    batch_size: int = 11
    stack_slices: int = 5
    learning_rate: float = 0.001
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: float = 0.9
    rate_per: Literal["epoch", "step"] = "epoch"
    early_stopping_patience: int | None = None
    loss: str | Mapping[str, Any] | None = None
    cross_entropy_weight: float = 0.0
    ema_momentum: float = 0.0
    augmentation: AugmentationConfig = AUGMENTATIONS["paper_challenge"]
    threshold_objective: Literal["dsc", "balance", "area"] | None = "dsc"
    seed: int = 0
    mixed_precision: bool = False
    xla: bool = False

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            architecture=checks.one_of(BUILDERS),
            model_kwargs=_model_kwargs,
            tissues=known_tissues,
            initial_weights=checks.optional(checks.text),
            frozen_layers=checks.several(checks.text, "names of layers"),
            spacing_mm=checks.optional(checks.number(above=0)),
            window_px=checks.integer(1),
            validation_per_site=checks.integer(1),
            slice_counts=checks.optional(_slice_counts),
            contour_smoothing_mm=checks.number(0),
            epochs=checks.integer(1),
            steps_per_epoch=checks.integer(1),
            batch_size=checks.integer(1),
            stack_slices=checks.integer(1),
            learning_rate=checks.number(above=0),
            schedule=checks.one_of(("poly", "cosine", "constant")),
            power=checks.number(above=0),
            rate_per=checks.one_of(("epoch", "step")),
            early_stopping_patience=checks.optional(checks.integer(1)),
            loss=checks.optional(_loss),
            cross_entropy_weight=checks.number(0),
            ema_momentum=checks.number(0, below=1),
            augmentation=checks.instance(AugmentationConfig),
            threshold_objective=checks.optional(checks.one_of(OBJECTIVES)),
            seed=checks.seed,
            mixed_precision=checks.flag,
            xla=checks.flag,
        )
        if self.loss is not None and self.cross_entropy_weight:
            raise InputError(
                f"cross_entropy_weight {self.cross_entropy_weight} is added to the Dice loss alone; "
                f"set it to 0 with the loss {self.loss}"
            )

    @property
    def steps(self) -> int:
        """Batches of the whole training."""
        return self.epochs * self.steps_per_epoch

    @property
    def samples_stacks(self) -> bool:
        """Whether a sample is a stack of neighbouring slices, (slices, height, width, channels), and not a slice."""
        return self.architecture in STACK_BUILDERS

    @property
    def samples_per_batch(self) -> int:
        """Number of slices per batch, or of stacks."""
        return max(1, self.batch_size // self.stack_slices) if self.samples_stacks else self.batch_size


def _slice_counts(name: str, value: Any) -> tuple[int, int, int]:
    wanted = "the numbers of slices for training, at least 1, for validation and for test"
    counts = checks.several(checks.integer(0), wanted, length=3)(name, value)
    return counts if counts[0] else checks.refuse(name, wanted, value)


def _model_kwargs(name: str, value: Any) -> dict[str, Any]:
    """Arguments of a builder, with plain values for JSON and tuples, by which settings compare."""
    items = checks.instance(Mapping, "a mapping of a builder's arguments")(name, value).items()
    return {checks.text(f"a name in {name}", key): _plain(item) for key, item in items}


def _loss(name: str, value: Any) -> str | dict[str, Any]:
    """What `keras.losses.get` takes, if it can tell a mask from its opposite."""
    wanted = "the name or the configuration of a loss in keras.losses that compares probabilities with masks"
    if isinstance(value, Mapping):
        value = {key: _plain(item) for key, item in value.items()}
    elif not isinstance(value, str):
        checks.refuse(name, wanted, value)
    mask = np.zeros((1, 2, 2, 1), np.float32)
    mask[0, 0] = 1
    try:
        # Keras removes what it reads from a configuration.
        loss = keras.losses.get(deepcopy(value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            right, wrong = (float(keras.ops.mean(loss(mask, predicted))) for predicted in (mask, 1 - mask))
    # Each loss refuses shapes and settings in its own way.
    except Exception:
        checks.refuse(name, wanted, value)
    return value if right < wrong else checks.refuse(name, wanted, value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


PRESETS: Mapping[str, TrainingConfig] = MappingProxyType(
    {
        "challenge": TrainingConfig(),
        "exvivo": TrainingConfig(
            spacing_mm=None,
            slice_counts=(15, 7, 8),
            epochs=600,
            augmentation=AUGMENTATIONS["paper_exvivo"],
        ),
        "quick": TrainingConfig(
            model_kwargs={"dropout": 0.0, "batch_norm_momentum": 0.95},
            window_px=128,
            epochs=4,
            steps_per_epoch=400,
            batch_size=4,
            learning_rate=0.003,
            rate_per="step",
            cross_entropy_weight=10.0,
            ema_momentum=0.97,
            augmentation=AugmentationConfig(
                rotation_degrees=8.0,
                shift_px=10.0,
                scaling=0.12,
                flip_left_right=0.5,
                elastic_px=2.0,
                elastic_smoothness_px=14.0,
                elastic_probability=0.5,
                channel_shift=0.1,
                noise=0.08,
                bias_field=0.2,
                gamma=0.2,
                contrast=0.15,
                blur_px=0.8,
                low_resolution=2.0,
                intensity_probability=0.4,
            ),
        ),
        "synthetic": TrainingConfig(
            tissues=(GRAY_MATTER, CORD),
            model_kwargs={"dropout": 0.0, "batch_norm_momentum": 0.99},
            epochs=24,
            steps_per_epoch=100,
            batch_size=4,
            learning_rate=0.003,
            rate_per="step",
            cross_entropy_weight=10.0,
            ema_momentum=0.99,
            augmentation=AUGMENTATIONS["none"],
            threshold_objective=None,
            seed=20171,
        ),
    }
)
"""Settings by name.

"challenge" and "exvivo" are the paper's two protocols (3.4.1 to 3.4.3). "quick" shows in 20 minutes on one CPU core
whether data can be learned from. "synthetic" learns from synthetic slices, which never repeat: it needs neither
augmentation nor dropout. Its batch normalization averages longer than the paper's, whose moving statistics follow
the last batch.
"""
