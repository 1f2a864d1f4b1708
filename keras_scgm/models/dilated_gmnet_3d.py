"""The paper's network over stacks of slices: dilation in the plane, and a small extent along the cord."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from keras_scgm.models.blocks import STACK_AXES, Activation, BuilderArguments, Pooling, Units
from keras_scgm.models.dilated_gmnet import checked_rates, dilated_features, repeated
from keras_scgm.models.processing import binarize_predictions, preprocess_input

__all__ = ["DilatedGMNet3D", "binarize_predictions", "preprocess_input"]

THREE_SLICE_LAYERS = ("rate2_2", "amort")
"""Layers whose kernels take the slice below and the slice above, too."""


def DilatedGMNet3D(
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: Pooling = None,
    classes: int | None = None,
    classifier_activation: Activation = "sigmoid",
    name: str = "dilated_gmnet_3d",
    *,
    filters: int = 32,
    dilation_rates: Sequence[int] = (6, 12, 18, 24),
    dropout: float = 0.4,
    batch_norm_momentum: float = 0.1,
) -> keras.Model:
    """Builds a network of stacks of neighbouring slices, the 3-D counterpart of `DilatedGMNet`.

    Reference: Perone, Calabrese and Cohen-Adad, "Spinal cord gray matter segmentation using deep dilated
    convolutions", Scientific Reports 8:5966, 2018: the layers of section 3.2 and Figure 3, in their order and with
    their names. The paper ends with 3-D dilated convolutions as the next step, without a network; which layers extend
    along the cord is this package's choice.

    Slices are several times thicker than pixels are wide. So kernels are 3 x 3 and dilated in the slice as in
    `DilatedGMNet`, and those of two layers, "rate2_2" before the branches and "amort" after them, take the slice below
    and the slice above, too. Through its convolutions an output pixel sees 5 slices, two on either side of its own,
    and a square of 13 + 4 * max(dilation_rates) input pixels: 109 pixels with the paper's rates. Past the ends of a
    stack are zeros, as past the border of a slice. The global pooling branch adds an average over the pixel's own
    slice: with one over the stack, the answer would depend on how a volume is cut into stacks.

    Every layer keeps slices, height and width, so stacks of any size work, a single slice among them. One case
    fails, in TensorFlow 2.21 on a processor: `predict` of stacks that differ from earlier ones in height or width, but
    not in their number and their slices, is an InvalidArgumentError, because TensorFlow folds the paddings of a dilated
    3-D convolution wrongly. `model.compile(jit_compile=True)` avoids it; `keras_scgm.segment` is not affected.

    The first eight arguments are those of `keras.applications`, in their order.

    Args:
        include_top: Whether to end with the layer "predictions"; without it the output is the 64
            features per pixel that this layer reads. Call the model as a layer to build on them; otherwise give each
            layer on top a name, because Keras may give it one that the model has, too, such as `conv2d_1`.
        weights: None for random weights, a name that `keras_scgm.list_weights` knows, or the path of a
            `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file. Weights of a `DilatedGMNet` with as many filters
            and the same rates are inflated: its kernels stand in the middle slice and zeros beside it, so that each
            slice gets what that network gives it.
        input_tensor: Keras tensor (batch, slices, height, width, channels) to read instead of a new `keras.Input`;
            the layers before it become part of the model.
        input_shape: (slices, height, width, channels) of a stack, slices from the inferior to the superior end;
            all but the channels may be None for any size. By default that of `input_tensor`, or one channel and any
            size. Pretrained weights of another number of channels are adapted as in `DilatedGMNet`.
        pooling: With `include_top=False`: None for the feature maps, (batch, slices, height, width, features);
            "avg" or "max" for their mean or maximum over the stack, (batch, features).
        classes: Number of output channels; None for that of the weights, and 1 with random ones. With another
            number than that of the weights, or if only one of the two has classes that exclude each other ("softmax",
            by the card of the weights), the output layer stays random, and all others are those of the file.
        classifier_activation: Activation of the output layer, or None for logits. "sigmoid" makes classes
            independent of each other.
        name: Name of the model.
        filters: Number of filters of each convolution but the last two.
        dilation_rates: Rates in the slice of the parallel branches, distinct and other than 2.
        dropout: Fraction of activations dropped after each layer while training.
        batch_norm_momentum: Weight of the old moving statistics at each training step.

    Returns:
        A functional `keras.Model` from (batch, slices, height, width, channels) to (batch, slices, height, width,
        classes), with values in [0, 1] for sigmoid and softmax; to features with `include_top=False`. Under a mixed
        precision policy the output layer computes in float32.

    Raises:
        keras_scgm.errors.InputError: An argument breaks its rule or contradicts the weights, which may also be
            unknown, not to be had, or unfit.

    Example:

    >>> model = DilatedGMNet3D(weights="synthetic")
    >>> model.output_shape
    (None, None, None, None, 2)
    >>> model.count_params()
    170658
    >>> DilatedGMNet3D(input_shape=(5, 200, 200, 1), include_top=False, pooling="avg").output_shape
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
        axes=STACK_AXES,
    )
    filters, dilation_rates = arguments.filters, checked_rates(dilation_rates)
    weights_file = arguments.weights_file("DilatedGMNet3D", dilation_rates=dilation_rates)
    stack = arguments.image_input()
    units = _StackUnits(arguments.dropout, arguments.batch_norm_momentum)
    features = dilated_features(stack, filters, dilation_rates, units, _average_of_slices)
    return arguments.finish(stack, features, 1, weights_file)


def _average_of_slices(x: keras.KerasTensor) -> keras.KerasTensor:
    """The mean over all positions of a slice, repeated at every position of it."""
    # Keras has a layer for the mean over a whole stack only.
    return repeated(x, keras.ops.mean(x, axis=(2, 3), keepdims=True))


class _StackUnits(Units):
    """Adds the paper's layers to a network of stacks."""

    def convolve(
        self, x: keras.KerasTensor, filters: int, kernel_size: int, name: str, dilation_rate: int = 1
    ) -> keras.KerasTensor:
        """A unit whose kernel has the given size and rate in the slice, and takes one slice or three."""
        x = layers.Conv3D(
            filters,
            (3 if name in THREE_SLICE_LAYERS else 1, kernel_size, kernel_size),
            padding="same",
            dilation_rate=(1, dilation_rate, dilation_rate),
            activation="relu",
            data_format="channels_last",
            name=name,
        )(x)
        return self.normalize(x)
