"""Templates of HTML pages that need no network."""

from __future__ import annotations

import json
from typing import Any

import jinja2


def template(package: str, name: str) -> jinja2.Template:
    """A template that can include the files of its package and those that all pages share.

    Args:
        package: Package whose folder holds the template.
        name: Name of its file.
    """
    loaders = [jinja2.PackageLoader(place, ".") for place in (package, "keras_scgm.webpage")]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=jinja2.ChoiceLoader(loaders)
    )
    return environment.get_template(name)


def script_json(content: Any) -> str:
    """JSON without `<`, which can neither end the script element it stands in nor open a comment there."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
