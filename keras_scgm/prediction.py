"""Probabilities from networks: compiled once, mirrored, sampled with dropout, averaged over an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np

from keras_scgm.errors import InputError
from keras_scgm.localization import Predict
from keras_scgm.models import load_network
from keras_scgm.pretrained import WeightsCard
from keras_scgm.slices import SliceSpec

Weights: TypeAlias = str | Path | keras.Model


class Ensemble:
    """One or several networks that look at the same slices.

    Args:
        weights: known name, file, or model; several are averaged.
        mirror: average with the prediction of the left-right mirrored slices.
        dropout_passes: Monte-Carlo dropout passes of each network for `spread`.
        seed: of the dropout noise.

    Raises:
        InputError: the weights cannot be used, or not together.
        ValueError: no weights at all.
    """

    def __init__(
        self,
        weights: Weights | Sequence[Weights],
        mirror: bool = False,
        dropout_passes: int = 0,
        seed: int = 0,
    ) -> None:
        chosen = [weights] if isinstance(weights, (str, Path, keras.Model)) else list(weights)
        if not chosen:
            raise ValueError("weights must name at least one network, received an empty sequence")
        networks = [_load(item) for item in chosen]
        self.cards = [card for _, card in networks]
        specs = {SliceSpec(**card.slices) for card in self.cards}  # type: ignore[arg-type]
        if len(specs) > 1:
            names = ", ".join(card.name for card in self.cards)
            raise InputError(f"weights {names} expect different slices; they cannot form an ensemble")
        self.spec = specs.pop()
        self._mirror = mirror
        self._dropout_passes = dropout_passes
        self._seed = seed
        self._predictors = [_compiled(model) for model, _ in networks]
        self._samplers = [DropoutSampler(model) for model, _ in networks] if dropout_passes else []

    def predict(self, slices: np.ndarray) -> np.ndarray:
        """Mean gray matter probability.

        Args:
            slices: normalised, float32 (slice, rows, columns, 1).

        Returns:
            float32 (slice, rows, columns) in [0, 1].
        """
        predictions = []
        for predict in self._predictors:
            predictions.append(predict(slices))
            if self._mirror:
                predictions.append(predict(slices[:, ::-1])[:, ::-1])
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
        self._predict = _compiled(copy, training=True)

    def reset(self, seed: int) -> None:
        for number, layer in enumerate(self._dropouts):
            state = np.array([seed * len(self._dropouts) + number, 0], dtype=np.uint32)
            layer.seed_generator.state.assign(state)

    def __call__(self, slices: np.ndarray) -> np.ndarray:
        return self._predict(slices)


def _load(weights: Weights) -> tuple[keras.Model, WeightsCard]:
    if isinstance(weights, keras.Model):
        card = WeightsCard(
            name=weights.name, architecture=weights.name, arguments={}, file="model.keras", sha256="0" * 64
        )
        model = weights
    else:
        model, card = load_network(weights)
    channels_in, classes = model.input_shape[-1], model.output_shape[-1]
    if (channels_in, classes) != (1, 1):
        raise InputError(
            f"weights {card.name}: {channels_in} input channels and {classes} classes; "
            "segmentation needs one channel and one class"
        )
    return model, card


def _compiled(model: keras.Model, training: bool = False) -> Predict:
    """Prediction without the per-call overhead and the retracing of `Model.predict`."""
    if keras.backend.backend() != "tensorflow":
        return lambda slices: keras.ops.convert_to_numpy(model(slices, training=training))[..., 0]
    # Not needed, and perhaps not installed, beside the other backends.
    import tensorflow as tf

    signature = [tf.TensorSpec((None, None, None, 1), tf.float32)]
    function = tf.function(lambda slices: model(slices, training=training)[..., 0], input_signature=signature)
    return lambda slices: function(tf.constant(slices)).numpy()


def _leaves(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer
