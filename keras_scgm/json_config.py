"""Settings and weights cards as JSON text: written, and read back with every rule checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, Self, get_type_hints

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import read_text, write_text


class JsonConfig:
    """Base of the frozen dataclasses that are kept in JSON files.

    A field whose type is one of them is an object within the object.
    """

    def write(self, path: Path) -> None:
        """Replace a file by all fields as JSON.

        Raises:
            InputError: the file cannot be written.
        """
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote; fields left out take their defaults.

        Raises:
            InputError: the file cannot be read, or as `from_json`; the message names the file.
        """
        text = read_text(path)
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error

    def to_json(self) -> str:
        """All fields as a JSON object."""
        return json.dumps(asdict(self), indent=2) + "\n"  # type: ignore[call-overload]

    def differences(self, now: Self) -> list[str]:
        """The fields in which later settings differ, with both values; fields of fields are named with a dot."""
        flat, flat_now = (dict(_flat(json.loads(config.to_json()))) for config in (self, now))
        shown = {
            name: [json.dumps(values[name]) if name in values else "not given" for values in (flat, flat_now)]
            for name in {**flat, **flat_now}
        }
        return [f"{name} was {was}, now {now}" for name, (was, now) in shown.items() if was != now]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; fields left out take their defaults.

        Raises:
            InputError: the text is not a JSON object, lacks a field, has an unknown one, or a field breaks its rule.
        """
        try:
            values = json.loads(checks.text(f"JSON of {cls.__name__}", text))
        # JSON that is nested too deep is a RecursionError.
        except (json.JSONDecodeError, RecursionError) as error:
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
        nested = {
            name: kind.from_values(values[name])
            for name, kind in get_type_hints(cls).items()
            if name in values and isinstance(kind, type) and issubclass(kind, JsonConfig)
        }
        return cls(**values | nested)


def refuse_changes(path: Path, what: str, changes: Sequence[str]) -> None:
    """Refuse to go on with other settings than those that a file keeps.

    Args:
        path: File of the settings.
        what: What would go on, such as "training".
        changes: Result of `JsonConfig.differences`.

    Raises:
        InputError: A setting differs.
    """
    if changes:
        raise InputError(
            f"{path}: another {what}, {'; '.join(changes)}; leave the setting as it was, or choose another folder"
        )


def _flat(values: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value
