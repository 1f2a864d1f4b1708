"""Reading the layers of a weights file, and loading them into a network."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError, one_line
from keras_scgm.pretrained.card import SUFFIXES_TEXT, WEIGHTS_SUFFIXES

if TYPE_CHECKING:
    import keras

HEAD = "predictions"
"""Name of the output layer of all networks."""

INFLATED_FROM = {"DilatedGMNet3D": "DilatedGMNet"}
"""Builders of networks of stacks -> those of the networks of slices whose weights they can start from."""


def load_weights_into(
    model: keras.Model,
    path: str | Path,
    *,
    adapt: bool = False,
    outputs: Sequence[int] | None = None,
    loads_output: bool = True,
) -> None:
    """Reads a weights file into a network, matching layers by name.

    The network is changed only if all layers fit. The file may hold the layer "predictions" that a network
    built with `include_top=False` lacks; anything else it holds must be in the network.

    Args:
        model: A network of this package, or one with the same layer names.
        path: A `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file.
        adapt: Whether the network may have another number of channels or classes, or read stacks of slices where the
            file's network reads slices. The sum of the first kernel over the file's channels, divided by the network's
            number of channels, is then the kernel of each channel; an output layer of another number of classes is
            left as it is; a kernel of slices becomes the middle of one of stacks, with zeros for the other slices.
        loads_output: Whether the output layer is read, too; otherwise it is left as it is.
        outputs: Outputs of the file that become those of the network, in this order; None takes all.

    Raises:
        keras_scgm.errors.InputError: The file is damaged or does not fit; names the first mismatch.
    """
    file_layers = read_layers(path)
    model_layers = {layer.name: layer for layer in model.layers if layer.weights}
    if outputs is not None and HEAD in file_layers:
        file_layers[HEAD] = [array[..., list(outputs)] for array in file_layers[HEAD]]
    if not loads_output:
        model_layers.pop(HEAD, None)
    if adapt:
        model_layers = _adapt(file_layers, model_layers)
    for name, layer in model_layers.items():
        if name not in file_layers:
            remedy = "; use include_top=False" if name == HEAD else ""
            raise InputError(f"{path}: has no layer {name!r}, which the network {model.name!r} needs{remedy}")
        found = [array.shape for array in file_layers[name]]
        needed = _shapes(layer)
        if found != needed:
            raise InputError(
                f"{path}: layer {name!r} has shapes {_listed(found)}, "
                f"the network {model.name!r} needs {_listed(needed)}"
            )
    for name in file_layers:
        if name not in model_layers and name != HEAD:
            raise InputError(f"{path}: has a layer {name!r}, which the network {model.name!r} lacks")
    for name, layer in model_layers.items():
        layer.set_weights(file_layers[name])


def _adapt(
    file_layers: dict[str, list[np.ndarray]], model_layers: dict[str, keras.Layer]
) -> dict[str, keras.Layer]:
    """Changes the file's kernels to the network's slices, and the first to its channels.

    Returns:
        The layers that the file has weights for.
    """
    for name, layer in model_layers.items():
        kernel, *others = file_layers.get(name, [np.empty(0)])
        if kernel.ndim == 4 and len(layer.weights[0].shape) == 5:
            file_layers[name] = [_inflated(kernel, layer.weights[0].shape[0]), *others]
    first = next(iter(model_layers))
    if first in file_layers and first != HEAD:
        kernel, *others = file_layers[first]
        channels = model_layers[first].weights[0].shape[-2]
        if kernel.ndim in (4, 5) and kernel.shape[-2] != channels:
            mean = kernel.sum(axis=-2, keepdims=True) / channels
            file_layers[first] = [np.repeat(mean, channels, axis=-2), *others]
    if HEAD in model_layers and HEAD in file_layers:
        found, needed = file_layers[HEAD][0].shape, _shapes(model_layers[HEAD])[0]
        if found[:-1] == needed[:-1] and found != needed:
            return {name: layer for name, layer in model_layers.items() if name != HEAD}
    return model_layers


def _inflated(kernel: np.ndarray, n_slices: int) -> np.ndarray:
    """A kernel (slice, rows, columns, channels, filters) that sees the middle slice alone."""
    inflated = np.zeros((n_slices, *kernel.shape), kernel.dtype)
    inflated[n_slices // 2] = kernel
    return inflated


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
    # A damaged archive and HDF5 raise errors of many types.
    except Exception as error:
        raise InputError(f"{path}: not a Keras weights file, or damaged ({one_line(error)})") from error
    for name, arrays in file_layers.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError(f"{path}: layer {name!r} holds values that are not finite")
    return file_layers


def dilation_rates_of(layers: Iterable[str]) -> tuple[int, ...]:
    """The dilation rates of the branches of a `DilatedGMNet`, from the names of its layers."""
    rates = [int(match[1]) for name in layers if (match := re.fullmatch(r"rate(\d+)_1", name))]
    # The layers before the branches have the rate 2.
    return tuple(rate for rate in rates if rate != 2)


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


def _shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in layer.weights]


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return " ".join(str(shape) for shape in shapes)
