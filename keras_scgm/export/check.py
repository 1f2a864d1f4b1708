"""Synthetic images that exports are checked with, and servers warm up with."""

import gzip

import nibabel as nib
import numpy as np

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.export.graph.network import SLICES_ON_GPU
from keras_scgm.localization import MIN_PROBES


def synthetic_image() -> nib.Nifti1Image:
    """A synthetic cord, always the same; its resolution suffices to detect a difference of 0.005 in DSC."""
    image = draw_subject(PhantomConfig(spacing_mm=0.25, matrix_size=200, n_slices=4), seed=4).image
    data = np.asarray(image.dataobj)
    data = np.rint(255 * np.clip(data / np.percentile(data, 99.8), 0, 1))
    return nib.Nifti1Image(data.astype(np.uint8), image.affine)


def warm_up_files() -> list[bytes]:
    """Warm-up files of `gm_nifti`, .nii.gz and .nii.

    The synthetic image; a cord of so many slices that a GPU runs every batch size on regions of interest; and as many
    slices without a cord, for whole windows.
    """
    image = synthetic_image()
    n_slices = MIN_PROBES + sum(SLICES_ON_GPU)
    data = np.asarray(image.dataobj)[50:150, 50:150]
    cord = np.take(data, np.arange(n_slices) % data.shape[2], axis=2)
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, np.newaxis, np.newaxis], cord.shape)
    # A small slice spacing, so that the fewest slices are probed.
    thin = image.affine @ np.diag([1, 1, 0.1, 1])
    images = [image, *(nib.Nifti1Image(voxels, thin) for voxels in (cord, np.ascontiguousarray(ramp)))]
    # The long volumes are uncompressed: the limit of slices grows with the size of the file.
    packed, *others = (each.to_bytes() for each in images)
    return [gzip.compress(packed, mtime=0), *others]
