"""Ctrl-C in a training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@contextmanager
def kept_interrupts() -> Iterator[keras.callbacks.Callback]:
    """Makes a Keras callback that ends a training at its next batch after a Ctrl-C that was lost.

    Python raises `KeyboardInterrupt` wherever it is, and drops it in finalizers and where a library catches everything.
    """
    import keras

    seen: list[int] = []

    def notice(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    def check(batch: int, logs: dict[str, Any] | None = None) -> None:
        if seen:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, notice)
    try:
        yield keras.callbacks.LambdaCallback(on_train_batch_end=check)
    finally:
        signal.signal(signal.SIGINT, before)
