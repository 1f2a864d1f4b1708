"""Settings of a search: strategy, number of trials and ranges of the values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from keras_scgm import checks
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.errors import InputError
from keras_scgm.json_config import JsonConfig

Range = tuple[float, float]
"""Lowest and highest value."""

AUGMENTATION_RANGES: Mapping[str, Range] = MappingProxyType(
    {
        "rotation_degrees": (0.0, 30.0),
        "shift_px": (0.0, 24.0),
        "scaling": (0.0, 0.3),
        "flip_left_right": (0.0, 0.5),
        "elastic_px": (0.0, 3.0),
        "elastic_smoothness_px": (6.0, 16.0),
        "channel_shift": (0.0, 0.5),
        "noise": (0.0, 0.3),
        "bias_field": (0.0, 0.5),
        "gamma": (0.0, 0.6),
        "blur_px": (0.0, 2.0),
        "low_resolution": (1.0, 3.0),
    }
)
"""Fields of `AugmentationConfig`: the paper's changes, noise, and those that low image quality makes."""

OPTIONAL_RANGES: Mapping[str, Any] = MappingProxyType(
    {
        "threshold": (0.2, 0.8),
        "dropout": (0.0, 0.5),
        "filters": (16, 32, 64),
        "dilation_rates": ((6, 12, 18), (4, 8, 12, 16), (6, 12, 18, 24), (3, 6, 12, 18, 24)),
    }
)
"""Further ranges that can be searched, by the field of `TuningConfig`; they suit 0.25 mm pixels."""

STRATEGIES = ("random", "hyperband", "bayesian")

_AGAINST = {"elastic_smoothness_px"}
"""Fields whose low values restrict the other fields."""


@dataclass(frozen=True)
class SearchConfig(JsonConfig):
    """Strategy of a search, whatever is searched.

    Args:
        strategy: "random" draws every trial independently, as in the paper. "hyperband" (Li et al. 2018)
            gives most trials a few epochs and only the better ones all; each runs its own learning rate
            schedule to its end. "bayesian" draws a third at random and proposes the others by a Gaussian
            process; it needs scikit-learn.
        trials: Largest number of trials. The first has the defaults of what is searched, as a baseline;
            Hyperband may need fewer.
        seed: Seed of the search, 0 to 2**31 - 1.

    Raises:
        InputError: A field breaks its rule.
    """

    strategy: Literal["random", "hyperband", "bayesian"] = "random"
    trials: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            strategy=checks.one_of(STRATEGIES),
            trials=checks.integer(1),
            seed=checks.integer(0, 2**31 - 1),
        )


@dataclass(frozen=True)
class TuningConfig(SearchConfig):
    """Strategy of a search for better settings of a training, and the ranges of their values.

    The first trial is the given training.

    Args:
        strategy: As in `SearchConfig`.
        trials: As in `SearchConfig`.
        seed: As in `SearchConfig`.
        augmentation: Range of each searched field of `AugmentationConfig`; the others stay as given.
        threshold: Range of the probability above which a voxel is gray matter; None searches none.
        dropout: Range of the builder's argument; None keeps it.
        filters: Candidates for the builder's argument, besides the given one; none keeps it.
        dilation_rates: Likewise, for `DilatedGMNet`.

    Raises:
        InputError: A field breaks its rule.

    Example:

    >>> config = TuningConfig(trials=10, augmentation={"rotation_degrees": (0.0, 20.0)}, filters=(16, 32))
    >>> TuningConfig.from_json(config.to_json()) == config
    True
    """

    augmentation: Mapping[str, Range] = field(default_factory=lambda: dict(AUGMENTATION_RANGES))
    threshold: Range | None = None
    dropout: Range | None = None
    filters: tuple[int, ...] = ()
    dilation_rates: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_fields(
            self,
            augmentation=checks.instance(Mapping, "ranges of fields of AugmentationConfig"),
            filters=checks.several(checks.integer(1), "positive integers"),
            dilation_rates=checks.several(
                checks.several(checks.integer(1), "positive integers"), "sequences of positive integers"
            ),
        )
        known = {item.name for item in fields(AugmentationConfig)} - {"mask_interpolation"}
        if not self.augmentation or not set(self.augmentation) <= known:
            raise InputError(
                "augmentation must name at least one field of AugmentationConfig and no other, "
                f"received {', '.join(map(str, self.augmentation)) or 'none'}"
            )
        ranges = {name: _range(name, ends, 0.0, math.inf) for name, ends in self.augmentation.items()}
        object.__setattr__(self, "augmentation", ranges)
        self.check_augmentation(replace(AugmentationConfig(), elastic_smoothness_px=1e6))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", _range("threshold", self.threshold, 0.001, 0.999))
        if self.dropout is not None:
            object.__setattr__(self, "dropout", _range("dropout", self.dropout, 0.0, 0.99))

    def check_augmentation(self, given: AugmentationConfig) -> None:
        """Checks the ends of the ranges, with the given values of all other fields.

        Raises:
            InputError: A trial could break a rule of `AugmentationConfig`.
        """
        for end in (0, 1):
            corner: dict[str, Any] = {
                name: ends[1 - end if name in _AGAINST else end] for name, ends in self.augmentation.items()
            }
            try:
                replace(given, **corner)
            except InputError as error:
                raise InputError(f"augmentation: a trial could draw what is not allowed: {error}") from error


def _range(name: str, ends: Any, low: float, high: float) -> Range:
    first, last = checks.interval(low, high)(name, ends)
    if first == last:
        raise InputError(f"{name} must be two different numbers, received {ends!r}")
    return first, last
