"""Defaults of options from keras_scgm.toml, or from [tool.keras_scgm] in pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from keras_scgm.errors import InputError, first_of
from keras_scgm.files import read_text

NAME, PYPROJECT, TABLE = "keras_scgm.toml", "pyproject.toml", "keras_scgm"

NAMING_CODE = ("callback", "hypermodel")
"""Options that name Python objects. The file may lie in a folder that others write to."""


def find_defaults() -> tuple[Path, dict[str, Any]] | None:
    """The defaults that hold in the current folder: those of the nearest file in it or above it.

    Returns:
        The file, and its tables by command; None if there is none.

    Raises:
        InputError: A file is no TOML file, or the current folder was removed.
    """
    try:
        folder = Path.cwd()
    except FileNotFoundError as error:
        raise InputError("the current folder was removed; change to another one") from error
    for parent in (folder, *folder.parents):
        if (parent / NAME).is_file():
            return parent / NAME, _read(parent / NAME)
        if (parent / PYPROJECT).is_file():
            tools = _read(parent / PYPROJECT).get("tool", {})
            if TABLE in tools:
                return parent / PYPROJECT, tools[TABLE]
    return None


def default_map(source: Path, tables: Mapping[str, Any], commands: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults by command and parameter, checked against the options that there are.

    Args:
        source: File of the defaults, for messages.
        tables: Its tables by command; options are named as in the command line, without leading dashes.
        commands: The commands by name.

    Raises:
        InputError: There is no such command or option, the option names code that would run, or a value cannot be that
            of the option.
    """
    defaults: dict[str, Any] = {}
    for command, table in tables.items():
        if command not in commands or not isinstance(table, dict):
            raise InputError(
                f"{source}: {command} is not a table of a command; the tables are {', '.join(commands)}"
            )
        options = {
            spelling.lstrip("-").replace("_", "-"): parameter
            for parameter in commands[command].params
            if parameter.param_type_name == "option"
            for spelling in parameter.opts
            if spelling.startswith("--")
        }
        defaults[command], context = {}, typer.Context(commands[command])
        for key, value in table.items():
            option = options.get(key.replace("_", "-"))
            if option is None:
                raise InputError(
                    f"{source}: {command} has no option {key}; it has {first_of(sorted(options), len(options))}"
                )
            if option.name in NAMING_CODE:
                raise InputError(
                    f"{source}: {command}.{key} names code that would run; give it on the command line"
                )
            defaults[command][option.name] = _checked(f"{source}: {command}.{key}", option, value, context)
    return defaults


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})") from error


def _checked(name: str, option: Any, value: Any, context: typer.Context) -> Any:
    if option.is_flag:
        if not isinstance(value, bool):
            raise InputError(f"{name} must be true or false, received {value!r}")
        return value
    values = value if option.multiple and isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        kinds = "a text, a number or a list of them" if option.multiple else "a text or a number"
        raise InputError(f"{name} must be {kinds}, received {value!r}")
    texts = [str(one) for one in values]
    given = texts if option.multiple else texts[0]
    try:
        option.process_value(context, given)
    except typer.BadParameter as error:
        raise InputError(f"{name} cannot be {value!r} ({error.message.rstrip('.')})") from error
    return given
