"""Probabilities from networks: compiled once, mirrored, sampled with dropout, averaged over an ensemble.

Keras is imported only for networks that a runtime cannot compute without it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.pretrained import DARK, WeightsCard, read_layers, resolve_weights
from keras_scgm.runtimes import Network, check_choice, open_runtime
from keras_scgm.runtimes.folding import FoldedNetwork, fold, fold_model
from keras_scgm.slices import SliceSpec

if TYPE_CHECKING:
    import keras

Weights: TypeAlias = Union[str, Path, "keras.Model"]


class Ensemble:
    """One or several networks that look at the same slices.

    Args:
        weights: known name, file, or model; several are averaged.
        mirror: average with the prediction of the left-right mirrored slices.
        dropout_passes: Monte-Carlo dropout passes of each network for `spread`.
        seed: of the dropout noise.
        runtime: what computes them, see `keras_scgm.runtimes.open_runtime`.
        precision: of the computation, see `keras_scgm.runtimes.open_runtime`.

    Attributes:
        spec: the slices that the networks expect.
        runtime: name, version and precision.
        takes_crops: whether `predict` takes `crops`.
        knows_dark: whether all of them know gray matter that is darker than white matter.

    Raises:
        InputError: the weights cannot be used, or not together, there are none, or the runtime cannot run them.
    """

    def __init__(
        self,
        weights: Weights | Sequence[Weights],
        mirror: bool = False,
        dropout_passes: int = 0,
        seed: int = 0,
        runtime: str | None = None,
        precision: str = "float32",
    ) -> None:
        check_choice(runtime, precision)
        several = isinstance(weights, Sequence) and not isinstance(weights, str)
        chosen: list[Weights] = [*weights] if several else [weights]  # type: ignore[misc]
        if not chosen:
            checks.refuse("weights", "at least one network", weights)
        networks = [_load(item) for item in chosen]
        self.cards = [card for _, card in networks]
        specs = {SliceSpec(**card.slices) for card in self.cards}  # type: ignore[arg-type]
        if len(specs) > 1:
            names = ", ".join(card.name for card in self.cards)
            raise InputError(f"weights {names} expect different slices; they cannot form an ensemble")
        self.spec = specs.pop()
        self.knows_dark = all(DARK in card.contrasts for card in self.cards)
        self._mirror = mirror
        self._dropout_passes = dropout_passes
        self._seed = seed
        runtimes = [open_runtime(network, runtime, precision) for network, _ in networks]
        self.runtime = str(runtimes[0])
        self._predictors = [runtime.predict for runtime in runtimes]
        self.takes_crops = all(runtime.takes_crops for runtime in runtimes)
        self._samplers = [DropoutSampler(network.model) for network, _ in networks] if dropout_passes else []

    def predict(self, slices: np.ndarray, crops: np.ndarray | None = None) -> np.ndarray:
        """Mean gray matter probability.

        Args:
            slices: normalised, float32 (slice, rows, columns, 1).
            crops: parts of them whose probabilities are wanted, for networks that take them.

        Returns:
            float32 (slice, rows, columns) in [0, 1], of the crops if given.
        """
        given = [slices] if crops is None else [slices, crops]
        predictions = []
        for predict in self._predictors:
            predictions.append(predict(*given))
            if self._mirror:
                predictions.append(predict(*(array[:, ::-1] for array in given))[:, ::-1])
        return np.mean(predictions, axis=0)

    def reset_dropout(self) -> None:
        """Start the dropout noise anew, so that an image's map does not depend on those before it."""
        for number, sampler in enumerate(self._samplers):
            sampler.reset(self._seed + number)

    def spread(self, slices: np.ndarray) -> np.ndarray:
        """Standard deviation over the dropout passes of all networks.

        Args:
            slices: normalised, float32 (slice, rows, columns, 1).

        Returns:
            float32 (slice, rows, columns) in [0, 0.5].
        """
        passes = range(self._dropout_passes)
        return np.std([sampler(slices) for sampler in self._samplers for _ in passes], axis=0)


class DropoutSampler:
    """A copy of a network whose dropout stays on (Gal and Ghahramani 2016), batch normalisation off.

    Args:
        model: the network; it is not changed.

    Raises:
        InputError: it has no dropout.
    """

    def __init__(self, model: keras.Model) -> None:
        import keras

        from keras_scgm.runtimes.keras_network import predictor

        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        layers = list(_leaves(copy))
        self._dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout) and layer.rate]
        if not self._dropouts:
            raise InputError(
                f"network {model.name} has no dropout, which an uncertainty map needs; "
                "choose weights trained with it, such as challenge"
            )
        for layer in layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                # A frozen BatchNormalization keeps its moving statistics even with training=True.
                layer.trainable = False
        self._predict = predictor(copy, training=True)

    def reset(self, seed: int) -> None:
        for number, layer in enumerate(self._dropouts):
            state = np.array([(seed * len(self._dropouts) + number) % 2**32, 0], dtype=np.uint32)
            layer.seed_generator.state.assign(state)

    def __call__(self, slices: np.ndarray) -> np.ndarray:
        return self._predict(slices)


def _load(weights: Weights) -> tuple[Network, WeightsCard]:
    if not isinstance(weights, (str, Path)):
        if not ("keras" in sys.modules and isinstance(weights, sys.modules["keras"].Model)):
            checks.refuse("weights", "a known name, a path or a Keras model", weights)
        card = WeightsCard(
            name=weights.name,
            architecture=weights.name,
            arguments={},
            file="model.keras",
            sha256=_sha256_of_model(weights),
        )
        return _from_model(weights, card)
    path, described = resolve_weights(weights)
    folded = _folded(path, described) if described else None
    if described and folded:
        return Network(folded, lambda: _load_model(weights)[0], described.name), described
    return _from_model(*_load_model(weights))


def _sha256_of_model(model: keras.Model) -> str:
    """Of the layers and the weights, all that the network's answers depend on."""
    try:
        config = model.get_config()
    except NotImplementedError:
        config = {"class": type(model).__qualname__}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode())
    for array in model.get_weights():
        digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _folded(path: Path, card: WeightsCard) -> FoldedNetwork | None:
    """The network of a file that holds just what its card says, and no wiring of its own."""
    if card.architecture != "DilatedGMNet" or path.suffix == ".keras":
        return None
    folded = fold(read_layers(path))
    if folded is None:
        return None
    filters, rates = folded.filters, list(folded.dilation_rates)
    as_described = (
        card.arguments.get("filters") == filters
        and list(card.arguments.get("dilation_rates", rates)) == rates
    )
    return folded if as_described else None


def _from_model(model: keras.Model, card: WeightsCard) -> tuple[Network, WeightsCard]:
    channels_in, classes = model.input_shape[-1], model.output_shape[-1]
    if (channels_in, classes) != (1, 1):
        raise InputError(
            f"weights {card.name}: {channels_in} input channels and {classes} classes; "
            "segmentation needs one channel and one class"
        )
    return Network(fold_model(model), lambda: model, card.name), card


def _load_model(weights: str | Path) -> tuple[keras.Model, WeightsCard]:
    from keras_scgm.models import load_network

    return load_network(weights)


def _leaves(model: keras.Model) -> Iterator[keras.Layer]:
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer
