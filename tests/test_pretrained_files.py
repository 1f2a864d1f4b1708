"""Weights files: found, downloaded, verified, and hashed once."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import keras
import pytest

from keras_scgm import segment
from keras_scgm.errors import InputError
from keras_scgm.files import sha256_of
from keras_scgm.models import DilatedGMNet, UNet, load_network
from keras_scgm.pretrained import (
    WeightsCard,
    catalog,
    resolve_weights,
    weights_card,
    weights_folder,
    weights_status,
)

CONTENT = b"the weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_published_hashes(reference):
    for name in ("challenge", "large"):
        card = weights_card(name)
        assert sha256_of(reference / "weights" / card.file) == card.sha256


def test_download_once_then_cached(tiny_card, weights_home, tmp_path, monkeypatch):
    assert weights_status(tiny_card) == "download"
    assert resolve_weights("tiny") == (weights_home / tiny_card.file, tiny_card)
    assert weights_status(tiny_card) == "cached"
    assert [path.name for path in weights_home.iterdir()] == [tiny_card.file]

    shutil.rmtree(tmp_path / "server")
    assert resolve_weights("tiny") == (weights_home / tiny_card.file, tiny_card)


CONTENT = b"the weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_bundled_file_comes_first(tiny_card, weights_home, tmp_path):
    (tmp_path / "package" / tiny_card.file).write_bytes(CONTENT)
    assert weights_status(tiny_card) == "bundled"
    assert resolve_weights("tiny")[0] == tmp_path / "package" / tiny_card.file
    assert not weights_home.exists()


def test_offline_with_cold_cache(tiny_card, weights_home, tmp_path):
    shutil.rmtree(tmp_path / "server")
    with pytest.raises(InputError) as caught:
        resolve_weights("tiny")
    message = str(caught.value)
    assert "\n" not in message
    for part in (tiny_card.file, str(weights_home), tiny_card.sha256, tiny_card.url, "put"):
        assert part in message
    assert not weights_home.exists()


def test_interrupted_download_leaves_nothing(tiny_card, weights_home, monkeypatch):
    def interrupted(name, url, cache_dir, cache_subdir):
        with open(f"{cache_dir}/{name}", "wb") as file:
            file.write(CONTENT[:4])
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils, "get_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve_weights("tiny")
    assert not weights_home.exists()


def test_wrong_download_is_not_kept(tiny_card, weights_home, tmp_path):
    (tmp_path / "server" / tiny_card.file).write_bytes(b"something else")
    with pytest.raises(InputError, match=f"sha256 is .*, the card of 'tiny' says {SHA256}"):
        resolve_weights("tiny")
    assert not weights_home.exists()


def test_damaged_cache_is_told(tiny_card, weights_home):
    resolve_weights("tiny")
    (weights_home / tiny_card.file).write_bytes(CONTENT + b"!")
    found = hashlib.sha256(CONTENT + b"!").hexdigest()
    with pytest.raises(InputError, match=f"{tiny_card.file}: damaged or another file: sha256 is {found}"):
        resolve_weights("tiny")


def test_cache_that_cannot_be_written(tiny_card, weights_home):
    weights_home.parent.mkdir()
    weights_home.write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"writing failed .*set KERAS_SCGM_HOME"):
        resolve_weights("tiny")


def test_bundled_weights_that_are_missing(tiny_card, weights_home, tmp_path):
    (tmp_path / "package" / "tiny.json").write_text(dataclasses.replace(tiny_card, url=None).to_json())
    with pytest.raises(InputError, match=r"tiny\.weights\.h5 is missing from the package"):
        resolve_weights("tiny")


def test_path_with_a_card_beside_it_is_verified(tmp_path):
    path = tmp_path / "mine.weights.h5"
    path.write_bytes(CONTENT)
    card = WeightsCard("mine", "UNet", {}, path.name, SHA256)
    (tmp_path / "mine.json").write_text(card.to_json())
    assert resolve_weights(path) == (path, card)
    path.write_bytes(b"changed")
    with pytest.raises(InputError, match="damaged or another file"):
        resolve_weights(path)
    other = tmp_path / "mine.hdf5"
    other.write_bytes(CONTENT)
    with pytest.raises(InputError, match=r"describes mine\.weights\.h5, not mine\.hdf5"):
        resolve_weights(other)


def test_path_beside_other_json_has_no_card(tmp_path):
    path = tmp_path / "challenge_model.hdf5"
    path.write_bytes(CONTENT)
    (tmp_path / "challenge_model.json").write_text('{"mean_train": 449.5663}')
    assert resolve_weights(str(path)) == (path, None)


@pytest.fixture
def reads(monkeypatch):
    """Files that are hashed, and texts that are read, while a test runs."""
    hashed, read = [], []
    digest, read_text = hashlib.file_digest, Path.read_text
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: hashed.append(Path(file.name)) or digest(file, kind)
    )
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **k: read.append(path) or read_text(path, *a, **k)
    )
    return hashed, read


@pytest.mark.parametrize("architecture", ["DilatedGMNet", "UNet"])
def test_weights_and_cards_are_read_and_hashed_once(architecture, tmp_path, phantom, reads):
    network = {"DilatedGMNet": DilatedGMNet, "UNet": UNet}[architecture](filters=2)
    path = tmp_path / "mine.weights.h5"
    network.save_weights(path)
    card = WeightsCard(
        "mine", architecture, {"filters": 2}, path.name, hashlib.sha256(path.read_bytes()).hexdigest()
    )
    (tmp_path / "mine.json").write_text(card.to_json())
    segment(phantom, str(path))
    load_network(path)
    hashed, read = reads
    assert hashed.count(path) == 1
    assert read.count(tmp_path / "mine.json") == 1


def test_a_run_with_known_weights_hashes_them_once(tmp_path, monkeypatch, phantom, reads):
    folder = shutil.copytree(weights_folder(), tmp_path / "weights")
    monkeypatch.setattr(catalog, "weights_folder", lambda: folder)
    segment(phantom)
    hashed, read = reads
    assert hashed == [folder / "synthetic.weights.h5"]
    assert sorted(path for path in read if path.parent == folder) == sorted(folder.glob("*.json"))


def test_a_changed_file_is_hashed_again(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"one")
    assert sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert sha256_of(path) == hashlib.sha256(b"other").hexdigest()
