"""What goes in and out of the networks, for arrays of slices: the same as in segmentation."""

import keras
import nibabel as nib
import numpy as np
import pytest

import keras_scgm
from keras_scgm.errors import InputError
from keras_scgm.files import sha256_of
from keras_scgm.models import binarize_predictions, dilated_gmnet, preprocess_input, unet
from keras_scgm.nifti import volume_from_image
from keras_scgm.pretrained import WeightsCard, weights_card
from keras_scgm.slices import SliceConfig, SliceGeometry, measure_intensities, read_windows


def test_both_networks_modules_have_them():
    for module in (dilated_gmnet, unet, keras_scgm):
        assert module.preprocess_input is preprocess_input
        assert module.binarize_predictions is binarize_predictions


def test_slices_are_normalized_as_those_of_a_volume():
    voxels = np.random.default_rng(0).normal(300, 40, (24, 20, 11)).astype(np.float32)
    voxels[..., 4] = 7
    voxels[3, 5, 1] = np.nan
    volume = volume_from_image(nib.Nifti1Image(voxels, np.diag([-0.25, 0.25, 5, 1])))
    geometry = SliceGeometry.centered(volume, SliceConfig(window_px=20))
    statistics = measure_intensities(volume, geometry)
    expected = read_windows(volume, geometry, statistics, 0, 11)
    windows = geometry.to_windows(volume.read_slices(0, 11)[0], 0)
    given = windows.copy()
    np.testing.assert_array_equal(preprocess_input(given), expected)
    np.testing.assert_array_equal(preprocess_input(given[..., np.newaxis]), expected)
    np.testing.assert_array_equal(given, windows)


def test_normalization_by_hand():
    x = np.array([[[1, 3], [5, 7]], [[100, 100], [100, 100]]], np.uint8)
    result = preprocess_input(x)
    assert (result.shape, result.dtype) == ((2, 2, 2, 1), np.float32)
    np.testing.assert_allclose(result[0, ..., 0], (x[0] - 4.0) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(result[1], (100 - 4) / np.sqrt(5), rtol=1e-6)
    assert not preprocess_input(np.full((2, 4, 4), 9.0)).any()
    filled = preprocess_input([[[1.0, np.nan, np.inf, 3.0]]])
    np.testing.assert_allclose(filled.ravel(), [-np.sqrt(2), 0, 0, np.sqrt(2)], rtol=1e-6)
    np.testing.assert_array_equal(preprocess_input(keras.ops.convert_to_tensor(x)), result)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 4)), r"x must be \(slice, height, width\) or .*, received \(4, 4\)"),
        (np.zeros((2, 4, 4, 3)), r"x must be \(slice, height, width\) or .*, received \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 4)), r"with at least one pixel, received \(0, 4, 4\)"),
        ("slices.npy", "x must be an array of real numbers, received 'slices.npy'"),
        (keras.Input((4, 4, 1)), "x must be an array of real numbers"),
        (np.full((1, 2, 2), 1e30), "x: intensities of up to 1e[+]30"),
    ],
)
def test_wrong_slices(x, message):
    with pytest.raises(InputError, match=message):
        preprocess_input(x)


def test_predictions_are_cut_above_the_threshold_of_the_card(tmp_path):
    probabilities = np.array([[0.2, 0.5], [0.51, 0.9]], np.float32)[np.newaxis, ..., np.newaxis]
    mask = binarize_predictions(probabilities, "challenge")
    assert (mask.dtype, mask.shape) == (bool, probabilities.shape)
    np.testing.assert_array_equal(mask, probabilities > weights_card("challenge").threshold)

    path = tmp_path / "mine.weights.h5"
    path.write_bytes(b"")
    np.testing.assert_array_equal(binarize_predictions(probabilities, path), probabilities > 0.5)
    card = WeightsCard("mine", "UNet", {}, path.name, sha256_of(path), threshold=0.75)
    (tmp_path / "mine.json").write_text(card.to_json())
    np.testing.assert_array_equal(binarize_predictions(probabilities, path), probabilities > 0.75)
    np.testing.assert_array_equal(
        binarize_predictions(probabilities, path, threshold=0.1), probabilities > 0.1
    )
    half = keras.ops.cast(probabilities, "bfloat16")
    np.testing.assert_array_equal(binarize_predictions(half, path), probabilities > 0.75)


def test_wrong_predictions():
    with pytest.raises(InputError, match=r"unknown weights 'chalenge'.*did you mean 'challenge'"):
        binarize_predictions([0.5], "chalenge")
    with pytest.raises(InputError, match="threshold must be a number above 0 and below 1, received 1"):
        binarize_predictions([0.5], threshold=1)
