"""`InputError` for input that cannot be used, and the log of all other errors."""

from __future__ import annotations

import os
import tempfile
import traceback
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path


class InputError(ValueError):
    """A file or an argument cannot be used; the message says what, where and what to do.

    The command line prints it as one line and goes on with the next file.
    """


class NotAnImageError(InputError):
    """A file holds labels, such as a mask, where an image is needed; in a folder such files are passed over."""


_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls, formats such as the direction of writing, surrogates, ends of lines and paragraphs."""


def one_line(error: BaseException) -> str:
    """The message of an error in one line; its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def no_memory(error: MemoryError) -> str:
    """What to tell the user where memory is exhausted."""
    return f"not enough memory ({one_line(error)}); end other programs, or take a machine with more"


def printable(text: str) -> str:
    r"""Text in one line, with escapes for what a terminal would obey; headers and names of files can hold it.

    >>> printable("t2s\x1b[2J\nerror: ü")
    't2s\\x1b[2J\\nerror: ü'
    """
    return "".join(ascii(one)[1:-1] if unicodedata.category(one) in _OBEYED else one for one in text)


def first_of(names: Sequence[object], most: int = 3) -> str:
    """The first of some names for a message, with dots for the others.

    >>> first_of("abcd")
    'a, b, c, ...'
    """
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def counted(number: int, noun: str) -> str:
    """A number of things for a message.

    >>> counted(1, "slice"), counted(2, "slice")
    ('1 slice', '2 slices')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def log_traceback(what: str, error: BaseException) -> str:
    """Append an unexpected error to this process's log, a file in the folder for temporary files.

    Args:
        what: Step or file that failed.
        error: Exception with its traceback.

    Returns:
        One line for the user: the error, and the log.
    """
    line = f"{what}: {type(error).__name__}: {' '.join(str(error).split())}"
    try:
        path = _log()
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().isoformat(timespec='seconds')} {what}\n")
            file.writelines([*traceback.format_exception(error), "\n"])
    except OSError as reason:
        return f"{line}; please report it (its log cannot be written: {reason.strerror or reason})"
    return f"{line}; please report it with {path}"


@cache
def _log() -> Path:
    handle, name = tempfile.mkstemp(prefix="keras_scgm_", suffix=".log")
    os.close(handle)
    return Path(name)
