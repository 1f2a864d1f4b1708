"""Reads, predicts and stores a volume chunk by chunk, the three at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = tuple[int, int]
"""First slice and one past the last."""

Given = TypeVar("Given")
Found = TypeVar("Found")


def stream(
    parts: Sequence[Part],
    read: Callable[[Part], Given],
    compute: Callable[[Part, Given], Found],
    add: Callable[[Part, Given, Found], None],
) -> Iterator[Part]:
    """Read, compute and add part after part.

    While one part is computed, the next is read and the last is added on another thread.

    Args:
        parts: At least one.
        read: What `compute` needs.
        compute: What the network finds.
        add: Called in the order of the parts, never twice at a time.

    Yields:
        The parts, as they are computed; all are added at the end.
    """
    with ThreadPoolExecutor(1) as helper:
        ahead = helper.submit(read, parts[0])
        behind: Future[None] | None = None
        for number, part in enumerate(parts):
            given = ahead.result()
            if number + 1 < len(parts):
                ahead = helper.submit(read, parts[number + 1])
            found = compute(part, given)
            if behind:
                behind.result()
            behind = helper.submit(add, part, given, found)
            yield part
        if behind:
            behind.result()
