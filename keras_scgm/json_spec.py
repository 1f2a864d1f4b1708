"""Settings that are written to JSON files and read back."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any, Self


class JsonSpec:
    """Base of the frozen dataclasses that hold a user's settings."""

    def to_json(self) -> str:
        """All fields as a JSON object."""
        return json.dumps(asdict(self), indent=2) + "\n"  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; fields left out take their defaults.

        Raises:
            ValueError: the text is not a JSON object, or names an unknown field, or a field breaks its rule.
        """
        return cls.from_values(json.loads(text))

    @classmethod
    def from_values(cls, values: Any) -> Self:
        """The same from parsed JSON.

        Raises:
            ValueError: as `from_json`.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{cls.__name__} must be a JSON object, received {type(values).__name__}")
        known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(
                f"unknown fields of {cls.__name__}: {', '.join(unknown)}; known: {', '.join(known)}"
            )
        return cls(**values)
