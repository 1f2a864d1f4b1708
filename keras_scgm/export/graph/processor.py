"""Functions of the graph that are computed on the processor, wherever the network is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import tensorflow as tf

PROCESSOR = "/CPU:0"
"""Device of everything but the network."""


def once_in_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps a function on the processor that is one function of the graph, however often it is called.

    Each call would otherwise be a copy, and a server optimizes all copies when it loads the model. Arguments are
    tensors and numbers; the function must not use tensors that it is not given.
    """

    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    @wraps(function)
    def on_processor(*arguments: Any) -> Any:
        with tf.device(PROCESSOR):
            return function(*arguments)

    return on_processor
