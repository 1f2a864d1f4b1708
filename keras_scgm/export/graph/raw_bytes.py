"""Numbers as bytes and back, in a graph."""

from __future__ import annotations

import tensorflow as tf


def flip(tensor: tf.Tensor, axis: int, wanted: tf.Tensor) -> tf.Tensor:
    """The tensor, reversed along an axis if wanted, bool ()."""
    return tf.cond(wanted, lambda: tf.reverse(tensor, [axis]), lambda: tensor)


def numbers_of(raw: tf.Tensor, dtype: tf.DType, is_swapped: tf.Tensor) -> tf.Tensor:
    """Numbers (n,) of uint8 (n * bytes of a number,), in the other byte order if swapped, bool ()."""
    values = tf.reshape(raw, [-1, dtype.size])
    return tf.bitcast(tf.where(is_swapped, values[:, ::-1], values), dtype)


def to_string(values: tf.Tensor) -> tf.Tensor:
    """uint8 (n,) to a string of n bytes; a serialized tensor ends with them."""
    serialized = tf.io.serialize_tensor(values)
    n_bytes = tf.size(values)
    return tf.strings.substr(serialized, tf.strings.length(serialized) - n_bytes, n_bytes)


def to_bytes(values: tf.Tensor) -> tf.Tensor:
    """The memory of numbers as a string; `tf.io.decode_raw` reverses this."""
    return to_string(tf.reshape(tf.bitcast(tf.reshape(values, [-1]), tf.uint8), [-1]))
