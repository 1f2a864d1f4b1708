"""Lines for the user."""

import typer

from keras_scgm.errors import printable


def say(*lines: object, err: bool = False) -> None:
    """Print lines, with escapes for what a terminal would obey or no encoding has; names of files can hold both."""
    for line in lines:
        typer.echo(printable(str(line)), err=err)
