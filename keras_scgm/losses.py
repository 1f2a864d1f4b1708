"""The paper's Dice loss, alone and with cross-entropy."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_scgm import checks
from keras_scgm.errors import InputError


@keras.saving.register_keras_serializable(package="keras_scgm")
class DiceLoss(keras.losses.Loss):
    """Negative soft Dice coefficient of probabilities and masks.

    Reference: Perone et al. 2018, equation 3, with its sign and both epsilons:
    `-(2 * sum(p * r) + epsilon) / (sum(p) + sum(r) + epsilon)`. Values lie in [-1, 0]; -1 is a perfect
    prediction, and what an empty prediction of an empty mask gets. Masks may be soft. Sums run in `dtype`
    whatever the network's precision: float16 ends at 65504, and a batch has more pixels.

    Several classes count alike, however many pixels they have: the loss is the mean over them.

    As published the sums run over the whole batch, so that slices without gray matter only count through
    what is wrongly predicted in them. Such a loss is one number, with no samples to weigh: sample weights
    (and class weights, which Keras turns into them) are refused. With `per_sample` each slice has its own
    loss, and Keras weighs and reduces them as usual.

    Args:
        epsilon: Positive; smooths the loss and decides the empty case. The published training used 1.
        per_sample: Whether Dice is computed per sample instead of over the whole batch.
        reduction: Reduction of the per-sample losses: "sum_over_batch_size", "sum", "mean",
            "mean_with_sample_weight", "none" or None. It does not change the loss of a batch.
        name: Name of the loss.
        dtype: Type of the computation, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Raises:
        InputError: An argument breaks its rule; on calls, if the shapes differ or a weight is refused.

    Example:

    >>> import numpy as np
    >>> mask = np.array([[[[1.0], [0.0]]]])
    >>> float(DiceLoss()(mask, np.array([[[[1.0], [1.0]]]])))
    -0.75
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        per_sample: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dice_loss",
        dtype: Any = "float32",
    ) -> None:
        checks.optional(checks.text)("reduction", reduction)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.epsilon = checks.number(above=0)("epsilon", epsilon)
        self.per_sample = checks.flag("per_sample", per_sample)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of masks and probabilities, both (batch, height, width, classes)."""
        if sample_weight is not None and not self.per_sample:
            raise InputError(
                f"{self.name} over a whole batch is one number that sample_weight cannot weigh; "
                "use per_sample=True or leave sample_weight and class_weight out"
            )
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        _check_shapes(y_true, y_pred)
        axes = _axes(y_true, self.per_sample)[:-1]
        overlap = ops.sum(y_true * y_pred, axis=axes)
        total = ops.sum(y_true, axis=axes) + ops.sum(y_pred, axis=axes)
        return ops.mean(-(2 * overlap + self.epsilon) / (total + self.epsilon), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dtype": self.dtype,
            "epsilon": self.epsilon,
            "per_sample": self.per_sample,
        }


@keras.saving.register_keras_serializable(package="keras_scgm")
class DiceCrossEntropyLoss(DiceLoss):
    """Weighted sum of `DiceLoss` and the binary cross-entropy averaged over pixels and classes.

    Not in the paper, which trains on Dice alone; the cross-entropy keeps a gradient where Dice saturates.
    Sample weights follow the rule of `DiceLoss`.

    Args:
        dice_weight: Weight of the Dice loss, at least 0.
        cross_entropy_weight: Weight of the cross-entropy, at least 0; the two weights may not both be 0.
        epsilon: Smoothing term of the Dice loss, positive.
        per_sample: Whether both losses are computed per sample instead of over the whole batch.
        reduction: Reduction of the per-sample losses, as in `DiceLoss`.
        name: Name of the loss.
        dtype: Type of the computation, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Raises:
        InputError: An argument breaks its rule; on calls, if the shapes differ or a weight is refused.

    Example:

    >>> import numpy as np
    >>> pixel = np.array([[[[1.0]]]])
    >>> round(float(DiceCrossEntropyLoss(cross_entropy_weight=0.5)(pixel, pixel / 2)), 4)
    -0.4534
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        epsilon: float = 1.0,
        per_sample: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dice_cross_entropy_loss",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(epsilon, per_sample, reduction, name, dtype)
        self.dice_weight = checks.number(0)("dice_weight", dice_weight)
        self.cross_entropy_weight = checks.number(0)("cross_entropy_weight", cross_entropy_weight)
        if not (self.dice_weight or self.cross_entropy_weight):
            raise InputError("dice_weight and cross_entropy_weight must not both be 0, received 0 and 0")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        dice = super().call(y_true, y_pred)
        cross_entropy = ops.mean(ops.binary_crossentropy(y_true, y_pred), axis=_axes(y_true, self.per_sample))
        return self.dice_weight * dice + self.cross_entropy_weight * cross_entropy

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dice_weight": self.dice_weight,
            "cross_entropy_weight": self.cross_entropy_weight,
        }


def _axes(y_true: Any, per_sample: bool) -> tuple[int, ...]:
    return tuple(range(int(per_sample), len(y_true.shape)))


def _check_shapes(y_true: Any, y_pred: Any) -> None:
    """Refuses shapes that would broadcast, such as four raters' masks against one prediction."""
    known = len(y_true.shape) == len(y_pred.shape) and all(
        a is None or b is None or a == b for a, b in zip(y_true.shape, y_pred.shape, strict=True)
    )
    if not known:
        raise InputError(
            "y_true and y_pred must have the same shape, "
            f"received {tuple(y_true.shape)} and {tuple(y_pred.shape)}"
        )
