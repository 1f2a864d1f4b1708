"""NIfTI volumes: checked reading, axial slices in one orientation, writing on the input's own grid."""

from __future__ import annotations

import gzip
import math
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

from keras_scgm.errors import InputError

CANONICAL_AXES = ("L", "A", "S")
"""Slices are indexed [right-to-left, posterior-to-anterior], from inferior to superior.

This is the storage order the published networks were trained on (nibabel's LAS, which the Spinal Cord
Toolbox calls RPI).
"""

WORLD_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
IN_MEMORY_BYTES = 256 * 2**20
BLOCK_BYTES = 64 * 2**20
# DEFLATE cannot compress better than 1032:1, so a larger claim in a header is false.
MAX_GZIP_RATIO = 1032
PLAUSIBLE_SPACING_MM = (0.01, 5.0)


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
        weakref.finalize(self, file.close)

    @classmethod
    def scratch(cls, dtype: np.dtype, shape: tuple[int, ...]) -> DiskArray:
        """Zeros in a temporary file without a name, which goes away with the array."""
        file = tempfile.TemporaryFile(prefix="keras_scgm_")  # noqa: SIM115
        n_bytes = math.prod(shape) * dtype.itemsize
        if hasattr(os, "posix_fallocate"):
            # Writing through a mapping to a full disk kills the process; reserving the space raises instead.
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:
            file.truncate(n_bytes)
        return cls(file, dtype, shape)

    def map(self) -> np.memmap:
        """The whole array as a memory map; drop it to give its pages back."""
        mode = "r+" if self._file.writable() else "r"
        return np.memmap(
            self._file,
            dtype=self.dtype,
            mode=mode,  # type: ignore[call-overload]
            offset=self._offset,
            shape=self.shape,
            order="F",
        )


Voxels = np.ndarray | DiskArray


def zeros(dtype: np.dtype, shape: tuple[int, ...]) -> Voxels:
    """Zeros in memory, or on disk when they would not be small."""
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype, order="F")
    return DiskArray.scratch(dtype, shape)


def as_array(voxels: Voxels) -> np.ndarray:
    """The voxels as a NumPy array, without a copy."""
    return voxels.map() if isinstance(voxels, DiskArray) else voxels


