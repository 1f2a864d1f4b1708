"""Python objects that the command line names."""

from __future__ import annotations

import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from keras_scgm.errors import InputError, one_line


def named_object(option: str, name: str) -> Any:
    """The object MODULE:NAME; modules are also looked for in the current folder.

    Args:
        option: Option that names it, for messages.
        name: Module, colon, and name in the module.

    Raises:
        InputError: There is no such object, or its module cannot be imported.
    """
    here = str(Path.cwd())
    # A console script has its own folder there instead of the current one.
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if not all(name.partition(":")):
            raise ValueError("no colon between a module and a name")
        return resolve_name(name)
    # What a module of the user raises can be of any type.
    except Exception as error:
        raise InputError(
            f"{option} {name}: {type(error).__name__}: {one_line(error)}; give MODULE:NAME"
        ) from error
