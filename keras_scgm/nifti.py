"""Reading NIfTI files and nibabel images into volumes, after every check that can be made first."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt2axcodes, ornt_transform
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError
from zlib_ng import gzip_ng, zlib_ng

import keras_scgm.volume
from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.limits import MAX_FIELD_MM2, MAX_SLICE_VOXELS
from keras_scgm.volume import CANONICAL_AXES, DiskArray, Volume, Voxels, to_nanometre

WORLD_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
# DEFLATE cannot compress better than 1032:1, so a larger claim in a header is false.
MAX_GZIP_RATIO = 1032
PLAUSIBLE_SPACING_MM = (0.01, 5.0)
TOO_MANY_VOXELS = (
    f"axial slices of {{}} x {{}} voxels, more than {MAX_SLICE_VOXELS / 1e6:.1f} million; check the orientation in the "
    "header, or cut out the part with the cord"
)
TOO_WIDE = (
    f"a field of view of {{}} x {{}} mm, more than {MAX_FIELD_MM2 / 1e6:g} m2; check the units and the spacing in the "
    "header"
)
DICOM_ENDINGS = (".dcm", ".ima")
FILES_TRIED = 100
PAIR_ENDINGS = (".hdr", ".img", ".hdr.gz", ".img.gz")

SPACING_TOLERANCE = 0.01
"""Relative difference above which spacings disagree; headers rounded to float32 or to 0.001 mm stay below."""

DIRECTION_TOLERANCE_DEG = 3.0
"""Angle above which the axes of two forms disagree; rounding of a quaternion to float32 makes 0.1 degrees."""

SPACING_WARNING = (
    "the sform says voxels of {} mm, {} {} mm; the sform counts and areas follow it; "
    "mend the header if that is wrong"
)
EXCHANGE_WARNING = (
    "qform and sform exchange {} (qform: {}, sform: {}); the sform counts; mend the header if that is wrong"
)
DIRECTION_WARNING = (
    "the axes of qform and sform differ in direction by {} degrees; the sform counts; "
    "mend the header if that is wrong"
)
ENDS_OF_AXES = ("left and right", "anterior and posterior", "inferior and superior")
"""Names of the world axes x, y and z in warnings."""


@dataclass(frozen=True)
class Layout:
    """What a NIfTI header says about the voxels, checked without reading any.

    Args:
        header: the header itself.
        shape: of the file, 2 to 7 dimensions.
        affine: 4x4, voxel indices to millimetres; None if the header has no orientation.
        dtype: of the stored values, with their byte order.
        slope: multiplies the stored values.
        intercept: is added after the slope.
        offset: bytes before the first voxel.
        is_compressed: whether the file is a gzip stream.
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
    def grid_shape(self) -> tuple[int, int, int]:
        """Voxels in space, (i, j, k); k is 1 for a 2-D file."""
        return _three(self.shape)


def read_layout(path: str | Path) -> Layout:
    """Check a NIfTI file as far as its header goes.

    Raises:
        InputError: what is wrong with the file and what to do, in one line.
    """
    path = checks.path("path", path)
    with _opened(path) as file:
        return _layout(file, path)


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
    path = checks.path("path", path)
    with _opened(path) as file:
        layout = _layout(file, path)
        affine = layout.affine
        if affine is None:
            affine = _declared_affine(layout.header, layout.shape, orientation, path)
        index = _frame_index(layout.shape, frame, path)
        shape, offset = layout.shape, layout.offset
        if index is not None:
            offset += index * math.prod(shape[:3]) * layout.dtype.itemsize
            shape = shape[:3]
        if layout.is_compressed:
            voxels = _unpack(file, layout, offset, path)
        else:
            voxels = DiskArray(open(path, "rb"), layout.dtype, layout.grid_shape, offset)  # noqa: SIM115
    warnings = () if layout.affine is None else _disagreements(layout.header, affine, len(shape))
    return Volume(voxels, affine, layout.header, shape, layout.slope, layout.intercept, str(path), warnings)


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
        # As nibabel does when it saves such an image: its affine counts, not what the header still holds.
        header.set_sform(image.affine, code="aligned")
        header.set_qform(image.affine, code="unknown")
    shape = _checked_shape(header, source)
    affine = _checked_affine(header, shape, source)
    warnings = () if affine is None else _disagreements(header, affine, len(shape))
    if affine is None:
        affine = _declared_affine(header, shape, orientation, source)
    voxels = np.asanyarray(image.dataobj)
    _refuse_colour_and_complex(voxels.dtype, source)
    index = _frame_index(shape, frame, source)
    shape = shape if index is None else shape[:3]
    voxels = voxels.reshape((*_three(shape), -1), order="F")[..., index or 0]
    return Volume(voxels, affine, header, shape, 1.0, 0.0, source, warnings)


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


