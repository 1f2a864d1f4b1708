"""The network the paper compares with: an encoder and a decoder with shortcuts between them."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from keras_scgm.models.blocks import Activation, Units, check_arguments, predict
from keras_scgm.pretrained import load_weights_into, weights_for

LEVELS = 3


def UNet(
    input_shape: Sequence[int | None] = (None, None, 1),
    weights: str | Path | None = None,
    filters: int = 64,
    classes: int = 1,
    dropout: float = 0.4,
    batch_norm_momentum: float = 0.1,
    classifier_activation: Activation = "sigmoid",
    include_top: bool = True,
    name: str = "unet",
) -> keras.Model:
    """Builds the 14-layer U-Net that Perone et al. 2017 compare with.

    Reference: Perone, Calabrese and Cohen-Adad, "Spinal cord gray matter segmentation using deep dilated
    convolutions", section 3.2.1: fourteen 3x3 convolutions with ReLU, and the parameter count of Table 3,
    776,321 convolution kernels and biases, which fixes the widths. Each convolution is followed by batch
    normalization and dropout, as in the paper's own network.

    Three 2x2 poolings halve the slice, so its height and width must be multiples of 8.

    Args:
        input_shape: (height, width, channels) of a slice; height and width may be None for any multiples
            of 8.
        weights: None for random weights, a name that `keras_scgm.list_weights` knows, or the path of a
            `.weights.h5` or `.keras` file.
        filters: Number of filters of each convolution; the two at the bottom have twice as many.
        classes: Number of output channels.
        dropout: Fraction of activations dropped after each layer while training.
        batch_norm_momentum: Weight of the old moving statistics at each training step.
        classifier_activation: Activation of the output layer, or None for logits. With more than one class
            the name "sigmoid" means "softmax"; for independent classes pass `keras.activations.sigmoid`.
        include_top: Whether to end with the layer "predictions"; without it the output is the `filters`
            features that this layer reads.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from (batch, height, width, channels) to (batch, height, width, classes),
        with values in [0, 1] for sigmoid and softmax.

    Raises:
        keras_scgm.errors.InputError: An argument breaks its rule or contradicts the named weights, which may
            also be unknown, not to be had, or unfit.

    Example:

    >>> UNet((200, 200, 1)).output_shape
    (None, 200, 200, 1)
    >>> UNet((100, 100, 1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    keras_scgm.errors.InputError: input_shape must be of a height and width that are multiples of 8, ...
    """
    input_shape, filters, classes, dropout, batch_norm_momentum, include_top = check_arguments(
        input_shape,
        filters,
        classes,
        dropout,
        batch_norm_momentum,
        classifier_activation,
        include_top,
        name,
        size_divisor=2**LEVELS,
    )
    arguments = {"filters": filters}
    if include_top:
        arguments["classes"] = classes
    path = None if weights is None else weights_for(weights, "UNet", arguments)

    units = Units(dropout, batch_norm_momentum)
    slices = keras.Input(input_shape, name="slices")
    x = slices
    shortcuts = []
    for level in range(1, LEVELS + 1):
        x = units.convolve(x, filters, 3, f"encoder{level}_1")
        x = units.convolve(x, filters, 3, f"encoder{level}_2")
        shortcuts.append(x)
        x = layers.MaxPooling2D(2, data_format="channels_last", name=f"encoder{level}_pool")(x)
    x = units.convolve(x, 2 * filters, 3, "bottom_1")
    x = units.convolve(x, 2 * filters, 3, "bottom_2")
    for level in range(LEVELS, 0, -1):
        x = layers.UpSampling2D(2, data_format="channels_last", name=f"decoder{level}_upsample")(x)
        x = layers.Concatenate(name=f"decoder{level}_concatenate")([shortcuts[level - 1], x])
        x = units.convolve(x, filters, 3, f"decoder{level}_1")
        x = units.convolve(x, filters, 3, f"decoder{level}_2")
    if include_top:
        x = predict(x, classes, 3, classifier_activation)
    model = keras.Model(slices, x, name=name)
    if path is not None:
        load_weights_into(model, path)
    return model
