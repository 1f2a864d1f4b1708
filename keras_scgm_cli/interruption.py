"""Ctrl-C in a training."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@contextmanager
def kept_interrupts() -> Iterator[keras.callbacks.Callback]:
    """Makes a Keras callback that ends a training after a Ctrl-C, by `KeyboardInterrupt`.

    Within a step it waits for the end of the step: Python would raise the exception in functions that TensorFlow's C++
    code calls while it traces the step, which can crash the process. Elsewhere Python raises it at once. Where it is
    lost, as in finalizers and where a library catches everything, the training ends with the next step; where it
    becomes another error, that error becomes `KeyboardInterrupt` again. After an interruption further ones are ignored.
    """
    import keras

    seen = in_step = False

    def notice(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if in_step and not seen:
            # The handler may have interrupted a print, within which Python allows no other.
            with suppress(OSError):
                os.write(2, b"stopping after this step\n")
        seen = True
        # What cleans up after the first one is not interrupted.
        if not in_step and not isinstance(sys.exception(), KeyboardInterrupt):
            raise KeyboardInterrupt

    def begin(batch: int, logs: dict[str, Any] | None = None) -> None:
        nonlocal in_step
        in_step = True

    def end(batch: int, logs: dict[str, Any] | None = None) -> None:
        nonlocal in_step
        in_step = False
        if seen:
            raise KeyboardInterrupt

    after = signal.signal(signal.SIGINT, notice)
    try:
        yield keras.callbacks.LambdaCallback(on_train_batch_begin=begin, on_train_batch_end=end)
    except BaseException as error:
        if not seen:
            raise
        after = signal.SIG_IGN
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, after)
