"""Labels are refused by the graph as by the package."""

import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from served_model import GOOD

from keras_scgm import InputError, segment


def stored_mask(n_labels):
    """A file whose middle slice has every label and whose others have none."""
    voxels = np.zeros((16, 12, 5), np.uint8)
    voxels[:n_labels, 3, 2] = np.arange(n_labels)
    return nib.Nifti1Image(voxels, np.diag([-0.5, 0.5, 5, 1])).to_bytes()


@pytest.mark.parametrize(
    ("n_labels", "message"),
    [
        (2, r"labels, not an image, it holds 2 values \(0, 1\)"),
        (6, r"labels, not an image, it holds 6 values \(0, 1, 2, 3, ...\)"),
    ],
)
def test_labels_are_refused_everywhere(served, bright_network, tmp_path, n_labels, message):
    (tmp_path / "bad.nii").write_bytes(stored_mask(n_labels))
    with pytest.raises(InputError, match=rf"bad\.nii: {message}"):
        segment(tmp_path / "bad.nii", bright_network)
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"nifti_bytes\[1\]: {message}"):
        served(GOOD, stored_mask(n_labels))
