"""Dice coefficients of slices, pooled over an epoch, to monitor a training.

They count the pixels of the network's windows; `keras_scgm.evaluation` measures whole volumes on their native
grid.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_scgm import checks
from keras_scgm.errors import InputError


@keras.saving.register_keras_serializable(package="keras_scgm")
class SoftDice(keras.metrics.Metric):
    """Dice coefficient of probabilities and masks, `2 * sum(p * r) / (sum(p) + sum(r))`.

    Sums run over all slices since the last reset, and nothing is added to them: where neither
    masks nor predictions hold anything, the coefficient is NaN.

    Args:
        name: Name of the metric.
        dtype: Type of the sums, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Example:

    >>> import numpy as np
    >>> metric = SoftDice()
    >>> metric.update_state(np.array([[[[1.0], [0.0]]]]), np.array([[[[0.5], [0.5]]]]))
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name: str | None = "soft_dice", dtype: Any = "float32") -> None:
        super().__init__(name=name, dtype=dtype)
        self.overlap = self.add_weight(name="overlap", initializer="zeros", dtype=self.dtype)
        self.total = self.add_weight(name="total", initializer="zeros", dtype=self.dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Masks (batch, height, width, classes), in [0, 1].
            y_pred: Probabilities of the same shape.
            sample_weight: (batch,), multiplies what a slice adds to the sums.
        """
        y_true = ops.cast(y_true, self.dtype)
        y_pred = ops.cast(y_pred, self.dtype)
        if tuple(y_true.shape[1:]) != tuple(y_pred.shape[1:]):
            raise InputError(
                "y_true and y_pred must have the same shape, "
                f"received {tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            )
        pixels = tuple(range(1, len(y_true.shape)))
        overlap = ops.sum(y_true * y_pred, axis=pixels)
        total = ops.sum(y_true, axis=pixels) + ops.sum(y_pred, axis=pixels)
        if sample_weight is not None:
            weight = ops.reshape(ops.cast(sample_weight, self.dtype), ops.shape(overlap))
            overlap, total = weight * overlap, weight * total
        self.overlap.assign_add(ops.sum(overlap))
        self.total.assign_add(ops.sum(total))

    def result(self) -> Any:
        return 2 * self.overlap / self.total


@keras.saving.register_keras_serializable(package="keras_scgm")
class HardDice(SoftDice):
    """Dice coefficient of binary masks: `SoftDice` after both sides are binarized.

    Soft masks are binarized at 0.5.

    Args:
        threshold: Probabilities above it are gray matter, between 0 and 1.
        name: Name of the metric.
        dtype: Type of the sums, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Example:

    >>> import numpy as np
    >>> metric = HardDice()
    >>> metric.update_state(np.array([[[[1.0], [0.0]]]]), np.array([[[[0.8], [0.4]]]]))
    >>> float(metric.result())
    1.0
    """

    def __init__(
        self, threshold: float = 0.5, name: str | None = "hard_dice", dtype: Any = "float32"
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold = checks.number(above=0, below=1)("threshold", threshold)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; arguments as in `SoftDice.update_state`."""
        super().update_state(
            ops.cast(y_true, self.dtype) > 0.5, ops.cast(y_pred, self.dtype) > self.threshold, sample_weight
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}
