"""Warnings about a result, one line each: a pure function of volume, windows, measurements and quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from keras_scgm import messages
from keras_scgm.errors import first_of
from keras_scgm.localization import Windows
from keras_scgm.predict import UnknownContrast
from keras_scgm.quality.verdicts import PASS_DSC, Quality
from keras_scgm.segmentation.acquired_spacing import acquired_spacing_mm
from keras_scgm.segmentation.ghosts import strongest_ghost
from keras_scgm.segmentation.native_grid import SliceMeasurement
from keras_scgm.segmentation.spectrum import power_spectra
from keras_scgm.slices import EDGE_MM
from keras_scgm.volume import Volume

COARSE_MM = 1.25
"""In-plane spacing above which gray matter, some 2 mm wide in the horns, is not resolved."""

COARSE_ACQUIRED_MM, MIN_INTERPOLATION = 0.75, 1.2
"""Acquired spacing, and its ratio to that of the voxels, above which an interpolated image is doubted: with 0.8 mm
gray matter is marked up to 12 % larger than in the image as it was."""

MIN_GHOST = 0.12
"""Strength of a ghost above which an image is doubted. Without one it is up to 0.04 in real images, up to 0.09 in drawn
ones and in crops, and 0.11 where a blur of 1 mm hides gray matter; with one of 20 %, 6 to 20 mm away, 0.14 to 0.19."""

MAX_SLICE_DISTANCE_MM = 50.0
"""Distance of slices above which the header is doubted: one slice for each vertebra is some 15 to 40 mm apart."""
MIN_SLICE_DISTANCE = 0.2
"""Likewise below which, as a share of the in-plane spacing: axial voxels are as thick as wide, or thicker."""

NAMED_SLICES = 10

CUT_OFF = f"gray matter within {EDGE_MM:g} mm of the edge of the window or the field of view, it may be cut off: {{}}"
CORD_CUT_OFF = (
    f"the cord is within {EDGE_MM:g} mm of the edge of the window or the field of view, it may be cut off: "
    "{}"
)
SLICES_NOT_PASSED = f"predicted DSC below {PASS_DSC:g} in some slices: {{}}{{}}"


def image_doubts(volume: Volume, windows: Windows) -> list[str]:
    """Doubts about a whole volume that need no measurement."""
    doubts = [*volume.warnings]
    right_left_mm, anterior_posterior_mm = volume.in_plane_spacing_mm
    if max(right_left_mm, anterior_posterior_mm) > COARSE_MM:
        spacing_mm = f"{right_left_mm:.2g}", f"{anterior_posterior_mm:.2g}"
        doubts.append(messages.TOO_COARSE.format(*spacing_mm))
    spectra = power_spectra(volume)
    acquired_mm = [acquired_spacing_mm(spectrum) for spectrum in spectra]
    if any(
        mm > max(COARSE_ACQUIRED_MM, MIN_INTERPOLATION * along_mm)
        for mm, along_mm in zip(acquired_mm, volume.in_plane_spacing_mm, strict=True)
    ):
        numbers = *volume.in_plane_spacing_mm, *acquired_mm
        doubts.append(messages.INTERPOLATED.format(*(f"{mm:.2g}" for mm in numbers)))
    ghosts = [strongest_ghost(spectrum, mm) for spectrum, mm in zip(spectra, acquired_mm, strict=True)]
    ghost = max(ghosts, key=lambda ghost: ghost.strength)
    if ghost.strength > MIN_GHOST:
        shown = f"{100 * ghost.strength:.0f}", f"{ghost.distance_mm:.0f}"
        doubts.append(messages.GHOST.format(*shown, messages.IN_PLANE_AXES[ghosts.index(ghost)]))
    distance_mm = volume.slice_spacing_mm
    is_plausible = (
        MIN_SLICE_DISTANCE * min(volume.in_plane_spacing_mm) <= distance_mm <= MAX_SLICE_DISTANCE_MM
    )
    if volume.n_slices > 1 and not is_plausible:
        doubts.append(messages.SLICE_DISTANCE.format(f"{distance_mm:.3g}"))
    if windows.cord is None:
        doubts.append(messages.NO_CORD)
    return doubts


def result_warnings(
    volume: Volume,
    windows: Windows,
    of_image: Sequence[str],
    of_anatomy: Sequence[str],
    measurements: Sequence[SliceMeasurement],
    quality: Quality,
    unknown_contrast: UnknownContrast,
    knows_cord: bool,
) -> tuple[str, ...]:
    """All warnings of a result, the doubts among them.

    Args:
        volume: The image.
        windows: Input windows of the volume.
        of_image: Doubts of `image_doubts`.
        of_anatomy: Doubts of `keras_scgm.quality.verdicts.anatomical_doubts`.
        measurements: One for each slice, from the inferior end.
        quality: Quality of the result.
        unknown_contrast: Contrast that the network was not trained for.
        knows_cord: Whether the cord is segmented, or given.
    """
    warnings = [*of_image]
    statistics = windows.statistics
    if statistics.n_not_finite:
        warnings.append(messages.NOT_FINITE.format(statistics.n_not_finite))
    if statistics.is_constant:
        return (*warnings, messages.CONSTANT_IMAGE, *of_anatomy)
    warnings += of_anatomy
    warnings += _of_slices(volume, measurements, quality, unknown_contrast, knows_cord)
    warnings += quality_warnings(volume, measurements, quality, warnings)
    return tuple(warnings)


def _of_slices(
    volume: Volume,
    measurements: Sequence[SliceMeasurement],
    quality: Quality,
    unknown_contrast: UnknownContrast,
    knows_cord: bool,
) -> list[str]:
    features = [one.features for one in quality.slices]
    has_cord = np.array([measured.n_cord_voxels > 0 for measured in measurements])
    is_present = np.array([measured.n_voxels > 0 for measured in measurements])
    if not is_present.any():
        return [messages.CORD_ALONE if has_cord.any() else messages.EMPTY_MASK]
    near_edge = np.array([measured.near_edge for measured in measurements])
    cord_near_edge = np.array([one.cord_near_edge for one in features])
    without_cord = ~has_cord if knows_cord else np.zeros_like(has_cord)
    removed = np.array([measured.removed_mm2 > 0 for measured in measurements])
    named = [
        (messages.MISSING_SLICES, _between(is_present) & ~without_cord),
        (messages.MISSING_CORD, _between(has_cord)),
        (messages.REMOVED_WITHOUT_CORD, without_cord & removed),
        (CUT_OFF, near_edge),
        (CORD_CUT_OFF, cord_near_edge & ~near_edge),
    ]
    warnings = [text.format(_name(volume, np.flatnonzero(where))) for text, where in named if where.any()]
    if quality.contrast * unknown_contrast > 0:
        warnings.append(messages.UNKNOWN_CONTRAST[unknown_contrast])
    return warnings


def _between(marked: np.ndarray) -> np.ndarray:
    """What is not marked between the first and the last that are."""
    return ~marked & np.logical_or.accumulate(marked) & np.logical_or.accumulate(marked[::-1])[::-1]


def quality_warnings(
    volume: Volume, measurements: Sequence[SliceMeasurement], quality: Quality, known: Sequence[str]
) -> list[str]:
    """Warnings about the predicted quality; a reason that is already a warning is not repeated."""
    suspects = [
        k for k, one in enumerate(quality.slices) if one.verdict != "pass" and measurements[k].n_voxels
    ]
    look = messages.LOOK_AT.format(_name(volume, suspects)) if suspects else ""
    if quality.verdict != "pass":
        if quality.reason in known:
            return []
        dsc = messages.shown_dsc(quality.predicted_dsc)
        return [messages.VOLUME_NOT_PASSED.format(dsc, quality.verdict, quality.reason, look)]
    if not suspects:
        return []
    reasons = Counter(quality.slices[k].reason for k in suspects)
    return [SLICES_NOT_PASSED.format(reasons.most_common(1)[0][0], look)]


def _name(volume: Volume, indices: Sequence[int] | np.ndarray) -> str:
    stored = sorted(volume.stored_slice_index(int(index)) for index in indices)
    return f"slice{'' if len(stored) == 1 else 's'} {first_of(stored, NAMED_SLICES)}"
