"""The table of modules says what the contracts of import-linter keep."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
LAYERS, _, FORBIDDEN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]


def rows():
    """Modules of each row, without their folders' contents, and its mark."""
    for cell, mark in re.findall(r"^\| (`[\w/.]+`(?:, `[\w/.]+`)*) \|( N)? \|", PAGE, re.MULTILINE):
        names = [name.removeprefix("keras_scgm/") for name in re.findall(r"`([\w/.]+)`", cell)]
        parts = ["keras_scgm_devserver/" if name == "serving/devserver/" else name for name in names]
        yield [name.split("/")[0].removesuffix(".py") for name in parts], bool(mark)


def test_the_table_has_the_order_of_the_layers():
    level = {
        name.strip().removeprefix("keras_scgm."): number
        for number, layer in enumerate(reversed(LAYERS["layers"]))
        for name in layer.split("|")
    }
    listed = [name for names, _ in rows() for name in names if name in level]
    assert set(listed) | {"keras_scgm_client"} == set(level)
    assert [level[name] for name in listed] == sorted(level[name] for name in listed)


def test_the_marked_modules_are_those_of_the_contract():
    marked = {f"keras_scgm.{name}" for names, mark in rows() for name in names if mark}
    assert marked | {"keras_scgm_client"} == set(FORBIDDEN["source_modules"])
