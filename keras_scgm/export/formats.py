"""Networks in the formats ONNX and LiteRT, by Keras' exporters, and OpenVINO; they are checked by running them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.export.check import synthetic_image
from keras_scgm.files import staged
from keras_scgm.models import load_network
from keras_scgm.nifti import volume_from_image
from keras_scgm.predict import in_cord
from keras_scgm.runtimes.keras_network import slice_reach
from keras_scgm.slices import SliceConfig, SliceGeometry, measure_intensities, read_windows

FORMAT_ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite"}
NEEDS = {
    "onnx": ("tf2onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert",),
}
"""Format -> modules that write it, or run it for the check."""

MAX_DIFFERENCE = 1e-4
"""Largest difference between the probabilities of a file and of Keras on the synthetic volume."""

Run = Callable[[np.ndarray], np.ndarray]


def export_network(weights: str | Path, folder: str | Path, file_format: str) -> Path:
    """Write a network as `NAME.onnx`, `NAME.xml` and `NAME.bin` (OpenVINO) or `NAME.tflite` (LiteRT).

    The file holds the network alone: `slices` float32 (n, size, size, 1), z-scored, to probabilities float32
    (n, size, size, tissue), of gray matter and, if the network knows it, of the cord, which bounds that of gray
    matter; for a network of stacks (n, slices, size, size, ...). It is kept only if it gives Keras's probabilities for
    a synthetic volume.

    Args:
        weights: Known name or file; its card gives the name of the exported file and the size of slices.
        folder: Output folder, created if missing.
        file_format: One of `FORMAT_ENDINGS`.

    Returns:
        The file.

    Raises:
        keras_scgm.errors.InputError: An unknown format, a missing package, weights that cannot be used, an existing
            file, or probabilities that differ from those of Keras.
    """
    checks.one_of(FORMAT_ENDINGS)("format", file_format)
    folder = checks.path("folder", folder)
    missing = [module.replace("_", "-") for module in NEEDS[file_format] if not find_spec(module)]
    if missing:
        raise InputError(
            f"format {file_format} needs {' and '.join(missing)}; pip install {' '.join(missing)}"
        )
    if keras.backend.backend() != "tensorflow":
        raise InputError("exports need Keras on TensorFlow; set KERAS_BACKEND=tensorflow")
    model, card = load_network(weights)
    if file_format == "litert" and slice_reach(model) is not None:
        raise InputError(
            f"{model.name}: LiteRT has no dilated convolution of stacks; choose the format onnx or openvino"
        )
    config = card.slices
    target = folder / f"{card.name}{FORMAT_ENDINGS[file_format]}"
    if target.exists():
        raise InputError(f"{target}: exists; move it away or choose another folder")
    with staged(folder) as staging:
        made = staging / target.name
        shape = (*model.inputs[0].shape[:-3], config.window_px, config.window_px, 1)
        if file_format == "openvino":
            from keras_scgm.runtimes.openvino_import import openvino, plain_letters
            from keras_scgm.runtimes.openvino_network import from_keras

            network = from_keras(_bounded(model), shape)
            with plain_letters():
                openvino.serialize(network, made)
        else:
            signature = [keras.InputSpec(shape=shape, dtype="float32", name="slices")]
            with warnings.catch_warnings():
                # Keras 3.15 uses a deprecated NumPy name when it writes ONNX.
                warnings.simplefilter("ignore", FutureWarning)
                _bounded(model).export(
                    str(made), format=file_format, input_signature=signature, verbose=False
                )
        _check(made, file_format, model, config)
    return target


def _bounded(model: keras.Model) -> keras.Model:
    """The model, with gray matter nowhere more probable than the cord, which is its last output."""
    (probabilities,) = model.outputs
    if probabilities.shape[-1] == 1:
        return model
    return keras.Model(model.inputs, keras.ops.minimum(probabilities, probabilities[..., -1:]))


def _check(path: Path, file_format: str, model: keras.Model, config: SliceConfig) -> None:
    volume = volume_from_image(synthetic_image())
    geometry = SliceGeometry.centered(volume, config)
    statistics = measure_intensities(volume, geometry)
    slices = read_windows(volume, geometry, statistics, 0, volume.n_slices)
    if slice_reach(model) is not None:
        slices = slices[np.newaxis]
    expected = in_cord(keras.ops.convert_to_numpy(model(slices, training=False)))
    difference = float(np.abs(OPENERS[file_format](path)(slices) - expected).max())
    # Written this way so that NaN does not pass.
    if not difference <= MAX_DIFFERENCE:
        raise InputError(
            f"{path.name}: probabilities differ from Keras's by up to {difference:.2g}; nothing was exported"
        )


def _onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda slices: session.run(None, {"slices": slices})[0]


def _openvino(path: Path) -> Run:
    from keras_scgm.runtimes.openvino_import import openvino, plain_letters

    with plain_letters():
        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda slices: compiled(slices)[0]


def _litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))

    def run(slices: np.ndarray) -> np.ndarray:
        given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        interpreter.resize_tensor_input(given["index"], slices.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], slices)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run


OPENERS: dict[str, Callable[[Path], Run]] = {"onnx": _onnx, "openvino": _openvino, "litert": _litert}
