"""Areas perpendicular to drawn cords that are tilted in their slices, from masks and from the image alone."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keras_scgm import Segmenter

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from tilted_cord import TILTS_DEG, draw_tilted_cord, found_areas, true_areas

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    default = Segmenter("synthetic")
    if not default.has_cord:
        pytest.skip("the default weights know gray matter alone")
    return default


@pytest.mark.parametrize("slice_mm", [1.0, 5.0])
@pytest.mark.parametrize("tilt_deg", TILTS_DEG)
def test_of_true_masks(tilt_deg, slice_mm):
    drawn = draw_tilted_cord(
        tilt_deg, seed=1, spacing_mm=0.25, matrix_size=200, n_slices=8, slice_mm=slice_mm
    )
    found = true_areas(drawn)
    assert found["angle_deg"] == pytest.approx(tilt_deg, abs=0.5)
    # Voxels of which more than half is cord are not exactly as many as the cord has by its fractions.
    assert found["cord"] == pytest.approx(100, abs=1.5)
    if slice_mm == 1 or tilt_deg == 0:
        # Thin horns fill less than half of a voxel of a thick oblique slice.
        assert found["gray_matter"] == pytest.approx(100, abs=2)


@pytest.mark.parametrize("tilt_deg", TILTS_DEG)
def test_of_the_default_weights_without_a_mask(tilt_deg, segmenter):
    found = [found_areas(draw_tilted_cord(tilt_deg, seed, n_slices=6), segmenter) for seed in SEEDS]
    assert [each["angle_deg"] for each in found] == pytest.approx([tilt_deg] * len(SEEDS), abs=1.5)
    # Thick slices smear the outline of a steep cord, and the network marks what is clearly cord.
    assert np.mean([each["cord"] for each in found]) == pytest.approx(100, abs=5 if tilt_deg == 30 else 2)
