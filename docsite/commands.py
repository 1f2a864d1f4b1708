"""Reference of the commands, from the program."""

from __future__ import annotations

import re
from typing import Any

import typer

from docsite.markdown import cell, table

INTRODUCTION = """# Commands

Written from the program itself: `keras-scgm COMMAND --help` says the same.
Bad input gives one line and exit code 2, without a partial result.
"""


def commands_page() -> str:
    """The page of all commands, in the order of `keras-scgm --help`."""
    from keras_scgm_cli.main import app

    group = typer.main.get_command(app)
    parts = [INTRODUCTION]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts.append(_command(f"keras-scgm {name}", command))
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## {name}", "", *_paragraphs(command.help or ""), "", f"```text\n{name} {usage}\n```", ""]
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        record = None if getattr(parameter, "hidden", False) else parameter.get_help_record(context)
        if record is None or parameter.name == "help":
            continue
        kind = "Argument" if parameter.param_type_name == "argument" else "Option"
        title = getattr(parameter, "rich_help_panel", None) or kind
        groups.setdefault(title, []).append(record)
    for title, records in groups.items():
        rows = [(_words(spelling), cell(text)) for spelling, text in records]
        parts += [table((title, "Meaning"), rows), ""]
    return "\n".join(parts)


def _words(spelling: str) -> str:
    """Each word as code of its own, so that no line ends within an option.

    >>> _words("-o, --output <path>")
    '`-o`, `--output` `<path>`'
    """
    return re.sub(r"[^\s,]+", r"`\g<0>`", spelling)


def _paragraphs(text: str) -> list[str]:
    """Paragraphs of a help text; those that the program prints unchanged (after a line with \\b) as code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("\b"):
            parts.append("```text\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        else:
            parts.append(" ".join(paragraph.split()).replace("*", r"\*"))
        parts.append("")
    return parts
