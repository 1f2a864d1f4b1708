"""The annotated data of a training as settings, kept beside its results."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume, find_dataset
from keras_scgm.datasets.raters import RATER_MODES
from keras_scgm.json_config import JsonConfig

DATA = "data.json"


@dataclass(frozen=True)
class DataConfig(JsonConfig):
    """Where the annotated data of a training are, and how its masks are read.

    Args:
        folder: Folder of the data set.
        split: File of the split, of volumes in the folder.
        raters: Use of several raters' masks, as in `keras_scgm.datasets.load_slices`.
        image_pattern: As in `keras_scgm.datasets.find_dataset`.
        mask_pattern: As in `find_dataset`.
        label_value: As in `find_dataset`; it counts for a split that exists, too.

    Raises:
        InputError: A field breaks its rule.
    """

    folder: str | Path
    split: str | Path
    raters: str = "all"
    image_pattern: str | None = None
    mask_pattern: str | None = None
    label_value: int | None = None

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            folder=_path_text,
            split=_path_text,
            raters=checks.one_of(RATER_MODES),
            image_pattern=checks.optional(checks.text),
            mask_pattern=checks.optional(checks.text),
            label_value=checks.optional(checks.integer(1)),
        )

    def volumes(self) -> list[AnnotatedVolume]:
        """The volumes of the folder.

        Raises:
            InputError: As `find_dataset`.
        """
        return find_dataset(self.folder, self.image_pattern, self.mask_pattern, self.label_value)

    def write(self, path: Path) -> None:
        """Writes the settings with paths relative to the file, so that data and training can move together."""
        folder, split = (os.path.relpath(place, path.parent) for place in (self.folder, self.split))
        JsonConfig.write(replace(self, folder=folder, split=split), path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote, with paths as they are now.

        Raises:
            InputError: The file cannot be read.
        """
        kept = super().read(path)
        folder, split = (os.path.normpath(path.parent / place) for place in (kept.folder, kept.split))
        return replace(kept, folder=folder, split=split)


def _path_text(name: str, value: Any) -> str:
    return str(checks.path(name, value))
