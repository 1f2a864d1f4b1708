"""Result of a segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib

from keras_scgm.errors import InputError
from keras_scgm.morphometry import SliceArea
from keras_scgm.quality.verdicts import Quality
from keras_scgm.volume import Volume, Voxels, as_array, zeros


@dataclass(frozen=True)
class Segmentation:
    """The gray matter and, with weights that know it, the cord of one image.

    Gray matter is in the cord, in masks and in probabilities, and white matter is the rest of it.

    Args:
        volume: The image.
        mask_voxels: Uint8, 1 is gray matter, on the stored grid of the image.
        cord_voxels: Uint8, 1 is cord, on the same grid; None if the cord was not segmented.
        probability_voxels: Probability of gray matter, float32 in [0, 1] on the same grid, if they were kept; 0 where
            nothing was computed, outside the windows and far from the cord
            (`keras_scgm.runtimes.region_of_interest`).
        cord_probability_voxels: The same of the cord; None if it was not segmented.
        uncertainty_voxels: Float32 standard deviation of the probability of gray matter over the passes, on the same
            grid, if there were any.
        areas: One per slice, in the order of the file.
        quality: How far the result can be trusted, with one verdict per slice from the inferior end.
        warnings: What may be wrong with the result, one line each.
        record: How the result was made, ready for JSON.
    """

    volume: Volume
    mask_voxels: Voxels
    cord_voxels: Voxels | None
    probability_voxels: Voxels | None
    cord_probability_voxels: Voxels | None
    uncertainty_voxels: Voxels | None
    areas: tuple[SliceArea, ...]
    quality: Quality
    warnings: tuple[str, ...]
    record: dict[str, Any]

    @property
    def mask(self) -> nib.Nifti1Image:
        """uint8 image on the input grid, 1 is gray matter."""
        return self.volume.result_image(self.mask_voxels)

    @property
    def white_matter_voxels(self) -> Voxels | None:
        """Uint8 on the stored grid, 1 is cord that is not gray matter; None if the cord was not segmented."""
        return _difference(self.cord_voxels, self.mask_voxels)

    @property
    def white_matter_probability_voxels(self) -> Voxels | None:
        """Float32 in [0, 1] on the stored grid; None if the cord was not segmented, or the probabilities not kept."""
        return _difference(self.cord_probability_voxels, self.probability_voxels)

    @property
    def cord(self) -> nib.Nifti1Image:
        """uint8 image on the input grid, 1 is cord.

        Raises:
            InputError: the cord was not segmented.
        """
        return self.volume.result_image(_of_cord(self.cord_voxels))

    @property
    def white_matter(self) -> nib.Nifti1Image:
        """uint8 image on the input grid, 1 is white matter: cord that is not gray matter.

        Raises:
            InputError: the cord was not segmented.
        """
        return self.volume.result_image(_of_cord(self.white_matter_voxels))

    @property
    def probabilities(self) -> nib.Nifti1Image:
        """float32 image on the input grid, probability of gray matter in [0, 1].

        Raises:
            InputError: the settings did not ask to keep them.
        """
        return self.volume.result_image(kept(self.probability_voxels, "keep_probabilities=True"))

    @property
    def cord_probabilities(self) -> nib.Nifti1Image:
        """float32 image on the input grid, probability of the cord in [0, 1].

        Raises:
            InputError: the cord was not segmented, or the settings did not ask to keep the probabilities.
        """
        _of_cord(self.cord_voxels)
        return self.volume.result_image(kept(self.cord_probability_voxels, "keep_probabilities=True"))

    @property
    def white_matter_probabilities(self) -> nib.Nifti1Image:
        """float32 image on the input grid, probability of white matter in [0, 1]: cord less gray matter.

        Raises:
            InputError: the cord was not segmented, or the settings did not ask to keep the probabilities.
        """
        _of_cord(self.cord_voxels)
        return self.volume.result_image(kept(self.white_matter_probability_voxels, "keep_probabilities=True"))

    @property
    def uncertainty(self) -> nib.Nifti1Image:
        """float32 image on the input grid: standard deviation (n - 1) of the probability, in [0, 0.71].

        Raises:
            InputError: the settings asked for no passes.
        """
        return self.volume.result_image(kept(self.uncertainty_voxels, "uncertainty_passes=10, for example"))


def _of_cord(voxels: Voxels | None) -> Voxels:
    if voxels is None:
        raise InputError("the cord was not segmented; segment with weights that know it, or with cord='ours'")
    return voxels


def _difference(whole: Voxels | None, part: Voxels | None) -> Voxels | None:
    if whole is None or part is None:
        return None
    rest = zeros(whole.dtype, whole.shape)
    for index in range(whole.shape[2]):
        as_array(rest)[..., index] = as_array(whole)[..., index] - as_array(part)[..., index]
    return rest


def kept(voxels: Voxels | None, setting: str) -> Voxels:
    if voxels is None:
        raise InputError(f"not computed; segment with {setting}")
    return voxels
