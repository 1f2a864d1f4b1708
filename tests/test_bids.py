"""Folders like those of BIDS."""

import numpy as np
import pytest
from annotated_data import blob, save

from keras_scgm.datasets import (
    check_volumes,
    find_bids,
)
from keras_scgm.errors import InputError


def bids_folder(folder):
    labels = folder / "derivatives" / "labels"
    for subject in ("sub-01", "sub-02", "sub-03"):
        save(folder / subject / "anat" / f"{subject}_T2star.nii.gz", blob().astype(np.float32))
    save(labels / "sub-01" / "anat" / "sub-01_T2star_gmseg.nii.gz", blob())
    for rater in (1, 2):
        save(labels / "sub-02" / "anat" / f"sub-02_T2star_gmseg-rater{rater}.nii.gz", blob())
    save(folder / "derivatives" / "denoised" / "sub-01" / "sub-01_T2star.nii.gz", blob())
    return folder


def test_bids_masks_are_matched_by_the_name_of_the_image(tmp_path):
    volumes = find_bids(bids_folder(tmp_path))
    assert [volume.subject_id for volume in volumes] == ["sub-01", "sub-02", "sub-03"]
    assert [[mask.name for mask in volume.masks] for volume in volumes] == [
        ["sub-01_T2star_gmseg.nii.gz"],
        ["sub-02_T2star_gmseg-rater1.nii.gz", "sub-02_T2star_gmseg-rater2.nii.gz"],
        [],
    ]
    assert volumes[0].image == tmp_path / "sub-01" / "anat" / "sub-01_T2star.nii.gz"
    assert check_volumes(volumes[:2]) == ("fewer raters than 2: 1 in 2 volumes, sub-01_T2star.nii.gz (1)",)


def test_bids_images_have_the_suffix_of_bids_or_its_former_one(tmp_path):
    bids_folder(tmp_path)
    save(tmp_path / "sub-04" / "anat" / "sub-04_T2starw.nii.gz", blob())
    save(tmp_path / "derivatives" / "labels" / "sub-04" / "anat" / "sub-04_T2starw_gmseg.nii.gz", blob())
    volumes = find_bids(tmp_path)
    assert [volume.subject_id for volume in volumes] == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert [mask.name for mask in volumes[3].masks] == ["sub-04_T2starw_gmseg.nii.gz"]
    assert find_bids(tmp_path, "*_T2starw.nii.gz", "derivatives/**/*_T2starw_gmseg.nii.gz") == volumes[3:]


def test_bids_sessions_of_a_subject_are_separate_volumes(tmp_path):
    for session in ("ses-1", "ses-2"):
        stem = f"sub-01_{session}_T2star"
        save(tmp_path / "sub-01" / session / "anat" / f"{stem}.nii.gz", blob())
        save(tmp_path / "derivatives" / "labels" / "sub-01" / session / f"{stem}_gmseg.nii.gz", blob())
    volumes = find_bids(tmp_path)
    assert [volume.subject_id for volume in volumes] == ["sub-01", "sub-01"]
    for volume in volumes:
        assert volume.masks[0].name.startswith(volume.image.name.removesuffix(".nii.gz"))


def test_bids_endings_may_be_in_upper_case_and_hidden_folders_are_not_searched(tmp_path):
    (tmp_path / ".git" / "annex").mkdir(parents=True)
    save(tmp_path / ".git" / "annex" / "sub-09_T2star.nii.gz", blob())
    save(tmp_path / "sub-01_T2star.nii.gz", blob()).rename(tmp_path / "sub-01_T2star.NII.GZ")
    labels = tmp_path / "derivatives" / "labels"
    save(labels / ".git" / "sub-01_T2star_gmseg.nii.gz", blob())
    save(labels / "a.nii.gz", blob()).rename(labels / "sub-01_T2star_gmseg.NII.GZ")
    (volume,) = find_bids(tmp_path)
    assert (volume.image.name, [mask.name for mask in volume.masks]) == (
        "sub-01_T2star.NII.GZ",
        ["sub-01_T2star_gmseg.NII.GZ"],
    )


def test_bids_mismatches_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"no image sub-\*_T2starw.nii.gz or sub-\*_T2star.nii.gz in it; check the folder"
    ):
        find_bids(tmp_path)
    bids_folder(tmp_path)
    with pytest.raises(InputError, match=r"no mask \*_seg.nii.gz in it; check --mask-pattern"):
        find_bids(tmp_path, mask_pattern="*_seg.nii.gz")
    stray = save(tmp_path / "derivatives" / "labels" / "sub-02_T2w_gmseg.nii.gz", blob())
    with pytest.raises(
        InputError, match=r"sub-02_T2w_gmseg.nii.gz: no image .*, 1 of 4 masks; .* or narrow --mask-pattern"
    ):
        find_bids(tmp_path)
    stray.unlink()
    save(tmp_path / "sourcedata" / "sub-02_T2star.nii.gz", blob())
    with pytest.raises(InputError, match=r"sub-02_T2star.nii.gz: has the same name as .*; keep one"):
        find_bids(tmp_path)
