"""The distribution of the client, which is released together with that of the package."""

import re
import tomllib
from pathlib import Path

import keras_scgm_client

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "serving" / "client"
PACKAGE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PROJECT = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_that_of_the_package(run):
    assert keras_scgm_client.__version__ == PACKAGE["version"]
    assert run("--version") == (0, f"scgm-client {PACKAGE['version']}\n", "")


def test_extras_need_the_package_of_this_version():
    extras = " ".join(need for needs in PROJECT["optional-dependencies"].values() for need in needs)
    needed = re.findall(r"keras-scgm(?:\[\w+\])?(?!-)(\S*)", extras)
    assert needed == [f"~={PACKAGE['version']}"] * 2


def test_licence_and_classifiers_are_those_of_the_package():
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert PROJECT["license-files"] == ["LICENSE"]
    assert set(PACKAGE["classifiers"]) <= set(PROJECT["classifiers"])
