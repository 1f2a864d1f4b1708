"""Keras callbacks that the command line names."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_scgm.errors import InputError, one_line
from keras_scgm_cli.named_objects import named_object

if TYPE_CHECKING:
    import keras

FORM = "give MODULE:CLASS, or MODULE:CLASS(ARGUMENTS) with texts, numbers and such as arguments"


def keras_callbacks(descriptions: Sequence[str], folder: Path) -> list[keras.callbacks.Callback]:
    """The callbacks that the user describes; modules are also looked for in the current folder.

    Args:
        descriptions: MODULE:CLASS or MODULE:CLASS(ARGUMENTS) each; a function that returns a callback will do, too.
        folder: Folder of the training, which takes the place of `{folder}` in arguments.

    Raises:
        InputError: There is no such class, or it cannot be called so, or gives no callback.
    """
    return [_callback(description, folder) for description in descriptions]


def _callback(description: str, folder: Path) -> keras.callbacks.Callback:
    import keras

    module, _, call = description.partition(":")
    name, positional, named = _parsed(description, call, folder)
    make = named_object("--callback", f"{module}:{name}")
    if not inspect.isfunction(make) and not (
        inspect.isclass(make) and issubclass(make, keras.callbacks.Callback)
    ):
        raise InputError(
            f"--callback {description}: neither a class of Keras callbacks nor a function that returns one; {FORM}"
        )
    try:
        made = make(*positional, **named)
    # What a class of the user raises can be of any type.
    except Exception as error:
        raise InputError(
            f"--callback {description}: {type(error).__name__}: {one_line(error)}; {FORM}"
        ) from error
    if not isinstance(made, keras.callbacks.Callback):
        raise InputError(
            f"--callback {description}: makes a {type(made).__name__}, not a Keras callback; {FORM}"
        )
    return made


def _parsed(description: str, call: str, folder: Path) -> tuple[str, list[Any], dict[str, Any]]:
    """Name, positional and named arguments of CLASS or CLASS(ARGUMENTS)."""
    try:
        node = ast.parse(call, mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, [], {}
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError(call)
        positional = [ast.literal_eval(item) for item in node.args]
        named = {str(item.arg): ast.literal_eval(item.value) for item in node.keywords}
    except (ValueError, SyntaxError) as error:
        raise InputError(f"--callback {description}: not understood; {FORM}") from error

    def filled(value: Any) -> Any:
        return value.replace("{folder}", str(folder)) if isinstance(value, str) else value

    return node.func.id, [*map(filled, positional)], {key: filled(value) for key, value in named.items()}
