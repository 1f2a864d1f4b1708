"""The paper's network with its batch normalizations folded into convolutions, for runtimes without Keras.

The folding is exact in real arithmetic: probabilities differ from those of Keras by rounding alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from keras_scgm.pretrained import dilation_rates_of

if TYPE_CHECKING:
    import keras

EPSILON = 1e-3
"""Of every batch normalisation of `keras_scgm.models`, and of the published files."""

COMPUTED_BY = (
    "activation",
    "axis",
    "center",
    "dilation_rate",
    "epsilon",
    "filters",
    "groups",
    "kernel_size",
    "padding",
    "scale",
    "strides",
    "use_bias",
)
"""Settings of a layer on which its result depends at inference; the others concern training."""

Layers = Mapping[str, Sequence[np.ndarray]]
"""Layer name -> its arrays, as `keras_scgm.pretrained.read_layers` gives them."""


class Operations(Protocol):
    """Operations that a runtime offers; feature maps have its own type and layout."""

    def convolve(self, x: Any, kernel: np.ndarray, bias: np.ndarray, rate: int) -> Any:
        """Same-padded convolution; kernel (rows, columns, channels in, channels out)."""

    def relu(self, x: Any) -> Any: ...

    def shift(self, x: Any, constants: np.ndarray) -> Any:
        """Add one constant per channel."""

    def concatenate(self, maps: list[Any]) -> Any:
        """Join along the channels."""

    def average(self, x: Any) -> Any:
        """Mean over rows and columns, which stay as axes of length 1."""

    def add(self, x: Any, y: Any) -> Any:
        """Sum; the rows and columns of `y` may be of length 1."""

    def sigmoid(self, x: Any) -> Any: ...


@dataclass(frozen=True)
class Unit:
    """relu(convolution + bias) + shift: a unit of paper 3.2 at inference.

    The scale of the batch normalisation after the ReLU is positive or negative. Its size moves into the
    convolution before the ReLU, its sign into whatever reads the result.
    """

    kernel: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    rate: int = 1

    def __call__(self, ops: Operations, x: Any) -> Any:
        return ops.shift(self.before_shift(ops, x), self.shift)

    def before_shift(self, ops: Operations, x: Any) -> Any:
        """For a reader that has the shift folded into its bias."""
        return ops.relu(ops.convolve(x, self.kernel, self.bias, self.rate))


@dataclass(frozen=True)
class FoldedNetwork:
    """`DilatedGMNet` with sigmoid outputs, ready to be computed.

    Zero padding stands between a 3x3 convolution and the shift before it, which therefore stays; a 1x1
    convolution takes it into its bias. The pooled features are the same everywhere in a slice, so they join
    as a bias and not as a repeated map.

    Args:
        local: The two units before the pooling.
        trunk: The two units of rate 2.
        branches: Two units each; what the second gives is read before its shift.
        mix: (1, 1, channels of all branches, 64) kernel of the unit after the concatenation.
        mix_pooled: (1, 1, filters, 64) its part that reads the pooled features.
        mix_bias: (64,) its bias.
        output: (1, 1, 64, classes) kernel of the last layer.
        output_bias: (classes,) its bias.
    """

    local: tuple[Unit, Unit]
    trunk: tuple[Unit, Unit]
    branches: tuple[tuple[Unit, Unit], ...]
    mix: np.ndarray
    mix_pooled: np.ndarray
    mix_bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray

    @property
    def filters(self) -> int:
        return len(self.local[0].bias)

    @property
    def classes(self) -> int:
        return len(self.output_bias)

    @property
    def dilation_rates(self) -> tuple[int, ...]:
        return tuple(second.rate for _, second in self.branches[1:])

    def __call__(self, ops: Operations, slices: Any, regions: Any = None) -> Any:
        """Probabilities (slice, rows, columns, classes) of z-scored slices, in the layout of `ops`.

        Args:
            ops: Operations of a runtime.
            slices: Whole windows, (slice, rows, columns, 1).
            regions: Parts of the windows; if given, the result is theirs. The pooled features are those of the
                whole windows: the network depends on them.
        """
        x = self._local_features(ops, slices)
        pooled = ops.convolve(ops.average(x), self.mix_pooled, self.mix_bias, 1)
        if regions is not None:
            x = self._local_features(ops, regions)
        for unit in self.trunk:
            x = unit(ops, x)
        features = []
        for first, second in self.branches:
            # A 1x1 convolution is not padded: the shift before it is in its bias.
            inner = first(ops, x) if second.kernel.shape[0] > 1 else first.before_shift(ops, x)
            features.append(second.before_shift(ops, inner))
        mixed = ops.convolve(ops.concatenate(features), self.mix, np.zeros_like(self.mix_bias), 1)
        x = ops.relu(ops.add(mixed, pooled))
        return ops.sigmoid(ops.convolve(x, self.output, self.output_bias, 1))

    def _local_features(self, ops: Operations, x: Any) -> Any:
        for unit in self.local:
            x = unit(ops, x)
        return x


def fold(layers: Layers) -> FoldedNetwork | None:
    """Folds the arrays of a `DilatedGMNet`.

    Args:
        layers: Layers of the network, in its order.

    Returns:
        The folded network; None for arrays of another network.
    """
    rates = dilation_rates_of(layers)
    folder = _Folder(layers)
    try:
        return folder.network(rates) if rates else None
    except (KeyError, ValueError, IndexError):
        # A name or a shape that this network does not have.
        return None


def fold_model(model: keras.Model) -> FoldedNetwork | None:
    """Folds a Keras model that is wired as `DilatedGMNet` wires it, whatever it was made by.

    Returns:
        None for any other network, or one whose classes exclude each other.
    """
    from keras_scgm.models import DilatedGMNet

    is_of_slices = len(model.inputs) == 1 and len(model.inputs[0].shape) == 4
    network = fold({layer.name: layer.get_weights() for layer in model.layers}) if is_of_slices else None
    if network is None:
        return None
    same = DilatedGMNet(
        input_shape=model.input_shape[1:],
        filters=network.filters,
        dilation_rates=network.dilation_rates,
        classes=network.classes,
        classifier_activation="sigmoid",
    )
    return network if _wiring(model) == _wiring(same) else None


def _wiring(model: keras.Model) -> list[Any]:
    """What each layer of a functional model computes at inference, and from which others."""
    return [
        (
            type(layer).__name__,
            layer.name,
            [parent.operation.name for node in layer._inbound_nodes for parent in node.parent_nodes],
            {key: value for key, value in layer.get_config().items() if key in COMPUTED_BY},
        )
        for layer in model.layers
    ]


class _Folder:
    """Reads units in the order of the published files' numbering of batch normalisations."""

    def __init__(self, layers: Layers) -> None:
        self._layers = {name: [np.asarray(a, np.float64) for a in arrays] for name, arrays in layers.items()}
        self._number = 0

    def network(self, rates: Sequence[int]) -> FoldedNetwork:
        ones = np.ones(1)
        local_1, signs = self._unit("conv2d_1", ones)
        local_2, local_signs = self._unit("conv2d_2", signs)
        trunk_1, signs = self._unit("rate2_1", local_signs, 2)
        trunk_2, signs = self._unit("rate2_2", signs, 2)
        first, first_signs = self._unit("branch1x1_1", signs)
        second, second_signs = self._unit("branch1x1_2", first_signs)
        second = replace(second, bias=second.bias + first.shift @ second.kernel[0, 0])
        branches, branch_signs = [(first, second)], [second_signs]
        for rate in rates:
            first, first_signs = self._unit(f"rate{rate}_1", signs, rate)
            second, second_signs = self._unit(f"rate{rate}_2", first_signs, rate)
            branches.append((first, second))
            branch_signs.append(second_signs)

        # The published files hold the pooled features before those of the last rate.
        filters = len(local_signs)
        shifts = [unit.shift for _, unit in branches]
        shifts.insert(-1, np.zeros(filters))
        concatenated = np.concatenate([*branch_signs[:-1], local_signs, branch_signs[-1]])
        scale, offset = self._normalization()
        kernel, bias = self._layers["amort"]
        if kernel.shape[:3] != (1, 1, len(concatenated)):
            raise ValueError("another number of branches")
        bias = bias + offset @ kernel[0, 0]
        kernel = kernel * (scale * concatenated)[:, np.newaxis]
        bias = bias + np.concatenate(shifts) @ kernel[0, 0]
        pooled = slice(-2 * filters, -filters)
        scale, offset = self._normalization()
        output, output_bias = self._layers["predictions"]
        if self._layers["conv2d_1"][0].shape[2] != 1:
            raise ValueError("several input channels")
        return FoldedNetwork(
            local=(local_1, local_2),
            trunk=(trunk_1, trunk_2),
            branches=tuple(branches),
            mix=np.delete(kernel, np.arange(kernel.shape[2])[pooled], axis=2),
            mix_pooled=kernel[:, :, pooled],
            mix_bias=bias,
            output=output * scale[:, np.newaxis],
            output_bias=output_bias + offset @ output[0, 0],
        )

    def _unit(self, name: str, signs: np.ndarray, rate: int = 1) -> tuple[Unit, np.ndarray]:
        """A unit that reads channels of these signs, and the signs of its own."""
        kernel, bias = self._layers[name]
        scale, offset = self._normalization()
        size, own_signs = np.abs(scale), np.where(scale < 0, -1.0, 1.0)
        unit = Unit(
            kernel=kernel * signs[:, np.newaxis] * size,
            bias=bias * size,
            shift=offset * own_signs,
            rate=rate,
        )
        return unit, own_signs

    def _normalization(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and offset of the next batch normalisation."""
        self._number += 1
        gamma, beta, mean, variance = self._layers[f"batch_normalization_{self._number}"]
        scale = gamma / np.sqrt(variance + EPSILON)
        return scale, beta - mean * scale
