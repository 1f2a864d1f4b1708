"""A data set is recognized by the names of its files."""

import pytest
from annotated_data import blob, save

from keras_scgm.datasets import find_bids, find_challenge, find_dataset
from keras_scgm.errors import InputError


def test_challenge_is_recognized_by_the_names_of_its_images(written):
    assert find_dataset(written) == find_challenge(written)


def test_other_folders_are_read_as_bids(tmp_path):
    save(tmp_path / "sub-01" / "anat" / "sub-01_T2star.nii.gz", blob())
    save(tmp_path / "derivatives" / "labels" / "sub-01_T2star_gmseg.nii.gz", blob())
    (volume,) = find_dataset(tmp_path)
    assert [volume] == find_bids(tmp_path)
    assert volume.masks[0].name == "sub-01_T2star_gmseg.nii.gz"


def test_other_names_and_labels_are_asked_for(written, tmp_path):
    save(tmp_path / "a_T2w.nii.gz", blob())
    save(tmp_path / "masks" / "a_T2w_gm.nii.gz", blob())
    (volume,) = find_dataset(tmp_path, "*_T2w.nii.gz", "masks/*_gm.nii.gz", 2)
    assert (volume.image.name, volume.masks[0].name, volume.label_value) == (
        "a_T2w.nii.gz",
        "a_T2w_gm.nii.gz",
        2,
    )
    assert {volume.label_value for volume in find_dataset(written, label_value=255)} == {255}


@pytest.mark.parametrize("place", ["", "nowhere"])
def test_folder_of_no_layout_names_all_that_were_looked_for(tmp_path, place):
    with pytest.raises(InputError) as refused:
        find_dataset(tmp_path / place)
    message = str(refused.value)
    assert message.startswith(
        f"{tmp_path / place}: no {'such folder' if place else 'image of a known layout in it'}"
    )
    assert (
        "looked for siteS-scNN-image.nii.gz (challenge) and sub-*_T2starw.nii.gz or sub-*_T2star.nii.gz (BIDS; "
        "another name with" in message
    )


def test_folder_with_other_names_shows_one(tmp_path):
    for name in ("a.nii.gz", "b.nii"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"known layout .*; it holds 2 other NIfTI files, such as a.nii.gz"):
        find_dataset(tmp_path)
