"""Files that are no NIfTI files: what they are, and what to do with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from keras_scgm import messages

DICOM_ENDINGS = (".dcm", ".ima")
FILES_TRIED = 100
PAIR_ENDINGS = (".hdr", ".img", ".hdr.gz", ".img.gz")


def conversion_hint(folder: Path) -> str:
    """What to do with a folder that holds images of other formats; empty if it holds none."""
    for path in _first_files(folder):
        if _is_dicom(path):
            return f"it holds DICOM files; convert them, for example with dcm2niix -z y {folder}"
        if path.name.lower().endswith(PAIR_ENDINGS):
            return "it holds a .hdr/.img pair; convert it to a single .nii file"
    return ""


def holds_dicom(folder: Path) -> bool:
    """Whether DICOM images are among the first files of a folder."""
    return any(map(_is_dicom, _first_files(folder)))


def why_missing(path: Path) -> str:
    if not path.is_symlink():
        return "no such file; check the path"
    target = os.readlink(path)
    if "annex/objects" in target:
        return _not_fetched(path, "git-annex")
    return f"a link to {target}, which does not exist; copy the file there, or remove the link"


def why_not_nifti(path: Path, start: bytes) -> str:
    """Why a file that starts with these bytes is no NIfTI file, and what to do about it."""
    if start.startswith(b"version https://git-lfs"):
        return _not_fetched(path, "Git LFS")
    # git-annex stores this text in unlocked files, and in place of links where the file system has none.
    if b"annex/objects/" in start.split(b"\n", 1)[0]:
        return _not_fetched(path, "git-annex")
    if _is_dicom(path):
        return messages.DICOM_FILE
    if path.name.lower().endswith(PAIR_ENDINGS):
        return "part of a .hdr/.img pair; convert the pair to a single .nii file"
    return messages.NOT_NIFTI


def _first_files(folder: Path) -> Iterable[Path]:
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in sorted(names))
    return islice(files, FILES_TRIED)


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_ENDINGS):
        return True
    try:
        if path.is_fifo():
            return False
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _not_fetched(path: Path, kept_by: str) -> str:
    fetch = {
        "git-annex": f"datalad get {path.name}, or git annex get {path.name}",
        "Git LFS": f"git lfs pull --include={path.name}",
    }
    return f"its content is not here, {kept_by} has only a pointer to it; fetch it in its folder: {fetch[kept_by]}"
