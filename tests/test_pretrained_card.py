"""The rules of weights cards, and cards as JSON."""

import dataclasses
import json

import pytest

from keras_scgm.errors import InputError
from keras_scgm.pretrained import (
    WeightsCard,
    list_weights,
    weights_card,
)
from keras_scgm.pretrained.card import distinct_names


def test_published_cards():
    assert {"challenge", "large"} <= set(list_weights())
    for name, sha256 in (("challenge", "9b44228a"), ("large", "85823b95")):
        card = weights_card(name)
        assert card.sha256.startswith(sha256)
        assert card.file == f"{name}_model.hdf5"
        assert card.url.startswith("https://raw.githubusercontent.com/")
        assert card.url.endswith(card.file)
        assert (card.threshold, card.paper_threshold) == (0.5, 0.999)
        assert WeightsCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name must be a text, received ''"),
        ({"licence": None}, "licence must be a text, received None"),
        ({"model_kwargs": [32]}, "model_kwargs must be a mapping"),
        ({"file": "folder/a.hdf5"}, "file must be a file name .* without a folder, received 'folder/a.hdf5'"),
        ({"file": "a.pt"}, "file must be a file name ending in .weights.h5"),
        ({"sha256": "ABC"}, "sha256 must be 64 lower-case hexadecimal digits, received 'ABC'"),
        ({"url": "here"}, "url must be a URL, received 'here'"),
        ({"slices": {"spacing_mm": 0.25, "window_px": 200}}, "slices must be a SliceConfig"),
        ({"threshold": 1.5}, "threshold must be a number above 0 and below 1, received 1.5"),
        (
            {"paper_threshold": "high"},
            "paper_threshold must be a number above 0 and below 1, received 'high'",
        ),
        ({"cord_threshold": 0}, "cord_threshold must be a number above 0 and below 1, received 0"),
        ({"tissues": ("cord",)}, r"tissues must be \[gray_matter\] or \[gray_matter, cord\], received"),
        ({"scores": [0.9]}, "scores must be a list of mappings"),
    ],
)
def test_card_rules(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(weights_card("challenge"), **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "WeightsCard must be a JSON object, received list"),
        ('{"name": "a"}', "WeightsCard lacks architecture, model_kwargs, file, sha256"),
        (
            json.dumps(dataclasses.asdict(weights_card("large")) | {"size": 1}),
            "unknown fields of WeightsCard: size; known: name, ",
        ),
        (
            json.dumps(dataclasses.asdict(weights_card("large")) | {"slices": {"spacing_mm": 0}}),
            "spacing_mm must be a number above 0, received 0",
        ),
    ],
)
def test_card_from_wrong_json(text, message):
    with pytest.raises(ValueError, match=message):
        WeightsCard.from_json(text)


def test_weights_that_share_a_file_name_are_told_apart_by_their_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    weights = ["synthetic", "best.weights.h5", "../other/best.weights.h5", "own.keras"]
    assert distinct_names(weights) == ["synthetic", "run/best", "other/best", "own"]
    with pytest.raises(
        InputError, match=r"run/best.weights.h5 and best.weights.h5: one name, run/best; give"
    ):
        distinct_names(["../run/best.weights.h5", "best.weights.h5"])
