"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of published weights, real images and expected results; required under CI."""
    default = Path(__file__).parents[2] / "shared" / "reference"
    folder = Path(os.environ.get("KERAS_SCGM_REFERENCE") or default)
    if not folder.is_dir():
        message = f"no reference folder at {folder}; set KERAS_SCGM_REFERENCE"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
