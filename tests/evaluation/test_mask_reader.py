"""Masks on one grid, whatever the orientation, grid or labels of their files."""

import nibabel as nib
import numpy as np
import pytest
from evaluation_helpers import AFFINE, disc, save
from scipy.spatial.transform import Rotation

from keras_scgm import InputError, evaluate
from keras_scgm.evaluation import (
    challenge_metrics,
)


def test_a_grid_within_the_tolerance_is_the_same_grid(tmp_path):
    """Spacing off by 0.1 % moves the last of 40 voxels by 0.02 mm."""
    found = save(tmp_path / "found.nii", disc(5))
    wanted = save(tmp_path / "wanted.nii", disc(4), AFFINE * [1.001, 1, 1, 1])
    result = evaluate(found, wanted)
    assert result.scores[0].challenge == pytest.approx(challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0)))


def test_storage_order_does_not_matter(tmp_path):
    path = save(tmp_path / "a.nii", disc(5, (3, 1)))
    image = nib.load(save(tmp_path / "b.nii", disc(4)))
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("S", "P", "R")))
    turned.to_filename(tmp_path / "turned.nii")
    assert turned.shape != image.shape
    plain, other = (evaluate(path, tmp_path / name).scores[0] for name in ("b.nii", "turned.nii"))
    assert other.challenge == pytest.approx(plain.challenge)


def test_a_reference_without_orientation_is_taken_as_stored(tmp_path):
    image = nib.Nifti1Image(disc(4).astype(np.uint8), None)
    image.header.set_zooms((0.5, 0.5, 4.0))
    image.to_filename(tmp_path / "b.nii")
    result = evaluate(save(tmp_path / "a.nii", disc(5)), tmp_path / "b.nii")
    assert result.scores[0].challenge == challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0))
    assert evaluate(tmp_path / "b.nii", tmp_path / "a.nii").scores[0].challenge == challenge_metrics(
        disc(4), disc(5), (0.5, 0.5, 4.0)
    )
    with pytest.raises(InputError, match=r"b.nii: neither it nor its partner has an orientation"):
        evaluate(tmp_path / "b.nii", tmp_path / "b.nii")


def test_a_reference_can_be_resampled(tmp_path):
    shifted = AFFINE.copy()
    shifted[:3, 3] = AFFINE[:3, :3] @ (-3, -2, 0)
    found = save(tmp_path / "a.nii", disc(5))
    wanted = save(tmp_path / "b.nii", np.pad(disc(4), ((3, 1), (2, 2), (0, 1))), shifted)
    result = evaluate(found, wanted, resample_reference=True)
    assert not result.errors
    assert result.scores[0].challenge == pytest.approx(challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0)))


def test_the_outermost_voxels_lie_in_the_grid(tmp_path):
    coarse, fine = np.ones((8, 8, 4)), np.ones((16, 16, 4))
    coarse[:, 4:], fine[:, 8:] = 0, 0
    finer = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] = AFFINE[:3, :3] @ (-0.25, -0.25, 0)
    found, wanted = save(tmp_path / "a.nii", coarse), save(tmp_path / "b.nii", fine, finer)
    result = evaluate(found, wanted, resample_reference=True)
    assert (result.warnings, result.scores[0].challenge["DSC"]) == ((), 1)


def test_an_oblique_grid_has_its_spacing(tmp_path):
    oblique = np.eye(4)
    oblique[:3, :3] = Rotation.from_euler("xyz", [20, -10, 5], degrees=True).as_matrix()
    found, wanted = (
        save(tmp_path / f"{name}.nii", disc(radius), oblique @ AFFINE)
        for name, radius in (("a", 5), ("b", 4))
    )
    (score,) = evaluate(found, wanted).scores
    assert score.challenge == pytest.approx(challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0)), rel=1e-5)
    assert score.details["volume_reference_mm3"] == pytest.approx(disc(4).sum(), rel=1e-5)


def test_what_resampling_leaves_out_is_said(tmp_path):
    found = save(tmp_path / "a.nii", disc(5))
    taller = save(tmp_path / "b.nii", np.concatenate([disc(4)] * 2, axis=2))
    result = evaluate(found, taller, resample_reference=True)
    assert result.warnings == (
        f"{taller}: 50 % of the mask lies outside the grid of {found} and does not count",
    )
    away = AFFINE.copy()
    away[2, 3] += 300
    far = save(tmp_path / "c.nii", disc(4), away)
    with pytest.raises(
        InputError, match=r"c.nii: wholly outside the grid of .*a.nii; give masks of one image"
    ):
        evaluate(found, far, resample_reference=True)
    far_and_empty = save(tmp_path / "d.nii", 0 * disc(4), away)
    assert not evaluate(found, far_and_empty, resample_reference=True).errors


def test_a_sheared_grid_is_said(tmp_path):
    """Of a gantry tilt, or of a registration with twelve parameters."""
    sheared = AFFINE.copy()
    sheared[:3, 2] = 4 * np.array([0, np.sin(0.3), np.cos(0.3)])
    found, wanted = (
        save(tmp_path / f"{name}.nii", disc(radius), sheared) for name, radius in (("a", 5), ("b", 4))
    )
    doubts = [
        f"{path}: axes of the grid 73 degrees apart, not 90; areas, volumes and distances are measured as if "
        "perpendicular; resample the masks to another grid"
        for path in (found, wanted)
    ]
    assert sorted(evaluate(found, wanted).warnings) == doubts


def test_labels(tmp_path):
    both = save(tmp_path / "both.nii", disc(3) + 5 * (disc(6) & ~disc(3)))
    for label, mask in ((1, disc(3)), (5, disc(6) & ~disc(3))):
        result = evaluate(save(tmp_path / "a.nii", 255 * disc(5)), both, label=label)
        assert result.scores[0].challenge["DSC"] == challenge_metrics(disc(5), mask, (1, 1, 1))["DSC"]
        assert evaluate(both, both, label=label).scores[0].challenge["DSC"] == 1
    with pytest.raises(InputError, match=r"both.nii: holds 0, 1, 5, no voxel is 2; choose another --label"):
        evaluate(tmp_path / "a.nii", both, label=2)
