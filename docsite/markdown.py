"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """Text of a table cell: one line, without characters that Markdown or HTML would take for its own.

    >>> cell("a |\\n b <c> *_d")
    'a \\\\| b &lt;c&gt; \\\\*\\\\_d'
    """
    text = " ".join(text.split())
    for character, written in (("<", "&lt;"), (">", "&gt;"), ("|", r"\|"), ("*", r"\*"), ("[", r"\[")):
        text = text.replace(character, written)
    return text.replace(r"\*_", r"\*\_")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, each row in a line.

    >>> print(table(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "|".join(line) + "|" if line[0] == "---" else "| " + " | ".join(line) + " |" for line in lines
    )
