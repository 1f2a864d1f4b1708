"""What CONTRIBUTING tells to change is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
PLACES = sorted({name for name in NAMED if re.fullmatch(r"[\w./]+", name) and "/" in name and name[0] != "."})
LOCATED = re.findall(r"`(\w+)`\s\(`([\w./]+\.py)`\)|`(\w+)` in `([\w./]+\.py)`", TEXT)


def test_the_file_names_places():
    assert len(PLACES) > 25
    assert len(LOCATED) > 10


@pytest.mark.parametrize("place", PLACES)
def test_files_and_folders_exist(place):
    assert (ROOT / place).is_dir() if place.endswith("/") else (ROOT / place).is_file()


@pytest.mark.parametrize("found", LOCATED, ids=lambda found: found[0] or found[2])
def test_names_are_defined_in_the_file_beside_them(found):
    name, place = (found[0], found[1]) if found[0] else (found[2], found[3])
    code = (ROOT / place).read_text(encoding="utf-8")
    assert re.search(rf"^(?:    )?(?:class |def )?(?:\w+, )*{name}\b\s*(?:[:=(]|, \w+)", code, re.MULTILINE)
