"""The built site; `python -m docsite` builds it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site() -> Path:
    folder = ROOT / "build/site"
    if not (folder / "index.html").exists():
        pytest.fail("the site is not built; run python -m docsite first")
    return folder
