"""Lines for the user."""

from pathlib import Path

import typer

from keras_scgm.errors import printable


def say(*lines: object, err: bool = False) -> None:
    """Print lines, with escapes for what a terminal would obey or no encoding has; names of files can hold both."""
    for line in lines:
        typer.echo(printable(str(line)), err=err)


def warn(*warnings: str, about: str | Path = "") -> None:
    """Print warnings on standard error, with what they are about, if given, in front of each."""
    place = f"{about}: " if about else ""
    say(*(f"warning: {place}{warning}" for warning in warnings), err=True)
