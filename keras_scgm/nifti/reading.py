"""Reading NIfTI files and nibabel images into volumes, after every check that can be made first."""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np
from zlib_ng import gzip_ng, zlib_ng

import keras_scgm.volume
from keras_scgm import checks, messages
from keras_scgm.errors import InputError
from keras_scgm.files import temporary_space
from keras_scgm.grids import shape_text
from keras_scgm.nifti.affine import axis_codes, checked_affine, declared_affine, header_affine, orientation_of
from keras_scgm.nifti.disagreements import disagreements
from keras_scgm.nifti.header import (
    check_voxel_type,
    checked_dtype,
    checked_scaling,
    checked_shape,
    frame_index,
    geometry_of,
    grid_shape,
    read_header,
)
from keras_scgm.nifti.other_files import conversion_hint, why_missing
from keras_scgm.volume import DiskArray, Volume, Voxels

# DEFLATE cannot compress better than 1032:1, so a larger claim in a header is false.
MAX_GZIP_RATIO = 1032


@dataclass(frozen=True)
class Layout:
    """What a NIfTI header says about the voxels, checked without reading any.

    Args:
        header: The parsed header.
        shape: Size of each dimension of the file, 2 to 7 of them.
        affine: (4, 4), from voxel indices to millimetres; None if the header has no orientation.
        dtype: Type of the stored values, with their byte order.
        slope: Factor of the stored values.
        intercept: Number added after multiplication.
        offset: Bytes before the first voxel.
        is_compressed: Whether the file is a gzip stream.
    """

    header: nib.Nifti1Header
    shape: tuple[int, ...]
    affine: np.ndarray | None
    dtype: np.dtype
    slope: float
    intercept: float
    offset: int
    is_compressed: bool

    @property
    def geometry(self) -> nib.Nifti1Header:
        """The header to read spacing and orientation from."""
        return geometry_of(self.header)

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Voxels in space, (i, j, k); k is 1 for a 2-D file."""
        return grid_shape(self.shape)


def read_layout(path: str | Path) -> Layout:
    """Check a NIfTI file by its header, without reading voxels.

    Raises:
        InputError: The file cannot be used; one line says why, and what to do.
    """
    path = checks.path("path", path)
    with _opened(path) as file:
        return _layout(file, path)


def read_volume(path: str | Path, frame: int | None = None, orientation: str | None = None) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, after checks of everything that can be wrong with it.

    Uncompressed files are mapped, not loaded. Compressed files are unpacked once, which verifies their
    checksum; large ones are unpacked to a temporary file.

    Args:
        path: .nii or .nii.gz file; whether it is compressed is read from its content.
        frame: Index of the frame of a 4-D file to read, from 0.
        orientation: Three axis codes, such as "LAS", for a file whose header has no orientation; a warning of the
            volume says where the header contradicts them.

    Raises:
        InputError: The file cannot be used; one line says why, and what to do.
    """
    path = checks.path("path", path)
    with _opened(path) as file:
        layout = _layout(file, path)
        affine = layout.affine
        if affine is None:
            affine = declared_affine(layout.geometry, layout.shape, orientation, path)
        index = frame_index(layout.shape, frame, path)
        shape, offset = layout.shape, layout.offset
        if index is not None:
            offset += index * math.prod(shape[:3]) * layout.dtype.itemsize
            shape = shape[:3]
        voxels: Voxels
        if layout.is_compressed:
            voxels, n_bytes = _unpack(file, layout, offset, path)
        else:
            voxels = DiskArray(open(path, "rb"), layout.dtype, layout.grid_shape, offset)  # noqa: SIM115
            n_bytes = os.fstat(file.fileno()).st_size
    warnings = _doubts(layout.geometry, layout.affine, len(shape), orientation)
    if n_bytes >= _claimed_bytes(layout) + layout.shape[0] * layout.dtype.itemsize:
        warnings = (messages.SURPLUS, *warnings)
    return Volume(voxels, affine, layout.header, shape, layout.slope, layout.intercept, str(path), warnings)


def _doubts(
    header: nib.Nifti1Header, affine: np.ndarray | None, n_dims: int, orientation: str | None
) -> tuple[str, ...]:
    """Doubts about the affine of a header, and about an orientation given beside it."""
    if affine is None:
        return ()
    found, given = orientation_of(affine), "".join(axis_codes(orientation)) if orientation else ""
    other = [messages.OTHER_ORIENTATION.format(given, found)] if given not in ("", found) else []
    return (*other, *disagreements(header, affine, n_dims))


def read_mask(path: str | Path, like: np.ndarray | None = None) -> Volume:
    """Read a mask, or a map of levels, which has one frame.

    Args:
        path: NIfTI file.
        like: 4x4 affine of a volume as which it is stored, if its own header has no orientation.

    Raises:
        InputError: The file cannot be used; one line says why, and what to do.
    """
    layout = read_layout(path)
    if math.prod(layout.shape[3:]) > 1:
        raise InputError(f"{path}: {shape_text(layout.shape)} voxels; a mask has one frame, keep one")
    if layout.affine is not None:
        return read_volume(path)
    if like is None:
        raise InputError(
            f"{path}: neither it nor its partner has an orientation, qform and sform codes are 0; mend the headers"
        )
    return read_volume(path, orientation=orientation_of(like))


