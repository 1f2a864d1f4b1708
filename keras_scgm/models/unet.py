"""The U-Net that the paper compares with: an encoder and a decoder with skip connections."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from keras_scgm.models.blocks import Activation, BuilderArguments, Pooling, Units
from keras_scgm.models.processing import binarize_predictions, preprocess_input

__all__ = ["UNet", "binarize_predictions", "preprocess_input"]

LEVELS = 3


def UNet(
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: Pooling = None,
    classes: int | None = None,
    classifier_activation: Activation = "sigmoid",
    name: str = "unet",
    *,
    filters: int = 64,
    dropout: float = 0.4,
    batch_norm_momentum: float = 0.1,
) -> keras.Model:
    """Builds the 14-layer U-Net that Perone et al. 2018 compare with.

    Reference: Perone, Calabrese and Cohen-Adad, "Spinal cord gray matter segmentation using deep dilated
    convolutions", Scientific Reports 8:5966, 2018, section 3.2.1: fourteen 3x3 convolutions with ReLU, and the
    parameter count of Table 3, 776,321 convolution kernels and biases, which fixes the widths. Each convolution is
    followed by batch normalization and dropout, as in the paper's own network.

    Three 2x2 poolings halve the slice, so its height and width must be multiples of 8.

    The first eight arguments are those of `keras.applications`, in their order.

    Args:
        include_top: Whether to end with the layer "predictions"; without it the output is the `filters`
            features per pixel that this layer reads. Call the model as a layer to build on them; otherwise give each
            layer on top a name, because Keras may give it one that the model has, too, such as `dropout_1`.
        weights: None for random weights, a name that `keras_scgm.list_weights` knows, or the path of a
            `.weights.h5` or `.keras` file.
        input_tensor: Keras tensor (batch, height, width, channels) to read instead of a new `keras.Input`;
            the layers before it become part of the model.
        input_shape: (height, width, channels) of a slice; height and width may be None for any multiples of 8. By
            default that of `input_tensor`, or one channel and any size. With pretrained weights of another number
            of channels, each channel gets the sum of the first kernel over the channels of the file, divided by the
            number of channels: an image of equal channels has the same result as in the file's network.
        pooling: With `include_top=False`: None for the feature maps, (batch, height, width, features); "avg"
            or "max" for their mean or maximum over the slice, (batch, features).
        classes: Number of output channels; None for that of the weights, and 1 with random ones. With another
            number than that of the weights, or if only one of the two has classes that exclude each other ("softmax",
            by the card of the weights), the output layer stays random, and all others are those of the file.
        classifier_activation: Activation of the output layer, or None for logits. "sigmoid" makes classes
            independent of each other.
        name: Name of the model.
        filters: Number of filters of each convolution; the two at the bottom have twice as many.
        dropout: Fraction of activations dropped after each layer while training.
        batch_norm_momentum: Weight of the old moving statistics at each training step.

    Returns:
        A functional `keras.Model` from (batch, height, width, channels) to (batch, height, width, classes),
        with values in [0, 1] for sigmoid and softmax; to features with `include_top=False`. Under a mixed
        precision policy the output layer computes in float32.

    Raises:
        keras_scgm.errors.InputError: An argument breaks its rule or contradicts the weights, which may also be
            unknown, not to be had, or unfit.

    Example:

    >>> UNet(input_shape=(200, 200, 1)).output_shape
    (None, 200, 200, 1)
    >>> UNet(input_shape=(100, 100, 1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    keras_scgm.errors.InputError: input_shape must be of a height and width that are multiples of 8, ...
    """
    arguments = BuilderArguments(
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        filters=filters,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        size_divisor=2**LEVELS,
    )
    filters = arguments.filters
    weights_file = arguments.weights_file("UNet")

    units = Units(arguments.dropout, arguments.batch_norm_momentum)
    slices = arguments.image_input()
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
    return arguments.finish(slices, x, 3, weights_file)
