"""The page on the paper: its checks hold, its code exists, and no number of the paper goes without a check."""

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from keras_scgm import DilatedGMNet

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "paper.md"
CHECK = re.compile(r"`([^`]+)` = `([^`]+)`")
LINK = re.compile(r"\[`([\w.]+)`\]\(([^)#]+\.py)\)")
SECTIONS = ("3.2", "3.2.1", "3.3.1", "3.3.2", "3.4.1", "3.4.2", "3.4.3")
NO_COUNTERPART = "No counterpart: "


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def rows(text: str) -> list[tuple[str, str, str, str]]:
    """Section, statement, code and checks of every statement."""
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        number = part.split(maxsplit=1)[0]
        if number in SECTIONS:
            table = [line for line in part.splitlines() if line.startswith("| ")][1:]
            found += [(number, *line.removeprefix("| ").removesuffix(" |").split(" | ")) for line in table]
    return found


def without_check(text: str) -> list[str]:
    """Statements with a number that nothing holds; figures and equations only have a name."""
    numbers = re.compile(r"\d")
    names = re.compile(r"(?:Figure|Table|[Ee]quation) \d|\b\d\.\d\.\d\b|\d-D")
    return [
        statement
        for _, statement, here, checks in rows(text)
        if numbers.search(names.sub("", statement))
        and not CHECK.search(checks)
        and not here.startswith(NO_COUNTERPART)
    ]


def differing(text: str, names: dict) -> list[str]:
    """Checks whose value is another."""
    return [
        f"{code} is {value!r}, not {said}"
        for *_, checks in rows(text)
        for code, said in CHECK.findall(checks)
        if repr(value := eval(code, names)) != said
    ]


@pytest.fixture(scope="module")
def names() -> dict:
    """What the code of the page defines, run in the folder of the repository."""
    (code,) = re.findall(r"^```python\n(.*?)^```", page(), re.MULTILINE | re.DOTALL)
    found: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        exec(compile(code, str(PAGE), "exec"), found)
    return found


def test_every_check_holds(names: dict) -> None:
    assert differing(page(), names) == []
    assert len(rows(page())) > 60


def test_a_wrong_value_is_found(names: dict) -> None:
    wrong = page().replace("`challenge['batch size']` = `11`", "`challenge['batch size']` = `12`")
    assert differing(wrong, names) == ["challenge['batch size'] is 11, not 12"]
    unheld = page().replace("`len(SITES)` = `4`", "")
    assert without_check(unheld) == ["80 healthy subjects, 20 of each of 4 centers."]


def test_every_section_and_every_number_is_held() -> None:
    found = rows(page())
    assert [number for number in SECTIONS if number not in {row[0] for row in found}] == []
    assert all(len(row) == 4 and row[2] for row in found)
    assert without_check(page()) == []


def test_every_setting_of_the_protocols_is_on_the_page(names: dict) -> None:
    said = " ".join(checks for *_, checks in rows(page()))
    settings = [(name, one) for name, protocol in names["settings"]["PAPER"].items() for one in protocol]
    assert [pair for pair in settings if "{}[{!r}]".format(*pair) not in said] == []
    assert len(settings) == 31


def test_the_code_that_is_named_exists() -> None:
    links = {link for _, _, here, _ in rows(page()) for link in LINK.findall(here)}
    assert len(links) > 40
    for name, target in links:
        path = (PAGE.parent / target).resolve()
        assert path.is_file(), target
        if name.endswith(".py") or "/" in name:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        owner = reduce(getattr, name.split(".")[:-1], import_module(module))
        last = name.split(".")[-1]
        assert hasattr(owner, last) or last in owner.__dataclass_fields__, name


def test_a_translated_image_has_the_translated_output() -> None:
    network = DilatedGMNet(filters=2, classifier_activation=None)
    rng = np.random.default_rng(0)
    # Farther from the borders than the receptive field of 109 pixels reaches.
    image = np.zeros((1, 160, 160, 1), np.float32)
    image[:, 74:86, 70:84] = rng.normal(size=(1, 12, 14, 1))
    moved = np.roll(image, (5, -3), axis=(1, 2))
    output, of_moved = (np.asarray(network(one, training=False)) for one in (image, moved))
    inner = (slice(None), slice(60, 100), slice(60, 100))
    np.testing.assert_allclose(of_moved[inner], np.roll(output, (5, -3), axis=(1, 2))[inner], atol=1e-5)
    assert np.ptp(output[inner]) > 1e-2
