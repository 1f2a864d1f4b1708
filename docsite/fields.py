"""Fields of settings and rows of tables, from the docstrings of their classes."""

from __future__ import annotations

import dataclasses
import inspect
import re

_ARGS = re.compile(r"^Args:\n((?:(?:    .*)?\n?)*)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)

UNITS = (
    ("_mm2", "mm²"),
    ("_mm2_sd", "mm²"),
    ("_mm2_before", "mm²"),
    ("_mm2_after", "mm²"),
    ("_mm3", "mm³"),
    ("_mm", "mm"),
    ("_mm_sd", "mm"),
    ("_deg", "°"),
    ("_percent", "%"),
    ("_px", "pixels"),
    ("seconds", "s"),
)
"""Ends of names, and the units that they stand for."""


def unit_of(name: str) -> str:
    """Unit of a column or a key, from the end of its name.

    >>> unit_of("cord_area_mm2"), unit_of("area_mm2_sd"), unit_of("verdict")
    ('mm²', 'mm²', '')
    """
    return next((unit for end, unit in UNITS if name.endswith(end)), "")


def described_fields(kind: type) -> dict[str, str]:
    """Meaning of every field of a dataclass, those of its base classes after its own.

    Args:
        kind: A dataclass whose docstring has a section `Args`.

    Raises:
        KeyError: A field is not described.
    """
    texts: dict[str, str] = {}
    for base in kind.__mro__:
        texts = described_arguments(base) | texts
    return {field.name: texts[field.name] for field in dataclasses.fields(kind)}


def described_arguments(thing: object) -> dict[str, str]:
    """Meaning of every argument that a docstring describes in its section `Args`."""
    found = _ARGS.search(inspect.cleandoc(getattr(thing, "__doc__", None) or ""))
    return {name: " ".join(text.split()) for name, text in _ENTRY.findall(found[1])} if found else {}


def default_of(field: dataclasses.Field[object]) -> str:
    """A field's default as code, of settings the fields that differ from their defaults; empty if it must be given."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return ""
    if not dataclasses.is_dataclass(value):
        return f"`{value!r}`"
    usual = dataclasses.asdict(type(value)())
    others = {name: one for name, one in dataclasses.asdict(value).items() if one != usual[name]}
    return f"`{others}`, otherwise as below" if others else "as below"
