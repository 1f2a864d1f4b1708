"""Conditions on the input of a graph, and the message of a request that does not meet them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

Check = tuple[tf.Tensor, str | tf.Tensor]
"""A condition, bool (), and the message if it does not hold, string ()."""


def require(source: tf.Tensor, checks: Sequence[Check], value: tf.Tensor) -> tf.Tensor:
    """`value`, once every condition holds; otherwise the request fails with the first message.

    Args:
        source: string (), the file that the message names.
        checks: Conditions and their messages, in order.
        value: Tensor that depends on the conditions.
    """
    message = tf.constant("")
    for condition, text in reversed(checks):
        message = tf.where(condition, message, text)
    ok = message == ""
    with tf.control_dependencies([tf.debugging.Assert(ok, [tf.strings.join([source, ": ", message])])]):
        return tf.identity(value)


def filled(template: str, *texts: tf.Tensor) -> tf.Tensor:
    """`template.format(*texts)` for string () tensors."""
    first, *others = template.split("{}")
    return tf.strings.join([first, *(part for pair in zip(texts, others, strict=True) for part in pair)])
