"""Drawn studies in BIDS."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError
from keras_scgm.datasets.phantom import write_study_dataset
from keras_scgm.files import files_below


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "study"
    return folder, write_study_dataset(folder, 2)


def test_two_sessions_of_one_anatomy_with_levels(study):
    folder, images = study
    assert [path.relative_to(folder).as_posix() for path in images] == [
        f"sub-0{participant}/ses-{session}/anat/sub-0{participant}_ses-{session}_T2starw.nii.gz"
        for participant in (1, 2)
        for session in (1, 2)
    ]
    lines = (folder / "participants.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["participant_id", "age", "sex", "site"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["sub-01", "sub-02"]
    areas = []
    for path in images:
        place = path.relative_to(folder).parent
        levels = nib.load(folder / "derivatives/labels" / place / path.name.replace(".nii", "_levels.nii"))
        image = nib.load(path)
        assert levels.shape == image.shape
        np.testing.assert_array_equal(levels.affine, image.affine)
        of_slices = [set(np.unique(one)) - {0} for one in np.moveaxis(np.asarray(levels.dataobj), 2, 0)]
        assert [len(one) for one in of_slices] == [1] * 8
        assert of_slices[0] == {7}
        assert of_slices[-1] == {2}
        areas.append(np.count_nonzero(np.asarray(levels.dataobj)) / 8 * 0.25)
        sidecar = json.loads((path.parent / path.name.replace("nii.gz", "json")).read_text())
        assert sidecar["MagneticFieldStrength"] == 3
    within = abs(areas[0] - areas[1]) + abs(areas[2] - areas[3])
    assert within < 0.1 * abs(areas[0] + areas[1] - areas[2] - areas[3])
    assert not np.array_equal(nib.load(images[0]).get_fdata(), nib.load(images[1]).get_fdata())


def test_the_same_bytes_again_and_nothing_replaced_unasked(study, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "a")
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    (folder / "derivatives/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="replace the study of the folder with --force"):
        write_study_dataset(folder, 1)
    write_study_dataset(folder, 1, force=True)
    after = {name: (folder / name).read_bytes() for name in files_below(folder)}
    assert after.pop("derivatives/mine.txt") == b"mine"
    assert not any("sub-02" in name for name in after)
    assert all(content == before[name] for name, content in after.items() if name != "participants.tsv")
