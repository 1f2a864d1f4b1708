"""Images with a ghost."""

import nibabel as nib
import numpy as np


def ghosted(image, strength, distance_mm, axis):
    """With a weaker copy of each slice, shifted along an axis, 0 or 1; axial slices last."""
    voxels = np.asarray(image.dataobj, np.float64)
    steps = round(distance_mm / image.header.get_zooms()[axis])
    return nib.Nifti1Image(
        (voxels + strength * np.roll(voxels, steps, axis)).astype(np.float32), image.affine
    )
