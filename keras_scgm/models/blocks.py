"""Building blocks of the networks: common arguments, the paper's layer "unit", and the last layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
from keras import layers

from keras_scgm import checks
from keras_scgm.errors import InputError, one_line
from keras_scgm.pretrained import classes_of, find_card, load_weights_into, weights_for

Activation = str | Callable[..., Any] | None
Pooling = Literal["avg", "max"] | None

SLICE_AXES = ("height", "width")
STACK_AXES = ("slices", *SLICE_AXES)
"""Axes of the image that a network reads, without those of samples and channels."""


@dataclass(frozen=True)
class BuilderArguments:
    """The arguments that all builders take, checked; see `DilatedGMNet` for their meaning.

    Args:
        size_divisor: What height and width must be multiples of.
        axes: `SLICE_AXES`, or `STACK_AXES` of a network that reads stacks of slices.

    Raises:
        keras_scgm.errors.InputError: The first argument that breaks its rule.
    """

    include_top: bool
    weights: str | Path | None
    input_tensor: keras.KerasTensor | None
    input_shape: Sequence[int | None] | None
    pooling: Pooling
    classes: int | None
    classifier_activation: Activation
    name: str
    filters: int
    dropout: float
    batch_norm_momentum: float
    size_divisor: int = 1
    axes: tuple[str, ...] = SLICE_AXES

    def __post_init__(self) -> None:
        if keras.config.image_data_format() != "channels_last":
            raise InputError(
                "keras.config.image_data_format() must be 'channels_last', "
                f"received {keras.config.image_data_format()!r}"
            )
        fraction = checks.number(0, below=1)
        checks.check_fields(
            self,
            include_top=_include_top,
            pooling=checks.optional(checks.one_of(("avg", "max"))),
            classes=checks.optional(checks.integer(1)),
            classifier_activation=_activation,
            name=checks.text,
            filters=checks.integer(1),
            dropout=fraction,
            batch_norm_momentum=fraction,
            input_tensor=checks.optional(self._image_tensor),
        )
        object.__setattr__(self, "input_shape", self._checked_shape())
        if self.include_top and self.pooling is not None:
            raise InputError(f"pooling={self.pooling!r} needs include_top=False: it reduces the feature maps")
        if self.classes is None:
            weights = self.weights if self.include_top else None
            object.__setattr__(self, "classes", 1 if weights is None else classes_of(weights))
        if self.include_top and self.classes == 1 and _is_softmax(self.classifier_activation):
            raise InputError("classifier_activation='softmax' of one class is 1 everywhere; use 'sigmoid'")

    def _checked_shape(self) -> tuple[int | None, ...]:
        """The shape of an image, from `input_shape`, `input_tensor`, or both if they agree."""
        *others, last = self.axes
        rule = f"({', '.join(self.axes)}, channels) of positive integers; {', '.join(others)} and {last} may be None"
        shape: tuple[int | None, ...] = (*[None] * len(self.axes), 1)
        if self.input_shape is not None:
            size = checks.optional(checks.integer(1))
            shape = checks.several(size, rule, length=len(shape))("input_shape", self.input_shape)
            if shape[-1] is None:
                checks.refuse("input_shape", rule, self.input_shape)
        if self.input_tensor is not None:
            of_tensor = tuple(self.input_tensor.shape[1:])
            if self.input_shape is not None and of_tensor != shape:
                raise InputError(
                    f"input_shape must be that of input_tensor, {of_tensor}, or left out, received {shape}"
                )
            shape = of_tensor
        if any(size % self.size_divisor for size in shape[-3:-1] if size):
            name = "input_shape" if self.input_tensor is None else "shape of input_tensor"
            checks.refuse(
                name, f"of a height and width that are multiples of {self.size_divisor}", tuple(shape)
            )
        return shape

    def _image_tensor(self, name: str, value: Any) -> keras.KerasTensor:
        if not isinstance(value, keras.KerasTensor):
            example = (*[None] * len(self.axes), 1)
            checks.refuse(name, f"a Keras tensor, such as keras.Input({example})", value)
        shape = value.shape
        if (
            len(shape) != len(self.axes) + 2
            or shape[-1] is None
            or not keras.backend.is_float_dtype(value.dtype)
        ):
            wanted = f"of floats, (batch, {', '.join(self.axes)}, channels) with known channels"
            checks.refuse(name, wanted, value)
        return value

    def weights_file(self, architecture: str, **shaping: Any) -> Path | None:
        """The file of the weights, or None for random ones.

        Args:
            architecture: Name of the builder.
            shaping: The builder's own arguments that fix the shapes of its weights.

        Raises:
            keras_scgm.errors.InputError: As `keras_scgm.pretrained.weights_for`.
        """
        if self.weights is None:
            return None
        return weights_for(self.weights, architecture, {"filters": self.filters, **shaping})

    @property
    def _has_classes_of_weights(self) -> bool:
        """Whether classes exclude each other, or do not, in the network as in that of the weights."""
        card = None if self.weights is None else find_card(self.weights)
        if card is None or self.classifier_activation is None:
            return True
        of_weights = card.model_kwargs.get("classifier_activation", "sigmoid")
        return of_weights is None or _is_softmax(of_weights) == _is_softmax(self.classifier_activation)

    def image_input(self) -> keras.KerasTensor:
        """The input of the first layer."""
        return (
            keras.Input(self.input_shape, name="slices") if self.input_tensor is None else self.input_tensor
        )

    def finish(
        self,
        image: keras.KerasTensor,
        features: keras.KerasTensor,
        kernel_size: int,
        weights_file: Path | None,
    ) -> keras.Model:
        """The model, with the output layer "predictions" or the pooling, and its weights."""
        is_stack = self.axes == STACK_AXES
        if self.include_top:
            convolution = layers.Conv3D if is_stack else layers.Conv2D
            output = convolution(
                self.classes,
                kernel_size,
                padding="same",
                activation=self.classifier_activation,
                data_format="channels_last",
                # Probabilities saturate in half precision. Under a mixed policy this is the type of the weights.
                dtype=keras.config.dtype_policy().variable_dtype,
                name="predictions",
            )(features)
        elif self.pooling is not None:
            output = _POOLINGS[self.pooling][is_stack](
                data_format="channels_last", name=f"{self.pooling}_pool"
            )(features)
        else:
            output = features
        # Without the layers before a given tensor, which the file does not know.
        network = keras.Model(image, output, name=self.name)
        if weights_file is not None:
            load_weights_into(network, weights_file, adapt=True, loads_output=self._has_classes_of_weights)
        if self.input_tensor is None:
            return network
        sources = keras.utils.get_source_inputs(image)
        try:
            return keras.Model(sources[0] if len(sources) == 1 else sources, output, name=self.name)
        except ValueError as error:
            raise InputError(
                f"input_tensor: the layers before it do not fit: {one_line(error)}; give a layer whose name is taken "
                "another one"
            ) from error


def _is_softmax(activation: Any) -> bool:
    return keras.activations.get(activation) is keras.activations.softmax


_POOLINGS = {
    "avg": (layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    "max": (layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
}
"""Pooling -> layers for a slice and for a stack."""


def _include_top(name: str, value: Any) -> bool:
    """Checks the flag; weights or a shape in its place get a message with the keyword that was meant."""
    if isinstance(value, (str, Path)):
        raise InputError(
            f"{name} must be True or False, received {str(value)!r}; weights are named: weights={str(value)!r}"
        )
    if isinstance(value, (tuple, list)):
        raise InputError(
            f"{name} must be True or False, received {value!r}; a shape is named: input_shape={tuple(value)}"
        )
    return checks.flag(name, value)


def _activation(name: str, value: Any) -> Activation:
    try:
        keras.activations.get(value)
    except (TypeError, ValueError):
        checks.refuse(name, "a Keras activation, its name or None", value)
    return value


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
