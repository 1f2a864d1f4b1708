"""An image and its raters' masks: what a network is trained on, whatever data set it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.nifti import read_mask
from keras_scgm.nifti.affine import orientation_of
from keras_scgm.slices import chunks
from keras_scgm.volume import Volume


@dataclass(frozen=True)
class AnnotatedVolume:
    """An image and its raters' masks.

    Args:
        image: NIfTI file.
        masks: NIfTI files on the image's grid, one per rater; none for an image without labels.
        subject_id: Unique in the data set; several volumes of a subject share it.
        site_id: Acquisition site, or None.
        label_value: Value of gray matter in the masks; None for masks with one value beside 0.
        labelled_slices: Indices of the annotated slices, as stored in the file (as a
            viewer shows them); None for all slices.

    Raises:
        InputError: A field breaks its rule, such as an empty or repeated `labelled_slices`.
    """

    image: Path
    masks: tuple[Path, ...]
    subject_id: str
    site_id: str | None = None
    label_value: int | None = None
    labelled_slices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        wanted = "different indices from 0"
        checks.check_fields(
            self,
            image=checks.path,
            masks=checks.several(checks.path, "paths of masks"),
            subject_id=checks.text,
            site_id=checks.optional(checks.text),
            label_value=checks.optional(checks.integer(1)),
            labelled_slices=checks.optional(checks.several(checks.integer(0), wanted)),
        )
        slices = self.labelled_slices
        if slices is not None and (not slices or len(set(slices)) < len(slices)):
            checks.refuse("labelled_slices", wanted, slices)

    def slices_of(self, volume: Volume) -> list[int]:
        """The slices with labels, in the order in which the image's volume is read."""
        stored = range(volume.n_slices) if self.labelled_slices is None else self.labelled_slices
        return sorted(volume.stored_slice_index(index) for index in stored)

    def is_gray_matter(self, values: np.ndarray) -> np.ndarray:
        """Gray matter in the values of a mask, bool of the same shape."""
        return values != 0 if self.label_value is None else np.rint(values) == self.label_value

    def read_mask(self, path: Path, volume: Volume, slices: np.ndarray | None = None) -> np.ndarray:
        """Gray matter by one of the raters, bool (slice, right-left, posterior-anterior) in the image's order.

        Args:
            path: One of the masks.
            volume: The image.
            slices: Ascending indices of slices, in the image's order; None for all.

        Raises:
            InputError: It holds NaN, fractions, several labels without a `label_value`, or labels of which none is that
                of gray matter.
        """
        label, found = self.read_labels(
            path, volume, np.arange(volume.n_slices) if slices is None else slices
        )
        if found:
            self.check_labels(path, found)
        return label

    def read_labels(self, path: Path, volume: Volume, slices: np.ndarray) -> tuple[np.ndarray, set[int]]:
        """Gray matter by one of the raters in some slices.

        Args:
            path: One of the masks.
            volume: The image.
            slices: Ascending indices of slices, in the image's order.

        Returns:
            bool array (slice, right-left, posterior-anterior), and the values other than 0 in these slices.

        Raises:
            InputError: The mask holds NaN or fractions.
        """
        label = np.empty((len(slices), *volume.in_plane_shape), bool)
        found: set[int] = set()
        for first, part, values in self.label_chunks(path, volume, slices):
            label[first : first + len(part)] = part
            found |= values
        return label, found

    def label_chunks(
        self, path: Path, volume: Volume, slices: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, set[int]]]:
        """What `read_labels` returns, a few slices at a time, with the position of the first of them in `slices`."""
        mask = mask_volume(path, volume)
        for first, start, stop in contiguous_chunks(slices):
            values, n_not_finite = mask.read_slices(start, stop)
            if n_not_finite:
                raise InputError(
                    f"{path}: {n_not_finite} voxels are NaN or infinite, not labels; write 0 there"
                )
            marked = values[values != 0]
            if np.any(np.abs(marked - np.rint(marked)) > 0.01):
                raise InputError(f"{path}: holds fractions, not labels; binarize it at 0.5")
            yield first, self.is_gray_matter(values), set(np.unique(np.rint(marked)).astype(int).tolist())

    def check_labels(self, path: Path, found: set[int]) -> None:
        """Refuse a mask of which the labelled slices do not tell what is gray matter.

        Args:
            path: The mask.
            found: The values other than 0 in these slices.

        Raises:
            InputError: It has none, none that is `label_value`, or several and there is no `label_value`.
        """
        where = "" if self.labelled_slices is None else " in the labelled slices"
        held = ", ".join(map(str, sorted({0, *found})))
        if self.label_value is None and not found:
            raise InputError(f"{path}: no voxel is marked{where}; mend the mask, or take it away")
        if self.label_value is None and len(found) > 1:
            raise InputError(
                f"{path}: holds {held}{where}; name the value of gray matter with --label-value, or give masks of one "
                "value"
            )
        if self.label_value is not None and self.label_value not in found:
            raise InputError(
                f"{path}: no voxel is {self.label_value}{where}, it holds {held}; name the value of gray matter with "
                "--label-value"
            )


def annotated_volumes(name: str, value: Any) -> tuple[AnnotatedVolume, ...]:
    """Sequences of annotated volumes, a rule as in `keras_scgm.checks`."""
    volume = checks.instance(AnnotatedVolume)
    return tuple(checks.several(volume, "AnnotatedVolume objects")(name, value))


def labelled_volumes(volumes: Sequence[AnnotatedVolume]) -> list[AnnotatedVolume]:
    """The volumes that have masks.

    Raises:
        InputError: None has one.
    """
    volumes = annotated_volumes("volumes", volumes)
    labelled = [volume for volume in volumes if volume.masks]
    if not labelled:
        raise InputError(f"none of {len(volumes)} volumes has a mask; give labelled volumes to split")
    return labelled


def contiguous_chunks(slices: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(position of the first, start, stop) of consecutive ascending slices, a chunk at a time."""
    first = 0
    for run in np.split(slices, np.flatnonzero(np.diff(slices) != 1) + 1):
        for start, stop in chunks(len(run)):
            yield first + start, int(run[0]) + start, int(run[0]) + stop
        first += len(run)


def mask_volume(path: Path, volume: Volume) -> Volume:
    # The headers were found to agree. A mask that is stored like its image takes its affine, and so its slices.
    mask = read_mask(path, volume.affine)
    stored_alike = orientation_of(mask.affine) == orientation_of(volume.affine)
    return replace(mask, affine=volume.affine) if stored_alike else mask
