"""The image that exports are checked with, and those that servers warm up with."""

import gzip

import nibabel as nib
import numpy as np

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.export.graph.network import SLICES_ON_GPU
from keras_scgm.localization import MIN_PROBES


def synthetic_image() -> nib.Nifti1Image:
    """A synthetic cord, always the same; fine enough for its mask to tell half a percent of DSC."""
    image = draw_subject(PhantomConfig(spacing_mm=0.25, matrix_size=200, n_slices=4), seed=4).image
    data = np.asarray(image.dataobj)
    data = np.rint(255 * np.clip(data / np.percentile(data, 99.8), 0, 1))
    return nib.Nifti1Image(data.astype(np.uint8), image.affine)


def warm_up_files() -> list[bytes]:
    """What `gm_nifti` is shown before it answers, .nii.gz and .nii files.

    The synthetic image; a cord so long that a GPU sees every number of slices at a time, around the cord; and as many
    slices without a cord, which are computed whole.
    """
    image = synthetic_image()
    n_slices = MIN_PROBES + sum(SLICES_ON_GPU)
    data = np.asarray(image.dataobj)[50:150, 50:150]
    cord = np.take(data, np.arange(n_slices) % data.shape[2], axis=2)
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, np.newaxis, np.newaxis], cord.shape)
    # Slices so close together that the search looks at the fewest.
    thin = image.affine @ np.diag([1, 1, 0.1, 1])
    images = [image, *(nib.Nifti1Image(voxels, thin) for voxels in (cord, np.ascontiguousarray(ramp)))]
    # Packed, so many slices would be more than so few bytes may have.
    packed, *others = (each.to_bytes() for each in images)
    return [gzip.compress(packed, mtime=0), *others]
