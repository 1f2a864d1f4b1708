"""Names and files of a result, as `keras-scgm segment` writes them."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras_scgm_client.answer import SliceRow
from keras_scgm_client.errors import ImageError, OutputError
from keras_scgm_client.images import CORD_SUFFIX, SUFFIX, WHITE_MATTER_SUFFIX, stem

Tissues = Literal["gm", "all"]
"""Gray matter alone, or white matter and cord as well."""
AREA_COLUMNS = {
    "slice": "",
    "position_mm": ".3f",
    "area_mm2": ".3f",
    "soft_area_mm2": ".3f",
    "n_voxels": "",
    "mean_probability": ".4f",
    "equivalent_diameter_mm": ".3f",
    "warning": "",
    "contrast": ".6g",
    "noise": ".6g",
    "predicted_dsc": ".3f",
    "verdict": "",
    "area_sd_mm2": ".3f",
    "uncertainty": ".3f",
    "cord_area_mm2": ".3f",
    "wm_area_mm2": ".3f",
    "gm_cord_ratio": ".4f",
}
"""The first columns of the command's table, and the format of their cells; the others need the masks, and come from
`keras-scgm areas`."""


@dataclass(frozen=True)
class OutputPaths:
    """Paths of the files of one result.

    Args:
        mask: Path of the mask or the probabilities; the other names begin with its stem.
    """

    mask: Path

    @classmethod
    def for_input(cls, image: Path, folder: Path | None = None) -> OutputPaths:
        """`NAME_gmseg.nii.gz` beside the image or in `folder`."""
        return cls((folder or image.parent) / f"{stem(image)}{SUFFIX}.nii.gz")

    def _sibling(self, ending: str) -> Path:
        return self.mask.with_name(stem(self.mask) + ending)

    def _tissue(self, suffix: str) -> Path:
        return self.mask.with_name(f"{stem(self.mask).removesuffix(SUFFIX)}{suffix}.nii.gz")

    @property
    def white_matter(self) -> Path:
        return self._tissue(WHITE_MATTER_SUFFIX)

    @property
    def cord(self) -> Path:
        return self._tissue(CORD_SUFFIX)

    @property
    def tissues(self) -> tuple[Path, Path, Path]:
        """Gray matter, white matter and cord."""
        return self.mask, self.white_matter, self.cord

    @property
    def areas(self) -> Path:
        return self._sibling("_area.csv")

    @property
    def picture(self) -> Path:
        return self._sibling("_qc.png")

    @property
    def record(self) -> Path:
        return self._sibling(".json")

    @property
    def own(self) -> tuple[Path, ...]:
        """Files that only this client and `keras-scgm segment` write; other programs, too, write the cord."""
        uncertainty = self._sibling("_uncertainty.nii.gz")
        return self.mask, self.areas, self.picture, uncertainty, self.record


def check_writable(folder: Path) -> None:
    """Check before a request whether its result can be written.

    Raises:
        OutputError: Nothing can be written to the folder, or to the one in which it would be created.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot write there ({error.strerror}); choose another folder"
        ) from error


def finished_record(paths: OutputPaths, like: Mapping[str, Any]) -> dict[str, Any]:
    """Existing record; empty unless it has the entries of `like` and all its files exist."""
    record, files = _recorded(paths)
    agrees = bool(files) and all(record.get(key) == value for key, value in like.items())
    return record if agrees and all(file.is_file() for file in files) else {}


def differences(paths: OutputPaths, like: Mapping[str, Any]) -> list[str]:
    """Entries of `like` that an existing record has not, or with another value; none if it cannot be read."""
    record, _ = _recorded(paths)
    return [key for key, value in like.items() if record.get(key) != value] if record else []


def edited_masks(paths: OutputPaths) -> list[Path]:
    """Masks of an earlier result that are no longer as they were made: a person has edited them."""
    record, _ = _recorded(paths)
    masks = {paths.mask.with_name(mask["file"]): mask for mask in record.get("masks", ())}
    return [
        path
        for path, mask in masks.items()
        if path.is_file()
        and (mask.get("edited") or hashlib.sha256(path.read_bytes()).hexdigest() != mask["sha256"])
    ]


