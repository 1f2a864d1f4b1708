"""`python -m docsite`: builds the site; every warning is an error."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from docsite.api import api_pages
from docsite.finish import finish
from docsite.sources import LinkError, write_sources
from keras_scgm_cli.stderr import held_back_stderr

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "build/docsite"
SITE = ROOT / "build/site"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def main() -> None:
    argparse.ArgumentParser(prog="docsite", description=__doc__).parse_args()
    try:
        with held_back_stderr():
            generated = api_pages()
        pages = write_sources(ROOT, SOURCES, generated)
    except LinkError as error:
        sys.exit(f"error: {error}")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode:
        said = COLOUR.sub("", f"{process.stdout}\n{process.stderr}").partition("Traceback")[0]
        sys.exit(f"error: {said.strip()}")
    finish(SITE)
    print(f"{SITE / 'index.html'}: {len(pages)} pages")


if __name__ == "__main__":
    main()
