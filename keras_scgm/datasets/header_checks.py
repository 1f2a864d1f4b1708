"""Checks that images and masks exist and fit together, from their headers alone, before any voxel is read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation

from keras_scgm.datasets.annotated_volume import AnnotatedVolume, annotated_volumes
from keras_scgm.errors import InputError, first_of
from keras_scgm.grids import grid_difference, shape_text
from keras_scgm.nifti import Layout, read_layout
from keras_scgm.nifti.other_files import why_missing

Notes = defaultdict[str, list[str]]
"""Names of the volumes concerned, by the warning."""


def check_volumes(volumes: Sequence[AnnotatedVolume]) -> tuple[str, ...]:
    """Check that all files exist and fit together, from their headers alone.

    Returns:
        Warnings, one line each, with the number of volumes concerned.

    Raises:
        InputError: The first file that cannot be used, why, and what to do.
    """
    volumes = annotated_volumes("volumes", volumes)
    notes: Notes = defaultdict(list)
    check_headers(volumes, notes)
    return in_lines(notes, len(volumes))


def check_headers(
    volumes: Sequence[AnnotatedVolume], notes: Notes, also_checked: Sequence[AnnotatedVolume] = ()
) -> list[int]:
    """The same, with warnings added to `notes`; returns the numbers of labelled slices of `volumes`."""
    if not volumes:
        raise InputError("no annotated volume; check the folder and the split")
    together = (*volumes, *also_checked)
    _check_files(together)
    n_slices = [_labelled_count(volume, notes) for volume in together]
    _compare_raters(together, notes)
    return n_slices[: len(volumes)]


def _check_files(volumes: Sequence[AnnotatedVolume]) -> None:
    """Refuse volumes of which files are missing, all in one line.

    Raises:
        InputError: What the first missing file lacks, and how many others are missing, too.
    """
    files = dict.fromkeys(path for volume in volumes for path in (volume.image, *volume.masks))
    missing = [path for path in files if not path.exists()]
    if not missing:
        return
    others = [path.name for path in missing[1:]]
    also = f"; {len(others)} more of {len(files)} files are missing: {first_of(others)}" if others else ""
    raise InputError(f"{missing[0]}: {why_missing(missing[0])}{also}")


def _labelled_count(annotated: AnnotatedVolume, notes: Notes) -> int:
    """Check the headers of one volume; returns how many slices are labelled."""
    if not annotated.masks:
        raise InputError(
            f"{annotated.image}: has no mask; add one, or leave out the volumes whose masks are empty"
        )
    grid = _read_grid(annotated.image)
    if grid.affine is None:
        raise InputError(
            f"{annotated.image}: qform and sform codes are both 0, so the axial axis is unknown; "
            "mend the header"
        )
    for path in annotated.masks:
        _check_mask(path, annotated.image, _read_grid(path), grid.grid_shape, grid.affine, notes)
    n_slices = grid.grid_shape[int(np.flatnonzero(io_orientation(grid.affine)[:, 0] == 2)[0])]
    if annotated.labelled_slices is None:
        return n_slices
    if max(annotated.labelled_slices) >= n_slices:
        raise InputError(
            f"{annotated.image}: labelled slice {max(annotated.labelled_slices)} does not exist; "
            f"it has slices 0 to {n_slices - 1}"
        )
    return len(annotated.labelled_slices)


def _check_mask(
    path: Path, image: Path, mask: Layout, shape: tuple[int, ...], affine: np.ndarray, notes: Notes
) -> None:
    if mask.affine is None:
        notes["mask without orientation, taken as stored like its image"].append(path.name)
    own_affine = affine if mask.affine is None else mask.affine
    difference = grid_difference(mask.grid_shape, own_affine, shape, affine)
    if difference:
        raise InputError(
            f"{path}: not on the grid of its image {image.name}, {difference}; "
            "bring the mask to the image's grid, or mend its header"
        )


def _read_grid(path: Path) -> Layout:
    layout = read_layout(path)
    if math.prod(layout.shape[3:]) > 1:
        raise InputError(f"{path}: {shape_text(layout.shape)} voxels; keep one frame of it, or average them")
    return layout


def _compare_raters(volumes: Sequence[AnnotatedVolume], notes: Notes) -> None:
    most = max(len(volume.masks) for volume in volumes)
    for volume in volumes:
        if len(volume.masks) < most:
            notes[f"fewer raters than {most}"].append(f"{volume.image.name} ({len(volume.masks)})")


def in_lines(notes: Notes, total: int) -> tuple[str, ...]:
    return tuple(
        f"{what}: {len(names)} in {total} volumes, {first_of(names)}" for what, names in notes.items()
    )
