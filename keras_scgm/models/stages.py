"""Stages of a network: groups of layers that are frozen together when it is fine-tuned."""

from __future__ import annotations

import re

import keras


def stages(model: keras.Model) -> dict[str, tuple[str, ...]]:
    """The layers with weights of a network of this package, by stage, from the input to the output.

    A convolution and the normalization after it are in one stage. The stages are "conv2d", "rate2", "branches",
    "amort" and "predictions" for `DilatedGMNet` and `DilatedGMNet3D`; "encoder1" to "encoder3", "bottom",
    "decoder3" to "decoder1" and "predictions" for `UNet`.

    Args:
        model: What a builder returned.

    Returns:
        Name of the stage to the names of its layers.

    Example:

    >>> from keras_scgm import DilatedGMNet
    >>> list(stages(DilatedGMNet()))
    ['conv2d', 'rate2', 'branches', 'amort', 'predictions']
    >>> stages(DilatedGMNet())["amort"][0]
    'amort'
    """
    producers = {id(layer.output): layer for layer in model.layers}
    found: dict[str, list[str]] = {}
    for layer in model.layers:
        if layer.weights:
            is_normalization = isinstance(layer, keras.layers.BatchNormalization)
            producer = producers.get(id(layer.input)) if is_normalization else layer
            found.setdefault(_stage(producer), []).append(layer.name)
    return {stage: tuple(names) for stage, names in found.items()}


def _stage(producer: keras.Layer | None) -> str:
    if isinstance(producer, keras.layers.Concatenate):
        # It joins the branches.
        return "branches"
    name = "" if producer is None else re.sub(r"_\d+$", "", producer.name)
    is_branch = name == "branch1x1" or (name.startswith("rate") and name != "rate2")
    return "branches" if is_branch else name
