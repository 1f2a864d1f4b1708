"""Settings of a search: rules and JSON."""

from typing import Any

import pytest

from keras_scgm.tuning import OPTIONAL_RANGES, TuningConfig


@pytest.mark.parametrize("also", [{}, dict(OPTIONAL_RANGES)])
def test_settings_survives_json(also: dict[str, Any]) -> None:
    config = TuningConfig("bayesian", 7, 3, **also)
    assert TuningConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("strategy", "grid", "strategy must be one of random, hyperband, bayesian, received 'grid'"),
        ("trials", 0, "trials must be an integer of at least 1, received 0"),
        ("seed", -1, r"seed must be an integer from 0 to 2147483647, received -1"),
        (
            "augmentation",
            {},
            "augmentation must name at least one field of AugmentationConfig .* received none",
        ),
        ("augmentation", {"zoom": (0, 1)}, "augmentation must name .* received zoom"),
        (
            "augmentation",
            {"noise": (1, 0)},
            r"noise must be a lower and a higher number .* received \(1, 0\)",
        ),
        ("augmentation", {"flip_left_right": (0, 2)}, "what is not allowed: flip_left_right must be"),
        ("threshold", (0.0, 0.5), "threshold must be a lower and a higher number from 0.001 to 0.999"),
        ("dropout", (0.1,), "dropout must be a lower and a higher number from 0 to 0.99"),
        ("filters", (0,), "filters must be positive integers, received \\(0,\\)"),
        (
            "dilation_rates",
            ((6, "a"),),
            "dilation_rates must be sequences of positive integers, received .*'a'",
        ),
    ],
)
def test_settings_refuses_bad_values(field: str, value: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TuningConfig(**{field: value})


@pytest.mark.parametrize(
    ("text", "rule"), [("[]", "must be a JSON object"), ('{"trial": 3}', "unknown fields .*: trial; known")]
)
def test_settings_refuses_other_json(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TuningConfig.from_json(text)
