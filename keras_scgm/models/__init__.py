"""The networks, the table of their builders, and loading one by the name or the file of its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_scgm.errors import InputError
from keras_scgm.files import sha256_of
from keras_scgm.models.dilated_gmnet import DilatedGMNet
from keras_scgm.models.dilated_gmnet_3d import DilatedGMNet3D
from keras_scgm.models.processing import binarize_predictions, preprocess_input
from keras_scgm.models.stages import stages
from keras_scgm.models.unet import UNet
from keras_scgm.pretrained import (
    WeightsCard,
    dilation_rates_of,
    load_weights_into,
    read_layers,
    resolve_weights,
    tissues_of_outputs,
    weights_stem,
)

__all__ = [
    "BUILDERS",
    "STACK_BUILDERS",
    "DilatedGMNet",
    "DilatedGMNet3D",
    "UNet",
    "binarize_predictions",
    "load_model",
    "load_network",
    "preprocess_input",
    "stages",
]

BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "DilatedGMNet": DilatedGMNet,
    "DilatedGMNet3D": DilatedGMNet3D,
    "UNet": UNet,
}
STACK_BUILDERS = frozenset({"DilatedGMNet3D"})
"""Builders of networks that read stacks of neighbouring slices; the others read single slices."""

# Rank of the first kernel, which tells networks of slices from networks of stacks, and name of the first layer.
_FIRST_LAYER = {
    "DilatedGMNet": (4, "conv2d_1"),
    "DilatedGMNet3D": (5, "conv2d_1"),
    "UNet": (4, "encoder1_1"),
}


def load_model(weights: str | Path) -> keras.Model:
    """Loads a network with its weights, by the name of the weights or from a file.

    The card of the weights describes the network. A `.keras` file is loaded whole, whatever network it holds. For
    other files without a card, the architecture and its arguments are read from the names and shapes in the file;
    several classes are taken to exclude each other ("softmax"). Weights that are not in the package are downloaded
    once, and checked against their SHA-256.

    Args:
        weights: One of `keras_scgm.list_weights`, or the path of a `.weights.h5`, `.keras` or published Keras
            2 `.hdf5` file, beside which a card may be, as NAME.json.

    Returns:
        The model, from (batch, height, width, channels) to (batch, height, width, classes), with an axis of
        slices after that of the batch if it reads stacks of slices. `keras_scgm.weights_card` has the pixel spacing
        that it expects, and `keras_scgm.preprocess_input` prepares the intensities.

    Raises:
        keras_scgm.errors.InputError: The weights are unknown, cannot be had, are damaged, or do not fit.

    Example:

    >>> model = load_model("synthetic")
    >>> model.name, model.output_shape
    ('dilated_gmnet', (None, None, None, 2))
    """
    return load_network(weights)[0]


def load_network(weights: str | Path) -> tuple[keras.Model, WeightsCard]:
    """`load_model`, and the card of the weights.

    The card of a file without one has the package's settings for slices and threshold.
    """
    path, card = resolve_weights(weights)
    if path.suffix == ".keras":
        model = _load_whole(path)
        return model, card or _card_from_file(path, model.name, {}, model.output_shape[-1])
    if card is None:
        architecture, arguments = _describe(path)
        card = _card_from_file(path, architecture, arguments, arguments["classes"])
    if card.architecture not in BUILDERS:
        raise InputError(f"{path}: unknown architecture {card.architecture!r}; known: {', '.join(BUILDERS)}")
    try:
        model = BUILDERS[card.architecture](**card.model_kwargs)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its card does not describe a {card.architecture}: {error}") from error
    load_weights_into(model, path)
    return model, card


def _load_whole(path: Path) -> keras.Model:
    try:
        model = keras.saving.load_model(path, compile=False)
    # Keras passes on whatever a damaged archive or an unknown layer raises, of any type.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a Keras model that can be loaded: {reason}") from error
    if (
        not isinstance(model, keras.Model)
        or len(model.inputs) != 1
        or len(model.inputs[0].shape) not in (4, 5)
    ):
        raise InputError(
            f"{path}: not a network from (batch, height, width, channels) or "
            "(batch, slices, height, width, channels), as segmentation needs"
        )
    return model


def _card_from_file(path: Path, architecture: str, arguments: dict[str, Any], classes: int) -> WeightsCard:
    return WeightsCard(
        name=weights_stem(path),
        architecture=architecture,
        model_kwargs=arguments,
        file=path.name,
        sha256=sha256_of(path),
        tissues=tissues_of_outputs(classes),
    )


def _describe(path: Path) -> tuple[str, dict[str, Any]]:
    """The architecture in a weights file and the arguments its names and shapes tell."""
    file_layers = read_layers(path)
    ranks = {name: arrays[0].ndim for name, arrays in file_layers.items() if arrays}
    architecture = next((key for key, (rank, name) in _FIRST_LAYER.items() if ranks.get(name) == rank), None)
    if architecture is None:
        raise InputError(f"{path}: holds none of the known networks ({', '.join(BUILDERS)})")
    rank, first = _FIRST_LAYER[architecture]
    *_, channels, filters = _kernel_shape(path, file_layers, first)
    arguments: dict[str, Any] = {
        "input_shape": (*[None] * (rank - 2), channels),
        "filters": filters,
        "classes": _kernel_shape(path, file_layers, "predictions")[-1],
    }
    if arguments["classes"] > 1:
        # Which no file says.
        arguments["classifier_activation"] = "softmax"
    if architecture != "UNet":
        arguments["dilation_rates"] = dilation_rates_of(file_layers)
    return architecture, arguments


def _kernel_shape(path: Path, file_layers: dict[str, list[np.ndarray]], layer: str) -> tuple[int, ...]:
    arrays = file_layers.get(layer)
    if not arrays or arrays[0].ndim not in (4, 5):
        raise InputError(f"{path}: has no convolution {layer!r}, so it is not a whole network")
    return arrays[0].shape
