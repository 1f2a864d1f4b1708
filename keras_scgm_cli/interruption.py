"""Ctrl-C: where it ends the process at once, where it raises `KeyboardInterrupt`, and where it waits.

So do SIGTERM, as of a cluster whose time limit is reached, and SIGHUP of a terminal that is closed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import keras

# Windows has no SIGHUP.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
START_AGAIN = "interrupted; start again with the same command"

_received: list[int] = []
"""Signals since the last `interrupts` began; one list, since that of a training is within that of its command."""


def exit_code(number: int) -> int:
    """Exit code after a signal, as shells have it."""
    return 128 + number


@contextmanager
def exits_on_interrupt(stderr: int = 2) -> Iterator[None]:
    """Ends the process with one line on Ctrl-C, without an exception, on which TensorFlow crashes while it is imported.

    Args:
        stderr: File descriptor for the line.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            os.write(stderr, f"{START_AGAIN}\n".encode())
        os._exit(exit_code(number))

    with _handled(leave):
        yield


@contextmanager
def interrupts(steps: Collection[int] = ()) -> Iterator[list[int]]:
    """Raises `KeyboardInterrupt` on Ctrl-C, also in place of another error that it became in a library.

    While one is handled and after it further ones are ignored, so that nothing interrupts what cleans up and the last
    line; where one was lost, the next is raised again.

    Args:
        steps: Changes within the context; while it has an element, Ctrl-C is only noted.

    Returns:
        The signals that were received.
    """
    _received.clear()

    def notice(number: int, frame: FrameType | None) -> None:
        if steps and not _received:
            # The handler may have interrupted a print, within which Python allows no other.
            with suppress(OSError):
                os.write(2, b"stopping after this step\n")
        _received.append(number)
        if not steps and not isinstance(sys.exception(), KeyboardInterrupt):
            raise KeyboardInterrupt

    with _handled(notice):
        try:
            yield _received
        except Exception as error:
            if _received:
                raise KeyboardInterrupt from error
            raise


@contextmanager
def kept_interrupts() -> Iterator[keras.callbacks.Callback]:
    """Makes a Keras callback that ends a training after a Ctrl-C, by `KeyboardInterrupt`.

    Within a step it waits for the end of the step: Python would raise the exception in functions that TensorFlow's C++
    code calls while it traces the step, which can crash the process. Elsewhere Python raises it at once. Where it is
    lost, as in finalizers and where a library catches everything, the training ends with the next step.
    """
    import keras

    steps: set[int] = set()
    with interrupts(steps) as seen:

        def end(batch: int, logs: dict[str, Any] | None = None) -> None:
            steps.clear()
            if seen:
                raise KeyboardInterrupt

        yield keras.callbacks.LambdaCallback(
            # A training before this one may have ended with an error within a step.
            on_train_begin=lambda logs=None: steps.clear(),
            on_train_batch_begin=lambda batch, logs=None: steps.add(batch),
            on_train_batch_end=end,
        )


def after_epochs(folders: Collection[Path], epochs: int, how: str) -> str:
    """What to tell the user of a training that was interrupted.

    Args:
        folders: Folder of the training, or of each fold.
        epochs: Epochs of each.
        how: How to go on, such as "with: COMMAND".
    """
    from keras_scgm.training.checkpoint import finished_epochs

    finished = sum(map(finished_epochs, folders))
    if not finished:
        return "interrupted before the first epoch was finished; start again with the same command"
    return f"interrupted after {finished} of {epochs * len(folders)} epochs; go on {how}"


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Calls a handler for each signal that is not ignored, as SIGINT is in the background and SIGHUP by nohup."""
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    # None is a handler of a library in C.
    before = {number: now for number, now in before.items() if now not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    except KeyboardInterrupt:
        before = dict.fromkeys(before, signal.SIG_IGN)
        raise
    finally:
        for number, former in before.items():
            signal.signal(number, former)
