"""Other formats of a network: the probabilities of Keras, and what is missing or wrong in one line."""

import numpy as np
import pytest

from keras_scgm import DilatedGMNet, DilatedGMNet3D, InputError
from keras_scgm.export import formats
from keras_scgm.files import sha256_of
from keras_scgm.pretrained import TISSUES, WeightsCard


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("file_format", ["onnx", "openvino", "litert"])
def test_other_formats_give_the_probabilities_of_keras(tmp_path, monkeypatch, file_format, classes):
    for module in formats.NEEDS[file_format]:
        pytest.importorskip(module)
    network = DilatedGMNet(filters=2, dilation_rates=(6,), classes=classes)
    network.save_weights(tmp_path / "tiny.weights.h5")
    card = WeightsCard(
        name="tiny",
        architecture="DilatedGMNet",
        model_kwargs={"filters": 2, "dilation_rates": [6], "classes": classes},
        file="tiny.weights.h5",
        sha256=sha256_of(tmp_path / "tiny.weights.h5"),
        tissues=TISSUES[classes - 1],
    )
    (tmp_path / "tiny.json").write_text(card.to_json())
    path = formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "out", file_format)
    slices = np.random.default_rng(0).normal(size=(3, 200, 200, 1)).astype(np.float32)
    result = formats.OPENERS[file_format](path)(slices)
    expected = np.array(network(slices))
    np.testing.assert_allclose(result, np.minimum(expected, expected[..., -1:]), atol=1e-5)
    assert result.shape == (3, 200, 200, classes)
    assert np.all(result[..., 0] <= result[..., -1])
    with pytest.raises(InputError, match="exists"):
        formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "out", file_format)
    monkeypatch.setitem(formats.OPENERS, file_format, lambda path: lambda slices: slices * np.nan)
    with pytest.raises(InputError, match="differ from Keras's"):
        formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "none", file_format)
    assert not list((tmp_path / "none").iterdir())


def test_networks_of_stacks_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(formats.NEEDS, "onnx", ())
    path = tmp_path / "stacks.weights.h5"
    DilatedGMNet3D(filters=2).save_weights(path)
    with pytest.raises(InputError, match="reads stacks of slices, which no export holds; segment with"):
        formats.export_network(path, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_a_format_whose_program_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(formats.NEEDS, "onnx", ("no_such_module",))
    with pytest.raises(InputError, match="pip install no-such-module"):
        formats.export_network("synthetic", tmp_path, "onnx")
    with pytest.raises(InputError, match="format must be one of"):
        formats.export_network("synthetic", tmp_path, "pickle")
