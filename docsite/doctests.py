"""Examples of docstrings as code: Markdown would take `>>>` for a quotation in a quotation in a quotation."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)>>> .*\n?(?:\1\S.*\n?|\1 +\S.*\n?)*", re.MULTILINE)


def with_fences(docstring: str) -> str:
    """A docstring whose examples are blocks of code.

    >>> with_fences("Doubles.\\n\\n>>> double(2)\\n4\\n\\nMore.").splitlines()
    ['Doubles.', '', '```pycon', '>>> double(2)', '4', '```', '', 'More.']
    """

    def fenced(example: re.Match[str]) -> str:
        indent, text = example[1], example[0].rstrip("\n")
        return f"{indent}```pycon\n{text}\n{indent}```" + "\n" * example[0].endswith("\n")

    return _EXAMPLE.sub(fenced, docstring)


class DoctestBlocks(griffe.Extension):
    """Puts the examples of every docstring into blocks of code, before they are parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = with_fences(obj.docstring.value)
