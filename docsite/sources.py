"""Brings the pages of the site together, and makes their links those of the site.

Pages are written for their place in the repository, so that their links work there. On the site, those of the top level
and of `serving/` and `benchmarks/` have other places, and every other file that a page links to is copied to `files/`.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

DOCS = "docs"

FROM_ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "benchmarks/README.md": "explanation/benchmarks.md",
    "serving/README.md": "how-to/serving.md",
    "serving/client/README.md": "how-to/client.md",
}
"""Pages of the repository outside of `docs/`, and their places on the site; README gives way to `docs/index.md`."""

FILES = "files"
"""Folder of the site with the files that pages link to."""

_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s#<]+)(#[^)\s]*)?(?=[)\s])")
_OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


class LinkError(ValueError):
    """A page links to what the repository does not have."""


def write_sources(root: Path, target: Path, generated: Mapping[str, str]) -> list[str]:
    """Write all pages with the files that they link to.

    Args:
        root: The repository.
        target: Folder of the pages, replaced.
        generated: Text of the generated pages by their place on the site.

    Returns:
        Places of the pages, sorted.

    Raises:
        LinkError: A page links to a file that does not exist.
    """
    shutil.rmtree(target, ignore_errors=True)
    places = _places(root)
    for name, text in generated.items():
        _write(target / name, text)
    for source, place in places.items():
        if source == "README.md":
            continue
        path = root / source
        if path.suffix != ".md":
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / place)
            continue
        text, linked = with_site_links(path.read_text(encoding="utf-8"), root, source, places, generated)
        _write(target / place, text)
        for name in linked:
            (target / FILES / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, target / FILES / name)
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*.md"))


def with_site_links(
    text: str, root: Path, source: str, places: Mapping[str, str], generated: Mapping[str, str]
) -> tuple[str, set[str]]:
    """A page with the links of the site, and the files of the repository that it links to.

    Args:
        text: The page.
        root: The repository.
        source: The page's path in the repository.
        places: Places on the site of the repository's files.
        generated: Generated pages, by their place.
    """
    folder, place = posixpath.dirname(source), posixpath.dirname(places[source])
    linked: set[str] = set()

    def to_site(found: re.Match[str]) -> str:
        name, anchor = found[1], found[2] or ""
        if _OUTSIDE.match(name):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, name))
        if path in places:
            goal = places[path]
        elif path.removeprefix(f"{DOCS}/") in generated:
            goal = path.removeprefix(f"{DOCS}/")
        elif (root / path).is_file():
            linked.add(path)
            goal = f"{FILES}/{path}"
        else:
            raise LinkError(f"{source} links to {name}, which does not exist")
        return posixpath.relpath(goal, place or ".") + anchor

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(to_site, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(to_site, text[end:])]), linked


def _places(root: Path) -> dict[str, str]:
    docs = root / DOCS
    own = {
        path.relative_to(root).as_posix(): path.relative_to(docs).as_posix()
        for path in sorted(docs.rglob("*"))
        if path.is_file()
    }
    return {**own, **FROM_ELSEWHERE}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
