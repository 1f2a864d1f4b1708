"""The paper's network: dilated convolutions in parallel, no decimation, few parameters."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from keras_scgm import checks
from keras_scgm.models.blocks import Activation, Units, check_arguments, predict
from keras_scgm.pretrained import load_weights_into, weights_for

AMORT_FILTERS = 64


def DilatedGMNet(
    input_shape: Sequence[int | None] = (None, None, 1),
    weights: str | Path | None = None,
    filters: int = 32,
    dilation_rates: Sequence[int] = (6, 12, 18, 24),
    classes: int = 1,
    dropout: float = 0.4,
    batch_norm_momentum: float = 0.1,
    classifier_activation: Activation = "sigmoid",
    include_top: bool = True,
    name: str = "dilated_gmnet",
) -> keras.Model:
    """Builds the gray matter network of Perone et al. 2017.

    Reference: Perone, Calabrese and Cohen-Adad, "Spinal cord gray matter segmentation using deep dilated
    convolutions", section 3.2 and Figure 3: the layers and their order. Names of layers and the batch
    normalization of the concatenated branches follow the authors' published weight files.

    Every layer keeps the height and width, so slices of any size work. Through its convolutions an output
    pixel sees a square of 13 + 4 * max(dilation_rates) input pixels: 109 pixels, or 27.25 mm at 0.25 mm per
    pixel, with the paper's rates. The global pooling branch adds one average over the whole slice.

    Args:
        input_shape: (height, width, channels) of a slice; height and width may be None for any size.
        weights: None for random weights, a name that `keras_scgm.list_weights` knows, or the path of a
            `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file.
        filters: Number of filters of each convolution before the concatenation; the unit after it, "amort",
            always has 64, as in all published files.
        dilation_rates: One branch of two dilated convolutions for each; distinct positive integers other
            than 2, whose layer names the layers before the branches have.
        classes: Number of output channels.
        dropout: Fraction of activations dropped after each layer while training.
        batch_norm_momentum: Weight of the old moving statistics at each training step.
        classifier_activation: Activation of the output layer, or None for logits. With more than one class
            the name "sigmoid" means "softmax"; for independent classes pass `keras.activations.sigmoid`.
        include_top: Whether to end with the layer "predictions"; without it the output is the 64 features
            that this layer reads.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from (batch, height, width, channels) to (batch, height, width, classes),
        with values in [0, 1] for sigmoid and softmax.

    Raises:
        keras_scgm.errors.InputError: An argument breaks its rule or contradicts the named weights, which may
            also be unknown, not to be had, or unfit.

    Example:

    >>> model = DilatedGMNet()
    >>> model.count_params()
    127585
    >>> DilatedGMNet((200, 200, 1), dilation_rates=(6, 12), classes=3).output_shape
    (None, 200, 200, 3)
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
    )
    dilation_rates = _checked_rates(dilation_rates)
    arguments = {"filters": filters, "dilation_rates": dilation_rates}
    if include_top:
        arguments["classes"] = classes
    path = None if weights is None else weights_for(weights, "DilatedGMNet", arguments)

    units = Units(dropout, batch_norm_momentum)
    slices = keras.Input(input_shape, name="slices")
    local = units.convolve(slices, filters, 3, "conv2d_1")
    local = units.convolve(local, filters, 3, "conv2d_2")
    x = units.convolve(local, filters, 3, "rate2_1", dilation_rate=2)
    x = units.convolve(x, filters, 3, "rate2_2", dilation_rate=2)

    branch = units.convolve(x, filters, 3, "branch1x1_1")
    branches = [units.convolve(branch, filters, 1, "branch1x1_2")]
    for rate in dilation_rates:
        branch = units.convolve(x, filters, 3, f"rate{rate}_1", dilation_rate=rate)
        branches.append(units.convolve(branch, filters, 3, f"rate{rate}_2", dilation_rate=rate))
    # The published files hold the pooled features before those of the last rate.
    branches.insert(-1, _global_average(local))

    x = layers.Concatenate(name="concatenate_1")(branches)
    x = units.normalize(x)
    x = units.convolve(x, AMORT_FILTERS, 1, "amort")
    if include_top:
        x = predict(x, classes, 1, classifier_activation)
    model = keras.Model(slices, x, name=name)
    if path is not None:
        load_weights_into(model, path)
    return model


def _global_average(x: keras.KerasTensor) -> keras.KerasTensor:
    """The mean over all positions, repeated at every position."""
    average = layers.GlobalAveragePooling2D(
        keepdims=True, data_format="channels_last", name="global_average_pooling2d_1"
    )(x)
    # Sizes are unknown until the network runs. Adding zeros of the right size repeats the average with
    # layers that every backend runs and plain Keras reloads, which neither Lambda nor a custom layer would.
    zeros = layers.Subtract(name="zeros_1")([x, x])
    return layers.Add(name="repeat_1")([zeros, average])


def _checked_rates(dilation_rates: Sequence[int]) -> tuple[int, ...]:
    wanted = "distinct positive integers other than 2, at least one"
    rates = checks.several(checks.integer(1), wanted)("dilation_rates", dilation_rates)
    if not rates or len(set(rates)) < len(rates) or 2 in rates:
        checks.refuse("dilation_rates", wanted, dilation_rates)
    return rates
