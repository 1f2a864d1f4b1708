"""Masks of a result that a person edited, measured as those of the networks are."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_scgm import messages
from keras_scgm.errors import InputError
from keras_scgm.grids import check_same_grid
from keras_scgm.morphometry import tissue_areas
from keras_scgm.morphometry.inputs import fractions
from keras_scgm.nifti import read_mask, read_volume
from keras_scgm.quality.features import SliceFeatures
from keras_scgm.quality.verdicts import Quality, SliceQuality, mask_doubts
from keras_scgm.segmentation.native_grid import SliceMeasurement
from keras_scgm.segmentation.record import findings, slice_areas
from keras_scgm.segmentation.result import Segmentation
from keras_scgm.volume import Volume, Voxels, zeros

EDITED = "masks edited by hand, not judged"


def segmentation_of_edited(
    image: str | Path,
    record: Mapping[str, Any],
    gray_matter: Path,
    cord: Path | None,
    *,
    white_matter: Path | None = None,
    uncertainty: Path | None = None,
) -> Segmentation:
    """The masks of an earlier result, as they are in their files now, as a result of their own.

    What the networks said of their own masks is gone: probabilities, predicted DSC, contrast and noise. The verdict is
    "review", on the volume and on every slice.

    Args:
        image: The image that was segmented, NIfTI.
        record: Record of the earlier result.
        gray_matter: Mask of gray matter.
        cord: Mask of the cord; None if the result has none.
        white_matter: Mask of white matter, if it was edited, too.
        uncertainty: Map of the uncertainty of the networks; None if the result has none.

    Raises:
        InputError: A file cannot be read, lies on another grid or is no mask, gray matter lies outside the cord, or
            white matter is not the rest of it.
    """
    started = time.monotonic()
    volume = read_volume(image, record["settings"]["frame"], record["settings"]["orientation"])
    gray_mask, cord_mask = _read_tissues(volume, gray_matter, cord, white_matter)
    tissues = tissue_areas(
        volume,
        lambda start, stop: gray_mask[start:stop],
        None if cord_mask is None else lambda start, stop: cord_mask[start:stop],
    )
    n_voxels = gray_mask.sum(axis=(1, 2)).tolist()
    quality = Quality(
        predicted_dsc=math.nan,
        verdict="review",
        reason=EDITED,
        contrast=math.nan,
        noise=math.nan,
        slices=tuple(
            SliceQuality(math.nan, "review", EDITED, SliceFeatures(n * volume.voxel_area_mm2))
            for n in n_voxels
        ),
    )
    measurements = [
        SliceMeasurement(n, mask_probability=math.nan, probability_sum=math.nan) for n in n_voxels
    ]
    areas = slice_areas(volume, measurements, quality, tissues)
    doubts = mask_doubts(areas) if any(n_voxels) else [messages.EMPTY_MASK]
    warnings = (EDITED, *volume.warnings, *doubts)
    n_cord = None if cord_mask is None else int(cord_mask.sum())
    return Segmentation(
        volume=volume,
        mask_voxels=_stored(gray_mask, volume),
        cord_voxels=None if cord_mask is None else _stored(cord_mask, volume),
        probability_voxels=None,
        cord_probability_voxels=None,
        uncertainty_voxels=None if uncertainty is None else read_volume(uncertainty).voxels,
        areas=areas,
        quality=quality,
        warnings=warnings,
        record={**record, **findings(volume, sum(n_voxels), n_cord, quality, warnings, started)},
    )


def _read_tissues(
    volume: Volume, gray_matter: Path, cord: Path | None, white_matter: Path | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gray matter and cord, uint8 (slice, right-left, posterior-anterior), which must agree with each other."""
    gray_mask = _mask(gray_matter, volume)
    if cord is None:
        return gray_mask, None
    cord_mask = _mask(cord, volume)
    outside = np.flatnonzero((gray_mask > cord_mask).any(axis=(1, 2)))
    if len(outside):
        listed = ", ".join(str(volume.stored_slice_index(int(k))) for k in outside)
        raise InputError(
            f"{gray_matter}: gray matter outside the cord in slices {listed}; correct it, or the cord in {cord}"
        )
    if white_matter is not None and (_mask(white_matter, volume) != cord_mask - gray_mask).any():
        raise InputError(
            f"{white_matter}: edited by hand, but white matter is the cord without the gray matter; correct "
            f"{gray_matter.name} or {cord} instead, and delete it"
        )
    return gray_mask, cord_mask


def _mask(path: Path, image: Volume) -> np.ndarray:
    """Uint8 (slice, right-left, posterior-anterior)."""
    volume = read_mask(path, image.affine)
    check_same_grid(image, volume)
    values = fractions(volume)
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"{path}: holds values between 0 and 1; a mask is 0 and 1, make it one again")
    return values.astype(np.uint8)


def _stored(mask: np.ndarray, image: Volume) -> Voxels:
    """A mask on the stored grid of the image."""
    voxels = zeros(mask.dtype, image.voxels.shape)
    image.axial_view(voxels)[...] = np.moveaxis(mask, 0, 2)
    return voxels
