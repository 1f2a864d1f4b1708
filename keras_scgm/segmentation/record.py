"""Table rows and JSON record of a result."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from keras_scgm.localization import Windows
from keras_scgm.morphometry import SliceArea, TissueAreas
from keras_scgm.nifti.affine import orientation_of
from keras_scgm.quality.verdicts import Quality
from keras_scgm.segmentation.native_grid import SliceMeasurement
from keras_scgm.slices import SliceConfig, SliceGeometry
from keras_scgm.volume import Volume


def slice_areas(
    volume: Volume,
    measurements: Sequence[SliceMeasurement],
    quality: Quality,
    tissues: Sequence[TissueAreas],
) -> tuple[SliceArea, ...]:
    """One row for each slice, in the order of the file.

    Args:
        volume: The image.
        measurements: One for each slice, from the inferior end.
        quality: Quality of the result.
        tissues: Areas of the masks, one for each slice, from the inferior end.
    """
    voxel_area_mm2 = volume.voxel_area_mm2
    rows = [
        SliceArea(
            slice=volume.stored_slice_index(k),
            position_mm=k * volume.slice_spacing_mm,
            area_mm2=measured.n_voxels * voxel_area_mm2,
            soft_area_mm2=measured.probability_sum * voxel_area_mm2,
            n_voxels=measured.n_voxels,
            mean_probability=measured.mask_probability / measured.n_voxels if measured.n_voxels else math.nan,
            warning=predicted.reason,
            contrast=predicted.features.contrast,
            noise=predicted.features.noise,
            predicted_dsc=predicted.predicted_dsc,
            verdict=predicted.verdict,
            area_sd_mm2=measured.area_std * voxel_area_mm2,
            uncertainty=measured.uncertainty_sum / measured.probability_sum
            if measured.n_voxels
            else math.nan,
            **asdict(of_tissues),
        )
        for k, (measured, predicted, of_tissues) in enumerate(
            zip(measurements, quality.slices, tissues, strict=True)
        )
    ]
    return tuple(sorted(rows, key=lambda row: row.slice))


def make_record(
    volume: Volume,
    config: SliceConfig,
    windows: Windows,
    measurements: Sequence[SliceMeasurement],
    quality: Quality,
    warnings: Sequence[str],
    started: float,
    has_cord: bool,
) -> dict[str, Any]:
    """How a result was made, ready for JSON.

    Args:
        volume: The image.
        config: The network's slices.
        windows: Input windows of the volume.
        measurements: One for each slice, from the inferior end.
        quality: Quality of the result.
        warnings: Warnings about the result.
        started: `time.monotonic()` at the start.
        has_cord: Whether the cord was segmented.
    """
    n_gray = sum(measured.n_voxels for measured in measurements)
    n_cord = sum(measured.n_cord_voxels for measured in measurements) if has_cord else None
    removed_mm2 = sum(measured.removed_mm2 for measured in measurements)
    centered = SliceGeometry.centered(volume, config)
    return {
        "input": volume.source,
        "shape": list(volume.shape),
        "spacing_mm": [float(x) for x in np.linalg.norm(volume.affine[:3, :3], axis=0)],
        "orientation": orientation_of(volume.affine),
        "axial_axis": volume.axial_axis,
        "window_moved": bool((windows.geometry.starts != centered.starts).any()),
        "intensity_mean": windows.statistics.mean,
        "intensity_std": windows.statistics.std,
        "removed_away_from_cord_mm3": removed_mm2 * volume.slice_spacing_mm,
        **findings(volume, n_gray, n_cord, quality, warnings, started),
    }


def findings(
    volume: Volume,
    n_gray: int,
    n_cord: int | None,
    quality: Quality,
    warnings: Sequence[str],
    started: float,
) -> dict[str, Any]:
    """What the masks of a result hold and how far they can be trusted, ready for JSON.

    Args:
        volume: The image.
        n_gray: Number of voxels of gray matter.
        n_cord: Number of voxels of the cord, None without one.
        quality: Quality of the result.
        warnings: Warnings about the result.
        started: `time.monotonic()` at the start.
    """

    def volume_mm3(n_voxels: int) -> float:
        return n_voxels * volume.voxel_area_mm2 * volume.slice_spacing_mm

    # The clock may be set meanwhile.
    seconds = time.monotonic() - started
    of_cord = (
        {}
        if n_cord is None
        else {"white_matter_volume_mm3": volume_mm3(n_cord - n_gray), "cord_volume_mm3": volume_mm3(n_cord)}
    )
    return {
        "gray_matter_volume_mm3": volume_mm3(n_gray),
        **of_cord,
        "quality": quality.as_record(volume.stored_slice_index),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds)),
        "seconds": round(seconds, 3),
        "warnings": list(warnings),
    }
