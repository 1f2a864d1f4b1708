"""The files of a result, under the same names as those of `keras-scgm segment`."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_scgm_client.errors import ImageError

SUFFIX = "_gmseg"
LABEL_NAME = re.compile(
    r"(?:^|[_.])[a-z]*seg(?:m|mentation)?(?![a-z])|mask(?!ed)|label(?!l?ed)|_uncertainty$", re.IGNORECASE
)
_NIFTI_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class OutputPaths:
    """Names of the files of one result.

    Args:
        mask: the mask, or the probabilities; the others share its stem.
    """

    mask: Path

    @classmethod
    def for_input(cls, image: Path, folder: Path | None = None) -> OutputPaths:
        """`NAME_gmseg.nii.gz` beside the image or in `folder`."""
        return cls((folder or image.parent) / f"{stem(image)}{SUFFIX}.nii.gz")

    @property
    def areas(self) -> Path:
        return self.mask.with_name(f"{stem(self.mask)}_area.csv")

    @property
    def record(self) -> Path:
        return self.mask.with_name(f"{stem(self.mask)}.json")


def is_nifti(path: Path) -> bool:
    """Whether a name ends in .nii or .nii.gz, in lower or upper case."""
    return _NIFTI_ENDING.search(path.name) is not None


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz, in lower or upper case."""
    return _NIFTI_ENDING.sub("", path.name)


def find_images(folder: Path) -> list[Path]:
    """The images of a folder and of those below it, as `keras-scgm segment` finds them.

    Hidden files and folders (`.git`), `derivatives`, results and files named like labels are left out.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "derivatives"]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if is_nifti(path) and not LABEL_NAME.search(stem(path)))


def check_writable(folder: Path) -> None:
    """Make the folder, and find out before the work whether it takes files.

    Raises:
        ImageError: it does not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ImageError(f"{folder}: cannot write there ({error.strerror}); choose another folder") from error


def write_outputs(
    paths: OutputPaths, image: bytes, areas_mm2: Sequence[float], record: Mapping[str, Any]
) -> None:
    """Write all files, each under a temporary name first, the mask last.

    Args:
        paths: where to; files that exist are replaced.
        image: gzipped NIfTI file.
        areas_mm2: one for each axial slice; without any there is no table.
        record: how the result was made.

    Raises:
        ImageError: a file cannot be written; nothing temporary is left behind.
    """
    table = io.StringIO(newline="")
    rows = csv.writer(table)
    rows.writerow(["slice", "area_mm2"])
    rows.writerows((k, f"{area:.3f}") for k, area in enumerate(areas_mm2))
    try:
        if areas_mm2:
            _write(paths.areas, table.getvalue().encode())
        _write(paths.record, (json.dumps(record, indent=2) + "\n").encode())
        _write(paths.mask, image)
    except OSError as error:
        raise ImageError(f"{paths.mask}: writing failed ({error.strerror}); free space") from error


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".scgm_", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
