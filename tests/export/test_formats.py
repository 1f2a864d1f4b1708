"""Other formats of a network: the probabilities of Keras, and what is missing or wrong in one line."""

import numpy as np
import pytest

from keras_scgm import DilatedGMNet, DilatedGMNet3D, InputError
from keras_scgm.export import formats
from keras_scgm.files import sha256_of
from keras_scgm.pretrained import TISSUES, WeightsCard


def write_tiny(build, folder, classes):
    """A small network, and its weights and card in a folder."""
    network = build(filters=2, dilation_rates=(6,), classes=classes)
    network.save_weights(folder / "tiny.weights.h5")
    card = WeightsCard(
        name="tiny",
        architecture=build.__name__,
        model_kwargs={"filters": 2, "dilation_rates": [6], "classes": classes},
        file="tiny.weights.h5",
        sha256=sha256_of(folder / "tiny.weights.h5"),
        tissues=TISSUES[classes - 1],
    )
    (folder / "tiny.json").write_text(card.to_json())
    return network


@pytest.mark.parametrize(
    ("file_format", "classes"), [("onnx", 1), ("onnx", 2), ("openvino", 2), ("litert", 2)]
)
def test_other_formats_give_the_probabilities_of_keras(tmp_path, file_format, classes):
    for module in formats.NEEDS[file_format]:
        pytest.importorskip(module)
    network = write_tiny(DilatedGMNet, tmp_path, classes)
    path = formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "out", file_format)
    slices = np.random.default_rng(0).normal(size=(3, 200, 200, 1)).astype(np.float32)
    result = formats.OPENERS[file_format](path)(slices)
    expected = np.array(network(slices))
    np.testing.assert_allclose(result, np.minimum(expected, expected[..., -1:]), atol=1e-5)
    assert result.shape == (3, 200, 200, classes)
    assert np.all(result[..., 0] <= result[..., -1])
    with pytest.raises(InputError, match="exists"):
        formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "out", file_format)


def test_a_file_that_differs_from_keras_is_not_kept(tmp_path, monkeypatch):
    for module in formats.NEEDS["openvino"]:
        pytest.importorskip(module)
    write_tiny(DilatedGMNet, tmp_path, classes=1)
    monkeypatch.setitem(formats.OPENERS, "openvino", lambda path: lambda slices: slices * np.nan)
    with pytest.raises(InputError, match="differ from Keras's"):
        formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "none", "openvino")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_networks_of_stacks(tmp_path, file_format):
    for module in formats.NEEDS[file_format]:
        pytest.importorskip(module)
    network = write_tiny(DilatedGMNet3D, tmp_path, classes=2)
    path = formats.export_network(tmp_path / "tiny.weights.h5", tmp_path, file_format)
    stacks = np.random.default_rng(0).normal(size=(2, 3, 200, 200, 1)).astype(np.float32)
    expected = np.array(network(stacks))
    result = formats.OPENERS[file_format](path)(stacks)
    np.testing.assert_allclose(result, np.minimum(expected, expected[..., -1:]), atol=1e-5)


def test_litert_has_no_networks_of_stacks(tmp_path, monkeypatch):
    monkeypatch.setitem(formats.NEEDS, "litert", ())
    write_tiny(DilatedGMNet3D, tmp_path, classes=1)
    with pytest.raises(
        InputError, match="LiteRT has no dilated convolution of stacks; choose the format onnx"
    ):
        formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "out", "litert")
    assert not (tmp_path / "out").exists()


def test_a_format_whose_program_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(formats.NEEDS, "onnx", ("no_such_module",))
    with pytest.raises(InputError, match="pip install no-such-module"):
        formats.export_network("synthetic", tmp_path, "onnx")
    with pytest.raises(InputError, match="format must be one of"):
        formats.export_network("synthetic", tmp_path, "pickle")
