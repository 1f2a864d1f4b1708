"""A line of progress within long epochs."""

from __future__ import annotations

import sys
from typing import Any

import keras
from tqdm import tqdm

DELAY_SECONDS = 10.0
"""How long an epoch lasts before its line is shown."""


class ProgressLine(keras.callbacks.Callback):
    """Shows on standard error how far an epoch is that lasts long, and then, where there are any, the validation.

    Args:
        epochs: Epochs of the training.
        steps_per_epoch: Batches of an epoch.
        validates: Whether volumes are segmented at the end of an epoch, before this callback is called.
        delay_seconds: How long an epoch lasts before the line is shown.
    """

    def __init__(
        self, epochs: int, steps_per_epoch: int, validates: bool, delay_seconds: float = DELAY_SECONDS
    ) -> None:
        super().__init__()
        self.epochs, self.steps_per_epoch, self.validates = epochs, steps_per_epoch, validates
        self.delay_seconds = delay_seconds
        self._line: tqdm | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._line = tqdm(
            desc=f"epoch {epoch + 1} of {self.epochs}",
            total=self.steps_per_epoch,
            unit="step",
            leave=False,
            delay=self.delay_seconds,
            # A file keeps every state of the line.
            mininterval=0.5 if sys.stderr.isatty() else max(self.delay_seconds, 0.1),
            miniters=1,
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._line is None:
            return
        self._line.set_postfix(loss=f"{(logs or {}).get('loss', float('nan')):.4f}", refresh=False)
        self._line.update()
        if self.validates and batch + 1 == self.steps_per_epoch:
            # A refresh would show the line of a short epoch, too.
            shown = self._line.format_dict["elapsed"] > self.delay_seconds
            self._line.set_postfix_str("validation", refresh=shown)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Removes the line, as after an interruption."""
        if self._line is not None:
            self._line.close()
            self._line = None
