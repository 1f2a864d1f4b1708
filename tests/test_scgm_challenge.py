"""The challenge's layout."""

import shutil

import pytest
from annotated_data import labelled

from keras_scgm.datasets import (
    check_volumes,
    find_challenge,
)
from keras_scgm.errors import InputError


def test_challenge_files_are_found_by_site_and_number(written):
    volumes = find_challenge(written)
    assert [volume.subject_id for volume in volumes[:5]] == [
        *(f"site1-sc{number:02d}" for number in range(1, 5)),
        "site2-sc01",
    ]
    assert [len(volume.masks) for volume in volumes] == [4, 4, 4, 0] * 3
    assert volumes[4].site_id == "2"
    assert volumes[4].image == written / "site2-sc01-image.nii.gz"
    assert volumes[4].masks == tuple(written / f"site2-sc01-mask-r{rater}.nii.gz" for rater in range(1, 5))
    assert {volume.label_value for volume in volumes} == {1}
    assert check_volumes(labelled(written)) == ()


def test_training_and_test_folders_side_by_side_are_one_data_set(challenge):
    (challenge / "test").mkdir()
    (challenge / "site1-sc04-image.nii.gz").rename(challenge / "test" / "site1-sc04-image.nii.gz")
    assert len(find_challenge(challenge)) == 12


def test_folder_without_challenge_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; check the path"):
        find_challenge(tmp_path / "nowhere")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "site1-sc01-image.nii.gz").touch()
    with pytest.raises(InputError, match=r": no siteS-scNN-image.nii.gz in it; give the folder"):
        find_challenge(tmp_path)


def test_mask_without_image_is_refused(challenge):
    (challenge / "site2-sc01-image.nii.gz").unlink()
    with pytest.raises(InputError, match=r"site2-sc01-mask-r1.nii.gz: its image is missing; copy the image"):
        find_challenge(challenge)


def test_subject_that_should_be_labelled_is_refused_without_masks(challenge):
    for path in challenge.glob("site3-sc02-mask-*"):
        path.unlink()
    with pytest.raises(
        InputError, match=r"site3-sc02-image.nii.gz: has no mask, though subjects up to 03 are"
    ):
        find_challenge(challenge)


def test_several_without_masks_or_images_are_one_line(challenge):
    for path in [*challenge.glob("site3-sc0[12]-mask-*"), *challenge.glob("site1-sc01-mask-*")]:
        path.unlink()
    bare = r"site1-sc01-image.nii.gz: has no mask, and so with 2 more \(site3-sc01-image.nii.gz, site3-sc02-image.*\), "
    with pytest.raises(InputError, match=bare):
        find_challenge(challenge)
    for path in challenge.glob("site2-sc0[123]-image*"):
        path.unlink()
    with pytest.raises(
        InputError, match=r"mask-r1.nii.gz: its image is missing, and so with 2 more \(site2-"
    ):
        find_challenge(challenge)


def test_the_same_subject_twice_is_refused(challenge):
    (challenge / "copy").mkdir()
    shutil.copy(challenge / "site1-sc01-image.nii.gz", challenge / "copy")
    with pytest.raises(InputError, match=r"site1-sc01-image.nii.gz: the same as .*; keep one of them"):
        find_challenge(challenge)
