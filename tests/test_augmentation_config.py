"""Settings of the augmentation: presets, rules and JSON."""

import json
import math
from dataclasses import asdict, fields

import pytest

from keras_scgm.augmentation import (
    PRESETS,
    AugmentationConfig,
)


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    assert AugmentationConfig.from_json(PRESETS[name].to_json()) == PRESETS[name]
    assert set(json.loads(PRESETS[name].to_json())) == {field.name for field in fields(AugmentationConfig)}


def test_presets_hold_the_papers_list():
    listed = {"rotation_degrees", "shift_px", "scaling", "flip_left_right", "elastic_px", "channel_shift"}
    shape = {"elastic_smoothness_px", "elastic_probability"}
    for name in ("paper_challenge", "paper_exvivo", "unet_aggressive"):
        changed = {
            key for key, value in asdict(PRESETS[name]).items() if value != getattr(AugmentationConfig(), key)
        }
        assert changed - shape == listed
    assert PRESETS["unet_aggressive"].shift_px > 2 * PRESETS["paper_challenge"].shift_px
    assert PRESETS["none"] == AugmentationConfig()


def test_elastic_of_the_challenge_preset_is_simards_formula():
    alpha, smoothness = 29.0, 3.75
    config = PRESETS["paper_challenge"]
    assert config.elastic_smoothness_px == smoothness
    assert config.elastic_px == pytest.approx(alpha / (2 * smoothness * math.sqrt(3 * math.pi)), abs=0.005)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rotation_degrees": 181.0}, "rotation_degrees must be a number from 0 to 180, received 181.0"),
        ({"shift_px": -1}, "shift_px must be a number of at least 0, received -1"),
        ({"noise": math.nan}, "noise must be a number of at least 0, received nan"),
        ({"gamma": "1"}, "gamma must be a number of at least 0, received '1'"),
        ({"blur_px": True}, "blur_px must be a number of at least 0, received True"),
        ({"low_resolution": 0.5}, "low_resolution must be a number of at least 1, received 0.5"),
        ({"flip_left_right": 1.5}, "flip_left_right must be a number from 0 to 1, received 1.5"),
        (
            {"elastic_px": 4.1},
            "elastic_px must be at most half of elastic_smoothness_px, .* received 4.1 and 8.0",
        ),
        (
            {"mask_interpolation": "cubic"},
            "mask_interpolation must be one of nearest, linear, received 'cubic'",
        ),
    ],
)
def test_settings_errors(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentationConfig(**values)
    if not any(value != value for value in values.values()):
        with pytest.raises(ValueError, match=message):
            AugmentationConfig.from_json(json.dumps(values))


def test_json_errors():
    with pytest.raises(ValueError, match="unknown fields of AugmentationConfig: turn; known: rotation"):
        AugmentationConfig.from_json('{"turn": 3}')
    with pytest.raises(ValueError, match="must be a JSON object, received list"):
        AugmentationConfig.from_json("[]")
    with pytest.raises(ValueError, match="JSON of AugmentationConfig must be a text, received ''"):
        AugmentationConfig.from_json("")
