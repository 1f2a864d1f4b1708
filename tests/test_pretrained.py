"""Cards, where weights are found and fetched, and reading their files."""

import dataclasses
import hashlib
import json
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_scgm import pretrained
from keras_scgm.errors import InputError
from keras_scgm.models import DilatedGMNet, UNet
from keras_scgm.pretrained import (
    WeightsCard,
    list_weights,
    load_weights_into,
    read_layers,
    resolve_weights,
    weights_card,
    weights_folder,
    weights_status,
)

CONTENT = b"the weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder that does not exist yet."""
    folder = tmp_path / "home" / "scgm"
    monkeypatch.setenv("KERAS_SCGM_HOME", str(folder))
    return folder


@pytest.fixture
def card(tmp_path, monkeypatch, home):
    """The only known weights, "tiny", served from a local file instead of the network."""
    served = tmp_path / "server" / "tiny.weights.h5"
    served.parent.mkdir()
    served.write_bytes(CONTENT)
    card = WeightsCard("tiny", "UNet", {"filters": 2}, served.name, SHA256, url=served.as_uri())
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "tiny.json").write_text(card.to_json())
    monkeypatch.setattr(pretrained, "weights_folder", lambda: folder)
    return card


def small_network(**arguments):
    return DilatedGMNet(filters=2, dilation_rates=(3, 10), **arguments)


def test_published_cards():
    assert {"challenge", "large"} <= set(list_weights())
    for name, sha256 in (("challenge", "9b44228a"), ("large", "85823b95")):
        card = weights_card(name)
        assert card.sha256.startswith(sha256)
        assert card.file == f"{name}_model.hdf5"
        assert card.url.startswith("https://raw.githubusercontent.com/")
        assert card.url.endswith(card.file)
        assert (card.threshold, card.threshold_space, card.paper_threshold) == (0.5, "native", 0.999)
        assert WeightsCard.from_json(card.to_json()) == card


def test_published_hashes(reference):
    for name in ("challenge", "large"):
        card = weights_card(name)
        assert pretrained.sha256_of(reference / "weights" / card.file) == card.sha256


def test_every_card_is_in_its_own_file():
    for path in weights_folder().glob("*.json"):
        assert weights_card(path.stem).name == path.stem


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
        ({"slices": {"spacing_mm": 0, "window_px": 200}}, "slices must be a positive"),
        ({"slices": {"spacing_mm": 0.25}}, "slices must be a positive"),
        ({"normalization": "minmax"}, "normalization must be \"zscore_volume\", received 'minmax'"),
        ({"threshold": 1.5}, "threshold must be between 0 and 1, received 1.5"),
        ({"paper_threshold": "high"}, "paper_threshold must be between 0 and 1, received 'high'"),
        ({"threshold_space": "world"}, 'threshold_space must be "native" or "slices", received \'world\''),
        ({"scores": [0.9]}, "scores must be a list of mappings"),
    ],
)
def test_card_rules(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(weights_card("challenge"), **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be a JSON object, received list"),
        ('{"name": "a"}', "lacks architecture, model_kwargs, file, sha256"),
        (json.dumps(dataclasses.asdict(weights_card("large")) | {"size": 1}), "has unknown fields size"),
    ],
)
def test_card_from_wrong_json(text, message):
    with pytest.raises(ValueError, match=message):
        WeightsCard.from_json(text)


def test_damaged_card_names_its_file(card, tmp_path):
    (tmp_path / "package" / "tiny.json").write_text("{")
    with pytest.raises(InputError, match=r"tiny\.json: weights card: .*Expecting property name"):
        list_weights()


def test_cards_come_from_the_package_or_the_checkout(tmp_path, monkeypatch):
    module = tmp_path / "keras_scgm" / "pretrained.py"
    monkeypatch.setattr(pretrained, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match="no weights folder"):
        weights_folder()
    (tmp_path / "weights").mkdir()
    assert weights_folder() == tmp_path / "weights"
    (tmp_path / "keras_scgm" / "weights").mkdir(parents=True)
    assert weights_folder() == tmp_path / "keras_scgm" / "weights"


def test_download_once_then_cached(card, home, tmp_path, monkeypatch):
    assert weights_status(card) == "download"
    assert resolve_weights("tiny") == (home / card.file, card)
    assert weights_status(card) == "cached"
    assert [path.name for path in home.iterdir()] == [card.file]

    shutil.rmtree(tmp_path / "server")
    assert resolve_weights("tiny") == (home / card.file, card)


def test_bundled_file_comes_first(card, home, tmp_path):
    (tmp_path / "package" / card.file).write_bytes(CONTENT)
    assert weights_status(card) == "bundled"
    assert resolve_weights("tiny")[0] == tmp_path / "package" / card.file
    assert not home.exists()


