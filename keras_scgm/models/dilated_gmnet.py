"""The paper's network: dilated convolutions in parallel, no decimation, few parameters."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
from keras import layers

from keras_scgm import checks
from keras_scgm.models.blocks import Activation, BuilderArguments, Pooling, Units
from keras_scgm.models.processing import binarize_predictions, preprocess_input

__all__ = ["DilatedGMNet", "binarize_predictions", "preprocess_input"]

AMORT_FILTERS = 64


def DilatedGMNet(
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: Pooling = None,
    classes: int | None = None,
    classifier_activation: Activation = "sigmoid",
    name: str = "dilated_gmnet",
    *,
    filters: int = 32,
    dilation_rates: Sequence[int] = (6, 12, 18, 24),
    dropout: float = 0.4,
    batch_norm_momentum: float = 0.1,
) -> keras.Model:
    """Builds the gray matter network of Perone et al. 2018.

    Reference: Perone, Calabrese and Cohen-Adad, "Spinal cord gray matter segmentation using deep dilated
    convolutions", Scientific Reports 8:5966, 2018, section 3.2 and Figure 3: the layers and their order. Names of
    layers and the batch normalization of the concatenated branches follow the authors' published weight files.

    Every layer keeps the height and width, so slices of any size work. Through its convolutions an output
    pixel sees a square of 13 + 4 * max(dilation_rates) input pixels: 109 pixels, or 27.25 mm at 0.25 mm per
    pixel, with the paper's rates. The global pooling branch adds one average over the whole slice.

    The first eight arguments are those of `keras.applications`, in their order.

    Args:
        include_top: Whether to end with the layer "predictions"; without it the output is the 64
            features per pixel that this layer reads. Call the model as a layer to build on them; otherwise give each
            layer on top a name, because Keras may give it one that the model has, too, such as `conv2d_1`.
        weights: None for random weights, a name that `keras_scgm.list_weights` knows, or the path of a
            `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file.
        input_tensor: Keras tensor (batch, height, width, channels) to read instead of a new `keras.Input`;
            the layers before it become part of the model.
        input_shape: (height, width, channels) of a slice; height and width may be None for any size. By
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
        filters: Number of filters of each convolution before the concatenation; the unit after it, "amort",
            always has 64, as in all published files.
        dilation_rates: One branch of two dilated convolutions for each; distinct positive integers other
            than 2, because the layers before the branches are named after that rate.
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

    >>> model = DilatedGMNet()
    >>> model.count_params()
    127585
    >>> rgb = DilatedGMNet(input_shape=(200, 200, 3), classes=3, classifier_activation="softmax")
    >>> rgb.output_shape
    (None, 200, 200, 3)
    >>> DilatedGMNet(include_top=False, pooling="avg").output_shape
    (None, 64)
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
    )
    filters, dilation_rates = arguments.filters, checked_rates(dilation_rates)
    weights_file = arguments.weights_file("DilatedGMNet", dilation_rates=dilation_rates)

    slices = arguments.image_input()
    units = Units(arguments.dropout, arguments.batch_norm_momentum)
    features = dilated_features(slices, filters, dilation_rates, units, _global_average)
    return arguments.finish(slices, features, 1, weights_file)


def dilated_features(
    image: keras.KerasTensor,
    filters: int,
    dilation_rates: Sequence[int],
    units: Units,
    global_average: Callable[[keras.KerasTensor], keras.KerasTensor],
) -> keras.KerasTensor:
    """The layers of the paper's Figure 3 from the image to the features that the output layer reads.

    Args:
        image: The input, of a slice or of a stack of slices.
        filters: Number of filters of each convolution but the last.
        dilation_rates: Rates of the parallel branches, checked.
        units: What adds the paper's layers to the network.
        global_average: Mean of features over all positions of a slice, repeated at each of them.
    """
    local = units.convolve(image, filters, 3, "conv2d_1")
    local = units.convolve(local, filters, 3, "conv2d_2")
    x = units.convolve(local, filters, 3, "rate2_1", dilation_rate=2)
    x = units.convolve(x, filters, 3, "rate2_2", dilation_rate=2)

    branch = units.convolve(x, filters, 3, "branch1x1_1")
    branches = [units.convolve(branch, filters, 1, "branch1x1_2")]
    for rate in dilation_rates:
        branch = units.convolve(x, filters, 3, f"rate{rate}_1", dilation_rate=rate)
        branches.append(units.convolve(branch, filters, 3, f"rate{rate}_2", dilation_rate=rate))
    # The published files hold the pooled features before those of the last rate.
    branches.insert(-1, global_average(local))

    x = layers.Concatenate(name="concatenate_1")(branches)
    x = units.normalize(x)
    return units.convolve(x, AMORT_FILTERS, 1, "amort")


def repeated(x: keras.KerasTensor, average: keras.KerasTensor) -> keras.KerasTensor:
    """An average of features, at every position of them."""
    # Sizes are unknown until the network runs. Adding zeros of the right size repeats the average with
    # layers that every backend runs and plain Keras reloads, which neither Lambda nor a custom layer would.
    zeros = layers.Subtract(name="zeros_1")([x, x])
    return layers.Add(name="repeat_1")([zeros, average])


def _global_average(x: keras.KerasTensor) -> keras.KerasTensor:
    """The mean over all positions, repeated at every position."""
    pool = layers.GlobalAveragePooling2D(
        keepdims=True, data_format="channels_last", name="global_average_pooling2d_1"
    )
    return repeated(x, pool(x))


def checked_rates(dilation_rates: Sequence[int]) -> tuple[int, ...]:
    wanted = "distinct positive integers other than 2, at least one"
    rates = checks.several(checks.integer(1), wanted)("dilation_rates", dilation_rates)
    if not rates or len(set(rates)) < len(rates) or 2 in rates:
        checks.refuse("dilation_rates", wanted, dilation_rates)
    return rates
