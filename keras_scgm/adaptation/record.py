"""What an adaptation was started with, kept in its folder, by which a resumed one recognizes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from keras_scgm.adaptation.config import AdaptationConfig, GuardConfig
from keras_scgm.adaptation.scans import Scans
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import sha256_of, write_text
from keras_scgm.training.checkpoint import LAST

SETTINGS = "adaptation.json"


@dataclass(frozen=True)
class Record:
    """Settings and files of an adaptation.

    Args:
        config: Settings.
        guard: Limits of the guard, which may change.
        learned_from: SHA-256 of the scans and masks that were learned from, by name.
        held_back: The same of those that only the guard sees.
    """

    config: AdaptationConfig
    guard: GuardConfig
    learned_from: dict[str, str]
    held_back: dict[str, str]

    @classmethod
    def of(cls, config: AdaptationConfig, guard: GuardConfig, scans: Scans) -> Self:
        """The record of an adaptation that starts.

        Raises:
            InputError: A file cannot be read.
        """
        learned, held_back = scans.split(config.held_back, config.seed)
        masks = [mask for volume in scans.labelled for mask in volume.masks]
        return cls(config, guard, _hashes([*learned, *masks]), _hashes(held_back))

    def write(self, folder: Path) -> None:
        values = {
            "adaptation": json.loads(self.config.to_json()),
            "guard": json.loads(self.guard.to_json()),
            "learned_from": self.learned_from,
            "held_back": self.held_back,
        }
        write_text(folder / SETTINGS, json.dumps(values, indent=2) + "\n")

    def check_start(self, folder: Path, resume: bool) -> None:
        """Checks that the adaptation may start in a folder, or go on with the one in it; writes nothing.

        Raises:
            InputError: The folder holds another adaptation, or one that was not to be resumed.
        """
        if not (folder / LAST).exists():
            return
        if not resume:
            raise InputError(f"{folder}: holds an adaptation; go on with --resume, or choose another folder")
        values = _read(folder)
        before = kept_settings(folder)
        if before is None or values is None:
            raise InputError(f"{folder / SETTINGS}: missing; adapt in another folder")
        if changed := replace(before, epochs=self.config.epochs).differences(self.config):
            raise InputError(
                f"{folder / SETTINGS}: another adaptation, {'; '.join(changed)}; leave the setting as it was, or "
                "choose another folder"
            )
        known = values.get("learned_from")
        if known != self.learned_from:
            shown = first_of(list(known)) if isinstance(known, dict) else "not known"
            raise InputError(
                f"{folder / SETTINGS}: of another adaptation, it learned from other scans or masks ({shown}); give the "
                "same, or choose another folder"
            )


def kept_settings(folder: Path) -> AdaptationConfig | None:
    """The settings of the adaptation in a folder; None if it holds none.

    Raises:
        InputError: The file cannot be read.
    """
    values = _read(folder)
    if values is None:
        return None
    try:
        return AdaptationConfig.from_values(values["adaptation"])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{folder / SETTINGS}: cannot be read ({error})") from error


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    return values if isinstance(values, dict) else {}


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    try:
        return {path.name: sha256_of(path) for path in paths}
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from error
