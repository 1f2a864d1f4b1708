"""Last changes of the built pages: nothing is loaded from another host."""

from __future__ import annotations

import re
from pathlib import Path

SHIM = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"[^>]*></script>')
"""Script of another host that searches pages opened as files; `assets/search_of_files.js` does that."""


def finish(site: Path) -> None:
    """Remove scripts of other hosts from every page.

    Args:
        site: Folder of the built site.
    """
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if SHIM.search(text):
            page.write_text(SHIM.sub("", text), encoding="utf-8")
