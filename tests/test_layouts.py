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


def test_folder_of_neither_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no image sub-\*_T2star.nii.gz in it"):
        find_dataset(tmp_path)
