"""The bound that the cord sets to gray matter."""

import numpy as np

from keras_scgm.predict import in_cord


def test_gray_matter_is_no_more_probable_than_the_cord():
    probabilities = np.random.default_rng(0).random((2, 5, 4, 2)).astype(np.float32)
    before = probabilities.copy()
    bounded = in_cord(probabilities)
    np.testing.assert_array_equal(probabilities, before)
    np.testing.assert_array_equal(bounded[..., 1], before[..., 1])
    np.testing.assert_array_equal(bounded[..., 0], before.min(axis=-1))


def test_gray_matter_alone_has_no_bound():
    probabilities = np.random.default_rng(0).random((2, 5, 4, 1)).astype(np.float32)
    np.testing.assert_array_equal(in_cord(probabilities), probabilities)
