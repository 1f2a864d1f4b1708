"""The paper's Dice loss, alone and with cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import keras
from keras import ops

from keras_scgm import checks
from keras_scgm.class_rules import ClassifierActivation, ClassRules, check_same_shape, weights_of_samples
from keras_scgm.errors import InputError


@keras.saving.register_keras_serializable(package="keras_scgm")
class DiceLoss(keras.losses.Loss):
    """Negative soft Dice coefficient of probabilities and masks.

    Reference: Perone et al. 2018, equation 3, with its sign and both epsilons:
    `-(2 * sum(p * r) + epsilon) / (sum(p) + sum(r) + epsilon)`. Values lie in [-1, 0]; -1 is a perfect
    prediction, and what an empty prediction of an empty mask gets. Masks may be soft. Sums run in `dtype`
    whatever the network's precision: float16 ends at 65504, and a batch has more pixels.

    The loss of several classes is the mean over them, however many pixels they have. `classifier_activation`, which
    must be that of the network, tells whether they exclude each other.

    As published, the sums run over the whole batch, so that slices without gray matter only count through
    what is wrongly predicted in them. Under a `tf.distribute` strategy they run over the shares of all
    replicas, which then train as one. Such a loss is one number, with no samples to weigh: sample weights
    (and class weights, which Keras turns into them) are refused. With `per_sample` each slice has its own
    loss, and Keras weighs and reduces them as usual; weights are one number for each slice, and class
    weights are refused.

    Args:
        epsilon: Positive; smooths the loss and decides the empty case. The published training used 1.
        per_sample: Whether Dice is computed per sample instead of over the whole batch.
        classifier_activation: Activation of the network's output layer, as in the builders: "sigmoid" for classes
            that are independent of each other, "softmax" for classes of which each pixel has one. None is "sigmoid"
            for one class, and refused for several.
        from_logits: Whether `y_pred` holds logits, to which the activation is applied first.
        include_background: Whether class 0 counts; None is True for "sigmoid" and False for "softmax".
        reduction: Reduction of the per-sample losses: "sum_over_batch_size", "sum", "mean",
            "mean_with_sample_weight", "none" or None. It does not change the loss of a batch.
        name: Name of the loss.
        dtype: Type of the computation, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Raises:
        InputError: An argument breaks its rule; on calls, if the shapes differ, a weight is refused, or the classes
            do not fit the arguments.

    Example:

    >>> import numpy as np
    >>> mask = np.array([[[[1.0], [0.0]]]])
    >>> float(DiceLoss()(mask, np.array([[[[1.0], [1.0]]]])))
    -0.75
    >>> background, ripe = np.array([[[[1.0, 0.0]]]]), np.array([[[[0.0, 1.0]]]])
    >>> float(DiceLoss(classifier_activation="softmax")(ripe, background))
    -0.5
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        per_sample: bool = False,
        classifier_activation: ClassifierActivation | None = None,
        from_logits: bool = False,
        include_background: bool | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dice_loss",
        dtype: Any = "float32",
    ) -> None:
        checks.optional(checks.text)("reduction", reduction)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.epsilon = checks.number(above=0)("epsilon", epsilon)
        self.per_sample = checks.flag("per_sample", per_sample)
        self.classes = ClassRules(classifier_activation, from_logits, include_background)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of masks and probabilities, both (batch, height, width, classes)."""
        if sample_weight is not None and not self.per_sample:
            raise InputError(
                f"{self.name} over a whole batch is one number that sample_weight cannot weigh; "
                "use per_sample=True or leave sample_weight and class_weight out"
            )
        y_true, y_pred = (ops.convert_to_tensor(array, dtype=self.dtype) for array in (y_true, y_pred))
        if sample_weight is not None:
            sample_weight = weights_of_samples(sample_weight, self.dtype)
        loss = super().__call__(y_true, y_pred, sample_weight)
        context = None if self.per_sample else _replicas()
        # Keras adds up the losses and the gradients of the replicas, each of which has that of the whole batch.
        return loss if context is None else loss / context.num_replicas_in_sync

    def call(self, y_true: Any, y_pred: Any) -> Any:
        check_same_shape(y_true, y_pred)
        y_true, y_pred = (
            self.classes.counted(array) for array in (y_true, self.classes.probabilities(y_pred))
        )
        axes = self._reduced_axes(y_true)[:-1]
        overlap, total = self._over_batch(
            ops.sum(y_true * y_pred, axis=axes), ops.sum(y_true, axis=axes) + ops.sum(y_pred, axis=axes)
        )
        return ops.mean(-(2 * overlap + self.epsilon) / (total + self.epsilon), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dtype": self.dtype,
            "epsilon": self.epsilon,
            "per_sample": self.per_sample,
            **asdict(self.classes),
        }

    def _reduced_axes(self, array: Any) -> tuple[int, ...]:
        return tuple(range(int(self.per_sample), len(array.shape)))

    def _over_batch(self, *sums: Any) -> Sequence[Any]:
        """The sums over the shares of all replicas, of sums over one share."""
        context = None if self.per_sample else _replicas()
        return sums if context is None else context.all_reduce("SUM", sums)


@keras.saving.register_keras_serializable(package="keras_scgm")
class DiceCrossEntropyLoss(DiceLoss):
    """Weighted sum of `DiceLoss` and the cross-entropy averaged over pixels.

    Not in the paper, which trains on Dice alone; the cross-entropy keeps a gradient where Dice saturates. It is the
    binary one, averaged over the classes, for "sigmoid", and the categorical one for "softmax". The latter counts the
    background whatever `include_background`, because each pixel has a class. Sample weights and replicas are
    treated as in `DiceLoss`.

    Args:
        dice_weight: Weight of the Dice loss, at least 0.
        cross_entropy_weight: Weight of the cross-entropy, at least 0; the two weights may not both be 0.
        epsilon: Smoothing term of the Dice loss, positive.
        per_sample: Whether both losses are computed per sample instead of over the whole batch.
        classifier_activation: Activation of the network's output layer, as in `DiceLoss`.
        from_logits: Whether `y_pred` holds logits, to which the activation is applied first.
        include_background: Whether class 0 counts, as in `DiceLoss`.
        reduction: Reduction of the per-sample losses, as in `DiceLoss`.
        name: Name of the loss.
        dtype: Type of the computation, a name or a `keras.DTypePolicy`; None takes `keras.config.floatx()`.

    Raises:
        InputError: An argument breaks its rule; on calls, as in `DiceLoss`.

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
        classifier_activation: ClassifierActivation | None = None,
        from_logits: bool = False,
        include_background: bool | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dice_cross_entropy_loss",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(
            epsilon,
            per_sample,
            classifier_activation,
            from_logits,
            include_background,
            reduction,
            name,
            dtype,
        )
        self.dice_weight = checks.number(0)("dice_weight", dice_weight)
        self.cross_entropy_weight = checks.number(0)("cross_entropy_weight", cross_entropy_weight)
        if not (self.dice_weight or self.cross_entropy_weight):
            raise InputError("dice_weight and cross_entropy_weight must not both be 0, received 0 and 0")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        dice = super().call(y_true, y_pred)
        if self.classes.exclusive(y_pred):
            losses = ops.categorical_crossentropy(y_true, y_pred, from_logits=self.classes.from_logits)
        else:
            y_true, y_pred = self.classes.counted(y_true), self.classes.counted(y_pred)
            losses = ops.binary_crossentropy(y_true, y_pred, from_logits=self.classes.from_logits)
        axes = self._reduced_axes(losses)
        # Shares differ in size where the replicas do not divide the batch.
        total, count = self._over_batch(ops.sum(losses, axis=axes), ops.sum(ops.ones_like(losses), axis=axes))
        return self.dice_weight * dice + self.cross_entropy_weight * total / count

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dice_weight": self.dice_weight,
            "cross_entropy_weight": self.cross_entropy_weight,
        }


def _replicas() -> Any:
    """The replica that TensorFlow computes just now as one of several, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
