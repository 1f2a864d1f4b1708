"""Networks from weights: loaded, compiled and averaged.

Keras is imported only for networks that a runtime cannot compute without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.predict import UnknownContrast
from keras_scgm.pretrained import (
    BRIGHT,
    CORD,
    DARK,
    DEFAULT_WEIGHTS,
    TISSUES,
    WeightsCard,
    ensemble_members,
    find_card,
    read_layers,
    resolve_weights,
    tissues_of_outputs,
)
from keras_scgm.runtimes import LoadedNetwork, check_choice, open_runtime
from keras_scgm.runtimes.folding import FoldedNetwork, fold, fold_model
from keras_scgm.slices import SliceConfig

if TYPE_CHECKING:
    import keras

Weights: TypeAlias = Union[str, Path, "keras.Model"]


class Ensemble:
    """One or several networks that share one input specification.

    Args:
        weights: Known name, file, model, or card of an ensemble; several are averaged.
        mirror: Whether to average with the prediction of the left-right mirrored slices.
        runtime: Program that computes the networks, one of `keras_scgm.runtimes.NAMES`.
        precision: Precision of the computation, one of `keras_scgm.runtimes.PRECISIONS`.
        binarize: "native" or "paper": which gray matter threshold of the weights' cards counts.
        threshold: Probability above which a pixel is gray matter; the mean of the cards' if not given.
        cord: "auto" for the cord that the networks segment, if they do; "ours" for that of the default weights; "none"
            for gray matter alone.

    Attributes:
        networks: The networks as they were loaded.
        config: The slices that the networks expect.
        cards: Weights cards.
        cord_card: Card of the weights whose cord is taken in place of the networks' own; None if it is not.
        tissues: What the networks segment, one of `keras_scgm.pretrained.TISSUES`.
        thresholds: Probability above which a pixel is of a tissue, for each tissue.
        predict: Mean probabilities, a `keras_scgm.predict.Predict`.
        members: One function per network, like `predict` without mirroring.
        runtime: Name, version and precision of the runtime.
        slice_reach: How many slices on either side of a slice the networks see; None if they all see single slices.
        unknown_contrast: Contrast that not all networks were trained for.

    Raises:
        InputError: the weights cannot be used, or not together, there are none, or the runtime cannot run them.
    """

    def __init__(
        self,
        weights: Weights | Sequence[Weights],
        *,
        mirror: bool = False,
        runtime: str = "auto",
        precision: str = "float32",
        binarize: Literal["native", "paper"] = "native",
        threshold: float | None = None,
        cord: str = "auto",
    ) -> None:
        check_choice(runtime, precision)
        several = isinstance(weights, Sequence) and not isinstance(weights, str)
        chosen: list[Weights] = [*weights] if several else [weights]  # type: ignore[misc]
        if not chosen:
            checks.refuse("weights", "at least one network", weights)
        loaded = [_load(member) for item in chosen for member in ensemble_members(item)]
        self.networks = tuple(network for network, _ in loaded)
        self.cards = [card for _, card in loaded]
        configs = {card.slices for card in self.cards}
        if len(configs) > 1:
            names = ", ".join(card.name for card in self.cards)
            raise InputError(f"weights {names} expect different slices; they cannot form an ensemble")
        self.config = configs.pop()
        if len({card.tissues for card in self.cards}) > 1:
            several_tissues = "; ".join(
                f"{card.name}: {' and '.join(card.tissues).replace('_', ' ')}" for card in self.cards
            )
            raise InputError(
                f"weights that segment different tissues cannot form an ensemble ({several_tissues})"
            )
        takes_other = cord == "ours" and not _is_default(self.cards)
        of_cord: LoadedNetwork | None = None
        self.cord_card: WeightsCard | None = None
        if takes_other:
            of_cord, self.cord_card = _our_cord(self.config)
        self.tissues = TISSUES[0] if cord == "none" else (self.cord_card or self.cards[0]).tissues
        self.unknown_contrast = _unknown_contrast(self.cards)
        thresholds = [card.paper_threshold if binarize == "paper" else card.threshold for card in self.cards]
        self.thresholds: tuple[float, ...] = (float(np.mean(thresholds)) if threshold is None else threshold,)
        if CORD in self.tissues:
            cord_cards = [self.cord_card] if self.cord_card else self.cards
            self.thresholds += (float(np.mean([card.cord_threshold for card in cord_cards])),)
        opened = open_runtime(
            self.networks,
            runtime,
            precision,
            mirror=mirror,
            spacing_mm=self.config.spacing_mm,
            thresholds=self.thresholds,
            cord=of_cord,
        )
        self.runtime = str(opened)
        self.slice_reach = opened.slice_reach
        self.members = opened.members
        self.predict = opened.predict


def _unknown_contrast(cards: Sequence[WeightsCard]) -> UnknownContrast:
    knows_bright, knows_dark = (all(one in card.contrasts for card in cards) for one in (BRIGHT, DARK))
    if not (knows_bright or knows_dark):
        several = "; ".join(f"{card.name}: {' and '.join(card.contrasts)}" for card in cards)
        raise InputError(f"weights for different contrasts cannot form an ensemble ({several})")
    if knows_bright:
        return 0 if knows_dark else -1
    return 1


def _is_default(cards: Sequence[WeightsCard]) -> bool:
    default = find_card(DEFAULT_WEIGHTS)
    return default is not None and {card.sha256 for card in cards} == {default.sha256}


def _our_cord(config: SliceConfig) -> tuple[LoadedNetwork, WeightsCard]:
    """The default weights, for networks that expect the same slices."""
    network, card = _load(DEFAULT_WEIGHTS)
    if CORD not in card.tissues:
        raise InputError(f"the default weights, {card.name}, do not segment the cord; give a mask of it")
    if card.slices != config:
        raise InputError(
            f"the default weights, {card.name}, expect other slices than the weights; give a mask of the cord"
        )
    return network, card


def _load(weights: Weights) -> tuple[LoadedNetwork, WeightsCard]:
    if not isinstance(weights, (str, Path)):
        import keras

        if not isinstance(weights, keras.Model):
            checks.refuse("weights", "a known name, a path or a Keras model", weights)
        card = WeightsCard(
            name=weights.name,
            architecture=weights.name,
            model_kwargs={},
            file="model.keras",
            sha256=_sha256_of_model(weights),
            tissues=tissues_of_outputs(weights.output_shape[-1]),
        )
        return _from_model(weights, card)
    path, described = resolve_weights(weights)
    folded = _folded(path, described) if described else None
    if described and folded:
        return LoadedNetwork(folded, lambda: _load_model(weights)[0], described.name), described
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
    described: dict[str, Any] = {
        "filters": filters,
        "dilation_rates": rates,
        "classifier_activation": "sigmoid",
    }
    described |= {key: card.model_kwargs[key] for key in described if key in card.model_kwargs}
    as_described = (
        described["filters"] == filters
        and list(described["dilation_rates"]) == rates
        and described["classifier_activation"] == "sigmoid"
        and len(card.tissues) == folded.classes
    )
    return folded if as_described else None


def _from_model(model: keras.Model, card: WeightsCard) -> tuple[LoadedNetwork, WeightsCard]:
    import keras

    channels_in, classes = model.input_shape[-1], model.output_shape[-1]
    if channels_in != 1 or classes not in map(len, TISSUES):
        raise InputError(
            f"weights {card.name}: {channels_in} input channels and {classes} classes; "
            "segmentation needs one channel and one class, gray matter, or two, gray matter and cord"
        )
    if classes != len(card.tissues):
        raise InputError(
            f"weights {card.name}: {classes} classes, of which the card names {len(card.tissues)}; "
            "give their tissues in the card"
        )
    activation = _last_activation(model)
    if activation is keras.activations.linear:
        raise InputError(
            f"weights {card.name}: the network ends in logits; segmentation needs probabilities, "
            "which the activation sigmoid gives"
        )
    if classes > 1 and activation is not keras.activations.sigmoid:
        raise InputError(
            f"weights {card.name}: the classes exclude each other, but the cord contains the gray matter; "
            "segmentation needs the activation sigmoid, which the card of a weights file says"
        )
    return LoadedNetwork(fold_model(model), lambda: model, card.name), card


def _last_activation(model: keras.Model) -> Any:
    """Activation of the last layer, None if it is not known."""
    import keras

    history = getattr(model.outputs[0], "_keras_history", None) if model.outputs else None
    layer = history.operation if history else None
    # A linear one alone often ends a network of half precision, to give its probabilities in float32.
    return None if isinstance(layer, keras.layers.Activation) else getattr(layer, "activation", None)


def _load_model(weights: str | Path) -> tuple[keras.Model, WeightsCard]:
    from keras_scgm.models import load_network

    return load_network(weights)
