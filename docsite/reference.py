"""`python -m docsite.reference`: writes the pages of `docs/reference/` that the program describes itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docsite.commands import commands_page
from docsite.tables import tables_page
from docsite.weights import weights_page
from keras_scgm_cli.stderr import held_back_stderr

FOLDER = Path(__file__).parents[1] / "docs/reference"

PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "tables.md": tables_page,
    "weights.md": weights_page,
}
"""Text of each page; the pages are kept in the repository, where people read them without the site."""


def main() -> None:
    with held_back_stderr():
        texts = {name: page() for name, page in PAGES.items()}
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
