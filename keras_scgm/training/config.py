"""Settings of a training, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np

from keras_scgm import checks
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.json_config import JsonConfig
from keras_scgm.models import BUILDERS
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
        window_px: Pixels of 0.25 mm along each side of the windows, in training and afterwards; the paper has
            200. Smaller ones take less time, and see less of what a cord can be confused with.
        epochs: Number of epochs; each ends with a validation and a checkpoint.
        steps_per_epoch: Number of batches per epoch.
        batch_size: Number of slices per batch.
        learning_rate: Initial learning rate of Adam.
        power: Exponent p of the poly schedule (equation 4).
        rate_per: Unit of the schedule, "epoch" as in the paper or "step".
        cross_entropy_weight: Weight of the cross-entropy added to the Dice loss (equation 3), the only loss of the
            paper.
        ema_momentum: Momentum of the running average of the weights, which is then what is validated and saved;
            0 takes the weights as they are.
        augmentation: Augmentation of the slices; not applied to synthetic slices.
        seed: Seed of the weights, the order of the data, the augmentation and the dropout, 0 to 2**32 - 1.
        mixed_precision: Whether to compute in bfloat16, which is faster on GPUs and processors that multiply it, and
            much slower on others.
        xla: Whether to compile the step with XLA, which is faster on GPUs and slower on CPUs.

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
    window_px: int = 200
    epochs: int = 1000
    steps_per_epoch: int = 32
    batch_size: int = 11
    learning_rate: float = 0.001
    power: float = 0.9
    rate_per: Literal["epoch", "step"] = "epoch"
    cross_entropy_weight: float = 0.0
    ema_momentum: float = 0.0
    augmentation: AugmentationConfig = AUGMENTATIONS["paper_challenge"]
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
            window_px=checks.integer(1),
            epochs=checks.integer(1),
            steps_per_epoch=checks.integer(1),
            batch_size=checks.integer(1),
            learning_rate=checks.number(above=0),
            power=checks.number(above=0),
            rate_per=checks.one_of(("epoch", "step")),
            cross_entropy_weight=checks.number(0),
            ema_momentum=checks.number(0, below=1),
            augmentation=checks.instance(AugmentationConfig, "an AugmentationConfig"),
            seed=checks.seed,
            mixed_precision=checks.flag,
            xla=checks.flag,
        )

    @property
    def steps(self) -> int:
        """Batches of the whole training."""
        return self.epochs * self.steps_per_epoch

    @classmethod
    def from_values(cls, values: Any) -> Self:
        if isinstance(values, dict) and "augmentation" in values:
            values = {**values, "augmentation": AugmentationConfig.from_values(values["augmentation"])}
        return super().from_values(values)


def _model_kwargs(name: str, value: Any) -> dict[str, Any]:
    """Arguments of a builder, with plain values for JSON and tuples, by which settings compare."""
    items = checks.instance(Mapping, "a mapping of a builder's arguments")(name, value).items()
    return {checks.text(f"a name in {name}", key): _plain(item) for key, item in items}


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


PRESETS: Mapping[str, TrainingConfig] = MappingProxyType(
    {
        "challenge": TrainingConfig(),
        "exvivo": TrainingConfig(epochs=600, augmentation=AUGMENTATIONS["paper_exvivo"]),
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