def volume_from_image(
    image: nib.spatialimages.SpatialImage, frame: int | None = None, orientation: str | None = None
) -> Volume:
    """Volume of a nibabel image, with the checks of `read_volume`.

    Args:
        image: A nibabel image with an affine, of any format; results are NIfTI.
        frame: Index of the frame of a 4-D image to read, from 0.
        orientation: Three axis codes for an image without affine.

    Raises:
        InputError: The image cannot be segmented.
    """
    source = image.get_filename() or "image"
    if not isinstance(image, nib.Nifti1Image):
        image = nib.Nifti1Image.from_image(image)
    header = image.header.copy()
    if image.affine is not None and not np.allclose(image.affine, header_affine(header, source)):
        # As nibabel does when it saves such an image: its affine counts, not what the header still holds.
        header.set_sform(image.affine, code="aligned")
        header.set_qform(image.affine, code="unknown")
    geometry = geometry_of(header)
    shape = checked_shape(geometry, source)
    affine = checked_affine(geometry, shape, source)
    warnings = _doubts(geometry, affine, len(shape), orientation)
    if affine is None:
        affine = declared_affine(geometry, shape, orientation, source)
    voxels = np.asanyarray(image.dataobj)
    check_voxel_type(voxels.dtype, source)
    index = frame_index(shape, frame, source)
    shape = shape if index is None else shape[:3]
    voxels = voxels.reshape((*grid_shape(shape), -1), order="F")[..., index or 0]
    return Volume(voxels, affine, header, shape, 1.0, 0.0, source, warnings)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        # Opening one waits for a writer.
        if path.is_fifo():
            raise InputError(f"{path}: a pipe, not a file; give a .nii or .nii.gz file")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"{path}: {why_missing(path)}") from error
    except IsADirectoryError as error:
        advice = conversion_hint(path) or "give a .nii or .nii.gz file"
        raise InputError(f"{path}: is a folder; {advice}") from error
    except PermissionError as error:
        raise InputError(f"{path}: not readable; check its permissions") from error
    except (EOFError, gzip_ng.BadGzipFile, zlib_ng.error) as error:  # type: ignore[misc]
        raise InputError(f"{path}: {messages.DAMAGED_GZIP}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file and the disk") from error


def _layout(file: IO[bytes], path: Path) -> Layout:
    file_size = os.fstat(file.fileno()).st_size
    if file_size == 0:
        raise InputError(f"{path}: {messages.EMPTY_FILE}")
    is_compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    header = read_header(gzip_ng.GzipNGFile(fileobj=file) if is_compressed else file, path)
    geometry = geometry_of(header)
    shape = checked_shape(geometry, path)
    dtype = checked_dtype(header, path)
    affine = checked_affine(geometry, shape, path)
    slope, intercept = checked_scaling(header, path)
    stated_offset = float(header["vox_offset"])
    if not 0 <= stated_offset < 2**62:
        raise InputError(f"{path}: {messages.BAD_OFFSET.format(f'{stated_offset:g}')}")
    layout = Layout(
        header,
        shape,
        affine,
        dtype,
        slope,
        intercept,
        offset=max(int(stated_offset), header.single_vox_offset),
        is_compressed=is_compressed,
    )
    available = file_size * MAX_GZIP_RATIO if is_compressed else file_size
    if _claimed_bytes(layout) > available:
        raise _cut_short(path, layout, file_size)
    return layout


def _claimed_bytes(layout: Layout) -> int:
    return layout.offset + math.prod(layout.shape) * layout.dtype.itemsize


def _cut_short(path: Path, layout: Layout, n_bytes: int) -> InputError:
    claimed, held = (_readable(size) for size in (_claimed_bytes(layout), n_bytes))
    return InputError(f"{path}: {messages.CUT_SHORT.format(claimed, held)}")


def _unpack(file: IO[bytes], layout: Layout, offset: int, path: Path) -> tuple[Voxels, int]:
    """Voxels of a frame in a compressed file, and how many bytes that holds."""
    file.seek(0)
    stream = gzip_ng.GzipNGFile(fileobj=file)
    n_bytes = math.prod(layout.grid_shape) * layout.dtype.itemsize
    target: IO[bytes] = io.BytesIO()
    if n_bytes > keras_scgm.volume.IN_MEMORY_BYTES:
        with temporary_space():
            target = tempfile.TemporaryFile(prefix="keras_scgm_")  # noqa: SIM115
    position = 0
    # The stream is read to its end, beyond the voxels of the frame, because the checksum follows there.
    while block := stream.read(2**20):
        wanted = block[max(offset - position, 0) : max(offset + n_bytes - position, 0)]
        with temporary_space():
            target.write(wanted)
        position += len(block)
    if position < _claimed_bytes(layout):
        raise _cut_short(path, layout, position)
    if isinstance(target, io.BytesIO):
        voxels = np.frombuffer(target.getbuffer(), layout.dtype)
        return voxels.reshape(layout.grid_shape, order="F"), position
    with temporary_space():
        target.flush()
    return DiskArray(target, layout.dtype, layout.grid_shape), position


def _readable(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
