"""Result of a segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib

from keras_scgm.errors import InputError
from keras_scgm.morphometry import SliceArea
from keras_scgm.quality.verdicts import Quality
from keras_scgm.volume import Volume, Voxels


@dataclass(frozen=True)
class Segmentation:
    """The gray matter of one image.

    Args:
        volume: The image.
        mask_voxels: Uint8, 1 is gray matter, on the stored grid of the image.
        probability_voxels: Float32 in [0, 1] on the same grid, if they were kept; 0 where nothing was computed,
            outside the windows and far from the cord (`keras_scgm.runtimes.region_of_interest`).
        uncertainty_voxels: Float32 standard deviation of the probability over the passes, on the same grid, if
            there were any.
        areas: One per slice, in the order of the file.
        quality: How far the result can be trusted, with one verdict per slice from the inferior end.
        warnings: What may be wrong with the result, one line each.
        record: How the result was made, ready for JSON.
    """

    volume: Volume
    mask_voxels: Voxels
    probability_voxels: Voxels | None
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
    def probabilities(self) -> nib.Nifti1Image:
        """float32 image on the input grid, in [0, 1].

        Raises:
            InputError: the settings did not ask to keep them.
        """
        return self.volume.result_image(kept(self.probability_voxels, "keep_probabilities=True"))

    @property
    def uncertainty(self) -> nib.Nifti1Image:
        """float32 image on the input grid: standard deviation (n - 1) of the probability, in [0, 0.71].

        Raises:
            InputError: the settings asked for no passes.
        """
        return self.volume.result_image(kept(self.uncertainty_voxels, "uncertainty_passes=10, for example"))


def kept(voxels: Voxels | None, setting: str) -> Voxels:
    if voxels is None:
        raise InputError(f"not computed; segment with {setting}")
    return voxels
