"""Masks, numbers and warnings of the graph are those of the package."""

import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from ghosted import ghosted
from served_model import check_answer, reoriented
from zero_filled import interpolated

from keras_scgm import segment
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.segmentation.warnings import CORD_CUT_OFF


def test_voxels_that_are_not_finite(same_as_segment, blob_image):
    image = blob_image(shape=(44, 39, 4), radius_mm=1.5)
    data = np.array(image.dataobj)
    data[3, 4, 0], data[5, 6, 2], data[:, :, 3] = np.nan, np.inf, -np.inf
    expected = same_as_segment(nib.Nifti1Image(data, image.affine))
    assert any("NaN or infinite" in text for text in expected.warnings)


def test_a_constant_image(same_as_segment):
    expected = same_as_segment(nib.Nifti1Image(np.full((44, 39, 2), 7, np.int16), np.diag([1, 1, 5, 1])))
    assert any("constant" in text for text in expected.warnings)


def test_slices_of_numbers_too_small_for_squares_are_empty(same_as_segment, blob_image):
    image = blob_image(shape=(44, 39, 4), radius_mm=1.5)
    data = np.array(image.dataobj, np.float64)
    tiny = np.random.default_rng(0).uniform(1, 2, data[..., 2:].shape)
    data[..., 2:] = tiny * [1e-317, 1e-150]
    expected = same_as_segment(nib.Nifti1Image(data, image.affine))
    assert expected.mask_voxels[..., :2].any()
    assert not expected.mask_voxels[..., 2:].any()


def test_slices_of_one_voxel(same_as_segment):
    same_as_segment(nib.Nifti1Image(np.arange(1, 4, dtype=np.float32).reshape(1, 1, 3), np.eye(4)))


def test_gaps_and_edges(same_as_segment, blob_image):
    image = blob_image(shape=(44, 60, 26), center_mm=(2, 15), radius_mm=1.5)
    data = np.array(image.dataobj)
    data[..., [3, 4, 9]] = 100
    expected = same_as_segment(nib.Nifti1Image(data, image.affine).as_reoriented([[0, 1], [1, 1], [2, -1]]))
    for text in ("no gray matter between slices", "edge of the window", ", ..."):
        assert any(text in warning for warning in expected.warnings)


@pytest.mark.parametrize("codes", ["LAS", "PSR"])
@pytest.mark.parametrize(("acquired_mm", "n_doubts"), [((0.9, 0.5), 1), ((0.8, 1.3), 1), ((0.6, 0.6), 0)])
def test_an_interpolated_image(same_with_cord, cord_image, codes, acquired_mm, n_doubts):
    image = interpolated(cord_image(shape=(97, 90, 3)), acquired_mm)
    expected = same_with_cord(reoriented(image, codes))
    assert sum(text.startswith("interpolated to axial") for text in expected.warnings) == n_doubts


@pytest.mark.parametrize("codes", ["LAS", "PSR"])
@pytest.mark.parametrize(("strength", "axis", "n_doubts"), [(0.3, 0, 1), (0.3, 1, 1), (0.0, 1, 0)])
def test_an_image_with_a_ghost(same_with_cord, codes, strength, axis, n_doubts):
    config = PhantomConfig(matrix_size=112, n_slices=3, contrast_to_noise=(8.0, 14.0), artefacts=0.0)
    image = ghosted(draw_subject(config, seed=1).image, strength, 9.0, axis)
    padded = nib.Nifti1Image(np.pad(np.asarray(image.dataobj), ((9, 0), (4, 7), (0, 0))), image.affine)
    for one in (image, padded):
        expected = same_with_cord(reoriented(one, codes))
        assert sum(text.startswith("ghosting: ") for text in expected.warnings) == n_doubts


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_borders_of_one_intensity(same_with_cord, cord_image, fill):
    image = cord_image(shape=(100, 90, 3))
    data = np.asarray(image.dataobj).copy()
    assert not any("edge" in text for text in same_with_cord(image).warnings)
    columns = np.flatnonzero((data[..., 1] > 150).any(axis=0))
    data[:, columns[-1] + 2 :, 1] = fill
    expected = same_with_cord(nib.Nifti1Image(data, image.affine))
    assert CORD_CUT_OFF.format("slice 1") in expected.warnings
    assert expected.areas[1].verdict != "pass"


