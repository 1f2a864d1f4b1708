"""Reads the masks and the image of a case on one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes
from nibabel.processing import resample_from_to

from keras_scgm import checks
from keras_scgm.datasets.scgm_challenge import MASK_NAME
from keras_scgm.errors import InputError
from keras_scgm.evaluation.challenge import MeasuredMask
from keras_scgm.grids import canonical_grid, grid_difference, shape_text
from keras_scgm.nifti import read_layout, read_volume
from keras_scgm.slices import chunks
from keras_scgm.volume import Volume

CHALLENGE_LABEL = 1
"""Gray matter in the challenge's masks, where 2 is white matter."""

LISTED_VALUES = 6


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of a case on the grid of its first mask.

    Args:
        label: Value of gray matter in references, and in predictions with several labels. None means
            1 in the masks of the challenge, and all values but zero in others, which must then be binary.
        resample_reference: Whether to resample references to the grid of the prediction (nearest neighbour).
    """

    label: int | None = None
    resample_reference: bool = False

    def __post_init__(self) -> None:
        checks.check_fields(self, label=checks.optional(checks.integer(1)), resample_reference=checks.flag)

    def prediction(self, path: Path, references: Sequence[Path]) -> CanonicalMask:
        """A model's mask.

        Raises:
            InputError: the file cannot be read, or is no mask.
        """
        return _read(path, self.label, partners=references, is_reference=False)

    def reference(self, path: Path, like: CanonicalMask) -> CanonicalMask:
        """A rater's mask, on the grid of a prediction.

        Raises:
            InputError: the file cannot be read, is no mask, or lies on another grid.
        """
        label = CHALLENGE_LABEL if self.label is None and MASK_NAME.fullmatch(path.name) else self.label
        mask = _read(path, label, partners=[like.path], is_reference=True)
        difference = mask.difference(like)
        if not difference:
            return CanonicalMask(path, mask.voxels, like.affine, mask.warnings)
        if not self.resample_reference:
            raise InputError(
                f"{path}: not on the grid of {like.path}, {difference}; evaluate on one grid, "
                "or add --resample-reference (nearest neighbour)"
            )
        source = nib.Nifti1Image(mask.voxels.astype(np.uint8), mask.affine)
        moved = resample_from_to(source, (like.voxels.shape, like.affine), order=0)
        return CanonicalMask(path, np.asarray(moved.dataobj) > 0, like.affine, mask.warnings)


@dataclass(frozen=True, eq=False)
class CanonicalMask:
    """A mask in the slice orientation of the package, independent of the storage order of its file.

    Args:
        path: Path of the file.
        voxels: Boolean array (right-left, posterior-anterior, inferior-superior).
        affine: 4x4 matrix from voxel indices to millimetres in RAS+ world coordinates.
        warnings: Doubts about the geometry in the header, one line each.
    """

    path: Path
    voxels: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel spacing of the three axes."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def difference(self, like: CanonicalMask) -> str:
        """Difference from the grid of another mask, see `grid_difference`."""
        return grid_difference(self.voxels.shape, self.affine, like.voxels.shape, like.affine)

    def measured(self) -> MeasuredMask:
        """The mask with its spacing, for comparisons."""
        return MeasuredMask(self.voxels, self.spacing_mm.tolist())


def read_image(path: Path, like: CanonicalMask) -> np.ndarray | None:
    """Intensities (right-left, posterior-anterior, inferior-superior) on a mask's grid, None if on another."""
    volume = read_volume(path, orientation="".join(aff2axcodes(like.affine)))
    slices, _ = volume.read_slices(0, volume.n_slices)
    image = np.moveaxis(slices, 0, 2)
    placed = CanonicalMask(path, image, canonical_grid(volume.voxels.shape, volume.affine)[1])
    return None if placed.difference(like) else image


def _read(path: Path, label: int | None, partners: Sequence[Path], is_reference: bool) -> CanonicalMask:
    orientation = None
    layout = read_layout(path)
    if math.prod(layout.shape[3:]) > 1:
        raise InputError(f"{path}: {shape_text(layout.shape)} voxels; a mask has one frame, keep one")
    if layout.affine is None:
        # A mask without orientation is taken to be stored like its partner.
        affines = [affine for partner in partners if (affine := read_layout(partner).affine) is not None]
        if not affines:
            raise InputError(
                f"{path}: neither it nor its partner has an orientation, qform and sform codes are 0; "
                "mend the headers"
            )
        orientation = "".join(aff2axcodes(affines[0]))
    volume = read_volume(path, orientation=orientation)
    marked = _marked_values(volume)
    _check_values(path, marked, label, is_reference)
    wanted = label if is_reference or len(marked) > 1 else None
    voxels = np.empty((*volume.in_plane_shape, volume.n_slices), bool)
    for start, stop in chunks(volume.n_slices):
        slices, _ = volume.read_slices(start, stop)
        chosen = slices != 0 if wanted is None else slices == wanted
        voxels[:, :, start:stop] = np.moveaxis(chosen, 0, 2)
    affine = canonical_grid(volume.voxels.shape, volume.affine)[1]
    return CanonicalMask(path, voxels, affine, volume.warnings)


def _marked_values(volume: Volume) -> set[float]:
    """Values of the voxels that are not zero, all of a mask's but not of an image's."""
    values: set[float] = set()
    n_not_finite = 0
    for start, stop in chunks(volume.n_slices):
        slices, n_replaced = volume.read_slices(start, stop)
        n_not_finite += n_replaced
        if len(values) < LISTED_VALUES:
            values.update(np.unique(slices[slices != 0]).tolist())
    if n_not_finite:
        raise InputError(
            f"{volume.source}: {n_not_finite} NaN or infinite voxels in a mask; write it again without them"
        )
    return values


def _check_values(path: Path, marked: set[float], label: int | None, is_reference: bool) -> None:
    listed = ", ".join(f"{value:g}" for value in sorted({0.0, *marked})[:LISTED_VALUES])
    more = ", ..." if len(marked) >= LISTED_VALUES else ""
    if any(value != round(value) for value in marked):
        raise InputError(f"{path}: holds {listed}{more}, probabilities and not labels; cut it at 0.5 first")
    if label is None and len(marked) > 1:
        raise InputError(f"{path}: holds {listed}{more}, not a binary mask; choose one with --label")
    if label is not None and marked and label not in marked and (is_reference or len(marked) > 1):
        raise InputError(f"{path}: holds {listed}{more}, no voxel is {label}; choose another --label")
