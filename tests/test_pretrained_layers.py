"""Reading weights files, and loading them into networks."""

import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_scgm.errors import InputError
from keras_scgm.models import DilatedGMNet, UNet
from keras_scgm.pretrained import (
    load_weights_into,
    read_layers,
)


def small_network(**arguments):
    return DilatedGMNet(filters=2, dilation_rates=(3, 10), **arguments)


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


def test_a_compressed_archive_with_wrong_bytes(tmp_path):
    path = tmp_path / "mine.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(5000))
    content = bytearray(path.read_bytes())
    content[46:56] = b"\xff" * 10
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.keras: not a Keras weights file, or damaged"):
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
