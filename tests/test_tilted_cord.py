"""Areas perpendicular to drawn cords that are tilted in their slices, from masks and from the image alone."""

import sys
from pathlib import Path

import pytest

from keras_scgm import Segmenter

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from tilted_cord import TILTS_DEG, draw_tilted_cord, found_areas, true_areas


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("synthetic")


@pytest.mark.parametrize("slice_mm", [1.0, 5.0])
@pytest.mark.parametrize("tilt_deg", TILTS_DEG)
def test_of_true_masks(tilt_deg, slice_mm):
    drawn = draw_tilted_cord(
        tilt_deg, seed=1, spacing_mm=0.25, matrix_size=200, n_slices=8, slice_mm=slice_mm
    )
    found = true_areas(drawn)
    assert found["angle_deg"] == pytest.approx(tilt_deg, abs=0.5)
    assert found["cord"] == pytest.approx(100, abs=1)
    # Thin horns fill less than half of a voxel of a thick oblique slice.
    assert found["gray_matter"] == pytest.approx(100, abs=2) or (slice_mm, tilt_deg) in (
        (5.0, 15.0),
        (5.0, 30.0),
    )


@pytest.mark.parametrize("tilt_deg", TILTS_DEG)
def test_of_the_default_weights_without_a_mask(tilt_deg, segmenter):
    found = found_areas(draw_tilted_cord(tilt_deg, seed=1), segmenter)
    assert found["angle_deg"] == pytest.approx(tilt_deg, abs=1.5)
    assert found["cord"] == pytest.approx(100, abs=2)
