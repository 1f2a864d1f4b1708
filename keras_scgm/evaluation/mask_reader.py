"""Reads the masks and the image of a case on one grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.processing import resample_from_to

from keras_scgm import checks
from keras_scgm.datasets.scgm_challenge import MASK_NAME
from keras_scgm.errors import InputError
from keras_scgm.evaluation.challenge import MeasuredMask
from keras_scgm.evaluation.tissues import (
    CHALLENGE_LABELS,
    CORD,
    GM,
    TISSUE_NAMES,
    TISSUES,
    WM,
    AnnotatorFiles,
    MissingTissueError,
    Tissue,
    label_values,
    values_of,
)
from keras_scgm.grids import canonical_grid, grid_difference
from keras_scgm.nifti import read_layout, read_mask, read_volume
from keras_scgm.nifti.affine import orientation_of
from keras_scgm.slices import chunks
from keras_scgm.volume import Volume

LISTED_VALUES = 6

GRID_TOLERANCE = 1e-3
"""Of a voxel."""


MAX_SHEAR = 0.01
"""Largest cosine of the angle between two axes of a grid that is measured as perpendicular."""


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of a case on the grid of its first mask.

    Args:
        label: Value of the tissue in references, and in predictions with several labels; or two values, those of
            gray and of white matter, which together are the cord. None means 1 and 2 in the masks of the
            challenge, and all values but zero in others, which must then be binary.
        resample_reference: Whether to resample references to the grid of the prediction (nearest neighbour).
        unnamed: Tissue of binary masks whose names do not say it, and of a single `label`.
    """

    label: tuple[int, ...] | None = None
    resample_reference: bool = False
    unnamed: Tissue = GM

    def __post_init__(self) -> None:
        checks.check_fields(
            self, label=label_values, resample_reference=checks.flag, unnamed=checks.one_of(TISSUES)
        )

    def labels_in(self, paths: Iterable[Path]) -> frozenset[int]:
        """Which values of `label` the masks hold, those that cannot be read left out."""
        wanted, found = set(self.label or ()), set[int]()
        for path in paths:
            if found == wanted:
                break
            with suppress(InputError):
                found |= {label for label in wanted if label in _marked_values(_open(path, ()))}
        return frozenset(found)

    def prediction(
        self, files: AnnotatorFiles, references: Iterable[AnnotatorFiles], tissue: Tissue
    ) -> CanonicalMask:
        """A model's mask of a tissue.

        Raises:
            MissingTissueError: there is no mask of the tissue, nor those that it follows from.
            InputError: a file cannot be read, or is no mask.
        """
        partners = [path for reference in references for path in reference.paths]
        return self._tissue(files, tissue, partners, is_reference=False)

    def reference(self, files: AnnotatorFiles, like: CanonicalMask, tissue: Tissue) -> CanonicalMask:
        """A rater's mask of a tissue, on the grid of a prediction.

        Raises:
            MissingTissueError: there is no mask of the tissue, nor those that it follows from.
            InputError: a file cannot be read, is no mask, or lies on another grid.
        """
        mask = self._tissue(files, tissue, [like.path], is_reference=True)
        difference = mask.difference(like)
        if not difference:
            return CanonicalMask(mask.path, mask.voxels, like.affine, mask.warnings)
        if not self.resample_reference:
            raise InputError(
                f"{mask.path}: not on the grid of {like.path}, {difference}; evaluate on one grid, "
                "or add --resample-reference (nearest neighbour)"
            )
        outside = _share_outside(mask, like)
        if outside == 1:
            raise InputError(f"{mask.path}: wholly outside the grid of {like.path}; give masks of one image")
        source = nib.Nifti1Image(mask.voxels.astype(np.uint8), mask.affine)
        moved = resample_from_to(source, (like.voxels.shape, like.affine), order=0)
        left_out = (
            f"{100 * outside:.2g} % of the mask lies outside the grid of {like.path} and does not count"
        )
        warnings = (*mask.warnings, left_out) if outside else mask.warnings
        return CanonicalMask(mask.path, np.asarray(moved.dataobj) > 0, like.affine, warnings)

    def _tissue(
        self, files: AnnotatorFiles, tissue: Tissue, partners: Sequence[Path], is_reference: bool
    ) -> CanonicalMask:
        """The mask of a tissue from its own file, a file with labels, or the masks of the two other tissues."""
        named = files.by_tissue

        def read(path: Path, of: Tissue) -> CanonicalMask:
            volume = _open(path, partners)
            is_named = path in named.values()
            labels = frozenset[int]() if is_named else files.labels
            marked = _marked_values(volume)
            return _mask_of(volume, path, self._values(path, of, marked, labels, is_named, is_reference))

        if tissue in named:
            return read(named[tissue], tissue)
        if tissue == WM and {GM, CORD} <= named.keys():
            return _combined(read(named[CORD], CORD), read(named[GM], GM), lambda cord, gray: cord & ~gray)
        if tissue == CORD and {GM, WM} <= named.keys():
            return _combined(read(named[GM], GM), read(named[WM], WM), np.logical_or)
        if files.unnamed is not None:
            return read(files.unnamed, tissue)
        raise MissingTissueError(f"{files.paths[0]}: no mask of the {TISSUE_NAMES[tissue]} beside it")

    def _values(
        self,
        path: Path,
        tissue: Tissue,
        marked: set[float],
        in_others: frozenset[int],
        is_named: bool,
        is_reference: bool,
    ) -> frozenset[int] | None:
        """Values of the voxels of a tissue in a file, None for all but zero.

        Args:
            path: The file.
            tissue: The tissue.
            marked: Values in the file that are not zero.
            in_others: Labels in the model's masks of all cases, of which this one may lack some.
            is_named: Whether the name of the file says a tissue.
            is_reference: Whether it is a reference.
        """
        listed = ", ".join(f"{value:g}" for value in sorted({0.0, *marked})[:LISTED_VALUES])
        holds = f"{path}: holds {listed}{', ...' if len(marked) >= LISTED_VALUES else ''}"
        if any(value != round(value) for value in marked):
            raise InputError(f"{holds}, probabilities and not labels; cut it at 0.5 first")
        of_challenge = self.label is None and MASK_NAME.fullmatch(path.name) is not None
        labels = CHALLENGE_LABELS if of_challenge else self.label
        known = marked | in_others
        # A reference with labels may lack one of them; a file of the cord or of white matter alone has none.
        must_have = of_challenge or (is_reference and not (is_named and tissue != GM))
        if labels is None or not (must_have or len(known) > 1 or known.intersection(labels[1:])):
            if len(marked) > 1:
                raise InputError(f"{holds}, not a binary mask; choose one with --label")
            if not is_named and tissue != self.unnamed:
                raise MissingTissueError(
                    f"{path}: one mask, taken as {TISSUE_NAMES[self.unnamed]}; no {TISSUE_NAMES[tissue]}"
                )
            return None
        wanted = values_of(tissue, labels, self.unnamed)
        if not wanted:
            raise MissingTissueError(f"{path}: the label of the {TISSUE_NAMES[tissue]} is not known")
        if tissue == GM or len(labels) == 1:
            if known and not wanted & known:
                raise InputError(f"{holds}, no voxel is {labels[0]}; choose another --label")
        elif known and labels[1] not in known:
            raise MissingTissueError(f"{holds}, no voxel is {labels[1]}, white matter")
        return wanted


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
    volume = read_volume(path, orientation=orientation_of(like.affine))
    slices, _ = volume.read_slices(0, volume.n_slices)
    image = np.moveaxis(slices, 0, 2)
    placed = CanonicalMask(path, image, canonical_grid(volume.voxels.shape, volume.affine)[1])
    return None if placed.difference(like) else image


