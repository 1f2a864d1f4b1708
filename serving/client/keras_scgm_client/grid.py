"""Geometry of an image, from its NIfTI-1 header."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

HEADER_BYTES = 348
VOXEL_OFFSET = 352
VOXEL_BYTES = {2: 1, 256: 1, 4: 2, 512: 2, 8: 4, 768: 4, 16: 4, 1024: 8, 1280: 8, 64: 8}
"""Type code in the header -> bytes of a voxel, of the types that the exported models read."""
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Shape, type and position of an image's voxels, from its header.

    Args:
        header: First 348 bytes of the uncompressed file.
        order: Byte order, "<" for little-endian, ">" for big-endian.
        shape: Number of voxels along each of the two to seven stored axes.
        type_code: NIfTI code of the voxel type.
        n_bytes: Size from the start of the uncompressed file to the end of its last voxel, bytes.
    """

    header: bytes = field(repr=False)
    order: str
    shape: tuple[int, ...]
    type_code: int
    n_bytes: int

    @property
    def n_voxels(self) -> int:
        return math.prod(self.shape)

    def fields(self, form: str, offset: int) -> tuple[float, ...]:
        """Numbers of the header, given by `struct` format and offset."""
        return struct.unpack_from(self.order + form, self.header, offset)

    @property
    def place(self) -> tuple[bytes, ...]:
        """Header bytes that define the grid: dimensions, spacing, qform and sform."""
        n_dims = len(self.shape)
        return self.header[40 : 42 + 2 * n_dims], self.header[76 : 80 + 4 * n_dims], self.header[252:328]

    @cached_property
    def columns(self) -> tuple[Vector, Vector, Vector]:
        """Step along each stored axis in RAS+ world coordinates, mm; the sform takes precedence over the qform."""
        if self.fields("h", 254)[0] != 0:
            rows = [self.fields("4f", offset)[:3] for offset in (280, 296, 312)]
            x, y, z = zip(*rows, strict=True)
        else:
            x, y, z = self._qform_columns()
        if len(self.shape) == 2 and not any(z):
            normal = _cross(x, y)
            z = _scaled(normal, 1 / (math.hypot(*normal) or 1.0))
        return x, y, z

    def _qform_columns(self) -> tuple[Vector, Vector, Vector]:
        qfac, *spacing_mm = self.fields("4f", 76)
        b, c, d = self.fields("3f", 256)
        a = math.sqrt(max(0.0, 1 - (b * b + c * c + d * d)))
        rotation = (
            (a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)),
            (2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)),
            (2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - b * b - c * c),
        )
        x, y, z = (_scaled(column, mm) for column, mm in zip(rotation, spacing_mm, strict=True))
        return x, y, _scaled(z, -1.0 if qfac < 0 else 1.0)

    @property
    def spacing_mm(self) -> list[float]:
        """Voxel spacing along each stored spatial axis, mm."""
        return [math.hypot(*column) for column in self.columns]

    @cached_property
    def _world_axes(self) -> dict[int, tuple[int, float]]:
        """World axis and sign of each stored axis, by the closest rotation; the best aligned axis comes first.

        Raises:
            ValueError: The header has no usable affine.
        """
        rotation = [list(column) for column in _closest_rotation(self.columns)]
        if not all(math.isfinite(value) for column in rotation for value in column):
            raise ValueError("no usable affine")
        found = {}
        for axis in sorted(range(3), key=lambda axis: -max(map(abs, rotation[axis]))):
            world = max(range(3), key=lambda world: abs(rotation[axis][world]))
            found[axis] = world, rotation[axis][world]
            for column in rotation:
                column[world] = 0.0
        return found

    @property
    def orientation(self) -> str:
        """Axis codes, such as "LAS"."""
        ends = ("LR", "PA", "IS")
        return "".join(ends[world][value > 0] for _, (world, value) in sorted(self._world_axes.items()))

    @property
    def axial_axis(self) -> int:
        """Stored axis perpendicular to the axial slices."""
        return next(axis for axis, (world, _) in self._world_axes.items() if world == 2)

    @property
    def in_plane_axes(self) -> tuple[int, int]:
        """Stored axes of an axial slice: right-left and posterior-anterior."""
        across, along = sorted(set(range(3)) - {self.axial_axis}, key=lambda axis: self._world_axes[axis][0])
        return across, along

    def _size(self, axis: int) -> int:
        return self.shape[axis] if axis < len(self.shape) else 1

    @property
    def n_slices(self) -> int:
        return self._size(self.axial_axis)

    @property
    def in_plane_shape(self) -> tuple[int, int]:
        """Number of voxels of an axial slice along right-left and posterior-anterior."""
        across, along = self.in_plane_axes
        return self._size(across), self._size(along)

    @property
    def voxel_area_mm2(self) -> float:
        """Area of a voxel in the axial plane, also on a sheared grid."""
        across, along = self.in_plane_axes
        return math.hypot(*_cross(self.columns[across], self.columns[along]))

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between the planes of neighbouring slices."""
        x, y, z = self.columns
        return round(abs(_dot(_cross(x, y), z)) / self.voxel_area_mm2, 6)


def parse_grid(start: bytes) -> Grid:
    """Parse the first bytes of an uncompressed NIfTI-1 file.

    Raises:
        ValueError: The file has another format, or a voxel type that is not served.
    """
    header = start[:HEADER_BYTES]
    if header[4:7] == b"n+2":
        raise ValueError("a NIfTI-2 file, which is not served; convert it to NIfTI-1")
    if header[344:348] == b"ni1\0":
        raise ValueError("header of a .hdr/.img pair; convert it to a single .nii file")
    if len(header) < HEADER_BYTES:
        raise ValueError("too short for a NIfTI file")
    if header[344:348] != b"n+1\0":
        raise ValueError("not a single-file NIfTI-1 image")
    order = _byte_order(header)
    n_dims, *sizes = struct.unpack_from(f"{order}8h", header, 40)
    shape = tuple(sizes[:n_dims]) if 2 <= n_dims <= 7 else ()
    if not shape or min(shape) < 1 or max(shape) == 1:
        raise ValueError(f"dim {[n_dims, *sizes]} in its header is not that of an image")
    if math.prod(shape[3:]) != 1:
        raise ValueError("not a 3-D image; extract one frame")
    (type_code,) = struct.unpack_from(f"{order}h", header, 70)
    if type_code not in VOXEL_BYTES:
        raise ValueError(f"voxel type code {type_code} is not served; convert to gray-scale float32")
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    if not 0 <= offset < 2**62:
        raise ValueError(f"vox_offset {offset:g} is unusable, the header is damaged")
    n_bytes = max(int(offset), VOXEL_OFFSET) + math.prod(shape) * VOXEL_BYTES[type_code]
    return Grid(header, order, shape, type_code, n_bytes)


def _byte_order(header: bytes) -> str:
    """Byte order by nibabel's rule: the number of dimensions is 0 to 7 in the correct order."""
    native, swapped = ("<", ">") if sys.byteorder == "little" else (">", "<")
    (n_dims,) = struct.unpack_from(f"{native}h", header, 40)
    if n_dims == 0:
        return native if struct.unpack_from(f"{native}i", header)[0] == HEADER_BYTES else swapped
    return native if 1 <= n_dims <= 7 else swapped


def _closest_rotation(columns: Sequence[Vector]) -> list[Vector]:
    """Closest rotation, or rotation with reflection, to the directions of three axes."""
    x, y, z = (_scaled(column, 1 / math.hypot(*column)) for column in columns)
    for _ in range(60):
        # Newton's iteration to the orthogonal factor: the mean of a matrix and the transpose of its inverse.
        others = _cross(y, z), _cross(z, x), _cross(x, y)
        determinant = _dot(x, others[0])
        x, y, z = (
            _scaled(_sum(mine, _scaled(other, 1 / determinant)), 0.5)
            for mine, other in zip((x, y, z), others, strict=True)
        )
    return [x, y, z]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _sum(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _scaled(vector: Vector, factor: float) -> Vector:
    return vector[0] * factor, vector[1] * factor, vector[2] * factor
