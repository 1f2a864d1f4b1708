"""The commands' help with groups of options and bold headings on terminals, their paths, their line after Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from keras_scgm_cli.interruption import START_AGAIN, exit_code, interrupts
from keras_scgm_cli.say import say

IMAGES = "Images"
DATA = "Data"
NETWORK = "Network"
TRAINING = "Training"
COMPUTING = "Computing"
MEASURES = "Measures"
SEARCH = "Search"
RESULTS = "Results"


class Command(TyperCommand):
    """A command whose help has a section for each group of options (`rich_help_panel`), without Rich's frames.

    Typer draws groups with Rich alone, which would also draw a frame around the one line of an error. Context and
    formatter are classes of Click, or of the copy of it that newer Typer holds.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command; after an interruption one line says how to go on, that of the exception if it has one."""
        try:
            with interrupts() as seen:
                return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            resumes = any(parameter.name == "resume" for parameter in self.params)
            advice = (
                "interrupted; finished files are kept, continue with --resume" if resumes else START_AGAIN
            )
            # A terminal that was closed shows nothing.
            with suppress(OSError):
                say(str(interruption) or advice, err=True)
            raise typer.Exit(exit_code(seen[0] if seen else signal.SIGINT)) from None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then the groups in the order of their first options, then the other options."""
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for parameter in self.get_params(ctx):
            if row := parameter.get_help_record(ctx):
                is_option = parameter.param_type_name == "option"
                group = (
                    (getattr(parameter, "rich_help_panel", None) or "Options") if is_option else "Arguments"
                )
                groups[group].append(row)
        others = groups.pop("Options", [])
        for group, rows in [*groups.items(), ("Options", others)]:
            if rows:
                with formatter.section(_heading(group)):
                    formatter.write_dl(rows)


def expands_home(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose paths have the home folder for a leading `~`, which shells leave in `--option=~/file`."""

    @wraps(command)
    def expanded(**options: Any) -> None:
        command(**{name: _from_home(value) for name, value in options.items()})

    return expanded


def _from_home(value: Any) -> Any:
    from keras_scgm import checks

    if isinstance(value, list):
        return [_from_home(one) for one in value]
    return checks.path("path", value) if isinstance(value, Path) else value


def _heading(text: str) -> str:
    """Bold; Click removes the codes where the output is no terminal."""
    return text if "NO_COLOR" in os.environ else typer.style(text, bold=True)
