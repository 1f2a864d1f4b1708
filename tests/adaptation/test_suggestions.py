"""Slices to label: unsure ones first, and none like another."""

import math
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from keras_scgm.adaptation import suggest_slices
from keras_scgm.adaptation.suggestions import ranked, standardised
from keras_scgm.errors import InputError


def test_uncertainty_is_weighed_by_distance():
    uncertainty = np.array([0.5, 0.9, 0.8, 0.1])
    vectors = np.array([[0.0, 4.0], [0.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    order, distances = ranked(uncertainty, vectors, 10)
    # After slice 1: 0.5 * 4, 0.8 * 1, 0.1 * 12.7; then 0.8 * 1 and 0.1 * 10.3.
    assert order == [1, 0, 3, 2]
    assert distances == [math.inf, 4.0, pytest.approx(math.hypot(9, 5)), 1.0]


def test_features_are_standardised():
    scaled = standardised(np.array([[1.0, 5.0, math.nan], [3.0, 5.0, 2.0], [5.0, 5.0, 4.0]]))
    np.testing.assert_allclose(scaled[:, 0], [-math.sqrt(1.5), 0, math.sqrt(1.5)])
    np.testing.assert_array_equal(scaled[:, 1], 0)
    np.testing.assert_allclose(scaled[:, 2], [0, -1, 1])


def test_slices_of_scans_are_suggested(scan_folder: Path, start_weights: Path):
    found = suggest_slices([scan_folder / "b.nii.gz", scan_folder / "c.nii.gz"], str(start_weights), 4)
    assert len({(one.image, one.slice) for one in found}) == 4
    assert {one.image.name for one in found} == {"b.nii.gz", "c.nii.gz"}
    assert found[0].uncertainty == max(one.uncertainty for one in found)
    assert all(0 <= one.slice < 3 for one in found)
    again = suggest_slices([scan_folder / "b.nii.gz", scan_folder / "c.nii.gz"], str(start_weights), 4)
    assert again == found


def test_nothing_is_suggested_without_gray_matter(
    tmp_path: Path, start_weights: Path, blob_image: Callable[..., nib.Nifti1Image]
):
    noise = blob_image(shape=(80, 76, 3), radius_mm=0.0)
    noise.dataobj[0, 0, 0] = 200
    nib.save(noise, tmp_path / "noise.nii.gz")
    with pytest.raises(InputError, match="no gray matter was found in any image"):
        suggest_slices([tmp_path / "noise.nii.gz"], str(start_weights), 1)