def test_default_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_SCGM_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pretrained.cache_folder() == tmp_path / ".keras" / "keras_scgm"


def test_offline_with_cold_cache(card, home, tmp_path):
    shutil.rmtree(tmp_path / "server")
    with pytest.raises(InputError) as caught:
        resolve_weights("tiny")
    message = str(caught.value)
    assert "\n" not in message
    for part in (card.file, str(home), card.sha256, card.url, "put"):
        assert part in message
    assert not list(home.iterdir())


def test_interrupted_download_leaves_nothing(card, home, monkeypatch):
    def interrupted(name, url, cache_dir, cache_subdir):
        with open(f"{cache_dir}/{name}", "wb") as file:
            file.write(CONTENT[:4])
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils, "get_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve_weights("tiny")
    assert not list(home.iterdir())


def test_wrong_download_is_not_kept(card, home, tmp_path):
    (tmp_path / "server" / card.file).write_bytes(b"something else")
    with pytest.raises(InputError, match=f"sha256 is .*, the card of 'tiny' says {SHA256}"):
        resolve_weights("tiny")
    assert not list(home.iterdir())


def test_damaged_cache_is_told(card, home):
    resolve_weights("tiny")
    (home / card.file).write_bytes(CONTENT + b"!")
    found = hashlib.sha256(CONTENT + b"!").hexdigest()
    with pytest.raises(InputError, match=f"{card.file}: damaged or another file: sha256 is {found}"):
        resolve_weights("tiny")


def test_cache_that_cannot_be_written(card, home):
    home.parent.mkdir()
    home.write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"writing failed .*set KERAS_SCGM_HOME"):
        resolve_weights("tiny")


def test_bundled_weights_that_are_missing(card, home, tmp_path):
    (tmp_path / "package" / "tiny.json").write_text(dataclasses.replace(card, url=None).to_json())
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


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_survive_a_round_trip(suffix, tmp_path):
    model = small_network()
    path = tmp_path / f"mine{suffix}"
    model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
    other = small_network()
    load_weights_into(other, path)
    for weight, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_layers_come_in_the_networks_order(tmp_path):
    model = DilatedGMNet(filters=2)
    model.save_weights(tmp_path / "mine.weights.h5")
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [name for name in read_layers(tmp_path / "mine.weights.h5") if name in names] == names


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: DilatedGMNet(filters=4, dilation_rates=(3, 10)),
            r"layer 'conv2d_1' has shapes \(3, 3, 1, 2\) \(2,\), "
            r"the network 'dilated_gmnet' needs \(3, 3, 1, 4\) \(4,\)",
        ),
        (lambda: DilatedGMNet(filters=2, dilation_rates=(3, 4)), "has no layer 'rate4_1'"),
        (lambda: UNet(filters=2), "has no layer 'encoder1_1', which the network 'unet' needs"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv2d_1")]),
            "has a layer 'conv2d_2', which the network .* lacks",
        ),
    ],
)
def test_files_that_do_not_fit(build, message, tmp_path):
    path = tmp_path / "mine.weights.h5"
    small_network().save_weights(path)
    model = build()
    before = model.get_weights()
    with pytest.raises(InputError, match=r"mine\.weights\.h5: " + message):
        load_weights_into(model, path)
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".hdf5"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_damaged_files(suffix, content, tmp_path):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"bad{suffix}: not a Keras weights file, or damaged"):
        read_layers(path)


def test_truncated_files(tmp_path):
    for name in ("mine.weights.h5", "mine.keras"):
        path = tmp_path / name
        model = small_network()
        model.save(path) if path.suffix == ".keras" else model.save_weights(path)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(InputError, match=f"{name}: not a Keras weights file, or damaged"):
            read_layers(path)


def test_other_files(tmp_path):
    with pytest.raises(InputError, match="a weights file must end in"):
        read_layers(tmp_path / "weights.pt")
    with pytest.raises(InputError, match="no such weights file"):
        read_layers(tmp_path / "weights.keras")
    with h5py.File(tmp_path / "empty.hdf5", "w"):
        pass
    with pytest.raises(InputError, match="not a Keras weights file"):
        read_layers(tmp_path / "empty.hdf5")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    with pytest.raises(InputError, match="not a Keras weights file"):
        read_layers(tmp_path / "empty.keras")


def test_weights_that_are_not_finite(tmp_path):
    model = small_network()
    kernel, bias = model.get_layer("amort").get_weights()
    model.get_layer("amort").set_weights([kernel * np.nan, bias])
    model.save_weights(tmp_path / "mine.weights.h5")
    with pytest.raises(InputError, match="layer 'amort' holds values that are not finite"):
        read_layers(tmp_path / "mine.weights.h5")
