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


@pytest.mark.parametrize("text", ["[]", '{"loss": 0.1}'])
def test_a_file_beside_weights_that_is_no_card_is_left_alone(tmp_path, text):
    (tmp_path / "own.json").write_text(text)
    assert catalog.find_card(tmp_path / "own.weights.h5") is None


CARD = '{"name": "own", "architecture": "UNet", "licence": "Universit\xe9"}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CARD.encode("utf-16"), r"own\.json: not a text in UTF-8; save it as UTF-8$"),
        (CARD.encode("cp1252"), r"own\.json: not a text in UTF-8; save it as UTF-8$"),
        (CARD[:-1].encode(), r"own\.json: .* is not JSON: Expecting .*; mend the card, or move it away$"),
        (b"[" * 100_000, r"own\.json: .*recursion.*; mend the card, or move it away$"),
    ],
)
def test_a_card_beside_weights_that_cannot_be_read_is_refused(tmp_path, content, message):
    (tmp_path / "own.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        catalog.find_card(tmp_path / "own.weights.h5")


def test_cards_come_from_the_package_or_the_checkout(tmp_path, monkeypatch):
    module = tmp_path / "keras_scgm" / "pretrained" / "catalog.py"
    monkeypatch.setattr(catalog, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match="no weights folder"):
        weights_folder()
    (tmp_path / "weights").mkdir()
    assert weights_folder() == tmp_path / "weights"
    (tmp_path / "keras_scgm" / "weights").mkdir(parents=True)
    assert weights_folder() == tmp_path / "keras_scgm" / "weights"


@pytest.mark.parametrize(("home", "place"), [("", "~/.keras/keras_scgm"), ("~no-such-user", "~no-such-user")])
@pytest.mark.parametrize("command", [["weights"], ["segment", "image.nii", "-w", "challenge"]])
def test_a_home_folder_that_is_not_known_is_one_line(run, monkeypatch, tmp_path, command, home, place):
    def nobody(_):
        raise KeyError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.nii").touch()
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setenv("KERAS_SCGM_HOME", home)
    message = f"{place}: there is no such home folder; set KERAS_SCGM_HOME to a folder for downloaded weights"
    assert run(*command) == (2, "", f"error: {message}\n")


def test_default_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_SCGM_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".keras" / "keras_scgm"
