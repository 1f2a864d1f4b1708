"""An image and its raters' masks: what a network is trained on, whatever data set it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes

from keras_scgm import checks
from keras_scgm.nifti import read_volume
from keras_scgm.volume import Volume


@dataclass(frozen=True)
class AnnotatedVolume:
    """An image and its raters' masks.

    Args:
        image: NIfTI file.
        masks: NIfTI files on the image's grid, one per rater; none for an image without labels.
        subject_id: Unique in the data set; several volumes of a subject share it.
        site_id: Acquisition site, or None.
        label_value: Value of gray matter in the masks; None takes everything that is not zero.
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

    def read_mask(self, path: Path, volume: Volume) -> np.ndarray:
        """Gray matter by one of the raters, bool (slice, right-left, posterior-anterior) in the image's order."""
        values, _ = mask_volume(path, volume).read_slices(0, volume.n_slices)
        return self.is_gray_matter(values)


def annotated_volumes(name: str, value: Any) -> tuple[AnnotatedVolume, ...]:
    """Sequences of annotated volumes, a rule as in `keras_scgm.checks`."""
    volume = checks.instance(AnnotatedVolume, "an AnnotatedVolume")
    return tuple(checks.several(volume, "AnnotatedVolume objects")(name, value))


def mask_volume(path: Path, volume: Volume) -> Volume:
    # The headers were found to agree. A mask that is stored like its image takes its affine, and so its slices.
    mask = read_volume(path, orientation="".join(aff2axcodes(volume.affine)))
    stored_alike = aff2axcodes(mask.affine) == aff2axcodes(volume.affine)
    return replace(mask, affine=volume.affine) if stored_alike else mask
