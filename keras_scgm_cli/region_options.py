"""Options of the commands that write means over regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from keras_scgm.errors import InputError
from keras_scgm_cli.help import MEASURES

if TYPE_CHECKING:
    from keras_scgm.morphometry.regions import Range

LevelRanges = Annotated[
    list[str] | None,
    typer.Option(
        "--level-range",
        help="Levels for a further row of means, such as 2:3; repeat it.",
        rich_help_panel=MEASURES,
    ),
]
SliceRange = Annotated[
    str | None,
    typer.Option(
        "--slices", help="Slices, from 0, for a further row of means, such as 3:8.", rich_help_panel=MEASURES
    ),
]


def parse_ranges(level_ranges: Sequence[str] | None, slices: str | None) -> tuple[list[Range], Range | None]:
    """The ranges that the options name.

    Raises:
        InputError: One is not two whole numbers.
    """
    return (
        [_range("--level-range", text) for text in level_ranges or ()],
        _range("--slices", slices) if slices else None,
    )


def _range(name: str, text: str) -> Range:
    first, _, last = text.partition(":")
    try:
        return int(first), int(last or first)
    except ValueError:
        raise InputError(f"{name} must be two whole numbers such as 2:3, received {text!r}") from None
