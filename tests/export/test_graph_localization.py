"""Windows on the cord are those of the package."""

import nibabel as nib
import numpy as np
import pytest
from served_model import reoriented

OFF_CENTRE = {"shape": (216, 184, 5), "spacing_mm": (0.5, 0.5, 4.0), "center_mm": (25, 70)}


@pytest.mark.parametrize("codes", ["LAS", "SRP"])
def test_windows_on_a_cord_off_centre(same_as_segment, blob_image, codes):
    expected = same_as_segment(reoriented(blob_image(**OFF_CENTRE), codes))
    assert expected.record["window_moved"]
    assert expected.mask_voxels.any()


def test_a_cord_that_leaves_the_middle_along_a_long_volume(same_as_segment):
    x, y = np.ogrid[:150, :150]
    data = np.random.default_rng(0).normal(100, 1, (150, 150, 24))
    for k in range(24):
        data[..., k] += 200 * (np.hypot(x - 20 - 4 * k, y - 75) < 7)
    expected = same_as_segment(nib.Nifti1Image(data.astype(np.float32), np.diag([-0.5, 0.5, 5, 1])))
    assert expected.record["window_moved"]


def test_fields_of_view_larger_than_a_tile(same_as_segment, blob_image):
    expected = same_as_segment(
        blob_image(shape=(340, 90, 1), spacing_mm=(0.5, 0.5, 4.0), center_mm=(160, 20))
    )
    assert expected.record["window_moved"]


def test_noise_without_a_cord(same_as_segment):
    noise = np.random.default_rng(1).normal(size=(44, 39, 2)).astype(np.float32)
    expected = same_as_segment(nib.Nifti1Image(noise, np.diag([-0.5, 0.5, 5, 1])))
    assert any("the cord could not be located" in text for text in expected.warnings)
