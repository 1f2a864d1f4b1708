"""The Dice coefficient of two masks."""

import math

import numpy as np

from keras_scgm.dice import dice, dice_of_counts


def test_by_hand():
    one, other = np.zeros((2, 4, 5, 2), bool)
    one[:2, :3, 0], other[1:3, :3, 0] = True, True
    assert dice(one, other) == 0.5
    assert dice(one, one) == 1
    assert dice(one, ~one) == 0


def test_undefined_for_two_empty_masks_only():
    empty = np.zeros((3, 3), bool)
    assert math.isnan(dice(empty, empty))
    assert dice(empty, ~empty) == 0


def test_counts_of_slices():
    np.testing.assert_array_equal(
        dice_of_counts(np.array([3, 0, 0]), np.array([4, 2, 0]), np.array([8, 0, 0])), [0.5, 0, np.nan]
    )
