"""The rule that gray matter and white matter are the cord, for tests."""

import numpy as np
import pytest


def voxels(image):
    return np.asarray(image.dataobj)


def check_tissues(result):
    """GM + WM = cord, in voxels, probabilities, rows and the record."""
    gray, white, cord = (voxels(each) for each in (result.mask, result.white_matter, result.cord))
    assert {gray.dtype, white.dtype, cord.dtype} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(gray + white, cord)
    assert set(np.unique([gray, white, cord])) <= {0, 1}
    of_gray, of_white, of_cord = (
        voxels(each)
        for each in (result.probabilities, result.white_matter_probabilities, result.cord_probabilities)
    )
    assert (of_gray <= of_cord).all()
    assert of_white.min() >= 0
    np.testing.assert_allclose(of_gray + of_white, of_cord, atol=1e-6)
    stored = [np.moveaxis(each, result.volume.axial_axis, 0) for each in (gray, white, cord)]
    voxel_mm2 = result.volume.voxel_area_mm2
    for row in result.areas:
        areas_mm2 = (row.area_mm2, row.wm_area_mm2, row.cord_area_mm2)
        counted = [each[row.slice].sum() * voxel_mm2 for each in stored]
        assert areas_mm2 == pytest.approx(counted)
        assert row.area_mm2 + row.wm_area_mm2 == pytest.approx(row.cord_area_mm2)
        assert np.isnan(row.gm_cord_ratio) == (row.cord_area_mm2 == 0)
        if row.cord_area_mm2:
            assert row.gm_cord_ratio == pytest.approx(row.area_mm2 / row.cord_area_mm2)
    record, voxel_mm3 = result.record, voxel_mm2 * result.volume.slice_spacing_mm
    assert record["gray_matter_volume_mm3"] == pytest.approx(gray.sum() * voxel_mm3)
    assert record["white_matter_volume_mm3"] == pytest.approx(white.sum() * voxel_mm3)
    assert record["cord_volume_mm3"] == pytest.approx(cord.sum() * voxel_mm3)
