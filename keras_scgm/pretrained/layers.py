"""Reading the layers of a weights file, and loading them into a network."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError, one_line
from keras_scgm.pretrained.card import SUFFIXES_TEXT, WEIGHTS_SUFFIXES

if TYPE_CHECKING:
    import keras

REMEDIES = {
    "channels": "; use weights=None, or input_tensor=keras.layers.Conv2D(1, 1)(images) to make one channel of several",
    "classes": "; use include_top=False and an output layer of your own, or weights=None",
}
"""Advice for a network whose weights have another number of input channels or classes."""


def load_weights_into(model: keras.Model, path: str | Path) -> None:
    """Reads a weights file into a network, matching layers by name.

    The network is changed only if all layers fit. The file may hold the layer "predictions" that a network
    built with `include_top=False` lacks; anything else it holds must be in the network.

    Args:
        model: A network of this package, or one with the same layer names.
        path: A `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file.

    Raises:
        keras_scgm.errors.InputError: The file is damaged or does not fit; names the first mismatch.
    """
    file_layers = read_layers(path)
    model_layers = {layer.name: layer for layer in model.layers if layer.weights}
    first = next(iter(model_layers), None)
    for name, layer in model_layers.items():
        if name not in file_layers:
            remedy = "; use include_top=False" if name == "predictions" else ""
            raise InputError(f"{path}: has no layer {name!r}, which the network {model.name!r} needs{remedy}")
        found = [array.shape for array in file_layers[name]]
        needed = [tuple(variable.shape) for variable in layer.weights]
        if found != needed:
            remedy = ""
            if name == first and found[0][:2] + found[0][3:] == needed[0][:2] + needed[0][3:]:
                remedy = REMEDIES["channels"]
            elif name == "predictions" and found[0][:-1] == needed[0][:-1]:
                remedy = REMEDIES["classes"]
            raise InputError(
                f"{path}: layer {name!r} has shapes {_listed(found)}, "
                f"the network {model.name!r} needs {_listed(needed)}{remedy}"
            )
    for name in file_layers:
        if name not in model_layers and name != "predictions":
            raise InputError(f"{path}: has a layer {name!r}, which the network {model.name!r} lacks")
    for name, layer in model_layers.items():
        layer.set_weights(file_layers[name])


def read_layers(path: str | Path) -> dict[str, list[np.ndarray]]:
    """The arrays of a weights file by layer name, in the order of the layers in the network.

    Args:
        path: A `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file.

    Returns:
        Layer name to its arrays: kernel and bias, or gamma, beta, moving mean and moving variance.

    Raises:
        keras_scgm.errors.InputError: The file is missing, damaged, or of another kind.
    """
    path = checks.path("path", path)
    if not path.name.endswith(WEIGHTS_SUFFIXES):
        raise InputError(f"{path}: a weights file must end in {SUFFIXES_TEXT}")
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        source: Any = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(source, "r") as file:
            file_layers = _keras2_layers(file) if "layer_names" in file.attrs else _keras3_layers(file)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a Keras weights file, or damaged ({one_line(error)})") from error
    for name, arrays in file_layers.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError(f"{path}: layer {name!r} holds values that are not finite")
    return file_layers


def _keras2_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    names = [name.decode() for name in file.attrs["layer_names"]]
    arrays = {
        name: [np.asarray(file[name][weight]) for weight in file[name].attrs["weight_names"]]
        for name in names
    }
    return {name: values for name, values in arrays.items() if values}


def _keras3_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    groups = file["layers"]
    # Groups are called conv2d, conv2d_1, ... conv2d_10; shorter first is the order of the layers.
    variables = [groups[group]["vars"] for group in sorted(groups, key=lambda group: (len(group), group))]
    return {
        group.attrs["name"]: [np.asarray(group[str(index)]) for index in range(len(group))]
        for group in variables
        if len(group)
    }


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return " ".join(str(shape) for shape in shapes)
