"""Masks, files and comparisons that the tests of the evaluation share."""

import nibabel as nib
import numpy as np

CASES = (
    "identical",
    "dilate1",
    "shift1",
    "dilate1_empty5",
    "dilate1_vs_refempty5",
    "bothempty5",
    "erode2",
    "noise_island",
)
AFFINE = np.diag([-0.5, 0.5, 4.0, 1.0])


def same(measured, wanted):
    """To a relative 1e-9; null in the file means undefined."""
    measured = np.atleast_1d(np.asarray(measured, float))
    wanted = np.atleast_1d(np.array(wanted, float))
    np.testing.assert_allclose(measured, wanted, rtol=1e-9, atol=1e-13)


def column(comparison, name):
    return [row[name] for row in comparison.slices()]


def disc(radius=4.0, shift=(0.0, 0.0), shape=(40, 36, 4)):
    rows, columns = np.indices(shape[:2])
    inside = np.hypot(rows - 19.5 - shift[0], columns - 17.5 - shift[1]) < radius
    mask = np.repeat(inside[..., np.newaxis], shape[2], axis=2)
    mask[..., 0] = False
    return mask


def save(path, mask, affine=AFFINE, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.asarray(mask).astype(dtype), affine).to_filename(path)
    return path


def partly(mask, slices):
    return mask * np.isin(np.arange(mask.shape[2]), slices)


def full_disc(radius):
    return np.repeat(disc(radius)[:, :, 1:2], 5, axis=2)
