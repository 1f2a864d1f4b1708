"""A bar of progress on terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keras_scgm.errors import printable


@contextmanager
def progress_bar(unit: str, name: str | None = None) -> Iterator[Callable[[int, int], None]]:
    """A function of (done, total) that moves a bar, which is shown after two seconds.

    Args:
        unit: What is counted, in the singular.
        name: Text before the bar.
    """
    # Slow to import.
    from tqdm import tqdm

    with tqdm(
        desc=name and printable(name), unit=unit, leave=False, delay=2.0, disable=not sys.stderr.isatty()
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
