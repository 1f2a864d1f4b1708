"""What an adaptation was started with, kept in its folder, by which a resumed one recognizes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from keras_scgm import checks
from keras_scgm.adaptation.config import AdaptationConfig, GuardConfig
from keras_scgm.adaptation.scans import Scans
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import sha256_of
from keras_scgm.json_config import JsonConfig, refuse_changes
from keras_scgm.training.checkpoint import LAST

SETTINGS = "adaptation.json"


@dataclass(frozen=True)
class AdaptationRecord(JsonConfig):
    """Settings and files of an adaptation.

    Args:
        adaptation: Settings, as in `AdaptationConfig`.
        guard: Limits of the guard, as in `GuardConfig`; they may change.
        learned_from: SHA-256 of the scans and masks that were learned from, by name.
        held_back: The same of those that only the guard sees.

    Raises:
        InputError: A field breaks its rule.
    """

    adaptation: AdaptationConfig
    guard: GuardConfig
    learned_from: dict[str, str]
    held_back: dict[str, str]

    def __post_init__(self) -> None:
        mapping = checks.instance(dict, "a mapping")
        checks.check_fields(self, learned_from=mapping, held_back=mapping)

    @classmethod
    def of(cls, config: AdaptationConfig, guard: GuardConfig, scans: Scans) -> Self:
        """The record of an adaptation that starts.

        Raises:
            InputError: A file cannot be read.
        """
        learned, held_back = scans.split(config.held_back, config.seed)
        masks = [mask for volume in scans.labelled for mask in volume.masks]
        return cls(config, guard, _hashes([*learned, *masks]), _hashes(held_back))

    def check_start(self, folder: Path, resume: bool) -> None:
        """Checks that the adaptation may start in a folder, or go on with the one in it; writes nothing.

        Raises:
            InputError: The folder holds another adaptation, or one that was not to be resumed.
        """
        if not (folder / LAST).exists():
            return
        if not resume:
            raise InputError(f"{folder}: holds an adaptation; go on with --resume, or choose another folder")
        before = kept_record(folder)
        if before is None:
            raise InputError(f"{folder / SETTINGS}: missing; adapt in another folder")
        now = self.adaptation
        changes = replace(before.adaptation, epochs=now.epochs).differences(now)
        refuse_changes(folder / SETTINGS, "adaptation", changes)
        if before.learned_from != self.learned_from:
            shown = first_of(list(before.learned_from))
            raise InputError(
                f"{folder / SETTINGS}: of another adaptation, it learned from other scans or masks ({shown}); give the "
                "same, or choose another folder"
            )


def kept_record(folder: Path) -> AdaptationRecord | None:
    """The record of the adaptation in a folder; None if it holds none.

    Raises:
        InputError: The file cannot be read.
    """
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        return AdaptationRecord.read(path)
    except InputError as error:
        raise InputError(f"{error}; adapt in another folder") from error


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    try:
        return {path.name: sha256_of(path) for path in paths}
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from error
