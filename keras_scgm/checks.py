"""Rules for arguments and settings; a value that breaks one is an `InputError` of one line.

A rule takes the name of an argument and its value. It returns the value as plain Python has it (`int` for a
NumPy integer), which is what goes into JSON files and Keras configurations.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from keras_scgm.errors import InputError

Rule = Callable[[str, Any], Any]

MAX_SEED = 2**32 - 1

SHOWN_CHARACTERS = 100
"""Most characters of a refused value in a message."""


def refuse(name: str, rule: str, value: object) -> NoReturn:
    """Report a value that breaks its rule.

    Raises:
        InputError: always.
    """
    shown = " ".join(repr(value).split())
    if len(shown) > SHOWN_CHARACTERS:
        shown = f"{shown[:SHOWN_CHARACTERS]}..."
    raise InputError(f"{name} must be {rule}, received {shown}")


def check_fields(settings: object, **rules: Rule) -> None:
    """Apply rules to fields of a frozen dataclass, in its `__post_init__`, and keep the plain values.

    Raises:
        InputError: the first field that breaks its rule.
    """
    for name, rule in rules.items():
        object.__setattr__(settings, name, rule(name, getattr(settings, name)))


def integer(low: int, high: int | None = None) -> Rule:
    """Integers from `low` to `high`; True and False are none.

    >>> integer(1)("filters", 8)
    8
    """
    wanted = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"

    def rule(name: str, value: Any) -> int:
        if isinstance(value, (bool, np.bool_)):
            refuse(name, wanted, value)
        try:
            plain = operator.index(value)
        except TypeError:
            refuse(name, wanted, value)
        if plain < low or (high is not None and plain > high):
            refuse(name, wanted, value)
        return plain

    return rule


def number(
    low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf, below: float = math.inf
) -> Rule:
    """Finite numbers from `low` to `high`, greater than `above` and less than `below`; True and False are none.

    >>> number(0, below=1)("dropout", 0.4)
    0.4
    """
    wanted = " ".join(["a number", _limits(low, high, above, below)]).rstrip()

    def rule(name: str, value: Any) -> int | float:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not math.isfinite(value):
            refuse(name, wanted, value)
        plain = int(value) if isinstance(value, int) else float(value)
        if not (low <= plain <= high and above < plain < below):
            refuse(name, wanted, value)
        return plain

    return rule


def flag(name: str, value: Any) -> bool:
    """True and False."""
    if not isinstance(value, (bool, np.bool_)):
        refuse(name, "True or False", value)
    return bool(value)


def text(name: str, value: Any) -> str:
    """Texts other than the empty one."""
    if not isinstance(value, str) or not value:
        refuse(name, "a text", value)
    return value


def one_of(choices: Iterable[str]) -> Rule:
    """One of some texts."""
    known = tuple(choices)

    def rule(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            refuse(name, f"one of {', '.join(known)}", value)
        return value

    return rule


def path(name: str, value: Any) -> Path:
    """Paths, as texts or path objects; a leading `~` is the home folder, unless a file has such a name."""
    if not isinstance(value, (str, PathLike)) or not value:
        refuse(name, "a path", value)
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        if os.path.lexists(value):
            return Path(value)
        raise InputError(f"{value}: not a path ({error}); give the path of a file or a folder") from error


def instance(kind: type, wanted: str = "") -> Rule:
    """Objects of a class.

    Args:
        kind: The class.
        wanted: Description of the objects, by default the name of the class.
    """
    wanted = wanted or f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"

    def rule(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            refuse(name, wanted, value)
        return value

    return rule


def optional(rule: Rule) -> Rule:
    """None, and what another rule takes."""
    return lambda name, value: None if value is None else rule(name, value)


def settings(kind: type) -> Rule:
    """Settings of a class; None takes its defaults."""
    rule = instance(kind)
    return lambda name, value: kind() if value is None else rule(name, value)


def several(rule: Rule, wanted: str, length: int | None = None) -> Rule:
    """Sequences of what another rule takes, as tuples.

    Args:
        rule: Rule for each item.
        wanted: Description of the sequence.
        length: Number of items; None takes any.
    """

    def whole(name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            refuse(name, wanted, value)
        try:
            items = tuple(rule(name, item) for item in value)
        except (InputError, TypeError):
            refuse(name, wanted, value)
        if length not in (None, len(items)):
            refuse(name, wanted, value)
        return items

    return whole


def interval(low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf) -> Rule:
    """Pairs of a lower and a higher number, or twice the same, within limits."""
    wanted = " ".join(["a lower and a higher number", _limits(low, high, above, math.inf)]).rstrip()
    pair = several(number(low, high, above=above), wanted, length=2)

    def rule(name: str, value: Any) -> tuple[float, float]:
        first, last = pair(name, value)
        if first > last:
            refuse(name, wanted, value)
        return float(first), float(last)

    return rule


def seed(name: str, value: Any) -> int:
    """Seeds of random numbers."""
    return int(integer(0, MAX_SEED)(name, value))


def function(name: str, value: Any) -> Any:
    """Functions, and other objects that can be called."""
    if not callable(value):
        refuse(name, "a function", value)
    return value


def _limits(low: float, high: float, above: float, below: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"from {low:g} to {high:g}"
    limits = {"above": above, "of at least": low, "below": below, "of at most": high}
    return " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))