def _open(path: Path, partners: Sequence[Path]) -> Volume:
    affines = (affine for partner in partners if (affine := read_layout(partner).affine) is not None)
    return read_mask(path, next(affines, None))


def _share_outside(mask: CanonicalMask, like: CanonicalMask) -> float:
    """Share of the voxels of a mask whose centres lie in no voxel of another grid; 0 for an empty mask."""
    marked = np.argwhere(mask.voxels)
    if not len(marked):
        return 0.0
    places = apply_affine(np.linalg.inv(like.affine) @ mask.affine, marked)
    size = np.array(like.voxels.shape)
    # Centres on the face of the outermost voxels are in them, whatever the rounding.
    inside = (places >= -0.5 - GRID_TOLERANCE) & (places <= size - 0.5 + GRID_TOLERANCE)
    return float(np.mean(~inside.all(axis=1)))


def _mask_of(volume: Volume, path: Path, values: frozenset[int] | None) -> CanonicalMask:
    voxels = np.empty((*volume.in_plane_shape, volume.n_slices), bool)
    for start, stop in chunks(volume.n_slices):
        slices, _ = volume.read_slices(start, stop)
        chosen = slices != 0 if values is None else np.isin(slices, list(values))
        voxels[:, :, start:stop] = np.moveaxis(chosen, 0, 2)
    affine = canonical_grid(volume.voxels.shape, volume.affine)[1]
    return CanonicalMask(path, voxels, affine, (*volume.warnings, *_shear(affine)))


def _shear(affine: np.ndarray) -> list[str]:
    """A line if the axes of a grid are not perpendicular."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine <= MAX_SHEAR:
        return []
    angle_deg = math.degrees(math.acos(min(cosine, 1)))
    return [
        f"axes of the grid {angle_deg:.0f} degrees apart, not 90; areas, volumes and distances are measured as if "
        "perpendicular; resample the masks to another grid"
    ]


def _combined(
    one: CanonicalMask, other: CanonicalMask, operation: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> CanonicalMask:
    """A tissue from the masks of the two others, which must lie on one grid."""
    if difference := other.difference(one):
        raise InputError(f"{other.path}: not on the grid of {one.path}, {difference}; evaluate on one grid")
    warnings = tuple(dict.fromkeys((*one.warnings, *other.warnings)))
    return CanonicalMask(one.path, operation(one.voxels, other.voxels), one.affine, warnings)


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
