"""`keras-scgm cite`: how to cite the program, from CITATION.cff."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def cite() -> None:
    """Print how to cite the method and the program: as text, and for BibTeX.

    \b
    Example:
      keras-scgm cite
    """
    citation = read_citation()
    paper = citation["preferred-citation"]
    names = [f"{author['family-names']} {_initials(author['given-names'])}" for author in paper["authors"]]
    full = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    typer.echo(
        f"{', '.join(names)} ({paper['year']}). {paper['title']}. {paper['journal']} {paper['volume']}, "
        f"{paper['start']}. https://doi.org/{paper['doi']}\n"
        f"Program: {citation['title']} {citation['version']} ({citation['license']} licence)\n"
    )
    fields = {
        "author": " and ".join(full),
        "title": paper["title"],
        "journal": paper["journal"],
        "volume": paper["volume"],
        "pages": paper["start"],
        "year": paper["year"],
        "doi": paper["doi"],
    }
    key = f"{paper['authors'][0]['family-names'].lower()}{paper['year']}"
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    typer.echo(f"@article{{{key},\n{lines}\n}}")


def read_citation() -> dict[str, Any]:
    """Content of CITATION.cff, of an installed package or of a checkout."""
    import yaml

    import keras_scgm

    package = Path(keras_scgm.__file__).parent
    path = next(
        path for path in (package / "CITATION.cff", package.parent / "CITATION.cff") if path.is_file()
    )
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _initials(names: str) -> str:
    return "".join(name[0] for name in names.split())
