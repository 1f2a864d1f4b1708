"""What a step of a training does with a batch: the part of the loop that other ways to learn replace."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import keras
import numpy as np

from keras_scgm.training.config import TrainingConfig
from keras_scgm.training.network import training_copy
from keras_scgm.training.objective import compile_model, loss_of


@runtime_checkable
class Method(Protocol):
    """How a network learns from batches."""

    def model(self, network: keras.Model, config: TrainingConfig) -> keras.Model:
        """The model that `keras.Model.fit` trains, compiled.

        It takes the inputs of the batches and, outside training, the slices that the network takes.

        Args:
            network: The network with its initial weights.
            config: Settings of the training.
        """

    def judged_weights(self, model: keras.Model, config: TrainingConfig) -> list[np.ndarray]:
        """Weights that are validated and saved, in the order of the network's; the model is left as it is.

        Args:
            model: What `model` returned, at the end of an epoch.
            config: Settings of the training.
        """


class Supervised:
    """Learning from masks alone: the paper's protocol (3.4)."""

    def model(self, network: keras.Model, config: TrainingConfig) -> keras.Model:
        model = training_copy(network, config)
        compile_model(model, config, loss_of(config))
        return model

    def judged_weights(self, model: keras.Model, config: TrainingConfig) -> list[np.ndarray]:
        """The averaged weights, if the settings ask for them."""
        weights = model.get_weights()
        if not config.ema_momentum:
            return weights
        model.optimizer.finalize_variable_values(model.trainable_variables)
        averaged = model.get_weights()
        model.set_weights(weights)
        return averaged
