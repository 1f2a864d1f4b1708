"""Images as scanners interpolate them."""

import nibabel as nib
import numpy as np


def interpolated(image, acquired_mm):
    """k-space of each slice cut to that of other voxels along both axes, (i, j); axial slices last."""
    voxels, spacing_mm = np.asarray(image.dataobj, np.float64), np.array(image.header.get_zooms()[:2])
    kept = [
        np.abs(np.fft.fftfreq(length, mm)) < 0.5 / acquired
        for length, mm, acquired in zip(voxels.shape, spacing_mm, acquired_mm, strict=False)
    ]
    spectrum = np.fft.fft2(voxels, axes=(0, 1)) * np.outer(*kept)[..., np.newaxis]
    return nib.Nifti1Image(np.abs(np.fft.ifft2(spectrum, axes=(0, 1))).astype(np.float32), image.affine)
