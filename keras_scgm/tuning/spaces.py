"""What a search varies: the settings of a training, or a network, by the hyperparameters of KerasTuner."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from keras_scgm.errors import InputError
from keras_scgm.models import BUILDERS
from keras_scgm.pretrained import WeightsCard
from keras_scgm.training import TrainingConfig
from keras_scgm.tuning.config import TuningConfig

Space: TypeAlias = Callable[[Any, TrainingConfig], TrainingConfig]
"""From `keras_tuner.HyperParameters` and the given training to the settings of a trial."""

THRESHOLD = "threshold"


def space_of(tuning: TuningConfig) -> Space:
    """The ranges of a `TuningConfig` as a search space, whose defaults are the values of the given training."""

    def space(hp: Any, training: TrainingConfig) -> TrainingConfig:
        searched = {
            name: hp.Float(name, *ends, default=getattr(training.augmentation, name))
            for name, ends in tuning.augmentation.items()
        }
        if tuning.threshold is not None:
            hp.Float(THRESHOLD, *tuning.threshold, default=_default(WeightsCard, THRESHOLD))
        model_kwargs = dict(training.model_kwargs)
        if tuning.dropout is not None:
            model_kwargs["dropout"] = hp.Float(
                "dropout", *tuning.dropout, default=_argument(training, "dropout")
            )
        if tuning.filters:
            given = _argument(training, "filters")
            model_kwargs["filters"] = hp.Choice("filters", sorted({*tuning.filters, given}), default=given)
        if tuning.dilation_rates:
            # KerasTuner chooses among texts and numbers only.
            given, *others = map(_as_text, [_argument(training, "dilation_rates"), *tuning.dilation_rates])
            text = hp.Choice("dilation_rates", list(dict.fromkeys([given, *others])), default=given)
            model_kwargs["dilation_rates"] = tuple(map(int, text.split("-")))
        return replace(
            training, model_kwargs=model_kwargs, augmentation=replace(training.augmentation, **searched)
        )

    return space


def takes_training(function: Any) -> bool:
    """Whether a function is a `Space`, of (hp, training), rather than one of (hp) that builds a network.

    Raises:
        InputError: It is neither.
    """
    wanted = (
        "hypermodel must be a keras_tuner.HyperModel, a function of (hp) that returns a Keras model, or one of "
        f"(hp, training) that returns a TrainingConfig, received {function!r}"
    )
    if not callable(function):
        raise InputError(wanted)
    signature = inspect.signature(function)
    for count in (2, 1):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        return count == 2
    raise InputError(wanted)


def round_values(hyperparameters: Any) -> None:
    """Rounds to four digits, which survive the single precision in which KerasTuner sends numbers to workers."""
    for name, value in hyperparameters.values.items():
        hyperparameters.values[name] = rounded(value)


def rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _argument(training: TrainingConfig, name: str) -> Any:
    """An argument of the given training's builder."""
    return training.model_kwargs.get(name, _default(BUILDERS[training.architecture], name))


def _as_text(rates: Sequence[int]) -> str:
    return "-".join(map(str, rates))


def _default(function: Any, name: str) -> Any:
    return inspect.signature(function).parameters[name].default
