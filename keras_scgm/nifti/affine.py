"""The affine of a NIfTI header, checked, and the size and spacing of axial slices."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt
from nibabel.spatialimages import HeaderDataError

from keras_scgm import messages
from keras_scgm.errors import InputError
from keras_scgm.limits import MAX_FIELD_MM2, MAX_SLICE_VOXELS
from keras_scgm.nifti.header import grid_shape
from keras_scgm.volume import to_canonical

WORLD_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
PLAUSIBLE_SPACING_MM = (0.01, 5.0)


def axis_codes(orientation: str) -> tuple[str, ...]:
    """The three codes of an orientation such as "LAS".

    Raises:
        InputError: They are not one each of L/R, A/P and S/I.
    """
    codes = tuple(orientation.upper())
    if sorted(WORLD_AXIS.get(code, -1) for code in codes) != [0, 1, 2]:
        raise InputError(
            f"orientation {orientation!r} is not three axis codes, one each of L/R, A/P and S/I, such as LAS"
        )
    return codes


def orientation_of(affine: np.ndarray) -> str:
    """Orientation of an affine's voxel axes, such as "LAS"."""
    return "".join(nib.aff2axcodes(affine))


def header_affine(header: nib.Nifti1Header, source: str | Path) -> np.ndarray:
    try:
        return header.get_best_affine()
    # A quaternion longer than 1 is a bare ValueError.
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{source}: {messages.UNUSABLE_AFFINE}") from error


def checked_affine(header: nib.Nifti1Header, shape: tuple[int, ...], source: str | Path) -> np.ndarray | None:
    """The header's affine, None if it has no orientation."""
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        return None
    affine = np.array(header_affine(header, source), dtype=np.float64)
    if len(shape) == 2 and not affine[:3, 2].any():
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] /= np.linalg.norm(affine[:3, 2]) or 1.0
    columns = affine[:3, :3]
    spacing_mm = np.linalg.norm(columns, axis=0)
    # A voxel whose volume is below a thousandth of the product of its edges is treated as flat.
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(columns)) <= 1e-3 * np.prod(spacing_mm):
        raise InputError(f"{source}: {messages.FLAT_AFFINE}")
    _check_slices(affine, shape, source)
    return affine


def declared_affine(
    header: nib.Nifti1Header, shape: tuple[int, ...], orientation: str | None, source: str | Path
) -> np.ndarray:
    if orientation is None:
        advice = "write it into qform or sform; segment takes --orientation, for example LAS"
        raise InputError(f"{source}: {messages.NO_ORIENTATION.format(advice)}")
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for stored, (world, sign) in enumerate(axcodes2ornt(axis_codes(orientation))):
        affine[int(world), stored] = sign * (header["pixdim"][stored + 1] or 1.0)
    _check_slices(affine, shape, source)
    return affine


def _check_slices(affine: np.ndarray, shape: tuple[int, ...], source: str | Path) -> None:
    """Refuse axial slices of implausible spacing or size."""
    right_left, posterior_anterior, _ = np.argsort(to_canonical(affine)[:, 0])
    axes = [right_left, posterior_anterior]
    in_plane_mm = np.linalg.norm(affine[:3, :3], axis=0)[axes]
    low, high = PLAUSIBLE_SPACING_MM
    if in_plane_mm.min() < low or in_plane_mm.max() > high:
        numbers = (f"{value:g}" for value in (*in_plane_mm, low, high))
        raise InputError(f"{source}: {messages.IMPLAUSIBLE_SPACING.format(*numbers)}")
    n_voxels = np.array(grid_shape(shape))[axes]
    if math.prod(n_voxels.tolist()) > MAX_SLICE_VOXELS:
        raise InputError(f"{source}: {messages.TOO_MANY_VOXELS.format(*n_voxels)}")
    field_mm = n_voxels * in_plane_mm
    if np.prod(field_mm) > MAX_FIELD_MM2:
        raise InputError(f"{source}: {messages.TOO_WIDE.format(*np.rint(field_mm).astype(int))}")
