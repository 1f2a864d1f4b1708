"""`Volume`: an image as axial slices in one orientation, results on its own grid, and arrays on disk for large ones."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from zlib_ng import gzip_ng

from keras_scgm import messages
from keras_scgm.errors import InputError
from keras_scgm.files import changed_error, file_state, temporary_space

CANONICAL_AXES = ("L", "A", "S")
"""Slices are indexed [right-to-left, posterior-to-anterior], from inferior to superior.

This is the storage order the published networks were trained on (nibabel's LAS, which the Spinal Cord
Toolbox calls RPI).
"""

MAX_INTENSITY = 1e18
"""Squares and sums of larger intensities exceed the range of single precision."""

IN_MEMORY_BYTES = 256 * 2**20
BLOCK_BYTES = 64 * 2**20


class DiskArray:
    """An array in a file, in Fortran order, mapped only while part of it is read or written.

    A mapping that stays open counts every page it ever touched as resident memory; a fresh one per access
    keeps the memory of a pass over a large volume flat.
    """

    def __init__(self, file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...], offset: int = 0) -> None:
        self._file = file
        self.dtype = dtype
        self.shape = shape
        self._offset = offset
        self._state = file_state(file.fileno())
        weakref.finalize(self, file.close)

    @classmethod
    def scratch(cls, dtype: np.dtype, shape: tuple[int, ...]) -> DiskArray:
        """Zeros in a temporary file without a name, which is deleted with the array.

        Raises:
            InputError: There is no room for it.
        """
        n_bytes = math.prod(shape) * dtype.itemsize
        with temporary_space():
            file = tempfile.TemporaryFile(prefix="keras_scgm_")  # noqa: SIM115
            if hasattr(os, "posix_fallocate"):
                # Writing through a mapping to a full disk kills the process; reserving the space raises instead.
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
        return cls(file, dtype, shape)

    def map(self) -> np.memmap:
        """The whole array as a memory map; its memory is released with it.

        Raises:
            InputError: A file that is only read was changed since.
        """
        mode = "r+" if self._file.writable() else "r"
        if mode == "r" and file_state(self._file.fileno()) != self._state:
            raise changed_error(self._file.name)
        return np.memmap(
            self._file,
            dtype=self.dtype,
            mode=mode,  # type: ignore[call-overload]
            offset=self._offset,
            shape=self.shape,
            order="F",
        )


Voxels = np.ndarray | DiskArray


def to_canonical(affine: np.ndarray) -> np.ndarray:
    """Orientation transform of nibabel from the stored axes of an affine to `CANONICAL_AXES`."""
    return ornt_transform(io_orientation(affine), axcodes2ornt(CANONICAL_AXES))


def zeros(dtype: np.dtype, shape: tuple[int, ...]) -> Voxels:
    """Zeros in memory, or on disk if they exceed `IN_MEMORY_BYTES`."""
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype, order="F")
    return DiskArray.scratch(dtype, shape)


def as_array(voxels: Voxels) -> np.ndarray:
    """The voxels as a NumPy array, without a copy."""
    return voxels.map() if isinstance(voxels, DiskArray) else voxels


def bounding_box(array: np.ndarray) -> tuple[slice, ...]:
    """The smallest part of an array, a slice for each axis, that holds all that is not 0; of size 0 without any.

    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 1]]))
    (slice(1, 2, None), slice(1, 3, None))
    """
    box = []
    # Much faster on large masks than `scipy.ndimage.find_objects`.
    for axis in range(array.ndim):
        others = tuple(other for other in range(array.ndim) if other != axis)
        marked = np.flatnonzero(array.any(axis=others))
        box.append(slice(int(marked[0]), int(marked[-1]) + 1) if len(marked) else slice(0, 0))
    return tuple(box)


@dataclass(frozen=True)
class Volume:
    """A 3-D image on its stored grid, read as a stack of axial slices.

    The axial axis is the stored axis closest to superior-inferior in the affine.

    Args:
        voxels: Stored values before scaling, shape (i, j, k) in the order of the file.
        affine: 4x4 matrix from voxel indices to millimetres in RAS+ world coordinates.
        header: NIfTI header of the source, kept so that results get the same grid and codes.
        shape: Shape of the source; 2-D and single-frame 4-D sources differ from `voxels.shape`.
        slope: Factor of the stored values.
        intercept: Summand after the slope.
        source: Name of the volume in error messages, usually its path.
        warnings: Possible faults of the geometry in the header, one line each.
    """

    voxels: Voxels
    affine: np.ndarray
    header: nib.Nifti1Header
    shape: tuple[int, ...]
    slope: float
    intercept: float
    source: str
    warnings: tuple[str, ...] = ()

    @cached_property
    def _to_canonical(self) -> np.ndarray:
        return to_canonical(self.affine)

    @cached_property
    def _canonical_axes(self) -> tuple[int, int, int]:
        """Stored axis behind each canonical axis."""
        order = np.argsort(self._to_canonical[:, 0])
        return int(order[0]), int(order[1]), int(order[2])

    @property
    def axial_axis(self) -> int:
        """Stored axis along which the axial slices are stacked."""
        return self._canonical_axes[2]

    @property
    def n_slices(self) -> int:
        return self.voxels.shape[self.axial_axis]

    @property
    def in_plane_shape(self) -> tuple[int, int]:
        """Voxels of an axial slice, (right-left, anterior-posterior)."""
        right_left, anterior_posterior, _ = self._canonical_axes
        return self.voxels.shape[right_left], self.voxels.shape[anterior_posterior]

    @cached_property
    def in_plane_spacing_mm(self) -> tuple[float, float]:
        """Voxel spacing in the axial plane, (right-left, anterior-posterior)."""
        spacing_mm = to_nanometre(np.linalg.norm(self.affine[:3, :3], axis=0))
        right_left, anterior_posterior, _ = self._canonical_axes
        return float(spacing_mm[right_left]), float(spacing_mm[anterior_posterior])

    @property
    def voxel_area_mm2(self) -> float:
        """Area of a voxel in the axial plane, also right for sheared affines."""
        right_left, anterior_posterior, _ = self._canonical_axes
        columns = self.affine[:3, :3]
        return float(np.linalg.norm(np.cross(columns[:, right_left], columns[:, anterior_posterior])))

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between the planes of neighbouring slices."""
        return float(to_nanometre(abs(np.linalg.det(self.affine[:3, :3])) / self.voxel_area_mm2))

    def stored_slice_index(self, k: int) -> int:
        """Index along `axial_axis` of the k-th slice from the inferior end."""
        flipped = self._to_canonical[self.axial_axis, 1] < 0
        return self.n_slices - 1 - k if flipped else k

    def axial_view(self, voxels: Voxels) -> np.ndarray:
        """View of an array on the stored grid, axes (right-left, posterior-anterior, inferior-superior)."""
        return apply_orientation(as_array(voxels), self._to_canonical)

    def read_slices(self, start: int, stop: int) -> tuple[np.ndarray, int]:
        """Scaled intensities of slices [start, stop) from the inferior end.

        Voxels that are NaN or infinite take the mean of the finite voxels of their slice, zero if it has
        none, before anything interpolates between them.

        Returns:
            float64 array (slice, right-left, posterior-anterior), and the number of voxels replaced.

        Raises:
            InputError: an intensity beyond `MAX_INTENSITY`.
        """
        slices, n_replaced = self.view_slices(start, stop)
        return np.array(slices, np.float64, order="C"), n_replaced

    def view_slices(self, start: int, stop: int) -> tuple[np.ndarray, int]:
        """What `read_slices` gives, in the type of the stored values where these are the intensities.

        It may be a view of their memory.
        """
        slices = self.axial_slices(self.voxels, start, stop)
        is_finite = self._check_range(slices)
        if (self.slope, self.intercept) != (1.0, 0.0):
            slices = np.multiply(slices, self.slope, dtype=np.float64)
            slices += self.intercept
        if is_finite:
            return slices, 0
        finite = np.isfinite(slices)
        n_finite = finite.sum(axis=(1, 2))
        sums = np.where(finite, slices, 0.0).sum(axis=(1, 2), dtype=np.float64)
        means = sums / np.maximum(n_finite, 1)
        slices = np.where(finite, slices, means[:, np.newaxis, np.newaxis])
        return slices, int(slices.size - n_finite.sum())

    def _check_range(self, stored: np.ndarray) -> bool:
        """Refuse intensities that cannot be computed with; returns whether all are finite."""
        if stored.dtype.kind != "f" and self._largest(_limits(stored.dtype)) <= MAX_INTENSITY:
            return True
        extremes = stored.min(), stored.max()
        is_finite = bool(np.all(np.isfinite(extremes)))
        if not is_finite:
            finite = stored[np.isfinite(stored)]
            extremes = finite.min(initial=0), finite.max(initial=0)
        largest = self._largest(extremes)
        if largest > MAX_INTENSITY:
            numbers = f"{largest:.3g}", f"{MAX_INTENSITY:g}"
            raise InputError(f"{self.source}: {messages.TOO_INTENSE.format(*numbers)}")
        return is_finite

    def _largest(self, extremes: Sequence[float]) -> float:
        return max(abs(float(value)) for value in extremes) * abs(self.slope) + abs(self.intercept)

    def axial_slices(self, voxels: Voxels, start: int, stop: int) -> np.ndarray:
        """Slices [start, stop) from the inferior end of an array on the stored grid.

        Returns:
            (slice, right-left, posterior-anterior), a view of an array in memory.
        """
        if self.axial_axis == 2 or not isinstance(voxels, DiskArray):
            view = np.moveaxis(self.axial_view(voxels)[:, :, start:stop], 2, 0)
            # A process that reads a mapped file which has been cut short is killed.
            return np.array(view, order="K") if isinstance(voxels, DiskArray) else view
        # Each slice is spread over the whole file; going through it in blocks bounds the mapped pages.
        slices = np.empty((stop - start, *self.in_plane_shape), voxels.dtype)
        slowest = self._canonical_axes.index(2)
        n_bytes = math.prod(voxels.shape) * voxels.dtype.itemsize
        for block in _blocks(slices.shape[1 + slowest], n_bytes):
            part = (block, slice(None)) if slowest == 0 else (slice(None), block)
            view = self.axial_view(voxels)[(*part, slice(start, stop))]
            slices[(slice(None), *part)] = np.moveaxis(view, 2, 0)
        return slices

    def result_header(self, dtype: np.dtype) -> nib.Nifti1Header:
        """Header of a result on this grid: everything geometric as in the source, unscaled `dtype` voxels."""
        header = self.header.copy()
        header.set_data_dtype(dtype.newbyteorder(header.endianness))
        header.set_data_shape(self.shape)
        header["scl_slope"], header["scl_inter"] = 1.0, 0.0
        header["cal_max"], header["cal_min"] = 0.0, 0.0
        header["magic"] = header.single_magic
        header["vox_offset"] = 0
        header.extensions.clear()
        return header

    def result_image(self, voxels: Voxels) -> nib.Nifti1Image:
        """Nibabel image of a result on this grid, same shape and affine as the source."""
        header = self.result_header(voxels.dtype)
        image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        array = as_array(voxels).reshape(self.shape, order="F")
        return image_class(array, header.get_best_affine(), header)

    def write_result(self, path: Path, voxels: Voxels) -> None:
        """Write a result on this grid to `path` (.nii or .nii.gz), block by block."""
        header = self.result_header(voxels.dtype)
        dtype = header.get_data_dtype()
        with open(path, "wb") as raw, _compressed(raw, path) as file:
            header.write_to(file)
            n_bytes = math.prod(voxels.shape) * dtype.itemsize
            for block in _blocks(voxels.shape[2], n_bytes):
                file.write(np.asfortranarray(as_array(voxels)[:, :, block], dtype).T)


def _limits(dtype: np.dtype) -> tuple[int, int]:
    """Least and greatest value of a type of integers."""
    return (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def to_nanometre(spacing_mm: np.ndarray) -> np.ndarray:
    """Spacings without the rounding errors of the header they come from."""
    # A header holds 0.375 mm as a rotation of it in float32; what is left of the rotation must not decide
    # how many pixels the resampled grid has.
    return np.round(spacing_mm, 6)


def _compressed(raw: IO[bytes], path: Path) -> Any:
    # No name and no time in the stream: the same mask is the same file.
    if path.suffix.lower() == ".gz":
        return gzip_ng.GzipNGFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)
    return raw


def _blocks(length: int, n_bytes: int) -> Iterator[slice]:
    step = max(1, math.ceil(length * BLOCK_BYTES / max(n_bytes, 1)))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
