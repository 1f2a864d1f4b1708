"""The fields of NIfTI headers, checked: dimensions, voxel type, scaling and frames."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from keras_scgm import messages
from keras_scgm.errors import InputError
from keras_scgm.grids import shape_text
from keras_scgm.nifti.other_files import why_not_nifti

LEAST_NUMBER = float(np.finfo(np.float32).tiny)
"""Smaller numbers of a header are 0 to a TensorFlow graph, and so to this package; as a slope they are refused."""

GEOMETRY = (
    "pixdim",
    *(f"quatern_{axis}" for axis in "bcd"),
    *(f"qoffset_{axis}" for axis in "xyz"),
    *(f"srow_{axis}" for axis in "xyz"),
)


def read_header(stream: Any, path: Path) -> nib.Nifti1Header:
    block = stream.read(540)
    for header_class in (nib.Nifti2Header, nib.Nifti1Header):
        size = header_class.template_dtype.itemsize
        if len(block) < size or not header_class.may_contain_header(block[:size]):
            continue
        header = header_class(block[:size], check=False)
        magic = bytes(header["magic"].item())[:3]
        if magic == header.pair_magic[:3]:
            raise InputError(f"{path}: {messages.PAIR_HEADER}")
        # A NIfTI-1 header may state the size of a NIfTI-2 one by mistake.
        if magic == header.single_magic[:3]:
            return header
    raise InputError(f"{path}: {why_not_nifti(path, block)}")


def geometry_of(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """Copy of a header whose geometry is read as the served graph reads it."""
    geometry = header.copy()
    for field in GEOMETRY:
        geometry[field] = np.where(np.abs(header[field]) < LEAST_NUMBER, 0, header[field])
    return geometry


def checked_shape(header: nib.Nifti1Header, source: str | Path) -> tuple[int, ...]:
    n_dims = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : n_dims + 1])
    if not 2 <= n_dims <= 7 or min(shape) < 1 or math.prod(shape) == 1:
        raise InputError(f"{source}: {messages.NO_SLICE.format(', '.join(map(str, shape)))}")
    spacing_mm = header["pixdim"][1 : min(n_dims, 3) + 1]
    if not np.all(np.isfinite(spacing_mm)) or min(spacing_mm) <= 0:
        text = " x ".join(f"{value:g}" for value in spacing_mm)
        raise InputError(f"{source}: {messages.SPACING_NOT_POSITIVE.format(text)}")
    return shape


def checked_dtype(header: nib.Nifti1Header, source: str | Path) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype(np.void)
    if dtype.itemsize == 0:
        code = int(header["datatype"])
        raise InputError(f"{source}: {messages.VOXEL_TYPE.format(f'code {code}')}")
    check_voxel_type(dtype, source)
    return dtype


def check_voxel_type(dtype: np.dtype, source: str | Path) -> None:
    if dtype.fields is not None:
        raise InputError(f"{source}: {messages.COLOUR}")
    if dtype.kind == "c":
        raise InputError(f"{source}: {messages.COMPLEX}")
    # Quadruple precision can be read on some machines only, and in no graph.
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise InputError(f"{source}: {messages.VOXEL_TYPE.format(dtype)}")


def checked_scaling(header: nib.Nifti1Header, source: str | Path) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(f"{source}: {messages.INTERCEPT_NOT_FINITE}") from error
    if slope and abs(slope) < LEAST_NUMBER:
        raise InputError(f"{source}: {messages.SLOPE_TOO_SMALL}")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def frame_index(shape: tuple[int, ...], frame: int | None, source: str | Path) -> int | None:
    """Index of the frame to read, None if there is nothing to choose."""
    n_frames = math.prod(shape[3:])
    if frame is None:
        if n_frames > 1:
            choice = (
                f"save one of them, or their mean; segment and study take --frame 0 to --frame {n_frames - 1}"
            )
            raise InputError(f"{source}: {messages.FRAMES.format(n_frames, shape_text(shape[:3]), choice)}")
        return None
    if not 0 <= frame < n_frames:
        raise InputError(f"{source}: frame {frame} does not exist; the file has frames 0 to {n_frames - 1}")
    return frame if n_frames > 1 else None


def grid_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Voxels in space, (i, j, k); k is 1 for a 2-D file."""
    rows, columns, *rest = shape
    return rows, columns, rest[0] if rest else 1
