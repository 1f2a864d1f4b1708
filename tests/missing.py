"""What tests need beside Python packages."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Fail in CI, which installs everything, and skip elsewhere."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is missing")
