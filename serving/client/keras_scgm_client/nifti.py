"""The few header fields that tell whether an image can be sent and an answer believed."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from keras_scgm_client.errors import ImageError, ServerError
from keras_scgm_client.outputs import is_nifti

HEADER_BYTES = 348
MAX_UNPACKED_BYTES = 2**30
"""The exported models refuse an image that unpacks to more."""

_MAGIC_NIFTI1 = (b"n+1\0", b"n+1 ")
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Grid:
    """Size of an image and of its voxels.

    Args:
        shape: voxels along x, y and z.
        spacing_mm: along the same axes, as the header has it.
        n_bytes: from the start of the file to its last voxel, unpacked.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, ...]
    n_bytes: int

    @property
    def n_voxels(self) -> int:
        return math.prod(self.shape)


def read_image(path: Path, max_bytes: int) -> tuple[bytes, Grid]:
    """The file as it is sent, after the checks that need no server.

    Raises:
        ImageError: no such file, too large, no NIfTI-1 file of three dimensions, or cut off.
    """
    if not is_nifti(path):
        raise ImageError(f"{path}: not a .nii or .nii.gz file; convert it first")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ImageError(
                f"{path}: {size / 1e6:.0f} MB is over the limit of {max_bytes / 1e6:.0f} MB; crop or compress it"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        grid = parse_grid(_start(data))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ImageError(f"{path}: {error}; copy or convert it again") from error
    if grid.n_bytes > MAX_UNPACKED_BYTES:
        raise ImageError(f"{path}: its header claims {grid.n_bytes / 1e9:.1f} GB; crop it")
    if _unpacked_size(data, grid.n_bytes) < grid.n_bytes:
        raise ImageError(f"{path}: the file is cut off or damaged; copy it again")
    return data, grid


def check_answer(data: bytes, image: Grid) -> None:
    """Whether bytes from the server are an image on the grid of the one that was sent.

    Raises:
        ServerError: they are not.
    """
    try:
        answer = parse_grid(data)
    except ValueError as error:
        raise ServerError(f"the server's answer is no image ({error}); check the model") from error
    if answer.shape != image.shape or answer.spacing_mm != image.spacing_mm:
        raise ServerError(
            f"the server's answer of {answer.shape} voxels is not on the grid of the image; check the model"
        )
    if len(data) != answer.n_bytes:
        raise ServerError(
            f"the server's answer has {len(data)} of {answer.n_bytes} bytes; check the connection"
        )


def parse_grid(start: bytes) -> Grid:
    """Header fields of the first bytes of an unpacked NIfTI-1 file.

    Raises:
        ValueError: another format, or not three dimensions.
    """
    if len(start) < HEADER_BYTES + 4:
        raise ValueError("too short for a NIfTI file")
    order = next((order for order in "<>" if struct.unpack_from(f"{order}i", start)[0] == HEADER_BYTES), None)
    if order is None or start[344:348] not in _MAGIC_NIFTI1:
        raise ValueError("not a single-file NIfTI-1 image")
    dimensions = struct.unpack_from(f"{order}8h", start, 40)
    if dimensions[0] < 3 or any(size != 1 for size in dimensions[4 : dimensions[0] + 1]):
        raise ValueError("not a 3-D image; extract one frame")
    shape = dimensions[1], dimensions[2], dimensions[3]
    if min(shape) < 1:
        raise ValueError(f"its header claims {shape} voxels")
    bits = struct.unpack_from(f"{order}h", start, 72)[0]
    offset = int(struct.unpack_from(f"{order}f", start, 108)[0])
    spacing_mm = struct.unpack_from(f"{order}3f", start, 80)
    return Grid(shape, spacing_mm, offset + math.prod(shape) * bits // 8)


def _start(data: bytes) -> bytes:
    if not _is_gzip(data):
        return data[: HEADER_BYTES + 4]
    return zlib.decompressobj(wbits=31).decompress(data, HEADER_BYTES + 4)


def _unpacked_size(data: bytes, enough: int) -> int:
    """Bytes in the file once unpacked; counting stops at `enough`, so that a zip bomb costs nothing."""
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
