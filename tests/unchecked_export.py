"""Exports without their own comparison with `segment`, and graphs without optimization, for tests that need neither."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import tensorflow as tf

from keras_scgm.export import saved_model


def export_unchecked(weights: Any, folder: Path, **options: Any) -> saved_model.ExportedModels:
    """`export_saved_model`, in half of its time."""
    with mock.patch.object(saved_model, "_dsc_with_segment", return_value=1.0):
        return saved_model.export_saved_model(weights, folder, **options)


@contextmanager
def as_exported() -> Iterator[None]:
    """Graphs run as they are: to optimize one of thousands of nodes takes longer than all that a test asks of it.

    That holds for sessions made meanwhile, too. Others, as in servers, do optimize; tests of these compare, too.
    """
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    session = partial(tf.compat.v1.Session, config=config)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        with mock.patch.object(tf.compat.v1, "Session", session):
            yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
