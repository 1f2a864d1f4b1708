"""Blocks of code on the pages of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "serving/README.md",
        ROOT / "serving/client/README.md",
    )
)

_BLOCK = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        language: Language after the fence; empty for commands of a shell.
        title: Name of the file that holds the text, if there is one.
        text: The code.
    """

    language: str
    title: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """Words of each command; continued lines are joined, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = (shlex.split(line, comments=True) for line in lines)
        return [line for line in words if line]


def blocks_of(page: str) -> list[Block]:
    """The blocks of code of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(language, title, code) for _, language, title, code in _BLOCK.findall(text)]


def spans_of(page: str) -> list[Block]:
    """Code spans within the text that start with the name of a program of ours, as blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    spans = re.findall(r"`((?:keras-scgm|scgm-client) [^`]+)`", _BLOCK.sub("", text))
    return [Block("", "", span) for span in spans]


def commands_of(page: str) -> list[list[str]]:
    """Every command in blocks and within the text."""
    blocks = [*(block for block in blocks_of(page) if not block.language), *spans_of(page)]
    return [words for block in blocks for words in block.commands]


def short_commands_of(page: str, verbs: Iterable[str]) -> list[list[str]]:
    """Commands of keras-scgm within the text that are written without its name, such as `train --spec`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [shlex.split(found) for found in re.findall(rf"`((?:{'|'.join(verbs)}) --[^`]+)`", text)]
