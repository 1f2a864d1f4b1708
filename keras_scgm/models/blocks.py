"""What both networks are made of: argument checks, the paper's layer "unit", and the output layer."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_scgm import checks
from keras_scgm.errors import InputError

Activation = str | Callable[..., Any] | None


class Arguments(NamedTuple):
    """Builder arguments that have been checked, as plain Python values."""

    input_shape: tuple[int | None, ...]
    filters: int
    classes: int
    dropout: float
    batch_norm_momentum: float
    include_top: bool


def check_arguments(
    input_shape: Sequence[int | None],
    filters: int,
    classes: int,
    dropout: float,
    batch_norm_momentum: float,
    classifier_activation: Activation,
    include_top: bool,
    name: str,
    size_divisor: int = 1,
) -> Arguments:
    """Checks what both builders are called with.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        filters: Number of filters of a unit.
        classes: Number of output channels.
        dropout: Fraction of activations dropped, 0 <= dropout < 1.
        batch_norm_momentum: Weight of the old moving statistics, 0 <= momentum < 1.
        classifier_activation: Anything `keras.activations.get` takes.
        include_top: Whether there is an output layer.
        name: Name of the model.
        size_divisor: What height and width must be multiples of.

    Raises:
        keras_scgm.errors.InputError: The first argument that breaks its rule.
    """
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "keras.config.image_data_format() must be 'channels_last', "
            f"received {keras.config.image_data_format()!r}"
        )
    try:
        keras.activations.get(classifier_activation)
    except (TypeError, ValueError):
        checks.refuse("classifier_activation", "a Keras activation, its name or None", classifier_activation)
    checks.text("name", name)
    fraction = checks.number(0, below=1)
    return Arguments(
        input_shape=_check_input_shape(input_shape, size_divisor),
        filters=checks.integer(1)("filters", filters),
        classes=checks.integer(1)("classes", classes),
        dropout=fraction("dropout", dropout),
        batch_norm_momentum=fraction("batch_norm_momentum", batch_norm_momentum),
        include_top=checks.flag("include_top", include_top),
    )


def _check_input_shape(input_shape: Sequence[int | None], size_divisor: int) -> tuple[int | None, ...]:
    wanted = "(height, width, channels) of positive integers; height and width may be None"
    shape = checks.several(checks.optional(checks.integer(1)), wanted, length=3)("input_shape", input_shape)
    if shape[2] is None:
        checks.refuse("input_shape", wanted, input_shape)
    if any(size % size_divisor for size in shape[:2] if size):
        checks.refuse(
            "input_shape", f"of a height and width that are multiples of {size_divisor}", tuple(input_shape)
        )
    return shape


class Units:
    """Adds the paper's layers to a network, numbering their normalizations in creation order.

    The numbering is that of the published weight files, which are read by layer name.

    Args:
        dropout: Fraction of activations dropped after each unit.
        batch_norm_momentum: Momentum of every batch normalization.
    """

    def __init__(self, dropout: float, batch_norm_momentum: float) -> None:
        self.dropout = dropout
        self.batch_norm_momentum = batch_norm_momentum
        self._numbers = itertools.count(1)

    def convolve(
        self, x: keras.KerasTensor, filters: int, kernel_size: int, name: str, dilation_rate: int = 1
    ) -> keras.KerasTensor:
        """A unit: same-padded convolution, ReLU, batch normalization, dropout."""
        x = layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            dilation_rate=dilation_rate,
            activation="relu",
            data_format="channels_last",
            name=name,
        )(x)
        return self.normalize(x)

    def normalize(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Batch normalization over the last axis, then dropout."""
        number = next(self._numbers)
        x = layers.BatchNormalization(
            momentum=self.batch_norm_momentum, epsilon=1e-3, name=f"batch_normalization_{number}"
        )(x)
        return layers.Dropout(self.dropout, name=f"dropout_{number}")(x)


def predict(
    x: keras.KerasTensor, classes: int, kernel_size: int, classifier_activation: Activation
) -> keras.KerasTensor:
    """The output layer, named "predictions"; more than one class turns "sigmoid" into "softmax"."""
    if classes > 1 and classifier_activation == "sigmoid":
        classifier_activation = "softmax"
    return layers.Conv2D(
        classes,
        kernel_size,
        padding="same",
        activation=classifier_activation,
        data_format="channels_last",
        name="predictions",
    )(x)