def conversion_hint(folder: Path) -> str:
    """What to do with a folder that holds images of other formats; empty if it does not."""
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in sorted(names))
    for path in islice(files, FILES_TRIED):
        if _is_dicom(path):
            return f"it holds DICOM files; convert them, for example with dcm2niix -z y {folder}"
        if path.name.lower().endswith(PAIR_ENDINGS):
            return "it holds a .hdr/.img pair; convert it to a single .nii file"
    return ""


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_ENDINGS):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"{path}: {_why_missing(path)}") from error
    except IsADirectoryError as error:
        advice = conversion_hint(path) or "give a .nii or .nii.gz file"
        raise InputError(f"{path}: is a folder; {advice}") from error
    except PermissionError as error:
        raise InputError(f"{path}: not readable; check its permissions") from error
    except (EOFError, gzip_ng.BadGzipFile, zlib_ng.error) as error:  # type: ignore[misc]
        raise InputError(f"{path}: gzip data damaged or cut short ({error}); copy the file again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file and the disk") from error


def _why_missing(path: Path) -> str:
    if not path.is_symlink():
        return "no such file; check the path"
    target = os.readlink(path)
    if "annex/objects" in target:
        return _not_fetched(path, "git-annex")
    return f"a link to {target}, which does not exist; copy the file there, or remove the link"


def _not_fetched(path: Path, kept_by: str) -> str:
    fetch = {
        "git-annex": f"datalad get {path.name}, or git annex get {path.name}",
        "Git LFS": f"git lfs pull --include={path.name}",
    }
    return f"its content is not here, {kept_by} has only a pointer to it; fetch it in its folder: {fetch[kept_by]}"


def _layout(file: IO[bytes], path: Path) -> Layout:
    file_size = os.fstat(file.fileno()).st_size
    if file_size == 0:
        raise InputError(f"{path}: the file is empty; copy it again")
    is_compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    header = _read_header(gzip_ng.GzipNGFile(fileobj=file) if is_compressed else file, path)
    shape = _checked_shape(header, path)
    dtype = _checked_dtype(header, path)
    affine = _checked_affine(header, shape, path)
    slope, intercept = _checked_scaling(header, path)
    stated_offset = float(header["vox_offset"])
    if not 0 <= stated_offset < 2**62:
        raise InputError(f"{path}: vox_offset {stated_offset:g} is unusable; the header is damaged")
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
    return InputError(
        f"{path}: the header claims {_readable(_claimed_bytes(layout))} of data, the file holds "
        f"{_readable(n_bytes)}; it is cut short or its header is damaged; copy it again"
    )


def _unpack(file: IO[bytes], layout: Layout, offset: int, path: Path) -> Voxels:
    file.seek(0)
    stream = gzip_ng.GzipNGFile(fileobj=file)
    n_bytes = math.prod(layout.grid_shape) * layout.dtype.itemsize
    target: Any = bytearray()
    if n_bytes > keras_scgm.volume.IN_MEMORY_BYTES:
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
    if position < _claimed_bytes(layout):
        raise _cut_short(path, layout, position)
    if isinstance(target, bytearray):
        return np.frombuffer(target, layout.dtype).reshape(layout.grid_shape, order="F")
    target.flush()
    return DiskArray(target, layout.dtype, layout.grid_shape)


