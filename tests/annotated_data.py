"""Annotated volumes for tests: blobs in noise, and the challenge's layout."""

import nibabel as nib
import numpy as np

from keras_scgm.datasets import (
    AnnotatedVolume,
    find_challenge,
)
from keras_scgm.datasets.phantom import PhantomConfig
from keras_scgm.slices import SliceConfig

SPEC = SliceConfig(window_px=112)
AFFINE = np.diag([-0.5, 0.5, 5, 1.0])
SITES = {
    site: PhantomConfig(0.5, 5.0, 64, n_slices, off_centre_mm=1.0)
    for site, n_slices in ((1, 3), (2, 2), (3, 2))
}


def labelled(folder, **settings):
    return [volume for volume in find_challenge(folder, **settings) if volume.masks]


def save(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def blob(shape=(60, 60, 4), corner=(26, 27), width=6):
    data = np.zeros(shape, np.uint8)
    data[corner[0] : corner[0] + width, corner[1] : corner[1] + width] = 1
    return data


def annotated(folder, *masks, image=None, affine=AFFINE, suffix=".nii.gz", **fields):
    """A volume of noise with the given masks."""
    if image is None:
        image = np.random.default_rng(0).normal(100, 10, masks[0].shape).astype(np.float32)
    paths = [save(folder / f"mask-r{i}{suffix}", mask, affine) for i, mask in enumerate(masks, start=1)]
    return AnnotatedVolume(save(folder / f"image{suffix}", image, affine), tuple(paths), "sub-01", **fields)
