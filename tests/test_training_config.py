"""Settings of a training: presets, rules and JSON."""

from dataclasses import replace
from pathlib import Path

import pytest

from keras_scgm.models import DilatedGMNet
from keras_scgm.training import PRESETS, TrainingConfig


def test_presets_are_the_papers_protocol() -> None:
    challenge, exvivo = PRESETS["challenge"], PRESETS["exvivo"]
    assert (challenge.epochs, challenge.steps_per_epoch, challenge.batch_size) == (1000, 32, 11)
    assert (challenge.learning_rate, challenge.power, challenge.cross_entropy_weight) == (0.001, 0.9, 0)
    assert exvivo.epochs == 600
    network = DilatedGMNet(**challenge.model_kwargs)
    assert network.get_layer("dropout_1").rate == 0.4
    assert network.get_layer("batch_normalization_1").momentum == 0.1


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survives_json(name: str) -> None:
    config = replace(PRESETS[name], frozen_layers=("conv2d_1",), model_kwargs={"dilation_rates": (6, 12)})
    assert TrainingConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("architecture", "ResNet", "architecture must be one of DilatedGMNet, DilatedGMNet3D, UNet"),
        ("epochs", 0, "epochs must be an integer of at least 1, received 0"),
        ("window_px", 0, "window_px must be an integer of at least 1, received 0"),
        ("batch_size", 1.5, "batch_size must be an integer of at least 1, received 1.5"),
        ("learning_rate", -1.0, "learning_rate must be a number above 0, received -1.0"),
        ("rate_per", "day", "rate_per must be one of epoch, step, received 'day'"),
        ("cross_entropy_weight", -1.0, "cross_entropy_weight must be a number of at least 0, received -1.0"),
        ("ema_momentum", 1.0, "ema_momentum must be a number of at least 0 and below 1, received 1.0"),
        ("seed", -1, r"seed must be an integer from 0 to 4294967295, received -1"),
    ],
)
def test_settings_refuses_bad_values(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrainingConfig(**{field: value})


@pytest.mark.parametrize(
    ("text", "rule"), [("[]", "must be a JSON object"), ('{"epoch": 3}', "unknown fields .*: epoch; known")]
)
def test_settings_refuses_other_json(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrainingConfig.from_json(text)


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    """As some editors of Windows put it at the beginning of a file."""
    (tmp_path / "spec.json").write_text(f"\ufeff{PRESETS['quick'].to_json()}", encoding="utf-8")
    assert TrainingConfig.read(tmp_path / "spec.json") == PRESETS["quick"]