def _recorded(paths: OutputPaths) -> tuple[dict[str, Any], list[Path]]:
    """Existing record and the files that it names; both are empty if it cannot be read."""
    try:
        record: dict[str, Any] = json.loads(paths.record.read_text(encoding="utf-8"))
        return record, [paths.mask.with_name(name) for name in record["files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}, []


def write_outputs(
    paths: OutputPaths,
    images: Mapping[Path, bytes],
    rows: Sequence[SliceRow],
    record: Mapping[str, Any],
    draw: Callable[[Path], None] | None = None,
) -> None:
    """Write all files of a result, or none.

    Args:
        paths: Paths of the files. All files of an earlier result are replaced or removed; white matter and cord are
            such files if its record names them.
        images: Path of each mask or map of probabilities, and its gzipped NIfTI file.
        rows: Measurements of each axial slice; no table is written if empty.
        record: Record of how the result was made.
        draw: Function that draws the picture to a path.

    Raises:
        OutputError: A file cannot be written; the folder is left as it was.
        ImageError: A folder has the name of a file; the folder is left as it was.
    """
    try:
        with _staged(paths) as staging:
            for path, image in images.items():
                (staging / path.name).write_bytes(image)
            if rows:
                write_areas(staging / paths.areas.name, rows)
            if draw is not None:
                draw(staging / paths.picture.name)
            files = sorted(path.name for path in staging.iterdir())
            masks = [
                {"file": path.name, "sha256": hashlib.sha256(image).hexdigest(), "edited": False}
                for path, image in images.items()
            ]
            text = json.dumps({**record, "files": files, "masks": masks}, indent=2) + "\n"
            (staging / paths.record.name).write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "use shorter names" if error.errno == errno.ENAMETOOLONG else "free space or change folder"
        raise OutputError(f"{paths.mask}: writing failed ({reason}); {advice}") from error


def write_areas(path: Path, rows: Sequence[SliceRow]) -> None:
    """Write a CSV table with the columns of `keras-scgm segment`, one row per axial slice; unknown cells are empty."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(AREA_COLUMNS)
        for k, row in enumerate(rows):
            diameter_mm = 2 * math.sqrt(row.area_mm2 / math.pi)
            values = vars(row) | {"slice": k, "equivalent_diameter_mm": diameter_mm, "warning": row.reason}
            if math.isfinite(row.wm_area_mm2):
                # Gray and white matter make up the cord in the digits of the table, too.
                values["wm_area_mm2"] = round(row.cord_area_mm2, 3) - round(row.area_mm2, 3)
            table.writerow([_cell(values.get(name), form) for name, form in AREA_COLUMNS.items()])


def _cell(value: Any, form: str) -> str:
    return "" if value is None or value != value else format(value, form)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder if it is missing; after an error the new folders that are empty are removed."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


@contextmanager
def _hidden_folder(folder: Path) -> Iterator[Path]:
    # Named before it is made, so that an interruption between the two does not leave it.
    hidden = folder / f".scgm_{secrets.token_hex(8)}"
    try:
        hidden.mkdir(mode=0o700)
        yield hidden
    finally:
        try:
            shutil.rmtree(hidden, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(hidden, ignore_errors=True)
            raise


@contextmanager
def _staged(paths: OutputPaths) -> Iterator[Path]:
    """Create a hidden folder whose files replace those of an earlier result at the end: all of them, or none."""
    folder = paths.mask.parent
    with _made(folder), _hidden_folder(folder) as hidden:
        new, former = hidden / "new", hidden / "former"
        new.mkdir()
        former.mkdir()
        yield new
        # The record is removed first and added last, so that a record never describes other files than those beside it.
        former_tissues = set(_recorded(paths)[1]) & set(paths.tissues)
        known = {path.name for path in (*paths.own, *former_tissues, *new.iterdir())}
        names = sorted(known, key=lambda name: (name.endswith(".json"), name))
        moves = [(folder / name, former / name) for name in reversed(names)]
        moves += [(new / name, folder / name) for name in names]
        done: list[tuple[Path, Path]] = []
        try:
            for source, target in moves:
                if os.path.lexists(source):
                    if source.is_dir() and not source.is_symlink():
                        raise ImageError(
                            f"{source}: cannot be replaced (Is a directory); move it away, or choose another folder"
                        )
                    os.replace(source, target)
                    done.append((source, target))
        except BaseException:
            for source, target in reversed(done):
                os.replace(target, source)
            raise
