"""Features of cords whose size, shape and place are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops

from keras_scgm.quality.cord_features import with_cord
from keras_scgm.quality.features import SliceFeatures, slice_features

SPACING_MM = 0.25


def ellipse(center, radii, degrees=0.0, shape=(120, 120)):
    rows, columns = np.indices(shape)
    angle = np.radians(degrees)
    across, along = rows - center[0], columns - center[1]
    turned = (
        across * np.cos(angle) + along * np.sin(angle),
        along * np.cos(angle) - across * np.sin(angle),
    )
    return (np.hypot(turned[0] / radii[0], turned[1] / radii[1]) <= 1).astype(np.float32)


def measured(gray_matter, cord, origin=(0, 0), **settings):
    one = slice_features(gray_matter, gray_matter, SPACING_MM, origin=origin)
    return with_cord(one, cord, SPACING_MM, origin=origin, **settings)


@pytest.mark.parametrize("degrees", [0, 20, -35])
def test_size_and_shape_are_those_of_the_ellipse(degrees):
    cord = ellipse((60.3, 58.8), (26, 15), degrees)
    found = measured(ellipse((60.3, 58.8), (8, 6)), cord)
    region = regionprops(label(cord > 0))[0]
    assert found.cord_area_mm2 == pytest.approx(region.area * SPACING_MM**2)
    assert found.cord_area_mm2 == pytest.approx(math.pi * 26 * 15 * SPACING_MM**2, rel=0.01)
    # scikit-image adds the width of a pixel to both axes.
    assert found.cord_aspect == pytest.approx(region.axis_major_length / region.axis_minor_length, rel=0.003)
    assert found.cord_agreement == pytest.approx(1)
    assert found.gm_cord_ratio == pytest.approx(8 * 6 / (26 * 15), rel=0.03)


@pytest.mark.parametrize("origin", [(0, 0), (-7, 31)])
def test_offset_and_balance_follow_the_gray_matter(origin):
    cord = ellipse((60, 60), (20, 20))
    centred = measured(ellipse((60, 60), (8, 5)), cord, origin)
    assert (centred.cord_offset, centred.cord_balance) == pytest.approx((0, 1), abs=1e-9)
    beside = measured(ellipse((64, 63), (8, 5)), cord, origin)
    assert beside.cord_offset == pytest.approx(5 / 20, rel=0.01)
    # The part of an ellipse beyond a line at half its radius, on one side less on the other.
    cap = (math.acos(0.5) - 0.5 * math.sqrt(0.75)) / math.pi
    assert beside.cord_balance == pytest.approx(2 * cap, abs=0.03)
    one_side = measured(ellipse((70, 60), (8, 5)), cord, origin)
    assert one_side.cord_balance == 0
    in_front = measured(ellipse((60, 66), (8, 5)), cord, origin)
    assert in_front.cord_balance == pytest.approx(1)
    assert in_front.cord_offset == pytest.approx(6 / 20, rel=0.01)


def test_a_soft_outline_lowers_the_agreement():
    gray_matter, cord = ellipse((60, 60), (8, 5)), ellipse((60, 60), (20, 15))
    soft = gaussian_filter(cord, 4)
    found = measured(gray_matter, soft)
    inside = soft > 0.5
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    around = soft[rows[0] - 8 : rows[-1] + 9, columns[0] - 8 : columns[-1] + 9].sum(dtype=float)
    assert found.cord_agreement == pytest.approx(2 * soft[inside].sum(dtype=float) / (around + inside.sum()))
    assert found.cord_agreement < 0.9
    far_away = soft.copy()
    far_away[:4] = 0.4
    assert repr(measured(gray_matter, far_away)) == repr(found)
    assert measured(gray_matter, soft, threshold=0.2).cord_area_mm2 > found.cord_area_mm2


def test_the_cord_may_be_where_no_gray_matter_is_and_the_other_way_round():
    blank, cord = np.zeros((120, 120), np.float32), ellipse((60, 60), (20, 15))
    alone = measured(blank, cord, near_edge=True)
    assert alone.area_mm2 == 0
    assert (alone.knows_cord, alone.has_cord, alone.cord_near_edge) == (True, True, True)
    assert alone.cord_area_mm2 == pytest.approx(cord.sum() * SPACING_MM**2)
    assert np.isnan([alone.gm_cord_ratio, alone.cord_offset, alone.cord_balance]).all()
    missing = measured(cord, blank, near_edge=True)
    assert (missing.knows_cord, missing.has_cord, missing.cord_near_edge) == (True, False, False)
    without = slice_features(cord, cord, SPACING_MM)
    assert repr(missing) == repr(replace(without, cord_area_mm2=0.0))
    assert not without.knows_cord
    assert not SliceFeatures(area_mm2=0.0).knows_cord


def test_the_mask_lies_in_the_cord():
    probabilities, cord = ellipse((60, 60), (20, 15)), ellipse((60, 60), (12, 9))
    found = slice_features(probabilities, probabilities, SPACING_MM, within=cord > 0)
    assert found.area_mm2 == cord.sum() * SPACING_MM**2


def test_a_cord_of_a_line_has_a_shape():
    line = np.zeros((20, 20), np.float32)
    line[4:12, 7] = 1
    assert measured(line, line).cord_aspect == pytest.approx(4 * np.std(np.arange(8)))
