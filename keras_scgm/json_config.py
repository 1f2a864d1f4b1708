"""Settings and weights cards as JSON text: written, and read back with every rule checked."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from typing import Any, Self

from keras_scgm import checks
from keras_scgm.errors import InputError


class JsonConfig:
    """Base of the frozen dataclasses that are kept in JSON files."""

    def to_json(self) -> str:
        """All fields as a JSON object."""
        return json.dumps(asdict(self), indent=2) + "\n"  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; fields left out take their defaults.

        Raises:
            InputError: the text is not a JSON object, lacks a field, has an unknown one, or a field breaks its rule.
        """
        try:
            values = json.loads(checks.text(f"JSON of {cls.__name__}", text))
        except json.JSONDecodeError as error:
            raise InputError(f"{cls.__name__} is not JSON: {error}") from error
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: Any) -> Self:
        """The same from parsed JSON.

        Raises:
            InputError: as `from_json`.
        """
        if not isinstance(values, dict):
            raise InputError(f"{cls.__name__} must be a JSON object, received {type(values).__name__}")
        known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(
                f"unknown fields of {cls.__name__}: {', '.join(unknown)}; known: {', '.join(known)}"
            )
        needed = [
            key for key, item in known.items() if (item.default, item.default_factory) == (MISSING, MISSING)
        ]
        if missing := [key for key in needed if key not in values]:
            raise InputError(f"{cls.__name__} lacks {', '.join(missing)}")
        return cls(**values)
