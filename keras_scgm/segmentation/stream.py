"""Chunks of slices through the network, with reading and writing beside it."""

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
    take_in: Callable[[Part, Given, Found], None],
) -> Iterator[Part]:
    """Read, compute and take in part after part.

    The next part is read and the last one taken in on a thread of its own while this one computes.

    Args:
        parts: at least one.
        read: what `compute` needs.
        compute: what the network finds.
        take_in: called in the order of the parts, never twice at a time.

    Yields:
        The parts, as they are computed; all are taken in at the end.
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
            behind = helper.submit(take_in, part, given, found)
            yield part
        if behind:
            behind.result()
