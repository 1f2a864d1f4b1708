"""Features of masks whose shape, contrast and noise are known."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import skew

from keras_scgm.quality.features import SliceFeatures, compare_with_neighbours, noise_level, slice_features

BLANK = SliceFeatures(area_mm2=0.0)


def disc(center, radius, shape=(40, 40)):
    rows, columns = np.indices(shape)
    return (np.hypot(rows - center[0], columns - center[1]) <= radius).astype(np.float32)


def test_features_of_a_disc_and_an_island():
    probabilities = disc((20, 20), 5)
    n = int(probabilities.sum())
    image = 10 + 3 * probabilities
    whole = slice_features(image, probabilities, 0.5, unit=2.0)
    assert whole.area_mm2 == pytest.approx(n * 0.25)
    assert (whole.agreement, whole.detached_fraction, whole.contrast) == pytest.approx((1.0, 0.0, 6.0))
    # Of a disc, the standard deviation along any axis is half its radius.
    assert (whole.width_mm, whole.depth_mm) == pytest.approx((5.0, 5.0), rel=0.06)
    assert whole.compactness == pytest.approx(1, abs=0.2)
    assert (whole.symmetry, whole.separation, whole.sharpness) == pytest.approx((1, 1, 1))
    assert whole.depth_skewness == pytest.approx(0, abs=1e-12)
    with_island = probabilities.copy()
    with_island[2:4, 2:5] = 1
    assert slice_features(image, with_island, 0.5).detached_fraction == pytest.approx(6 / (n + 6))
    assert repr(slice_features(image, np.zeros_like(image), 0.5)) == repr(BLANK)


def test_width_and_depth_follow_the_mask_when_it_is_turned():
    rows, columns = np.indices((80, 80)) - 39.5
    for degrees in (0, 25):
        angle = np.radians(degrees)
        across = rows * np.cos(angle) + columns * np.sin(angle)
        along = columns * np.cos(angle) - rows * np.sin(angle)
        box = ((np.abs(across) < 20) & (np.abs(along) < 8)).astype(np.float32)
        found = slice_features(box, box, 0.25)
        # Of a box, the standard deviation is its length by the square root of 12.
        assert (found.width_mm, found.depth_mm) == pytest.approx(
            (4 * 10 / 12**0.5, 4 * 4 / 12**0.5), rel=0.02
        )
        assert found.symmetry > 0.97
        turned = slice_features(box.T, box.T, 0.25)
        assert (turned.width_mm, turned.depth_mm) == pytest.approx((found.depth_mm, found.width_mm))


def test_skewness_from_back_to_front_as_in_scipy():
    mask = np.zeros((30, 30), np.float32)
    mask[5:25, 18:24] = mask[13:17, 4:18] = 1
    found = slice_features(mask, mask, 0.25).depth_skewness
    assert found == pytest.approx(skew(np.nonzero(mask)[1]))
    assert slice_features(mask, mask[:, ::-1], 0.25).depth_skewness == pytest.approx(-found)


def test_blur_and_lost_contrast_show_in_the_features():
    mask = disc((40, 40), 10, (80, 80))
    noise = np.random.default_rng(0).normal(size=mask.shape)
    sharp = slice_features(4 * mask, mask, 0.25)
    blurred = slice_features(gaussian_filter(4 * mask, 4), mask, 0.25)
    assert blurred.sharpness < 0.75 < sharp.sharpness
    assert slice_features(mask + noise, mask, 0.25).separation == pytest.approx(0.76, abs=0.03)
    assert slice_features(noise, mask, 0.25).separation == pytest.approx(0.5, abs=0.05)
    assert slice_features(-mask, mask, 0.25).separation == 0


def test_the_threshold_decides_what_is_measured():
    probabilities = np.where(disc((20, 20), 6) > 0, 0.4, 0).astype(np.float32)
    probabilities[disc((20, 20), 3) > 0] = 0.8
    image = probabilities
    assert slice_features(image, probabilities, 1.0, threshold=0.3).area_mm2 == disc((20, 20), 6).sum()
    assert slice_features(image, probabilities, 1.0).area_mm2 == disc((20, 20), 3).sum()
    assert repr(slice_features(image, probabilities, 1.0, threshold=0.9)) == repr(BLANK)


def test_agreement_falls_where_passes_disagree():
    one, other = disc((20, 18), 5), disc((20, 22), 5)
    sure = slice_features(one, one, 0.25)
    mean = 0.51 * one + 0.49 * other
    unsure = slice_features(one, mean, 0.25)
    assert sure.agreement == pytest.approx(1.0)
    assert unsure.area_mm2 == sure.area_mm2
    assert unsure.agreement == pytest.approx(2 * mean[one > 0].sum() / (mean.sum() + one.sum()))
    assert unsure.agreement < 0.85


def test_neighbours_whose_centres_lie_between_two_pixels():
    small, large = np.zeros((20, 20)), np.zeros((20, 20))
    small[9:11, 9:11] = large[8:12, 8:12] = 1
    slices = [slice_features(each, each, 0.5) for each in (small, large)]
    compare_with_neighbours(slices, 0, 2, 0.5)
    assert slices[0].neighbour_dice == pytest.approx(2 * 4 / (4 + 16))


def test_neighbours_are_compared_in_any_chunks():
    sections = [
        disc((20, 20), 5),
        disc((20, 22), 5),
        np.zeros((40, 40)),
        disc((20, 20), 4),
        disc((26, 20), 7),
    ]
    origins = [(0, 0), (0, -2), (0, 0), (0, 0), (0, 0)]

    def compared(bounds):
        slices = [slice_features(s, s, 0.5, origin=o) for s, o in zip(sections, origins, strict=True)]
        for start, stop in bounds:
            compare_with_neighbours(slices, start, stop, 0.5)
        return slices

    slices = compared([(0, 5)])
    assert repr(slices) == repr(compared([(0, 2), (2, 3), (3, 5)]))
    # The second window starts two pixels lower, so both discs lie at the same place.
    first = slices[0]
    assert (first.neighbour_dice, first.log_area_ratio, first.centroid_shift_mm) == pytest.approx((1, 0, 0))
    assert math.isnan(slices[2].neighbour_dice)
    small, large = sections[3].sum(), sections[4].sum()
    assert slices[3].log_area_ratio == slices[4].log_area_ratio == pytest.approx(math.log(large / small))
    assert slices[3].centroid_shift_mm == pytest.approx(3.0)
    assert slices[3].neighbour_dice == pytest.approx(2 * small / (small + large))
    assert all(one.pixels is None for one in slices[:-1])


def test_the_better_neighbour_counts():
    sections = [disc((20, 20), 5), disc((20, 20), 5), disc((30, 20), 2)]
    slices = [slice_features(s, s, 0.5) for s in sections]
    compare_with_neighbours(slices, 0, 3, 0.5)
    middle = slices[1]
    assert (middle.neighbour_dice, middle.log_area_ratio, middle.centroid_shift_mm) == pytest.approx(
        (1, 0, 0)
    )
    assert slices[2].centroid_shift_mm == pytest.approx(5.0)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5), (0.25, 0.5), (1.0, 1.0)])
def test_noise_level_finds_the_deviation_that_was_added(spacing_mm):
    rng = np.random.default_rng(1)
    smooth = 500 * gaussian_filter(rng.normal(size=(120, 120)), 12) + np.linspace(0, 90, 120)
    mask = disc((60, 60), 8, (120, 120)) > 0
    region = (slice(52, 69), slice(52, 69))
    for sigma in (0.5, 4.0):
        noisy = smooth + 5 * mask + rng.normal(0, sigma, smooth.shape)
        assert noise_level(noisy, region, spacing_mm) == pytest.approx(sigma, rel=0.2)
    assert math.isnan(noise_level(smooth, (slice(3, 3), slice(0, 0)), spacing_mm))
