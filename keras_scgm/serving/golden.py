"""The image that exports are checked with, and that servers warm up with."""

import gzip

import nibabel as nib
import numpy as np

from keras_scgm.datasets.phantom import PhantomSpec, draw_subject


def golden_image() -> nib.Nifti1Image:
    """A drawn cord, always the same; fine enough for its mask to tell half a percent of DSC."""
    image = draw_subject(PhantomSpec(spacing_mm=0.25, matrix_size=200, n_slices=4), seed=4).image
    data = np.asarray(image.dataobj)
    data = np.rint(255 * np.clip(data / np.percentile(data, 99.8), 0, 1))
    return nib.Nifti1Image(data.astype(np.uint8), image.affine)


def golden_file() -> bytes:
    """The same as a .nii.gz file."""
    return gzip.compress(golden_image().to_bytes(), mtime=0)
