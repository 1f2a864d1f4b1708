"""What both networks are made of: argument checks, the paper's layer "unit", and the output layer."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

Activation = str | Callable[..., Any] | None


def check_arguments(
    input_shape: Sequence[int | None],
    filters: int,
    classes: int,
    dropout: float,
    batch_norm_momentum: float,
    classifier_activation: Activation,
    size_divisor: int = 1,
) -> None:
    """Raises a ValueError naming the first builder argument that breaks its rule.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        filters: Number of filters of a unit.
        classes: Number of output channels.
        dropout: Fraction of activations dropped, 0 <= dropout < 1.
        batch_norm_momentum: Weight of the old moving statistics, 0 <= momentum < 1.
        classifier_activation: Anything `keras.activations.get` takes.
        size_divisor: What height and width must be multiples of.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "keras.config.image_data_format() must be 'channels_last', "
            f"got {keras.config.image_data_format()!r}"
        )
    _check_input_shape(input_shape, size_divisor)
    check_positive_integer("filters", filters)
    check_positive_integer("classes", classes)
    for argument, value in (("dropout", dropout), ("batch_norm_momentum", batch_norm_momentum)):
        if not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ValueError(f"{argument} must be at least 0 and below 1, got {value!r}")
    try:
        keras.activations.get(classifier_activation)
    except ValueError as error:
        raise ValueError(
            "classifier_activation must be a Keras activation, its name or None, "
            f"got {classifier_activation!r}"
        ) from error


def check_positive_integer(argument: str, value: object) -> None:
    """Raises a ValueError naming `argument` unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument} must be a positive integer, got {value!r}")


def _check_input_shape(input_shape: Sequence[int | None], size_divisor: int) -> None:
    if not isinstance(input_shape, (tuple, list)) or len(input_shape) != 3:
        raise ValueError(f"input_shape must be (height, width, channels), got {input_shape!r}")
    *sizes, channels = input_shape
    check_positive_integer("input_shape's last entry, the channels,", channels)
    for size in sizes:
        if size is None:
            continue
        check_positive_integer("input_shape's height and width, where given,", size)
        if size % size_divisor:
            raise ValueError(
                f"input_shape must have a height and width that are multiples of {size_divisor}, "
                f"got {tuple(input_shape)!r}"
            )


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
