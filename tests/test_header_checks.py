"""Files that do not exist or do not fit together are refused from their headers."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from annotated_data import AFFINE, SPEC, annotated, blob, labelled, save

from keras_scgm.datasets import (
    check_volumes,
    find_challenge,
    load_slices,
)
from keras_scgm.errors import InputError


def test_missing_rater_is_a_counted_warning(challenge):
    (challenge / "site1-sc02-mask-r3.nii.gz").unlink()
    assert check_volumes(labelled(challenge)) == (
        "fewer raters than 4: 1 in 9 volumes, site1-sc02-image.nii.gz (3)",
    )


def test_nothing_to_train_on_is_refused():
    with pytest.raises(InputError, match="no annotated volume; check the folder and the split"):
        check_volumes([])
    with pytest.raises(InputError, match="no annotated volume"):
        load_slices([], SPEC)


def test_volume_without_mask_is_refused(written):
    with pytest.raises(InputError, match=r"site1-sc04-image.nii.gz: has no mask; add one, or leave out"):
        check_volumes(find_challenge(written))


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_missing_file_is_refused(tmp_path, kind):
    volume = annotated(tmp_path, blob())
    path = volume.image if kind == "image" else volume.masks[0]
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name}: no such file; check the path"):
        check_volumes([volume])


def test_forty_missing_files_are_one_line_with_a_count(tmp_path):
    volume = annotated(tmp_path, blob())
    lost = [replace(volume, masks=(tmp_path / f"lost{n:02d}.nii.gz",), subject_id=f"{n}") for n in range(40)]
    wanted = (
        f"{tmp_path}/lost00.nii.gz: no such file; check the path; 39 more of 41 files are missing: lost01.nii.gz, "
        "lost02.nii.gz, lost03.nii.gz, ..."
    )
    for check in (check_volumes, lambda volumes: load_slices(volumes, SPEC)):
        with pytest.raises(InputError) as refused:
            check(lost)
        assert str(refused.value) == wanted


def test_unreadable_file_is_refused(tmp_path):
    volume = annotated(tmp_path, blob())
    volume.masks[0].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: not a NIfTI file"):
        check_volumes([volume])
    nib.save(nib.MGHImage(blob(), AFFINE), tmp_path / "mask.mgz")
    with pytest.raises(InputError, match=r"mask.mgz: not a NIfTI file"):
        check_volumes([replace(volume, masks=(tmp_path / "mask.mgz",))])


def test_other_shape_is_refused(tmp_path):
    volume = annotated(tmp_path, blob())
    save(volume.masks[0], blob((60, 61, 4)))
    with pytest.raises(
        InputError, match=r"mask-r1.nii.gz: not .* image.nii.gz, 60 x 61 x 4 voxels, not 60 x 60 x 4"
    ):
        check_volumes([volume])


def test_several_frames_are_refused_and_one_frame_is_not(tmp_path):
    volume = annotated(tmp_path, blob())
    save(volume.masks[0], blob()[..., np.newaxis])
    assert check_volumes([volume]) == ()
    save(volume.masks[0], np.stack([blob(), blob()], axis=-1))
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: 60 x 60 x 4 x 2 voxels; keep one frame"):
        check_volumes([volume])


@pytest.mark.parametrize(("shift_mm", "accepted"), [(0.04, True), (0.06, False), (5.0, False)])
def test_affine_may_differ_by_the_tolerance(tmp_path, shift_mm, accepted):
    volume = annotated(tmp_path, blob())
    shifted = AFFINE.copy()
    shifted[0, 3] = shift_mm
    save(volume.masks[0], blob(), shifted)
    if accepted:
        assert check_volumes([volume]) == ()
    else:
        with pytest.raises(
            InputError,
            match=rf"mask-r1.nii.gz: not on the .* image.nii.gz, lies up to {shift_mm:.3g} mm else",
        ):
            check_volumes([volume])


def test_mirrored_mask_is_refused(tmp_path):
    volume = annotated(tmp_path, blob())
    save(volume.masks[0], blob(), np.diag([0.5, 0.5, 5, 1.0]))
    with pytest.raises(
        InputError, match=r"not on the grid of its image image.nii.gz, lies up to 29.5 mm else"
    ):
        check_volumes([volume])


def without_orientation(path):
    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, path)


def test_file_without_orientation(tmp_path):
    volume = annotated(tmp_path, blob())
    expected = load_slices([volume], SPEC)
    without_orientation(volume.masks[0])
    loaded = load_slices([volume], SPEC)
    assert loaded.warnings == (
        "mask without orientation, taken as stored like its image: 1 in 1 volumes, mask-r1.nii.gz",
    )
    np.testing.assert_array_equal(loaded.masks, expected.masks)
    without_orientation(volume.image)
    with pytest.raises(InputError, match=r"image.nii.gz: qform and sform codes are both 0.*mend the header"):
        check_volumes([volume])


def test_labelled_slices_must_exist(tmp_path):
    volume = annotated(tmp_path, blob(), labelled_slices=(1, 4))
    with pytest.raises(
        InputError, match=r"image.nii.gz: labelled slice 4 does not exist; it has slices 0 to 3"
    ):
        check_volumes([volume])
    for wrong in ((), (-1, 2), (1, 1)):
        with pytest.raises(ValueError, match="labelled_slices must be different indices from 0, received"):
            replace(volume, labelled_slices=wrong)
