"""Warnings about a result, one line each: a pure function of volume, windows, measurements and quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from keras_scgm.localization import Windows
from keras_scgm.quality import PASS_DSC, Quality
from keras_scgm.segmentation.native_grid import SliceMeasurement
from keras_scgm.slices import EDGE_MM
from keras_scgm.volume import Volume

COARSE_MM = 1.25
"""In-plane spacing above which gray matter, some 2 mm wide in the horns, is not resolved."""

NO_CORD = "no cord was found; the windows stay where they are"

NAMED_SLICES = 10


def image_doubts(volume: Volume, windows: Windows) -> list[str]:
    """Doubts about a whole volume that need no measurement."""
    doubts = [*volume.warnings]
    right_left_mm, anterior_posterior_mm = volume.in_plane_spacing_mm
    if max(right_left_mm, anterior_posterior_mm) > COARSE_MM:
        doubts.append(
            f"axial voxels of {right_left_mm:.2g} x {anterior_posterior_mm:.2g} mm are too coarse for "
            "gray matter; is this an axial acquisition?"
        )
    if windows.cord is None:
        doubts.append(NO_CORD)
    return doubts


def result_warnings(
    volume: Volume,
    windows: Windows,
    of_image: Sequence[str],
    of_anatomy: Sequence[str],
    measurements: Sequence[SliceMeasurement],
    quality: Quality,
    knows_dark: bool,
) -> tuple[str, ...]:
    """All warnings of a result, the doubts among them.

    Args:
        volume: The image.
        windows: Input windows of the volume.
        of_image: Doubts of `image_doubts`.
        of_anatomy: Doubts of `keras_scgm.quality.anatomical_doubts`.
        measurements: One for each slice, from the inferior end.
        quality: Quality of the result.
        knows_dark: Whether the network knows gray matter that is darker than white matter.
    """
    warnings = [*of_image]
    statistics = windows.statistics
    if statistics.n_not_finite:
        warnings.append(
            f"{statistics.n_not_finite} voxels are NaN or infinite; each was given the mean of its slice"
        )
    if statistics.is_constant:
        return (*warnings, "the image is constant inside the window; the mask is empty", *of_anatomy)
    warnings += of_anatomy
    warnings += _of_slices(volume, measurements, quality, knows_dark)
    warnings += quality_warnings(volume, measurements, quality, warnings)
    return tuple(warnings)


def _of_slices(
    volume: Volume, measurements: Sequence[SliceMeasurement], quality: Quality, knows_dark: bool
) -> list[str]:
    present = np.flatnonzero([measured.n_voxels for measured in measurements])
    if not len(present):
        return ["no gray matter was found; the mask is empty"]
    warnings = []
    missing = np.setdiff1d(np.arange(present[0], present[-1] + 1), present)
    if len(missing):
        warnings.append(f"no gray matter between slices that have some: {_name(volume, missing)}")
    near_edge = np.flatnonzero([measured.near_edge for measured in measurements])
    if len(near_edge):
        warnings.append(
            f"gray matter within {EDGE_MM:g} mm of the edge of the window or the field of view, "
            f"it may be cut off: {_name(volume, near_edge)}"
        )
    if quality.contrast < 0 and not knows_dark:
        warnings.append(
            "gray matter is darker than its surroundings; the contrast may be inverted "
            "(PSIR, T1-weighted), which these weights may not know"
        )
    return warnings


def quality_warnings(
    volume: Volume, measurements: Sequence[SliceMeasurement], quality: Quality, known: Sequence[str]
) -> list[str]:
    """Warnings about the predicted quality; a reason that is already a warning is not repeated."""
    suspects = [
        k for k, one in enumerate(quality.slices) if one.verdict != "pass" and measurements[k].n_voxels
    ]
    look = f"; look at {_name(volume, suspects)}" if suspects else ""
    if quality.verdict != "pass":
        if quality.reason in known:
            return []
        return [f"predicted DSC {quality.predicted_dsc:.2f}, {quality.verdict}: {quality.reason}{look}"]
    if not suspects:
        return []
    reasons = Counter(quality.slices[k].reason for k in suspects)
    return [f"predicted DSC below {PASS_DSC:g} in some slices: {reasons.most_common(1)[0][0]}{look}"]


def _name(volume: Volume, indices: Sequence[int] | np.ndarray) -> str:
    stored = sorted(volume.stored_slice_index(int(index)) for index in indices)
    shown = ", ".join(map(str, stored[:NAMED_SLICES])) + (", ..." if len(stored) > NAMED_SLICES else "")
    return f"slice {shown}" if len(stored) == 1 else f"slices {shown}"
