"""Ellipse and solidity of a section against scikit-image and geometry."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image

from keras_scgm.morphometry.section_shape import ellipse, solidity


def turned_axes(angle_deg, size):
    """Places along axes to the left and to the front, turned from the first to the second."""
    at = np.arange(size) - (size - 1) / 2
    left, front = np.meshgrid(at, at, indexing="ij")
    turn = math.radians(angle_deg)
    return left * math.cos(turn) + front * math.sin(turn), -left * math.sin(turn) + front * math.cos(turn)


def disk(half_left, half_front, angle_deg, size=161):
    along, across = turned_axes(angle_deg, size)
    return (along / half_left) ** 2 + (across / half_front) ** 2 < 1


def box(half_left, half_front, angle_deg, size=161):
    along, across = turned_axes(angle_deg, size)
    return (np.abs(along) < half_left) & (np.abs(across) < half_front)


def blob(seed):
    return gaussian_filter(np.random.default_rng(seed).random((50, 40)), 3) > 0.505


def covariance(mask):
    return np.cov(np.argwhere(mask).T, bias=True)


@pytest.mark.parametrize("angle_deg", [0, 20, 44, 46, 70, 90, 110, 160])
@pytest.mark.parametrize("shape", [disk, box])
def test_ellipses_and_boxes_as_in_scikit_image(shape, angle_deg):
    mask = shape(48.3, 30.3, angle_deg)
    found, region = ellipse(covariance(mask)), regionprops(mask.astype(np.uint8))[0]
    nearer_to_left = angle_deg < 45 or angle_deg > 135
    axes = (region.axis_minor_length, region.axis_major_length)
    assert (found.ap_mm, found.rl_mm) == pytest.approx(axes if nearer_to_left else axes[::-1], rel=1e-9)
    assert found.eccentricity == pytest.approx(region.eccentricity, rel=1e-9)
    # scikit-image measures from the first axis, here to the left, from -90 to 90 degrees.
    assert found.orientation_deg == pytest.approx(abs(math.degrees(region.orientation)), abs=1e-6)
    assert found.orientation_deg == pytest.approx(min(angle_deg, 180 - angle_deg), abs=0.5)
    if shape is disk:
        assert sorted((found.ap_mm, found.rl_mm)) == pytest.approx([60.6, 96.6], rel=0.005)
        assert found.eccentricity == pytest.approx(math.sqrt(1 - (30.3 / 48.3) ** 2), abs=0.005)


def test_circles_and_points():
    circle = ellipse(np.eye(2) * 4)
    assert (circle.ap_mm, circle.rl_mm, circle.eccentricity, circle.orientation_deg) == (8, 8, 0, 0)
    point = ellipse(np.zeros((2, 2)))
    assert (point.ap_mm, point.rl_mm) == (0, 0)
    assert math.isnan(point.eccentricity)
    line = ellipse(np.diag([0.0, 1.0]))
    assert (line.ap_mm, line.rl_mm, line.eccentricity, line.orientation_deg) == (4, 0, 1, 90)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((1, 1), bool),
        np.ones((1, 7), bool),
        np.ones((6, 1), bool),
        np.eye(5, dtype=bool),
        np.tri(9, dtype=bool),
        np.pad(np.ones((4, 5), bool), 3),
        np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]], bool),
        *(disk(24, 15, angle) for angle in (0, 30, 77)),
        *(box(22, 9, angle) for angle in (0, 30, 77)),
        disk(24, 20, 0) & ~disk(20, 16, 0),
        *map(blob, range(20)),
    ],
)
def test_solidity_as_in_scikit_image(mask):
    assert solidity(mask) == mask.sum() / convex_hull_image(mask).sum()
    assert solidity(mask.T) == solidity(mask) == solidity(mask[::-1])
    assert solidity(mask) == pytest.approx(regionprops(mask.astype(np.uint8))[0].solidity)


def test_solidity_of_nothing():
    assert math.isnan(solidity(np.zeros((4, 4), bool)))
    assert math.isnan(solidity(np.zeros((0, 0), bool)))
