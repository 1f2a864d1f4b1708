"""Dice coefficients of slices, pooled over an epoch, to monitor a training.

They count the pixels of the network's windows; `keras_scgm.evaluation` measures whole volumes on their native
grid.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_scgm import checks
from keras_scgm.class_rules import ClassifierActivation, ClassRules, check_same_shape, weights_of_samples
from keras_scgm.errors import InputError


@keras.saving.register_keras_serializable(package="keras_scgm")
class SoftDice(keras.metrics.Metric):
    """Dice coefficient of probabilities and masks, `2 * sum(p * r) / (sum(p) + sum(r))`.

    Sums run over all slices since the last reset, for each class on its own, and nothing is added to them: where
    neither masks nor predictions hold anything of a class, its coefficient is NaN. The metric is that of the class
    `class_id`, or the mean over the classes, without those whose coefficient is NaN.

    Args:
        class_id: Class to measure, from 0; None takes the mean over the classes.
        classifier_activation: Activation of the network's output layer, as in `keras_scgm.DiceLoss`: "sigmoid" or
            "softmax"; None is "sigmoid" for one class, and refused for several.
        from_logits: Whether predictions are logits, to which the activation is applied first.
        include_background: Whether class 0 counts in the mean; None is True for "sigmoid" and False for "softmax".
        name: Name of the metric.
        dtype: Type of the sums, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Raises:
        InputError: An argument breaks its rule; on updates, if the shapes differ or the classes do not fit the
            arguments.

    Example:

    >>> import numpy as np
    >>> metric = SoftDice()
    >>> metric.update_state(np.array([[[[1.0], [0.0]]]]), np.array([[[[0.5], [0.5]]]]))
    >>> float(metric.result())
    0.5
    """

    def __init__(
        self,
        class_id: int | None = None,
        classifier_activation: ClassifierActivation | None = None,
        from_logits: bool = False,
        include_background: bool | None = None,
        name: str | None = "soft_dice",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        # As Keras's own metrics tell callbacks that more is better.
        self._direction = "up"
        self.class_id = checks.optional(checks.integer(0))("class_id", class_id)
        self.classes = ClassRules(classifier_activation, from_logits, include_background)
        # Sums of each class, once the number of classes is known.
        self.overlap: Any = None
        self.total: Any = None

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Masks (batch, height, width, classes), in [0, 1].
            y_pred: Probabilities or logits of the same shape.
            sample_weight: (batch,), multiplies what a slice adds to the sums.
        """
        y_true, y_pred = (ops.convert_to_tensor(array, dtype=self.dtype) for array in (y_true, y_pred))
        check_same_shape(y_true, y_pred)
        if self.overlap is None:
            self._add_sums(y_pred)
        y_true, y_pred = self._compared(y_true, y_pred)
        pixels = tuple(range(1, len(y_true.shape) - 1))
        overlap = ops.sum(y_true * y_pred, axis=pixels)
        total = ops.sum(y_true, axis=pixels) + ops.sum(y_pred, axis=pixels)
        if sample_weight is not None:
            weight = ops.reshape(weights_of_samples(sample_weight, self.dtype), (-1, 1))
            overlap, total = weight * overlap, weight * total
        self.overlap.assign_add(ops.sum(overlap, axis=0))
        self.total.assign_add(ops.sum(total, axis=0))

    def result(self) -> Any:
        if self.overlap is None:
            return ops.convert_to_tensor(np.nan, dtype=self.dtype)
        if self.class_id is not None:
            return 2 * self.overlap[self.class_id] / self.total[self.class_id]
        overlap, total = (
            self.classes.counted(ops.convert_to_tensor(sums)) for sums in (self.overlap, self.total)
        )
        defined = total > 0
        each = ops.where(defined, 2 * overlap / ops.where(defined, total, 1), 0)
        return ops.sum(each) / ops.sum(ops.cast(defined, self.dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_id": self.class_id, **asdict(self.classes)}

    def _add_sums(self, y_pred: Any) -> None:
        classes = y_pred.shape[-1]
        self.classes.exclusive(y_pred)
        if self.class_id is not None and self.class_id >= classes:
            raise InputError(
                f"class_id must be below the number of classes, {classes}, received {self.class_id}"
            )
        self.overlap, self.total = (
            self.add_weight(name=name, shape=(classes,), initializer="zeros", dtype=self.dtype)
            for name in ("overlap", "total")
        )

    def _compared(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """What is compared of masks and outputs, both (batch, height, width, classes)."""
        return y_true, self.classes.probabilities(y_pred)


@keras.saving.register_keras_serializable(package="keras_scgm")
class HardDice(SoftDice):
    """Dice coefficient of binary masks: `SoftDice` after both sides are binarized.

    Soft masks are binarized at 0.5.

    Args:
        threshold: Probabilities above it belong to a class, between 0 and 1. None is 0.5 for "sigmoid"; for
            "softmax" the most probable class of a pixel is then its class.
        class_id: Class to measure, as in `SoftDice`.
        classifier_activation: Activation of the network's output layer, as in `SoftDice`.
        from_logits: Whether predictions are logits, to which the activation is applied first.
        include_background: Whether class 0 counts in the mean, as in `SoftDice`.
        name: Name of the metric.
        dtype: Type of the sums, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Raises:
        InputError: As `SoftDice`.

    Example:

    >>> import numpy as np
    >>> metric = HardDice()
    >>> metric.update_state(np.array([[[[1.0], [0.0]]]]), np.array([[[[0.8], [0.4]]]]))
    >>> float(metric.result())
    1.0
    """

    def __init__(
        self,
        threshold: float | None = None,
        class_id: int | None = None,
        classifier_activation: ClassifierActivation | None = None,
        from_logits: bool = False,
        include_background: bool | None = None,
        name: str | None = "hard_dice",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(class_id, classifier_activation, from_logits, include_background, name, dtype)
        self.threshold = checks.optional(checks.number(above=0, below=1))("threshold", threshold)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}

    def _compared(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        probabilities = self.classes.probabilities(y_pred)
        if self.threshold is None and self.classes.exclusive(y_pred):
            found = ops.one_hot(ops.argmax(probabilities, axis=-1), y_pred.shape[-1])
        else:
            found = probabilities > (0.5 if self.threshold is None else self.threshold)
        return ops.cast(y_true > 0.5, self.dtype), ops.cast(found, self.dtype)
