"""One rule for one grid, for whoever compares two images."""

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError, evaluate
from keras_scgm.datasets import AnnotatedVolume, check_volumes
from keras_scgm.grids import grid_difference
from keras_scgm.morphometry import cross_sections
from keras_scgm.nifti import read_volume

SHAPE = (40, 36, 4)
AFFINE = np.diag([-0.5, 0.5, 4.0, 1.0])


def moved(mm):
    affine = AFFINE.copy()
    affine[2, 3] = mm
    return affine


TURN = nib.orientations.axcodes2ornt(("S", "P", "R"))
CASES = {
    "equal": (SHAPE, AFFINE, ""),
    "within": (SHAPE, moved(0.049), ""),
    "beyond": (SHAPE, moved(0.051), "lies up to 0.051 mm elsewhere"),
    "wider": (SHAPE, AFFINE * [1.01, 1, 1, 1], "lies up to 0.195 mm elsewhere"),
    "mirrored": (SHAPE, np.diag([0.5, 0.5, 4.0, 1.0]), "lies up to 19.5 mm elsewhere"),
    "shape": ((40, 36, 5), AFFINE, "40 x 36 x 5 voxels, not 40 x 36 x 4"),
}


@pytest.mark.parametrize("turned", [False, True], ids=["as stored", "turned"])
@pytest.mark.parametrize("case", CASES)
def test_areas_evaluation_and_datasets_have_one_rule(case, turned, tmp_path):
    shape, affine, difference = CASES[case]
    mask = np.zeros(shape, np.uint8)
    mask[16:24, 12:20] = 1
    other = nib.Nifti1Image(mask, affine)
    if turned:
        image = other.as_reoriented(TURN)
        other = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    other.to_filename(tmp_path / "other.nii")
    mask = np.zeros(SHAPE, np.uint8)
    mask[16:24, 12:20] = 1
    nib.Nifti1Image(mask, AFFINE).to_filename(tmp_path / "first.nii")
    first, second = (read_volume(tmp_path / name) for name in ("first.nii", "other.nii"))
    assert grid_difference(second.voxels.shape, second.affine, SHAPE, AFFINE) == difference
    for use in (
        lambda: cross_sections(first, cord=second),
        lambda: evaluate(tmp_path / "first.nii", tmp_path / "other.nii"),
        lambda: check_volumes([AnnotatedVolume(tmp_path / "first.nii", (tmp_path / "other.nii",), "s")]),
    ):
        if not difference:
            use()
        else:
            with pytest.raises(
                InputError, match=rf"other.nii: not on the grid of .*first.nii, {difference};"
            ):
                use()
