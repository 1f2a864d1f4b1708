"""Direction of the cord along straight and bent lines, with few and many slices."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from keras_scgm.morphometry.cord_direction import cord_tangents

STACKS = [(5, 5.0), (5, 8.0), (9, 2.0), (11, 7.5), (20, 3.0), (20, 0.5), (60, 1.0), (100, 0.5)]
"""Slices, and mm from one to the next."""


def steps(dz_mm):
    return np.diag([-0.5, 0.5, dz_mm])


def arc(n, dz_mm, radius_mm, tilt_deg):
    """Places of the cord to the front, mm, and its angles in degrees; the tilt is that of the middle slice."""
    heights = (np.arange(n) - (n - 1) / 2) * dz_mm
    sines = math.sin(math.radians(tilt_deg)) + heights / radius_mm
    return -radius_mm * np.sqrt(1 - sines**2), np.degrees(np.arcsin(sines))


def off_by_deg(tangents, expected):
    return np.degrees(np.arccos(np.minimum(1, tangents @ expected)))


def found_angles(steps_mm, centers):
    tangents = cord_tangents(steps_mm, centers)
    return np.degrees(np.arctan2(tangents[:, 1], tangents[:, 2]))


@pytest.mark.parametrize("tilt_deg", [0, 15, -30])
@pytest.mark.parametrize(("n", "dz_mm"), STACKS)
def test_a_straight_cord(n, dz_mm, tilt_deg):
    front_mm = np.arange(n) * dz_mm * math.tan(math.radians(tilt_deg))
    clean = np.column_stack([np.full(n, 40.0), 30 + front_mm / 0.5])
    angles = found_angles(steps(dz_mm), clean)
    # Short stacks leave the slope less certain and shrink it more.
    assert angles == pytest.approx(np.full(n, tilt_deg), abs=0.5)
    ratios = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.1 / 0.5, clean.shape)
        tangents = cord_tangents(steps(dz_mm), clean + noise)
        ratios.append(tangents[:, 2] / math.cos(math.radians(tilt_deg)) - 1)
    # The mean of a volume, twice its standard deviation.
    assert 2 * np.sqrt(np.square(np.mean(ratios, axis=1)).mean()) < 0.012


@pytest.mark.parametrize("tilt_deg", [0, 12])
@pytest.mark.parametrize(("n", "dz_mm"), STACKS)
def test_a_bent_cord(n, dz_mm, tilt_deg):
    front_mm, true = arc(n, dz_mm, 150, tilt_deg)
    angles = found_angles(steps(dz_mm), np.column_stack([np.full(n, 40.0), front_mm / 0.5]))
    assert np.cos(np.radians(angles)) == pytest.approx(np.cos(np.radians(true)), rel=0.015)


@pytest.mark.parametrize(("n", "dz_mm"), [(9, 2.0), (11, 5.0), (20, 3.0), (60, 1.0)])
def test_one_wrong_section_does_not_bend_the_line(n, dz_mm):
    centers = np.column_stack([np.full(n, 40.0), 30 + np.arange(n) * dz_mm * math.tan(0.3) / 0.5])
    for wrong in (1, n // 2, n - 2):
        moved = centers.copy()
        moved[wrong] += [4.0, -5.0]
        tangents = cord_tangents(steps(dz_mm), moved)
        assert tangents[:, 2] == pytest.approx(np.full(n, math.cos(0.3)), rel=0.015)
        assert off_by_deg(tangents, [0, math.sin(0.3), math.cos(0.3)]).max() < 0.5


def test_the_direction_turns_with_the_patient():
    rng = np.random.default_rng(3)
    centers = np.cumsum(rng.normal(0.6, 0.3, (12, 2)), axis=0)
    turn = Rotation.from_euler("xyz", [20, -15, 10], degrees=True).as_matrix()
    upright = cord_tangents(steps(4.0), centers)
    assert cord_tangents(steps(4.0) @ turn.T, centers) == pytest.approx(upright @ turn.T)


def test_sheared_slices():
    """Upright in voxels, but every slice lies 1 mm further to the front than the one below."""
    sheared = steps(2.0)
    sheared[2, 1] = 1.0
    angles = found_angles(sheared, np.full((30, 2), 20.0))
    assert angles == pytest.approx(np.full(30, math.degrees(math.atan2(1, 2))), abs=0.1)


def test_gaps_take_the_nearest_slice_and_one_slice_has_no_direction():
    centers = np.full((7, 2), np.nan)
    centers[2], centers[4] = (10, 10), (10, 13)
    tangents = cord_tangents(steps(3.0), centers)
    assert (tangents[:3] == tangents[2]).all()
    assert (tangents[4:] == tangents[4]).all()
    # Two sections could as well be noise around an upright cord.
    assert 0.5 * 1.5 / 6 < tangents[2, 1] / tangents[2, 2] < 1.5 / 6
    centers[4] = np.nan
    assert np.isnan(cord_tangents(steps(3.0), centers)).all()


def test_a_long_stack_is_fitted_in_parts():
    n = 700
    front_mm, true = arc(n, 0.5, 400, 0)
    angles = found_angles(steps(0.5), np.column_stack([np.full(n, 40.0), front_mm / 0.5]))
    assert angles == pytest.approx(true, abs=1.0)
    assert np.abs(np.diff(angles, 2)).max() < 0.01


@pytest.mark.parametrize("dz_mm", [1e3, 1e8, 1e30])
@pytest.mark.parametrize("n", [2, 3, 12])
def test_slices_that_a_header_puts_far_apart(n, dz_mm):
    centers = 50 + np.random.default_rng(0).normal(0, 1, (n, 2))
    np.testing.assert_allclose(cord_tangents(steps(dz_mm), centers), [[0, 0, 1]] * n, atol=1e-2)


def test_noise_of_the_centres_hardly_turns_the_line():
    angles = [
        off_by_deg(cord_tangents(steps(3.0), np.random.default_rng(seed).normal(40, 0.2, (20, 2))), [0, 0, 1])
        for seed in range(30)
    ]
    assert np.mean(angles) < 0.35
    assert np.max(angles) < 2
