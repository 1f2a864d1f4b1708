"""The annotated data of a training as settings, kept beside its results."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets.raters import RATER_MODES
from keras_scgm.errors import InputError
from keras_scgm.files import replaced
from keras_scgm.json_config import JsonConfig

DATA = "data.json"


@dataclass(frozen=True)
class DataConfig(JsonConfig):
    """Where the annotated data of a training are, and how its masks are read.

    Args:
        folder: Folder of the data set.
        split: File of the split by subject.
        raters: Use of several raters' masks, as in `keras_scgm.datasets.load_slices`.
        image_pattern: As in `keras_scgm.datasets.find_dataset`.
        mask_pattern: As in `find_dataset`.
        label_value: As in `find_dataset`.

    Raises:
        InputError: A field breaks its rule.
    """

    folder: str
    split: str
    raters: str = "all"
    image_pattern: str | None = None
    mask_pattern: str | None = None
    label_value: int | None = None

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            folder=checks.text,
            split=checks.text,
            raters=checks.one_of(RATER_MODES),
            image_pattern=checks.optional(checks.text),
            mask_pattern=checks.optional(checks.text),
            label_value=checks.optional(checks.integer(1)),
        )

    def write(self, run: Path) -> None:
        """Writes the settings into the folder of a training, with paths relative to it, so that both can move."""
        here = replace(self, folder=os.path.relpath(self.folder, run), split=os.path.relpath(self.split, run))
        with replaced(run / DATA) as temporary:
            temporary.write_text(here.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, run: Path) -> DataConfig | None:
        """What `write` wrote; None if there is nothing.

        Raises:
            InputError: The file cannot be read.
        """
        path = run / DATA
        if not path.exists():
            return None
        try:
            kept = cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error
        return replace(
            kept, folder=os.path.normpath(run / kept.folder), split=os.path.normpath(run / kept.split)
        )
