"""Loss, optimizer, learning rate and compilation of a training, as its settings name them."""

from __future__ import annotations

from copy import deepcopy

import keras

from keras_scgm.callbacks import PolyLearningRate
from keras_scgm.losses import DiceCrossEntropyLoss, DiceLoss
from keras_scgm.training.config import TrainingConfig


def loss_of(config: TrainingConfig) -> keras.losses.Loss:
    """The loss that `TrainingConfig.loss` and `cross_entropy_weight` describe."""
    if config.loss is not None:
        return keras.losses.get(deepcopy(config.loss))
    weight = config.cross_entropy_weight
    # Gray matter lies in the cord: the classes do not exclude each other.
    if not weight:
        return DiceLoss(classifier_activation="sigmoid")
    return DiceCrossEntropyLoss(cross_entropy_weight=weight, classifier_activation="sigmoid")


def optimizer_of(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """Adam, with the averages of the weights if the settings ask for them."""
    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if (config.schedule, config.rate_per) == ("cosine", "step"):
        rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    return keras.optimizers.Adam(
        rate, use_ema=config.ema_momentum > 0, ema_momentum=config.ema_momentum or 0.99
    )


def compile_model(model: keras.Model, config: TrainingConfig, loss: keras.losses.Loss | None = None) -> None:
    """Compile a model with the optimizer of the settings, whose variables are then there for a checkpoint."""
    # Without XLA, Keras computes one operation at a time on JAX.
    model.compile(optimizer_of(config), loss, jit_compile=config.xla or keras.backend.backend() == "jax")
    # Under the policy mixed_float16, Keras has wrapped the optimizer.
    model.optimizer.build(model.trainable_variables)


def rate_callbacks(config: TrainingConfig) -> list[keras.callbacks.Callback]:
    """The callbacks that set the learning rate; none where it stays or the optimizer has the schedule itself."""
    if config.schedule == "poly":
        total = config.steps if config.rate_per == "step" else config.epochs
        return [PolyLearningRate(config.learning_rate, total, config.power, config.rate_per)]
    if (config.schedule, config.rate_per) == ("cosine", "epoch"):
        cosine = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs)
        return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: float(cosine(epoch)))]
    return []
