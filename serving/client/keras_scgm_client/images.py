"""Finds and reads images, with the checks that need no server."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import zlib
from pathlib import Path

from keras_scgm_client.errors import ImageError
from keras_scgm_client.grid import HEADER_BYTES, Grid, parse_grid
from keras_scgm_client.limits import (
    BYTES_PER_SLICE,
    FREE_SLICES,
    FREE_UNPACKED_BYTES,
    MAX_FIELD_MM2,
    MAX_SLICE_VOXELS,
    MAX_UNPACKED_BYTES,
    UNPACKED_RATIO,
)

LABEL_NAME = re.compile(
    r"(?:^|[_.])[a-z]*seg(?:m|mentation)?(?![a-z])|mask(?!ed)|label(?!l?ed)|_uncertainty$", re.IGNORECASE
)
SUFFIX, WHITE_MATTER_SUFFIX, CORD_SUFFIX = "_gmseg", "_wmseg", "_seg"
_NIFTI_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_CHUNK_BYTES = 2**20
_PADDING = bytes(10)
"""More zeros than a gzip stream ends with, that of bgzip included."""


def is_nifti(path: Path) -> bool:
    """Whether a name ends in .nii or .nii.gz, in lower or upper case."""
    return _NIFTI_ENDING.search(path.name) is not None


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz, in lower or upper case."""
    return _NIFTI_ENDING.sub("", path.name)


def find_images(folder: Path) -> tuple[list[Path], list[str]]:
    """Find the images of a folder and its subfolders, as `keras-scgm segment` does.

    Hidden files and folders (`.git`), `derivatives`, results and files with names of labels are excluded.

    Returns:
        Images by path, and a line that says which files have names of labels, if any.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "derivatives"]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    found = sorted(filter(is_nifti, found))
    segmented = {
        path.with_name(stem(path).removesuffix(SUFFIX)) for path in found if stem(path).endswith(SUFFIX)
    }
    labels = [path for path in found if LABEL_NAME.search(stem(path)) and not _is_result(path, segmented)]
    notes = []
    if labels:
        count = "1 file" if len(labels) == 1 else f"{len(labels)} files"
        more = ", ..." * (len(labels) > 1)
        notes.append(f"{folder}: {count} left out, named like labels: {labels[0].name}{more}")
    return [path for path in found if not LABEL_NAME.search(stem(path))], notes


def _is_result(path: Path, segmented: set[Path]) -> bool:
    """Whether a file is gray matter of an earlier run, or the cord or white matter beside it."""
    name = stem(path)
    if name.endswith((SUFFIX, f"{SUFFIX}_uncertainty")):
        return True
    return any(
        name.endswith(suffix) and path.with_name(name.removesuffix(suffix)) in segmented
        for suffix in (WHITE_MATTER_SUFFIX, CORD_SUFFIX)
    )


def read_image(path: Path, max_bytes: int) -> tuple[bytes, Grid]:
    """Read a file and its header, and check both.

    Raises:
        ImageError: The file is missing, too large, not a NIfTI-1 file, or truncated.
    """
    if not is_nifti(path):
        raise ImageError(f"{path}: not a .nii or .nii.gz file; convert it first")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ImageError(
                f"{path}: {size / 1e6:.0f} MB is over the limit of {max_bytes / 1e6:.0f} MB; crop or compress it"
            )
        if not path.is_file():
            raise ImageError(f"{path}: not a file; check the path")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        grid = parse_grid(_start(data))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ImageError(f"{path}: {error}; copy or convert it again") from error
    if grid.n_bytes > MAX_UNPACKED_BYTES:
        raise ImageError(f"{path}: its header claims {grid.n_bytes / 1e9:.1f} GB; crop it")
    _check_slices(grid, path)
    if _unpacked_size(data, grid.n_bytes) < grid.n_bytes:
        raise ImageError(f"{path}: the file is cut off or damaged; copy it again")
    return data, grid


def _check_slices(grid: Grid, path: Path) -> None:
    try:
        n_voxels, spacing_mm = grid.in_plane_shape, [grid.spacing_mm[axis] for axis in grid.in_plane_axes]
        field_mm = [n * mm for n, mm in zip(n_voxels, spacing_mm, strict=True)]
    except (ArithmeticError, ValueError):
        # No grid at all, which the server refuses.
        return
    if math.prod(n_voxels) > MAX_SLICE_VOXELS:
        raise ImageError(
            f"{path}: axial slices of {n_voxels[0]} x {n_voxels[1]} voxels, more than {MAX_SLICE_VOXELS / 1e6:.1f} "
            "million; check the orientation in the header, or cut out the part with the cord"
        )
    if math.prod(field_mm) > MAX_FIELD_MM2:
        raise ImageError(
            f"{path}: a field of view of {field_mm[0]:.0f} x {field_mm[1]:.0f} mm, more than {MAX_FIELD_MM2 / 1e6:g} "
            "m2; check the units and the spacing in the header"
        )


def as_sent(data: bytes, grid: Grid, max_bytes: int) -> bytes:
    """Uncompress a file if the server would refuse it compressed.

    Its limits depend on the size as sent, and it does not ignore zeros after the compressed data, as gzip does.

    Args:
        data: Content of the file.
        grid: Geometry of the image.
        max_bytes: Size of the largest file that can be sent, bytes.
    """
    is_vast = grid.n_bytes > FREE_UNPACKED_BYTES + UNPACKED_RATIO * len(data)
    try:
        is_long = grid.n_slices > FREE_SLICES + len(data) // BYTES_PER_SLICE
    except (ArithmeticError, ValueError):
        is_long = False
    is_padded = data.endswith(_PADDING)
    if not _is_gzip(data) or not (is_vast or is_long or is_padded) or grid.n_bytes > max_bytes:
        return data
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return file.read(grid.n_bytes)


def _start(data: bytes) -> bytes:
    if not _is_gzip(data):
        return data[:HEADER_BYTES]
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return file.read(HEADER_BYTES)


def _unpacked_size(data: bytes, enough: int) -> int:
    """Uncompressed size of the file, bytes; counting stops at `enough`, which bounds the cost of a zip bomb."""
    if not _is_gzip(data):
        return len(data)
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while size < enough and (chunk := file.read(_CHUNK_BYTES)):
                size += len(chunk)
    except (OSError, EOFError, zlib.error):
        return 0
    return size


def _is_gzip(data: bytes) -> bool:
    return data[:2] == b"\x1f\x8b"