@dataclass(frozen=True)
class Volume:
    """A 3-D image on its stored grid, seen as a stack of axial slices.

    The axial axis is the stored axis closest to superior-inferior in the affine.

    Args:
        voxels: stored values before scaling, shape (i, j, k) in the order of the file.
        affine: 4x4 matrix from voxel indices to millimetres in RAS+ world coordinates.
        header: NIfTI header of the source, kept so that results get the same grid and codes.
        shape: the source's own shape; 2-D and single-frame 4-D sources differ from `voxels.shape`.
        slope: multiplies the stored values.
        intercept: is added after the slope.
        source: what error messages call the volume, usually its path.
    """

    voxels: Voxels
    affine: np.ndarray
    header: nib.Nifti1Header
    shape: tuple[int, ...]
    slope: float
    intercept: float
    source: str

    @cached_property
    def _to_canonical(self) -> np.ndarray:
        return ornt_transform(io_orientation(self.affine), axcodes2ornt(CANONICAL_AXES))

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

    @property
    def in_plane_spacing_mm(self) -> tuple[float, float]:
        """Voxel spacing in the axial plane, (right-left, anterior-posterior)."""
        spacing_mm = np.linalg.norm(self.affine[:3, :3], axis=0)
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
        return float(abs(np.linalg.det(self.affine[:3, :3])) / self.voxel_area_mm2)

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
        """
        slices = np.empty((stop - start, *self.in_plane_shape))
        if self.axial_axis == 2 or not isinstance(self.voxels, DiskArray):
            slices[:] = np.moveaxis(self.axial_view(self.voxels)[:, :, start:stop], 2, 0)
        else:
            # Each slice is spread over the whole file; going through it in blocks bounds the mapped pages.
            slowest = self._canonical_axes.index(2)
            n_bytes = math.prod(self.voxels.shape) * self.voxels.dtype.itemsize
            for block in _blocks(slices.shape[1 + slowest], n_bytes):
                part = (block, slice(None)) if slowest == 0 else (slice(None), block)
                view = self.axial_view(self.voxels)[(*part, slice(start, stop))]
                slices[(slice(None), *part)] = np.moveaxis(view, 2, 0)
        slices *= self.slope
        slices += self.intercept
        finite = np.isfinite(slices)
        n_replaced = int(slices.size - np.count_nonzero(finite))
        if n_replaced:
            n_finite = finite.sum(axis=(1, 2))
            means = np.where(finite, slices, 0.0).sum(axis=(1, 2)) / np.maximum(n_finite, 1)
            slices = np.where(finite, slices, means[:, np.newaxis, np.newaxis])
        return slices, n_replaced

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
                file.write(as_array(voxels)[:, :, block].astype(dtype).tobytes(order="F"))


def _compressed(raw: IO[bytes], path: Path) -> Any:
    # No name and no time in the stream: the same mask is the same file.
    if path.suffix == ".gz":
        return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)
    return raw


def _blocks(length: int, n_bytes: int) -> Iterator[slice]:
    step = max(1, math.ceil(length * BLOCK_BYTES / max(n_bytes, 1)))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def read_volume(path: str | Path, frame: int | None = None, orientation: str | None = None) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, checking all of it that can be wrong before any voxel is used.

    Uncompressed files are mapped, not loaded. Compressed files are unpacked once, which verifies their
    checksum; large ones are unpacked to a temporary file.

    Args:
        path: .nii or .nii.gz file; the content decides, not the suffix.
        frame: which frame of a 4-D file to read, from 0.
        orientation: three axis codes, such as "LAS", for a file whose header has no orientation.

    Raises:
        InputError: what is wrong with the file and what to do, in one line.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            return _read_open_file(file, path, frame, orientation)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give a .nii or .nii.gz file") from error
    except PermissionError as error:
        raise InputError(f"{path}: not readable; check its permissions") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: gzip data damaged or cut short ({error}); copy the file again") from error


def volume_from_image(
    image: nib.spatialimages.SpatialImage, frame: int | None = None, orientation: str | None = None
) -> Volume:
    """Volume of a nibabel image, with the checks of `read_volume`.

    Args:
        image: any nibabel image with an affine; results are NIfTI whatever its format.
        frame: which frame of a 4-D image to read, from 0.
        orientation: three axis codes for an image without affine.

    Raises:
        InputError: the image cannot be segmented.
    """
    source = image.get_filename() or "image"
    if not isinstance(image, nib.Nifti1Image):
        image = nib.Nifti1Image.from_image(image)
    header = image.header.copy()
    if image.affine is not None and not np.allclose(image.affine, _header_affine(header, source)):
        header.set_sform(image.affine)
    shape = _checked_shape(header, source)
    affine = _checked_affine(header, shape, orientation, source)
    voxels = np.asanyarray(image.dataobj)
    _refuse_colour_and_complex(voxels.dtype, source)
    index = _frame_index(shape, frame, source)
    shape = shape if index is None else shape[:3]
    voxels = voxels.reshape((*_three(shape), -1), order="F")[..., index or 0]
    return Volume(voxels, affine, header, shape, slope=1.0, intercept=0.0, source=source)


def _read_open_file(file: IO[bytes], path: Path, frame: int | None, orientation: str | None) -> Volume:
    file_size = os.fstat(file.fileno()).st_size
    if file_size == 0:
        raise InputError(f"{path}: the file is empty; copy it again")
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if zipped else file
    header = _read_header(stream, path)
    shape = _checked_shape(header, path)
    dtype = _checked_dtype(header, path)
    affine = _checked_affine(header, shape, orientation, path)
    index = _frame_index(shape, frame, path)
    slope, intercept = _checked_scaling(header, path)

    offset = max(int(header["vox_offset"]), header.single_vox_offset)
    claimed = offset + math.prod(shape) * dtype.itemsize
    available = file_size * MAX_GZIP_RATIO if zipped else file_size
    if claimed > available:
        raise InputError(
            f"{path}: the header claims {_readable(claimed)} of data, the file holds {_readable(file_size)}; "
            "it is cut short or its header is damaged; copy it again"
        )
    if index is not None:
        offset += index * math.prod(shape[:3]) * dtype.itemsize
        shape = shape[:3]
    if zipped:
        voxels = _unpack(stream, dtype, _three(shape), offset, claimed, path)
    else:
        voxels = DiskArray(open(path, "rb"), dtype, _three(shape), offset)  # noqa: SIM115
    return Volume(voxels, affine, header, shape, slope, intercept, str(path))


def _unpack(
    stream: Any, dtype: np.dtype, shape: tuple[int, ...], offset: int, claimed: int, path: Path
) -> Voxels:
    stream.seek(0)
    n_bytes = math.prod(shape) * dtype.itemsize
    target: Any = bytearray()
    if n_bytes > IN_MEMORY_BYTES:
        target = tempfile.TemporaryFile(prefix="keras_scgm_")  # noqa: SIM115
    position = 0
    # The stream is read to its end, past the wanted voxels, because the checksum stands there.
    while block := stream.read(2**20):
        wanted = block[max(offset - position, 0) : max(offset + n_bytes - position, 0)]
        if isinstance(target, bytearray):
            target += wanted
        else:
            target.write(wanted)
        position += len(block)
    if position < claimed:
        raise InputError(
            f"{path}: the header claims {_readable(claimed)} of data, the file holds {_readable(position)}; "
            "it is cut short; copy it again"
        )
    if isinstance(target, bytearray):
        return np.frombuffer(target, dtype).reshape(shape, order="F")
    target.flush()
    return DiskArray(target, dtype, shape)


def _read_header(stream: Any, path: Path) -> nib.Nifti1Header:
    block = stream.read(540)
    for header_class in (nib.Nifti2Header, nib.Nifti1Header):
        size = header_class.template_dtype.itemsize
        if len(block) < size or not header_class.may_contain_header(block[:size]):
            continue
        header = header_class(block[:size], check=False)
        if bytes(header["magic"].item())[:3] != header.single_magic[:3]:
            raise InputError(f"{path}: header of a .hdr/.img pair; convert it to a single .nii file")
        return header
    if block[128:132] == b"DICM":
        raise InputError(f"{path}: a DICOM file, not NIfTI; convert it, for example with dcm2niix")
    raise InputError(f"{path}: not a NIfTI file; give a .nii or .nii.gz file")


def _checked_shape(header: nib.Nifti1Header, source: str | Path) -> tuple[int, ...]:
    n_dims = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : n_dims + 1])
    if not 2 <= n_dims <= 7 or min(shape) < 1:
        raise InputError(f"{source}: dimensions {shape} hold no slice; the header is damaged")
    spacing_mm = header["pixdim"][1 : min(n_dims, 3) + 1]
    if not np.all(np.isfinite(spacing_mm)) or min(spacing_mm) <= 0:
        text = " x ".join(f"{value:g}" for value in spacing_mm)
        raise InputError(f"{source}: voxel spacing {text} mm is not positive; mend the header's pixdim")
    return shape


def _checked_dtype(header: nib.Nifti1Header, source: str | Path) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype(np.void)
    if dtype.itemsize == 0:
        code = int(header["datatype"])
        raise InputError(f"{source}: voxel type code {code} is not supported; convert to float32")
    _refuse_colour_and_complex(dtype, source)
    return dtype


def _refuse_colour_and_complex(dtype: np.dtype, source: str | Path) -> None:
    if dtype.fields is not None:
        raise InputError(f"{source}: colour (RGB) voxels; convert to one gray-scale channel")
    if dtype.kind == "c":
        raise InputError(f"{source}: complex voxels; save the magnitude image")
    if dtype.kind not in "iufb":
        raise InputError(f"{source}: voxel type {dtype} is not supported; convert to float32")


def _checked_scaling(header: nib.Nifti1Header, source: str | Path) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(
            f"{source}: scale factor {header['scl_slope']} and offset {header['scl_inter']} are unusable; "
            "mend the header's scl_slope and scl_inter"
        ) from error
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _frame_index(shape: tuple[int, ...], frame: int | None, source: str | Path) -> int | None:
    """Index of the frame to read, None if there is nothing to choose."""
    n_frames = math.prod(shape[3:])
    if frame is None:
        if n_frames > 1:
            raise InputError(
                f"{source}: {n_frames} frames of {' x '.join(map(str, shape[:3]))} voxels; "
                f"pick one with --frame 0 to --frame {n_frames - 1}, or average them first"
            )
        return None
    if not 0 <= frame < n_frames:
        raise InputError(f"{source}: frame {frame} does not exist; the file has frames 0 to {n_frames - 1}")
    return frame if n_frames > 1 else None


def _header_affine(header: nib.Nifti1Header, source: str | Path) -> np.ndarray:
    try:
        return header.get_best_affine()
    except HeaderDataError as error:
        raise InputError(f"{source}: no usable affine ({error}); mend the header's qform or sform") from error


def _checked_affine(
    header: nib.Nifti1Header, shape: tuple[int, ...], orientation: str | None, source: str | Path
) -> np.ndarray:
    has_orientation = header["sform_code"] > 0 or header["qform_code"] > 0
    if has_orientation:
        affine = np.array(_header_affine(header, source), dtype=np.float64)
    elif orientation is None:
        raise InputError(
            f"{source}: no usable affine, qform and sform codes are both 0, so the axial axis is unknown; "
            "if you know how it is stored, say so, for example --orientation LAS"
        )
    else:
        affine = _affine_from_codes(orientation, header)
    if len(shape) == 2 and not affine[:3, 2].any():
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] /= np.linalg.norm(affine[:3, 2]) or 1.0
    columns = affine[:3, :3]
    spacing_mm = np.linalg.norm(columns, axis=0)
    # A volume of less than a thousandth of the box its edges would span is flat for every purpose here.
    usable = np.all(np.isfinite(affine)) and abs(np.linalg.det(columns)) > 1e-3 * np.prod(spacing_mm)
    if not usable:
        raise InputError(
            f"{source}: no usable affine, it maps the voxels onto a plane, a line or not at all; "
            "mend the header's qform or sform"
        )
    to_canonical = ornt_transform(io_orientation(affine), axcodes2ornt(CANONICAL_AXES))
    in_plane_mm = spacing_mm[to_canonical[:, 0] != 2]
    low, high = PLAUSIBLE_SPACING_MM
    if in_plane_mm.min() < low or in_plane_mm.max() > high:
        raise InputError(
            f"{source}: axial voxels of {in_plane_mm[0]:g} x {in_plane_mm[1]:g} mm, outside {low:g} to "
            f"{high:g} mm; check the units and the orientation in the header"
        )
    return affine


def axis_codes(orientation: str) -> tuple[str, ...]:
    """The three codes of an orientation such as "LAS".

    Raises:
        InputError: they are not one each of L/R, A/P and S/I.
    """
    codes = tuple(orientation.upper())
    if sorted(WORLD_AXIS.get(code, -1) for code in codes) != [0, 1, 2]:
        raise InputError(
            f"orientation {orientation!r} is not three axis codes, one each of L/R, A/P and S/I, such as LAS"
        )
    return codes


def _affine_from_codes(orientation: str, header: nib.Nifti1Header) -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for stored, (world, sign) in enumerate(axcodes2ornt(axis_codes(orientation))):
        affine[int(world), stored] = sign * (header["pixdim"][stored + 1] or 1.0)
    return affine


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    rows, columns, *rest = shape
    return rows, columns, rest[0] if rest else 1


def _readable(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