def _read_header(stream: Any, path: Path) -> nib.Nifti1Header:
    block = stream.read(540)
    for header_class in (nib.Nifti2Header, nib.Nifti1Header):
        size = header_class.template_dtype.itemsize
        if len(block) < size or not header_class.may_contain_header(block[:size]):
            continue
        header = header_class(block[:size], check=False)
        magic = bytes(header["magic"].item())[:3]
        if magic == header.pair_magic[:3]:
            raise InputError(f"{path}: header of a .hdr/.img pair; convert it to a single .nii file")
        # The size of a NIfTI-2 header may stand in a NIfTI-1 one by mistake.
        if magic == header.single_magic[:3]:
            return header
    if block.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: {_not_fetched(path, 'Git LFS')}")
    # An unlocked file is such text, and a link is where the file system knows no links.
    if b"annex/objects/" in block.split(b"\n", 1)[0]:
        raise InputError(f"{path}: {_not_fetched(path, 'git-annex')}")
    if _is_dicom(path):
        raise InputError(f"{path}: a DICOM file, not NIfTI; convert it, for example with dcm2niix")
    if path.name.lower().endswith(PAIR_ENDINGS):
        raise InputError(f"{path}: part of a .hdr/.img pair; convert the pair to a single .nii file")
    raise InputError(f"{path}: not a NIfTI file; give a .nii or .nii.gz file")


def _checked_shape(header: nib.Nifti1Header, source: str | Path) -> tuple[int, ...]:
    n_dims = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : n_dims + 1])
    if not 2 <= n_dims <= 7 or min(shape) < 1 or math.prod(shape) == 1:
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
    # Quadruple precision is read on some machines only, and by no graph.
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise InputError(f"{source}: voxel type {dtype} is not supported; convert to float32")


def _checked_scaling(header: nib.Nifti1Header, source: str | Path) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
        # Graphs take such a number for 0.
        if slope and abs(slope) < np.finfo(np.float32).tiny:
            raise HeaderDataError("subnormal scl_slope")
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
    # A quaternion longer than 1 is a bare ValueError.
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{source}: no usable affine ({error}); mend the header's qform or sform") from error


def _checked_affine(
    header: nib.Nifti1Header, shape: tuple[int, ...], source: str | Path
) -> np.ndarray | None:
    """The header's affine, None if it has no orientation."""
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        return None
    affine = np.array(_header_affine(header, source), dtype=np.float64)
    if len(shape) == 2 and not affine[:3, 2].any():
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] /= np.linalg.norm(affine[:3, 2]) or 1.0
    columns = affine[:3, :3]
    spacing_mm = np.linalg.norm(columns, axis=0)
    # A volume of less than a thousandth of the box its edges would span is flat for every purpose here.
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(columns)) <= 1e-3 * np.prod(spacing_mm):
        raise InputError(
            f"{source}: no usable affine, it maps the voxels onto a plane, a line or not at all; "
            "mend the header's qform or sform"
        )
    _check_slices(affine, shape, source)
    return affine


def _declared_affine(
    header: nib.Nifti1Header, shape: tuple[int, ...], orientation: str | None, source: str | Path
) -> np.ndarray:
    if orientation is None:
        raise InputError(
            f"{source}: no usable affine, qform and sform codes are both 0, so the axial axis is unknown; "
            "if you know how it is stored, say so, for example --orientation LAS"
        )
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for stored, (world, sign) in enumerate(axcodes2ornt(axis_codes(orientation))):
        affine[int(world), stored] = sign * (header["pixdim"][stored + 1] or 1.0)
    _check_slices(affine, shape, source)
    return affine


