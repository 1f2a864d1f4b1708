"""The labelled slices of a volume, without the many others of a long one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import inv_ornt_aff

from keras_scgm.datasets.annotated_volume import AnnotatedVolume
from keras_scgm.files import file_state
from keras_scgm.nifti import read_volume
from keras_scgm.volume import Volume, to_canonical

STATISTICS_SLICES = 64
"""Of a volume with few labelled slices, this many evenly spaced ones stand for its intensities."""

KEPT_PARTS = 8
"""Parts that are kept in memory, so that a training reads a long volume once and not in every epoch."""


@dataclass(frozen=True, eq=False)
class LabelledPart:
    """What is segmented to judge the labelled slices of a volume.

    Args:
        annotated: The volume.
        image: Its file; or, of a long volume with few labelled slices, these and the slices that stand for its
            intensities.
        positions: Indices of the labelled slices in `image`, from the inferior end; None for all.
        labels: What `read_mask` gives of a long volume, by its arguments.
    """

    annotated: AnnotatedVolume
    image: Path | nib.Nifti1Image
    positions: tuple[int, ...] | None = None
    labels: Mapping[tuple[Path, bool], np.ndarray] = field(default_factory=dict)

    def labelled(self, voxels: np.ndarray) -> np.ndarray:
        """The labelled slices of a result, (slice, right-left, posterior-anterior).

        Args:
            voxels: Voxels of the whole image, (right-left, posterior-anterior, inferior-superior).
        """
        slices = np.moveaxis(voxels, 2, 0)
        return slices if self.positions is None else slices[list(self.positions)]

    def read_mask(self, path: Path, volume: Volume, any_label: bool = False) -> np.ndarray:
        """Tissue by one of the raters in the labelled slices, bool (slice, right-left, posterior-anterior).

        Args:
            path: The mask of the rater.
            volume: The image as it was segmented.
            any_label: Whether everything that is not zero counts, not gray matter alone.

        Raises:
            keras_scgm.errors.InputError: The mask cannot be used.
        """
        if self.labels:
            return self.labels[path, any_label]
        whole = _read(self.annotated, path, volume, np.arange(volume.n_slices), any_label)
        return whole if self.positions is None else whole[list(self.positions)]


def statistics_slices(annotated: AnnotatedVolume, volume: Volume) -> np.ndarray | None:
    """Indices (slice,) of the slices that stand for the intensities of a volume; None for all."""
    if annotated.labelled_slices is None or volume.n_slices <= STATISTICS_SLICES:
        return None
    return np.linspace(0, volume.n_slices - 1, STATISTICS_SLICES).astype(int)


def labelled_part(annotated: AnnotatedVolume) -> LabelledPart:
    """The part of a volume that tells how well its labelled slices are segmented.

    A volume with labels on all slices, or with at most `STATISTICS_SLICES`, is taken whole. Of others only the labelled
    slices are, and those that training takes for the z-score, too.

    Raises:
        keras_scgm.errors.InputError: A file cannot be used.
    """
    if annotated.labelled_slices is None:
        return LabelledPart(annotated, annotated.image)
    files = (annotated.image, *annotated.masks)
    return _labelled_part(annotated, tuple(map(file_state, files)))


@lru_cache(maxsize=KEPT_PARTS)
def _labelled_part(annotated: AnnotatedVolume, file_states: tuple[object, ...]) -> LabelledPart:
    volume = read_volume(annotated.image)
    slices = annotated.slices_of(volume)
    others = statistics_slices(annotated, volume)
    if others is None:
        return LabelledPart(annotated, annotated.image, tuple(slices))
    kept = sorted({*slices, *others.tolist()})
    affine = volume.affine @ inv_ornt_aff(to_canonical(volume.affine), volume.voxels.shape)
    affine[:3, 2] *= (kept[-1] - kept[0]) / (len(kept) - 1)
    voxels = np.stack([volume.read_slices(k, k + 1)[0][0] for k in kept], axis=2)
    image = nib.Nifti1Image(voxels.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    labels = {
        (path, any_label): _read(annotated, path, volume, np.array(slices), any_label)
        for path in annotated.masks
        for any_label in (False, True)
    }
    return LabelledPart(annotated, image, tuple(kept.index(k) for k in slices), labels)


def _read(
    annotated: AnnotatedVolume, path: Path, volume: Volume, slices: np.ndarray, any_label: bool
) -> np.ndarray:
    if any_label:
        return replace(annotated, label_value=None).read_labels(path, volume, slices)[0]
    return annotated.read_mask(path, volume, slices)


def slices_with_labels(annotated: AnnotatedVolume) -> tuple[int, ...]:
    """Indices, as stored in the file, of the labelled slices in which every rater marked gray matter.

    Raises:
        keras_scgm.errors.InputError: A file cannot be used, or a mask does not tell what is gray matter.
    """
    volume = read_volume(annotated.image)
    slices = np.array(annotated.slices_of(volume))
    marked = np.ones(len(slices), bool)
    for path in annotated.masks:
        found: set[int] = set()
        for first, label, values in annotated.label_chunks(path, volume, slices):
            marked[first : first + len(label)] &= label.any(axis=(1, 2))
            found |= values
        annotated.check_labels(path, found)
    return tuple(sorted(volume.stored_slice_index(int(k)) for k in slices[marked]))
