"""What is painted in a section: brightness, contours, tints, orientation."""

import numpy as np
import pytest
from pictured_bar import TILE, VOXEL_MM, bar, pixels_of
from PIL import ImageColor

from keras_scgm.picture import CONTOUR, View, draw_section
from keras_scgm.picture.mosaic import PROBABILITY_COLOUR, SPREAD_COLOUR


@pytest.mark.parametrize("colour", [PROBABILITY_COLOUR, SPREAD_COLOUR])
def test_tints_lie_under_the_contour_and_over_the_image(colour):
    mask = bar(1)[..., 0]
    image = 100.0 + np.zeros(mask.shape)
    values = np.zeros(mask.shape)
    values[45:55] = 1.0
    view = View(np.array((49.5, 44.5)), 16.0, (VOXEL_MM, VOXEL_MM))
    plain, tinted = (
        np.asarray(draw_section(image, ((mask, CONTOUR),), view, tint), float)
        for tint in (None, (values, colour))
    )
    middle, beside = (TILE // 2, TILE // 2), (TILE // 2, TILE // 2 + 70)
    np.testing.assert_array_equal(plain[beside], tinted[beside])
    expected = 0.15 * plain[middle] + 0.85 * np.array(ImageColor.getrgb(colour))
    np.testing.assert_allclose(tinted[middle], expected, atol=2)
    for drawn in (plain, tinted):
        assert pixels_of(drawn, CONTOUR).sum() > 300


def test_a_far_piece_does_not_change_the_brightness():
    mask = bar(1)[..., 0]
    image = 100.0 + 20 * mask
    image[:, 70:] = 1000
    far = mask.copy()
    far[48:52, 72:76] = True
    view = View(np.array((49.5, 44.5)), 16.0, (VOXEL_MM, VOXEL_MM))
    one, other = (np.asarray(draw_section(image, ((section, CONTOUR),), view)) for section in (mask, far))
    assert 60 < one[TILE // 2, TILE // 2, 0] < 250
    np.testing.assert_array_equal(one[TILE // 2 :], other[TILE // 2 :])


def test_fluid_near_the_gray_matter_does_not_change_the_brightness():
    mask = bar(1)[..., 0]
    dry = 100.0 + 20 * mask
    wet = dry.copy()
    wet[:, 51:] = 1000
    view = View(np.array((49.5, 44.5)), 16.0, (VOXEL_MM, VOXEL_MM))
    without, beside = (np.asarray(draw_section(image, ((mask, CONTOUR),), view)) for image in (dry, wet))
    np.testing.assert_array_equal(without[TILE // 2 :], beside[TILE // 2 :])


def test_sections_are_drawn_anterior_up_and_right_on_the_left():
    mask = np.zeros((80, 60), bool)
    mask[44:50, 33:36] = True
    image = 10.0 + 5 * mask + np.linspace(0, 1, 80)[:, np.newaxis]
    spacing_mm = (0.5, 1.0)
    half = 16.0 / np.array(spacing_mm)
    view = View(np.array((40.0, 30.0)), 16.0, spacing_mm)
    drawn = np.asarray(draw_section(image, ((mask, CONTOUR),), view), float)
    assert drawn.shape == (TILE, TILE, 3)
    rows, columns = np.nonzero(drawn[..., 0] - drawn[..., 1] > 100)
    middle = np.array((46.5 - 40, 30 - 34)) / (2 * half) + 0.5
    np.testing.assert_allclose((columns.mean(), rows.mean()), middle * TILE - 0.5, atol=1)
    extent = np.array((np.ptp(columns), np.ptp(rows)))
    np.testing.assert_allclose(extent, np.array((6, 3)) / (2 * half) * TILE, atol=4)
    assert drawn[rows[0] + 8, columns.mean().astype(int)].mean() > drawn[5, 150].mean()
