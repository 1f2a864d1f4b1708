"""Other formats of a network: the probabilities of Keras, and what is missing or wrong in one line."""

import numpy as np
import pytest

from keras_scgm import DilatedGMNet, InputError
from keras_scgm.export import formats


@pytest.mark.parametrize("file_format", ["onnx", "openvino", "litert"])
def test_other_formats_give_the_probabilities_of_keras(tmp_path, monkeypatch, file_format):
    for module in formats.NEEDS[file_format]:
        pytest.importorskip(module)
    network = DilatedGMNet(filters=2, dilation_rates=(6,))
    network.save_weights(tmp_path / "tiny.weights.h5")
    path = formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "out", file_format)
    slices = np.random.default_rng(0).normal(size=(3, 200, 200, 1)).astype(np.float32)
    result = formats.OPENERS[file_format](path)(slices)
    np.testing.assert_allclose(result, network(slices), atol=1e-5)
    with pytest.raises(InputError, match="exists"):
        formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "out", file_format)
    monkeypatch.setitem(formats.OPENERS, file_format, lambda path: lambda slices: slices * np.nan)
    with pytest.raises(InputError, match="differ from Keras's"):
        formats.export_network(tmp_path / "tiny.weights.h5", tmp_path / "none", file_format)
    assert not list((tmp_path / "none").iterdir())


def test_a_format_whose_program_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(formats.NEEDS, "onnx", ("no_such_module",))
    with pytest.raises(InputError, match="pip install no-such-module"):
        formats.export_network("synthetic", tmp_path, "onnx")
    with pytest.raises(InputError, match="format must be one of"):
        formats.export_network("synthetic", tmp_path, "pickle")