def _check_slices(affine: np.ndarray, shape: tuple[int, ...], source: str | Path) -> None:
    """Refuse axial slices whose spacing or size no scanner makes."""
    to_canonical = ornt_transform(io_orientation(affine), axcodes2ornt(CANONICAL_AXES))
    right_left, posterior_anterior, _ = np.argsort(to_canonical[:, 0])
    axes = [right_left, posterior_anterior]
    in_plane_mm = np.linalg.norm(affine[:3, :3], axis=0)[axes]
    low, high = PLAUSIBLE_SPACING_MM
    if in_plane_mm.min() < low or in_plane_mm.max() > high:
        raise InputError(
            f"{source}: axial voxels of {in_plane_mm[0]:g} x {in_plane_mm[1]:g} mm, outside {low:g} to "
            f"{high:g} mm; check the units and the orientation in the header"
        )
    n_voxels = np.array(_three(shape))[axes]
    if math.prod(n_voxels.tolist()) > MAX_SLICE_VOXELS:
        raise InputError(f"{source}: {TOO_MANY_VOXELS.format(*n_voxels)}")
    field_mm = n_voxels * in_plane_mm
    if np.prod(field_mm) > MAX_FIELD_MM2:
        raise InputError(f"{source}: {TOO_WIDE.format(*np.rint(field_mm).astype(int))}")


def _disagreements(header: nib.Nifti1Header, affine: np.ndarray, n_dims: int) -> tuple[str, ...]:
    """Warnings where qform or pixdim contradict the sform, one line each; none if there is no sform."""
    if header["sform_code"] == 0:
        return ()
    warnings = []
    has_qform = header["qform_code"] > 0
    stored = slice(min(n_dims, 3))
    lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)
    sform_mm = to_nanometre(lengths_mm[stored])
    pixdim_mm = to_nanometre(header["pixdim"][1:4][stored].astype(np.float64))
    if np.any(np.abs(sform_mm - pixdim_mm) > SPACING_TOLERANCE * pixdim_mm):
        others = "qform and pixdim say" if has_qform else "pixdim says"
        warnings.append(SPACING_WARNING.format(_by(sform_mm), others, _by(pixdim_mm)))
    qform = np.eye(4)
    qform[:3, :3] = _qform_directions(header)
    if not has_qform or not np.all(np.isfinite(qform)):
        return tuple(warnings)
    # The closest rotation, because a qform cannot hold the shear of a sform.
    left, _, right = np.linalg.svd(affine[:3, :3] / lengths_mm)
    cosines = np.sum(qform[:3, :3] * (left @ right), axis=0)[stored]
    angle_deg = to_nanometre(np.rad2deg(np.arccos(np.clip(cosines.min(), -1, 1))))
    axes = [io_orientation(form)[stored] for form in (qform, affine)]
    if angle_deg > DIRECTION_TOLERANCE_DEG:
        if np.array_equal(*axes):
            warnings.append(DIRECTION_WARNING.format(f"{angle_deg:.0f}"))
        else:
            codes = ["".join(ornt2axcodes(form)) for form in axes]
            warnings.append(EXCHANGE_WARNING.format(_exchanged(*axes), *codes))
    return tuple(warnings)


def _qform_directions(header: nib.Nifti1Header) -> np.ndarray:
    """Directions of the stored axes, one column each; NaN where the quaternion is not finite."""
    # Not nibabel's `get_qform`, which refuses headers that other programs read: a quaternion a little longer
    # than 1, or a pixdim[0] of 0.
    quaternion = np.array([header[f"quatern_{name}"] for name in "bcd"], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        real = np.sqrt(np.maximum(0.0, 1 - quaternion @ quaternion))
        directions = quat2mat([real, *quaternion])
    directions[:, 2] *= -1 if header["pixdim"][0] < 0 else 1
    return directions


def _exchanged(one: np.ndarray, other: np.ndarray) -> str:
    if not np.array_equal(one[:, 0], other[:, 0]):
        return "axes"
    return ", ".join(ENDS_OF_AXES[int(axis)] for axis, _ in one[one[:, 1] != other[:, 1]])


def _by(spacing_mm: np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing_mm)


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    rows, columns, *rest = shape
    return rows, columns, rest[0] if rest else 1


def _readable(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
