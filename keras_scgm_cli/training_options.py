"""Options of the commands that train: the settings, and what changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_scgm_cli.help import TRAINING

Spec = Annotated[
    Path | None,
    typer.Option("--spec", help="JSON file of settings in place of a preset.", rich_help_panel=TRAINING),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", help="In place of the preset's.", rich_help_panel=TRAINING)
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", help="Batches of an epoch, in place of the preset's.", rich_help_panel=TRAINING),
]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, by name; None stands for one that was not."""
    return {name: value for name, value in options.items() if value is not None}
