"""The paper's learning rate schedule, and early termination of collapsed training runs."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_scgm import checks
from keras_scgm.class_rules import ClassifierActivation, ClassRules
from keras_scgm.errors import InputError, counted


class PolyLearningRate(keras.callbacks.Callback):
    """Sets the "poly" learning rate, `initial_learning_rate * (1 - n / total) ** power`.

    Reference: Perone et al. 2018, equation 4, where n is the epoch. From `total` on, the rate is 0.

    A `fit` from epoch 0 starts at n = 0, even if the model was fitted before. A training that resumes with
    `initial_epoch` continues the schedule, as if all earlier epochs had as many steps as those of this `fit`. Where
    Keras does not know that number (a data set of unknown length, no `steps_per_epoch`), n is the optimizer's own
    count. Steps are batches, even where the gradients of several are accumulated. The rate is "learning_rate" in the
    logs of each epoch.

    Args:
        initial_learning_rate: Rate at n = 0, positive.
        total: Number of epochs or of steps after which the rate is 0, at least 1.
        power: The paper's p, positive.
        per: "epoch" or "step", what n and `total` count.

    Raises:
        InputError: An argument breaks its rule.

    Example:

    >>> schedule = PolyLearningRate(0.001, total=1000)
    >>> schedule.rate(0), round(schedule.rate(500), 8), schedule.rate(1001)
    (0.001, 0.00053589, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        total: int,
        power: float = 0.9,
        per: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        self.initial_learning_rate = checks.number(above=0)("initial_learning_rate", initial_learning_rate)
        self.total = checks.integer(1)("total", total)
        self.power = checks.number(above=0)("power", power)
        self.per = checks.one_of(("epoch", "step"))("per", per)
        self._fit_begins = False
        self._first_iteration = 0

    def rate(self, n: int) -> float:
        """The learning rate in epoch or step n, counted from 0."""
        return self.initial_learning_rate * max(0.0, 1 - n / self.total) ** self.power

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._fit_begins = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.per == "epoch":
            self.model.optimizer.learning_rate = self.rate(epoch)
        elif self._fit_begins:
            steps = self.params.get("steps")
            known = epoch == 0 or steps is not None
            self._first_iteration = self._iterations() - epoch * (steps or 0) if known else 0
        self._fit_begins = False

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.per == "step":
            self.model.optimizer.learning_rate = self.rate(self._iterations() - self._first_iteration)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _iterations(self) -> int:
        """Batches so far; the optimizer counts its updates, which are fewer when it accumulates gradients."""
        # The policy mixed_float16 wraps it.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        return int(ops.convert_to_numpy(optimizer.iterations)) * (optimizer.gradient_accumulation_steps or 1)


class TerminateOnCollapse(keras.callbacks.Callback):
    """Stops a training that cannot recover, with one warning that names the reason.

    A training has collapsed if the loss is not finite, which is checked after each batch, or if no probability
    exceeds `floor` in slices that contain gray matter, which is checked after each epoch. The Dice loss makes the
    second case likely: once all probabilities saturate at 0, hardly any gradient is left. With several classes,
    a detection of any of them counts, other than of the background.

    Args:
        images: Slices that contain gray matter, (slice, height, width, channels), or for networks of stacks
            (stack, slice, height, width, channels).
        floor: Lowest probability that counts as a detection.
        patience: Number of consecutive epochs without a detection after which the training stops, at least 1.
        classifier_activation: Activation of the network's output layer, as in `keras_scgm.DiceLoss`: "sigmoid" or
            "softmax"; None is "sigmoid" for one class, and refused for several.
        from_logits: Whether the network's outputs are logits.
        include_background: Whether class 0 counts; None is True for "sigmoid" and False for "softmax".

    Attributes:
        reason: The reason for stopping, or None.

    Raises:
        InputError: An argument breaks its rule.
    """

    def __init__(
        self,
        images: np.ndarray,
        floor: float = 1e-3,
        patience: int = 3,
        classifier_activation: ClassifierActivation | None = None,
        from_logits: bool = False,
        include_background: bool | None = None,
    ) -> None:
        super().__init__()
        shape = np.shape(images)
        if len(shape) not in (4, 5) or not shape[0]:
            raise InputError(
                f"images must be (slice, height, width, channels), or stacks of them, at least one, received {shape}"
            )
        self.images = images
        self.floor = checks.number(above=0, below=1)("floor", floor)
        self.patience = checks.integer(1)("patience", patience)
        self.classes = ClassRules(classifier_activation, from_logits, include_background)
        self.reason: str | None = None
        self._epoch = 0
        self._empty_epochs = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.reason = None
        self._empty_epochs = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or self.reason or np.isfinite(loss):
            return
        broken = [
            weight.path
            for weight in self.model.weights
            if not np.isfinite(ops.convert_to_numpy(weight)).all()
        ]
        where = (
            f"{counted(len(broken), 'weight')} not finite, first {broken[0]}"
            if broken
            else "weights are finite"
        )
        self._stop(f"the loss is {loss} in epoch {self._epoch + 1}, batch {batch + 1}; {where}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.reason:
            return
        # Not `predict`, whose result is in several parts when several processes train together.
        outputs = ops.cast(self.model(self.images, training=False), "float32")
        highest = float(ops.max(self.classes.counted(self.classes.probabilities(outputs))))
        self._empty_epochs = self._empty_epochs + 1 if highest < self.floor else 0
        if self._empty_epochs == self.patience:
            self._stop(
                f"no probability reached {self.floor:g} in the last {self.patience} epochs up to epoch "
                f"{epoch + 1} (highest {highest:.2g}) in {counted(len(self.images), 'slice')} with gray matter"
            )

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.model.stop_training = True
        warnings.warn(f"training stopped, the network has collapsed: {reason}", RuntimeWarning, stacklevel=2)
