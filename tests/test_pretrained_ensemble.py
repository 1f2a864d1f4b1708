"""The card of an ensemble: its files are found and verified."""

import hashlib
from pathlib import Path

import pytest

from keras_scgm.errors import InputError
from keras_scgm.pretrained import EnsembleCard, WeightsCard, ensemble_members, resolve_weights


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A card beside the folders of two files, with the bytes b"1" and b"2"."""
    members = {}
    for number in (b"1", b"2"):
        place = f"fold{number.decode()}/best.weights.h5"
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_bytes(number)
        members[place] = hashlib.sha256(number).hexdigest()
    path = tmp_path / "ensemble.json"
    path.write_text(EnsembleCard("both", members).to_json())
    return path


def test_members_are_files_below_the_card(card: Path) -> None:
    files = [card.parent / f"fold{number}" / "best.weights.h5" for number in (1, 2)]
    assert ensemble_members(card) == ensemble_members(str(card)) == files
    assert EnsembleCard.from_json(card.read_text()).to_json() == card.read_text()


@pytest.mark.parametrize("weights", ["synthetic", "a.weights.h5", Path("a.keras"), object()])
def test_other_weights_are_their_only_member(weights: object) -> None:
    assert ensemble_members(weights) == [weights]


def test_files_are_verified(card: Path) -> None:
    second = card.parent / "fold2" / "best.weights.h5"
    second.write_bytes(b"3")
    sha256 = hashlib.sha256(b"2").hexdigest()
    with pytest.raises(
        InputError, match=f"{second} is not the file of the ensemble, its sha256 is not {sha256}"
    ):
        ensemble_members(card)
    second.unlink()
    with pytest.raises(InputError, match=f"{second} of the ensemble is missing"):
        ensemble_members(card)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "ensemble.json: Expecting property name"),
        ("[" * 100_000, "ensemble.json: maximum recursion depth exceeded"),
        ("[]", "ensemble.json: EnsembleCard must be a JSON object, received list"),
        ('{"name": "e"}', "ensemble.json: EnsembleCard lacks members"),
        ('{"name": "e", "members": {}}', "ensemble.json: members must be relative paths of files ending in"),
        (
            WeightsCard("w", "UNet", {}, "w.weights.h5", "0" * 64).to_json(),
            "ensemble.json: the card of one weights file; give that file, w.weights.h5, as weights",
        ),
    ],
)
def test_what_is_no_card_of_an_ensemble_is_refused(card: Path, text: str, message: str) -> None:
    card.write_text(text)
    with pytest.raises(InputError, match=message):
        ensemble_members(card)
    with pytest.raises(InputError, match=r"nowhere.json: no such card of an ensemble"):
        ensemble_members("nowhere.json")


def test_one_network_cannot_be_an_ensemble(card: Path) -> None:
    for weights in (card, str(card)):
        with pytest.raises(
            InputError, match=r"ensemble.json: a card, where one network is needed; give a weights file"
        ):
            resolve_weights(weights)
