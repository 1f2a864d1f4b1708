"""Vertebral level of every slice: from a level map, from labels of discs, or from the level of one slice."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import nifti_stem
from keras_scgm.grids import check_same_grid
from keras_scgm.morphometry.discs import between_discs
from keras_scgm.morphometry.inputs import fractions, slice_levels
from keras_scgm.nifti import read_volume
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.images import PREFIXES, StudyImage, label_of
from keras_scgm.study.tsv import Row, read_tsv
from keras_scgm.volume import Volume

HEIGHTS_MM = {1: 10.5, 2: 15.5, 3: 18.5, 4: 18.5, 5: 16.5, 6: 15.5, 7: 16.5}
"""Length of the cord at the levels C1 to C7 in the average of 72 people at 7 T (template AMU7T, Taso et al., NeuroImage
2015), for images in which the level of one slice alone is known."""

ESTIMATED = "levels estimated from that of one slice and average lengths of the vertebrae"

PLACEHOLDERS = ("folder", "name", "participant", "session")


@dataclass(frozen=True)
class LevelConfig:
    """Where the vertebral levels of a study come from; at most one of the three.

    Args:
        level_map: Path of the level map of an image from the folder of the images, with the places `PLACEHOLDERS`:
            {folder} and {name} of the image, without .nii.gz, its {participant} and {session}. Whole numbers, 0 where
            there is no level, on the grid of the image.
        disc_labels: Likewise a file with labels of discs, which may have a grid of its own: a voxel with the value of
            the vertebra below the disc, 3 for the disc between C2 and C3.
        level_table: TSV file with the columns slice and level, and image or participant_id (and session_id): the
            vertebra whose middle lies in that slice.

    Raises:
        InputError: Two of them, or an unknown placeholder.
    """

    level_map: str | None = None
    disc_labels: str | None = None
    level_table: Path | None = None

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            level_map=checks.optional(_pattern),
            disc_labels=checks.optional(_pattern),
            level_table=checks.optional(checks.path),
        )
        if sum(item is not None for item in (self.level_map, self.disc_labels, self.level_table)) > 1:
            raise InputError(
                "levels come from a level map, from labels of discs or from a table; give one of the three"
            )

    @property
    def is_given(self) -> bool:
        return self != LevelConfig()


class LevelSource:
    """Gives the levels of the images of a study.

    Args:
        config: Where they come from.
        root: Folder of the images.

    Raises:
        InputError: The table cannot be read.
    """

    def __init__(self, config: LevelConfig, root: Path) -> None:
        self._config = config
        self._root = root
        self._rows = _read_table(config.level_table) if config.level_table else []

    def levels(self, image: StudyImage, mask: Path, cord: Path) -> dict[int, int]:
        """Level by slice, as indexed in the file; slices without one are left out.

        Args:
            image: The image.
            mask: Its mask of gray matter.
            cord: Its mask of the cord, which need not exist.

        Raises:
            InputError: There is no level map, or it cannot be used.
        """
        config = self._config
        if not config.is_given:
            return {}
        volume = read_volume(mask)
        if config.level_map:
            levels = self._read(config.level_map, image, "level map")
            check_same_grid(replace(volume, source=image.image), levels)
            found = slice_levels(levels, fractions(read_volume(cord)) if cord.exists() else None)
            by_position = dict(enumerate(found))
        elif config.disc_labels:
            discs = self._read(config.disc_labels, image, "disc labels")
            tissue = fractions(read_volume(cord) if cord.exists() else volume)
            by_position = dict(enumerate(between_discs(volume, tissue, discs)))
        else:
            at, level = self._of_table(image, volume)
            by_position = dict(enumerate(around_level(volume, at, level)))
        return {volume.stored_slice_index(k): level for k, level in by_position.items() if level is not None}

    def _read(self, pattern: str, image: StudyImage, what: str) -> Volume:
        folder, _, name = image.image.rpartition("/")
        place = pattern.format(
            folder=folder,
            name=nifti_stem(Path(name)),
            participant=image.participant_id,
            session=image.session_id,
        )
        path = self._root / place
        if not path.is_file():
            raise InputError(f"no {what} {place}")
        return replace(read_volume(path), source=place)

    def _of_table(self, image: StudyImage, volume: Volume) -> tuple[int, int]:
        rows = [row for row in self._rows if _belongs(row, image)]
        if len(rows) != 1:
            raise InputError(f"{len(rows)} rows of {self._config.level_table} have its level; give one")
        try:
            at, level = int(rows[0]["slice"]), int(rows[0]["level"])
        except ValueError as error:
            raise InputError(f"{self._config.level_table}: slice and level must be whole numbers") from error
        if not 0 <= at < volume.n_slices or level not in HEIGHTS_MM:
            raise InputError(
                f"{self._config.level_table}: slice {at}, level {level}; the image has slices 0 to "
                f"{volume.n_slices - 1}, and levels are {min(HEIGHTS_MM)} to {max(HEIGHTS_MM)}"
            )
        return at, level


def around_level(volume: Volume, at: int, level: int) -> list[int | None]:
    """Level of every slice from the inferior end, if a vertebra's middle lies in one slice.

    Args:
        volume: The grid of the slices.
        at: Index of that slice in the file.
        level: Its level, 1 to 7.
    """
    tops_mm = {1: 0.0}
    for upper, lower in pairwise(sorted(HEIGHTS_MM)):
        tops_mm[lower] = tops_mm[upper] - HEIGHTS_MM[upper]
    middle_mm = tops_mm[level] - HEIGHTS_MM[level] / 2
    k_at = volume.stored_slice_index(at)
    levels: list[int | None] = []
    for k in range(volume.n_slices):
        height_mm = middle_mm + (k - k_at) * volume.slice_spacing_mm
        inside = [one for one, top_mm in tops_mm.items() if top_mm - HEIGHTS_MM[one] <= height_mm < top_mm]
        levels.append(inside[0] if inside else None)
    return levels


def _read_table(path: Path) -> list[Row]:
    rows = read_tsv(path, "slice", "level")
    return [
        {
            name: label_of(path, name, text) if name in PREFIXES and text != UNKNOWN else text
            for name, text in row.items()
        }
        for row in rows
    ]


def _belongs(row: Row, image: StudyImage) -> bool:
    mine = {
        "image": image.image,
        "participant_id": image.participant_id,
        "session_id": image.session_id or UNKNOWN,
    }
    return any(name in row for name in ("image", "participant_id")) and all(
        row[name] in (value, UNKNOWN) for name, value in mine.items() if name in row
    )


def _pattern(name: str, value: object) -> str:
    text = checks.text(name, value)
    try:
        used = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
    except ValueError:
        used = {text}
    if not used or not used <= set(PLACEHOLDERS):
        checks.refuse(name, "a path with {folder}, {name}, {participant} or {session} in it", value)
    return text
