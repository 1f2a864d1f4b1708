"""Geometry of an image beside that of the command."""

import nibabel as nib
import numpy as np
import pytest
from keras_scgm_client.images import read_image

from keras_scgm.nifti import read_volume


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("seed", range(12))
def test_geometry_is_that_of_the_command(tmp_path, order, seed):
    """Orientation, areas and distances of any grid, from a sform or a qform, as nibabel has them."""
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] * random.uniform(0.3, 3, 3)
    if seed % 3 == 0:
        affine[:3, :3] += random.normal(0, 0.1, (3, 3))
    affine[:3, 3] = random.normal(0, 50, 3)
    header = nib.Nifti1Header(endianness=order)
    image = nib.Nifti1Image(np.zeros((3, 4, 5, 1), f"{order}i2"), affine, header, dtype="int16")
    if seed % 3 == 1:
        image.set_sform(None, 0)
        image.set_qform(affine, 1)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    grid = read_image(tmp_path / "a.nii", 10_000)[1]
    volume = read_volume(tmp_path / "a.nii")
    assert (grid.order, grid.shape, grid.n_bytes) == (order, (3, 4, 5, 1), 352 + 120)
    assert grid.orientation == "".join(nib.aff2axcodes(volume.affine))
    assert (grid.axial_axis, grid.n_slices) == (volume.axial_axis, volume.n_slices)
    assert grid.slice_spacing_mm == pytest.approx(volume.slice_spacing_mm, abs=1e-6)
    assert grid.voxel_area_mm2 == pytest.approx(volume.voxel_area_mm2, rel=1e-12)
    np.testing.assert_allclose(grid.spacing_mm, np.linalg.norm(volume.affine[:3, :3], axis=0), rtol=1e-12)
