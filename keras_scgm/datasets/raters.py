"""Training targets from the masks of several raters: selection, fusion and contour smoothing.

The paper takes every mask as a sample of its own, and reads the raters' disagreement at the contour as label
smoothing (3.4.2). `smooth_contour` is the artificial version that the paper leaves to future work.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

from keras_scgm import checks
from keras_scgm.errors import InputError

RATER_MODES = ("all", "random", "majority", "staple", "mean")
"""Each mask a sample (paper 3.4.2); one rater per slice, drawn anew each epoch; more than half of the raters;
STAPLE (Warfield, Zou and Wells, IEEE Trans. Med. Imaging 2004); the fraction of raters, a soft target."""


def check_mode(raters: str) -> None:
    """Refuse a mode that is unknown or whose library is missing, before any file is read.

    Raises:
        InputError: The mode is not one of `RATER_MODES`, or SimpleITK is not installed.
    """
    checks.one_of(RATER_MODES)("raters", raters)
    if raters == "staple":
        _simple_itk()


def fuse(masks: np.ndarray, raters: str) -> np.ndarray:
    """The masks that become targets: one for "majority" and "staple", else as they are.

    Args:
        masks: Masks (rater, slice, rows, columns) of one volume, bool.
        raters: One of `RATER_MODES`.

    Returns:
        bool array (target, slice, rows, columns).
    """
    if raters == "majority":
        return majority(masks)[np.newaxis]
    if raters == "staple":
        return staple(masks)[np.newaxis]
    return masks


def majority(masks: np.ndarray) -> np.ndarray:
    """Where more than half of the raters agree; a draw is not gray matter.

    Args:
        masks: Masks (rater, ...), bool.

    >>> majority(np.array([[True, True, False], [True, False, False]])).tolist()
    [True, False, False]
    """
    return 2 * np.count_nonzero(masks, axis=0) > len(masks)


def staple(masks: np.ndarray) -> np.ndarray:
    """Where STAPLE, which weighs the raters by their estimated skill, finds gray matter more likely than not.

    Args:
        masks: Masks (rater, slice, rows, columns), bool; the raters' skill is estimated from all slices.

    Raises:
        InputError: SimpleITK is not installed.
    """
    simple_itk = _simple_itk()
    # All voxels alike leave nothing to estimate, and unanimous raters nothing to weigh.
    if (masks == masks[0]).all():
        return masks[0].copy()
    images = [simple_itk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    return simple_itk.GetArrayFromImage(simple_itk.STAPLE(images, 1.0)) > 0.5


def draw_raters(groups: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Draw one sample of each group, the same for the same seed and epoch.

    Args:
        groups: Slice of each sample (n,), equal for samples of the same slice.
        seed: Non-negative integer.
        epoch: Number of the epoch, from 0.

    Returns:
        int array, one index into `groups` per group, ascending.

    >>> draw_raters(np.array([7, 7, 8]), seed=0, epoch=0).tolist()
    [1, 2]
    """
    lots = np.random.default_rng((seed, epoch)).random(len(groups))
    order = np.lexsort((lots, groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def smooth_contour(mask: np.ndarray, spacing_mm: tuple[float, float], width_mm: float) -> np.ndarray:
    """Label smoothing on the contour only, which paper 3.4.2 suggests.

    Within half the width of the contour the label rises linearly with the signed distance, from 0 outside
    through 0.5 on the contour to 1 inside; everywhere else it stays what it was. The contour runs half-way
    between voxels of different labels, so a width under the voxel spacing changes nothing.

    Args:
        mask: Mask (rows, columns), bool.
        spacing_mm: Spacing of rows and columns, mm.
        width_mm: Width of the ramp from 0 to 1, mm.

    Returns:
        float32 array in [0, 1] of the same shape.

    Raises:
        InputError: The width is negative, or the mask another array.

    >>> smooth_contour(np.array([[False, False, True, True]]), (1.0, 1.0), width_mm=4.0).tolist()
    [[0.125, 0.375, 0.625, 0.875]]
    """
    width_mm = checks.number(0)("width_mm", width_mm)
    spacing_mm = checks.several(checks.number(above=0), "two positive numbers", length=2)(
        "spacing_mm", spacing_mm
    )
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 2:
        raise InputError(f"mask must be bool (rows, columns), received {mask.dtype} {mask.shape}")
    soft = mask.astype(np.float32)
    found = find_objects(mask.astype(np.uint8))
    if width_mm == 0 or not found:
        return soft
    near = tuple(
        slice(max(0, part.start - reach), part.stop + reach)
        for part, mm in zip(found[0], spacing_mm, strict=True)
        for reach in [math.ceil(width_mm / mm) + 1]
    )
    inside = mask[near]
    # Twice as fine a grid has points half-way between neighbouring voxels, where the contour can be marked.
    contour = np.zeros([2 * length - 1 for length in inside.shape], bool)
    contour[1::2, ::2] = inside[1:] != inside[:-1]
    contour[::2, 1::2] = inside[:, 1:] != inside[:, :-1]
    if contour.any():
        distance_mm = distance_transform_edt(~contour, sampling=[mm / 2 for mm in spacing_mm])[::2, ::2]
        soft[near] = np.clip(0.5 + np.where(inside, distance_mm, -distance_mm) / width_mm, 0, 1)
    return soft


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise InputError(
            "raters='staple' needs SimpleITK; install it with pip install SimpleITK, or choose 'majority'"
        ) from error
    return SimpleITK
