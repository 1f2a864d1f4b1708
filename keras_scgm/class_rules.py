"""What the last axis of a network's outputs holds: independent classes or exclusive ones, probabilities or logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from keras import ops

from keras_scgm import checks
from keras_scgm.errors import InputError

ClassifierActivation = Literal["sigmoid", "softmax"]


@dataclass(frozen=True)
class ClassRules:
    """How losses, metrics and callbacks read the outputs of a network.

    Args:
        classifier_activation: Activation of the network's output layer, as in the builders: "sigmoid" for classes that
            are independent of each other, "softmax" for classes of which each pixel has one. None is "sigmoid" for one
            class, and refused for several.
        from_logits: Whether the network's outputs are logits, to which the activation is still to be applied.
        include_background: Whether class 0 counts in a mean over classes; None is True for "sigmoid" and False for
            "softmax", whose class 0 is the background.

    Raises:
        InputError: An argument breaks its rule.
    """

    classifier_activation: ClassifierActivation | None = None
    from_logits: bool = False
    include_background: bool | None = None

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            classifier_activation=checks.optional(checks.one_of(("sigmoid", "softmax"))),
            from_logits=checks.flag,
            include_background=checks.optional(checks.flag),
        )

    def exclusive(self, outputs: Any) -> bool:
        """Whether each pixel of these outputs, (..., classes), has one class.

        Raises:
            InputError: The outputs have several classes and nobody said of which kind, or one class under a rule for
                several.
        """
        classes = outputs.shape[-1]
        if self.classifier_activation is None and classes != 1:
            raise InputError(
                f"classifier_activation must be that of the network, since it has {classes} classes: 'softmax' if "
                "each pixel has one of them, 'sigmoid' if they are independent of each other"
            )
        if classes == 1 and (self.classifier_activation == "softmax" or self.include_background is False):
            raise InputError(
                "classifier_activation='softmax' and include_background=False need several classes, received 1"
            )
        return self.classifier_activation == "softmax"

    def probabilities(self, outputs: Any) -> Any:
        """The probabilities of the classes, of the outputs' shape."""
        if not self.from_logits:
            return outputs
        return ops.softmax(outputs, axis=-1) if self.exclusive(outputs) else ops.sigmoid(outputs)

    def counted(self, values: Any) -> Any:
        """What counts in a mean over classes, of values (..., classes): all of them, or those from 1 on."""
        exclusive = self.exclusive(values)
        include = not exclusive if self.include_background is None else self.include_background
        return values if include else values[..., 1:]


def check_same_shape(y_true: Any, y_pred: Any) -> None:
    """Refuses shapes that would broadcast, such as four raters' masks against one prediction."""
    shapes = tuple(y_true.shape), tuple(y_pred.shape)
    same = len(shapes[0]) == len(shapes[1]) and all(
        a is None or b is None or a == b for a, b in zip(*shapes, strict=True)
    )
    if not same:
        labels = shapes[0][:3] == shapes[1][:3] and len(shapes[1]) == 4 and shapes[0][3:] in ((), (1,))
        remedy = "; keras.ops.one_hot makes masks of integer labels" if labels else ""
        raise InputError(
            f"y_true and y_pred must have the same shape, received {shapes[0]} and {shapes[1]}{remedy}"
        )


def weights_of_samples(sample_weight: Any, dtype: Any) -> Any:
    """One weight for each sample, (batch,), or one for all; weights of pixels and of classes are refused."""
    weights = ops.convert_to_tensor(sample_weight, dtype=dtype)
    # Of weights of classes Keras may make a tensor of unknown rank.
    is_unknown = getattr(weights.shape, "rank", 0) is None
    if is_unknown or any(size not in (1, None) for size in weights.shape[1:]):
        shape = "an unknown shape" if is_unknown else tuple(weights.shape)
        raise InputError(
            f"sample_weight must be (batch,), received {shape}; neither pixels nor, by class_weight, classes can be "
            "weighed, since the sums run over all of a slice"
        )
    return ops.reshape(weights, (-1,)) if len(weights.shape) else weights
