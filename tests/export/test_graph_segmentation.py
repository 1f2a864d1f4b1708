"""Masks, numbers and warnings of the graph are those of the package."""

import nibabel as nib
import numpy as np
from served_model import check_answer

from keras_scgm import segment


def test_voxels_that_are_not_finite(same_as_segment, blob_image):
    image = blob_image(shape=(44, 39, 4), radius_mm=1.5)
    data = np.array(image.dataobj)
    data[3, 4, 0], data[5, 6, 2], data[:, :, 3] = np.nan, np.inf, -np.inf
    expected = same_as_segment(nib.Nifti1Image(data, image.affine))
    assert any("NaN or infinite" in text for text in expected.warnings)


def test_a_constant_image(same_as_segment):
    expected = same_as_segment(nib.Nifti1Image(np.full((44, 39, 2), 7, np.int16), np.diag([1, 1, 5, 1])))
    assert any("constant" in text for text in expected.warnings)


def test_slices_of_one_voxel(same_as_segment):
    same_as_segment(nib.Nifti1Image(np.arange(1, 4, dtype=np.float32).reshape(1, 1, 3), np.eye(4)))


def test_gaps_and_edges(same_as_segment, blob_image):
    image = blob_image(shape=(44, 60, 26), center_mm=(2, 15), radius_mm=1.5)
    data = np.array(image.dataobj)
    data[..., [3, 4, 9]] = 100
    expected = same_as_segment(nib.Nifti1Image(data, image.affine).as_reoriented([[0, 1], [1, 1], [2, -1]]))
    for text in ("no gray matter between slices", "edge of the window", ", ..."):
        assert any(text in warning for warning in expected.warnings)


def test_averaged_networks_settings_and_inverted_contrast(two_networks, blob_image):
    networks, served = two_networks
    image = blob_image(shape=(60, 60, 2), radius_mm=1.5)
    dark = nib.Nifti1Image(400 - np.asarray(image.dataobj), image.affine)
    expected = segment(dark, networks, threshold=0.6, window="center")
    assert expected.mask_voxels.any()
    got = served(dark.to_bytes())
    mask = np.asarray(nib.Nifti1Image.from_bytes(got["mask_bytes"][0]).dataobj)
    np.testing.assert_array_equal(mask, expected.mask_voxels)
    check_answer(got, expected)
    assert any("darker than its surroundings" in text for text in expected.warnings)
    soft = served(dark.to_bytes(), signature="soft")["probability_bytes"][0]
    np.testing.assert_allclose(
        np.asarray(nib.Nifti1Image.from_bytes(soft).dataobj), expected.probability_voxels, atol=1e-6
    )