@pytest.mark.parametrize("codes", ["LAS", "PSR"])
def test_a_cord_around_the_gray_matter(same_with_cord, served_cord, cord_image, codes):
    image = reoriented(cord_image(shape=(60, 56, 4)), codes)
    expected = same_with_cord(image)
    gray_matter, cord = expected.mask_voxels, expected.cord_voxels
    assert 0 < np.count_nonzero(gray_matter) < np.count_nonzero(cord)
    soft = served_cord(image.to_bytes(), signature="soft")
    for name, voxels in (
        ("probability_bytes", expected.probability_voxels),
        ("cord_probability_bytes", expected.cord_probability_voxels),
    ):
        found = np.asarray(nib.Nifti1Image.from_bytes(soft[name][0]).dataobj)
        np.testing.assert_allclose(found, voxels, atol=1e-6)
        assert found.max() > 0.9


def test_a_cord_in_some_slices_and_gray_matter_in_fewer(same_with_cord, cord_image):
    with_both, cord_alone = (
        np.asarray(cord_image(shape=(60, 56, 6), radius_mm=radius_mm).dataobj) for radius_mm in (1.5, 0)
    )
    data = np.where(np.arange(6) < 2, 100.0, np.where(np.arange(6) < 4, cord_alone, with_both))
    expected = same_with_cord(nib.Nifti1Image(data.astype(np.float32), np.diag([-0.5, 0.5, 4, 1])))
    areas = [(row.area_mm2 > 0, row.cord_area_mm2 > 0) for row in expected.areas]
    assert areas == [(False, False)] * 2 + [(False, True)] * 2 + [(True, True)] * 2


def test_pieces_away_from_the_cord(same_with_cord, cord_image):
    data = np.asarray(cord_image(shape=(100, 100, 3)).dataobj)
    data += np.roll(data, (30, 30, 0), (0, 1, 2)) - 100
    # A path without gray matter between the cord and gray matter outside it.
    data[50:62, 49:51, 1] += 150
    data[60:64, 48:52, 1] = 400
    expected = same_with_cord(nib.Nifti1Image(data, np.diag([-0.5, 0.5, 4, 1])))
    assert expected.record["removed_away_from_cord_mm3"] > 0


def test_averaged_networks_settings_and_inverted_contrast(two_networks, cord_image):
    networks, served = two_networks
    image = cord_image(shape=(60, 60, 2))
    dark = nib.Nifti1Image(400 - np.asarray(image.dataobj), image.affine)
    expected = segment(dark, networks, threshold=0.3, window="center", runtime="tensorflow")
    assert expected.mask_voxels.any()
    got = served(dark.to_bytes(), signature="soft")
    gray_matter, cord, of_gray_matter, of_cord = (
        np.asarray(nib.Nifti1Image.from_bytes(got[name][0]).dataobj)
        for name in ("mask_bytes", "cord_bytes", "probability_bytes", "cord_probability_bytes")
    )
    np.testing.assert_array_equal(gray_matter, expected.mask_voxels)
    np.testing.assert_array_equal(cord, expected.cord_voxels)
    np.testing.assert_allclose(of_gray_matter, expected.probability_voxels, atol=1e-6)
    np.testing.assert_allclose(of_cord, expected.cord_probability_voxels, atol=1e-6)
    assert np.all(gray_matter <= cord)
    assert np.all(of_gray_matter <= of_cord)
    check_answer(got, expected)
    assert any("darker than its surroundings" in text for text in expected.warnings)


def test_gray_matter_is_in_the_cord_whatever_the_networks_say(two_networks):
    networks, served = two_networks
    slices = np.random.default_rng(1).normal(size=(2, 200, 200, 1)).astype(np.float32)
    gray_matter, cord = np.moveaxis(np.mean([network(slices) for network in networks], axis=0), -1, 0)
    assert np.mean((gray_matter > 0.3) & (cord < 0.5)) > 0.9
    signatures = tf.saved_model.load(str(served.models.slices)).signatures
    got = signatures["serving_default"](slices=tf.constant(slices))
    for name in ("mask", "probabilities"):
        assert np.all(got[name][..., 0] <= got[name][..., 1])
