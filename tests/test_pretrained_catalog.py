"""Which weights are known by name, and where their files are looked for."""

import pytest

from keras_scgm.errors import InputError
from keras_scgm.pretrained import (
    cache_folder,
    catalog,
    list_weights,
    weights_card,
    weights_folder,
)


def test_every_card_is_in_its_own_file():
    for path in weights_folder().glob("*.json"):
        assert weights_card(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"tiny\.json: WeightsCard is not JSON: Expecting property name"),
        ("[" * 100_000, r"tiny\.json: .*recursion"),
    ],
)
def test_damaged_card_names_its_file(tiny_card, tmp_path, text, message):
    (tmp_path / "package" / "tiny.json").write_text(text)
    with pytest.raises(InputError, match=message):
        list_weights()


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]"])
def test_a_file_beside_weights_that_is_no_card_is_left_alone(tmp_path, text):
    (tmp_path / "own.json").write_text(text)
    assert catalog.find_card(tmp_path / "own.weights.h5") is None


def test_cards_come_from_the_package_or_the_checkout(tmp_path, monkeypatch):
    module = tmp_path / "keras_scgm" / "pretrained" / "catalog.py"
    monkeypatch.setattr(catalog, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match="no weights folder"):
        weights_folder()
    (tmp_path / "weights").mkdir()
    assert weights_folder() == tmp_path / "weights"
    (tmp_path / "keras_scgm" / "weights").mkdir(parents=True)
    assert weights_folder() == tmp_path / "keras_scgm" / "weights"


def test_default_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_SCGM_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".keras" / "keras_scgm"
