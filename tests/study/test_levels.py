"""Vertebral levels from maps, discs and one slice."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from study_data import level_map, save

from keras_scgm import InputError
from keras_scgm.nifti import volume_from_image
from keras_scgm.study.images import StudyImage
from keras_scgm.study.levels import HEIGHTS_MM, LevelConfig, LevelSource, around_level

SHAPE = (10, 10, 6)
AFFINE = np.diag([-0.5, 0.5, 5.0, 1.0])


def image_of(folder: Path, name: str = "sub-01/anat/sub-01_T2starw.nii.gz") -> StudyImage:
    return StudyImage(folder / name, name, "sub-01", "", "", "sub-01", dict)


@pytest.fixture
def mask(tmp_path):
    return save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), tmp_path / "mask.nii.gz")


def grid(affine=AFFINE, shape=SHAPE):
    return volume_from_image(nib.Nifti1Image(np.zeros(shape, np.uint8), affine))


@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_level_map(tmp_path, mask, is_flipped):
    levels = [4, 4, 3, 3, 2, 0]
    voxels, affine = level_map(SHAPE, levels), AFFINE
    if is_flipped:
        # The same voxels, stored from top to bottom.
        voxels, affine = voxels[..., ::-1], AFFINE @ np.array([*np.eye(4)[:2], [0, 0, -1, 5], [0, 0, 0, 1]])
    save(nib.Nifti1Image(voxels, affine), tmp_path / "labels/sub-01_T2starw_levels.nii.gz")
    source = LevelSource(LevelConfig(level_map="labels/{name}_levels.nii.gz"), tmp_path)
    found = source.levels(image_of(tmp_path), mask, tmp_path / "none.nii.gz")
    assert found == {0: 4, 1: 4, 2: 3, 3: 3, 4: 2}


def test_levels_count_inside_the_cord(tmp_path, mask):
    cord = np.zeros(SHAPE, np.uint8)
    cord[:2] = 1
    voxels = np.full(SHAPE, 7, np.uint8)
    voxels[:2] = 3
    save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "sub-01.nii.gz")
    cord_path = save(nib.Nifti1Image(cord, AFFINE), tmp_path / "cord.nii.gz")
    source = LevelSource(LevelConfig(level_map="{participant}.nii.gz"), tmp_path)
    assert set(source.levels(image_of(tmp_path), mask, cord_path).values()) == {3}


def test_a_level_map_on_another_grid_or_missing(tmp_path, mask):
    source = LevelSource(LevelConfig(level_map="{name}.nii.gz"), tmp_path)
    with pytest.raises(InputError, match=r"no level map sub-01_T2starw\.nii\.gz"):
        source.levels(image_of(tmp_path), mask, mask)
    save(nib.Nifti1Image(np.ones((10, 10, 5), np.uint8), AFFINE), tmp_path / "sub-01_T2starw.nii.gz")
    with pytest.raises(
        InputError, match=r"not on the grid of sub-01/anat/sub-01_T2starw\.nii\.gz, 10 x 10 x 5"
    ):
        source.levels(image_of(tmp_path), mask, mask)


def test_one_slice_with_average_lengths():
    # The middle of C4 in slice 2: 9.25 mm of C4 on both sides, then C3 above and C5 below.
    found = around_level(grid(np.diag([-0.5, 0.5, 4.0, 1.0]), (4, 4, 12)), 4, 4)
    below, above = HEIGHTS_MM[4] / 2, HEIGHTS_MM[4] / 2
    offsets_mm = [4.0 * (k - 4) for k in range(12)]
    expected = [
        5 if z < -below else 4 if z < above else 3 if z < above + HEIGHTS_MM[3] else 2 for z in offsets_mm
    ]
    assert found == expected


def test_the_table_of_one_slice(tmp_path, mask):
    table = tmp_path / "levels.tsv"
    table.write_text("participant_id\tsession_id\tslice\tlevel\nsub-01\tn/a\t2\t3\nsub-02\tn/a\t2\t5\n")
    source = LevelSource(LevelConfig(level_table=table), tmp_path)
    assert source.levels(image_of(tmp_path), mask, mask)[2] == 3
    table.write_text("participant_id\tslice\tlevel\n01\t2\t4\n")
    assert (
        LevelSource(LevelConfig(level_table=table), tmp_path).levels(image_of(tmp_path), mask, mask)[2] == 4
    )
    other = StudyImage(tmp_path, "x.nii.gz", "sub-03", "", "", "sub-03", dict)
    with pytest.raises(InputError, match="0 rows of"):
        source.levels(other, mask, mask)
    table.write_text("participant_id\tslice\tlevel\nsub-01\t9\t3\n")
    with pytest.raises(InputError, match="slices 0 to 5"):
        LevelSource(LevelConfig(level_table=table), tmp_path).levels(image_of(tmp_path), mask, mask)
    table.write_text("participant_id\tslice\tlevel\nsub-01\t2\tC3\n")
    with pytest.raises(InputError, match="slice and level must be whole numbers"):
        LevelSource(LevelConfig(level_table=table), tmp_path).levels(image_of(tmp_path), mask, mask)


@pytest.mark.parametrize("pattern", ["levels.nii.gz", "{subject}.nii.gz", "{name", ""])
def test_patterns_that_name_no_image_are_refused(pattern):
    with pytest.raises(InputError, match="level_map must be"):
        LevelConfig(level_map=pattern)


def test_one_source_of_levels():
    with pytest.raises(InputError, match="give one of the three"):
        LevelConfig(level_map="{name}", disc_labels="{name}")


@pytest.mark.parametrize("level", [0, 8])
def test_a_level_without_a_known_height_is_refused(tmp_path, level):
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), tmp_path / "mask.nii.gz")
    (tmp_path / "levels.tsv").write_text(f"participant_id\tslice\tlevel\nsub-01\t2\t{level}\n")
    name = "sub-01/anat/sub-01_T2starw.nii.gz"
    image = StudyImage(tmp_path / name, name, "sub-01", "", "", "sub-01", dict)
    source = LevelSource(LevelConfig(level_table=tmp_path / "levels.tsv"), tmp_path)
    with pytest.raises(InputError, match="levels are 1 to 7"):
        source.levels(image, tmp_path / "mask.nii.gz", tmp_path / "none.nii.gz")


def test_disc_labels_of_a_study(tmp_path):
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), tmp_path / "mask.nii.gz")
    discs = np.zeros(SHAPE, np.uint8)
    discs[5, 5, [1, 4]] = 4, 3
    nib.save(nib.Nifti1Image(discs, AFFINE), tmp_path / "sub-01.nii.gz")
    name = "sub-01/anat/sub-01_T2starw.nii.gz"
    image = StudyImage(tmp_path / name, name, "sub-01", "", "", "sub-01", dict)
    source = LevelSource(LevelConfig(disc_labels="{participant}.nii.gz"), tmp_path)
    assert source.levels(image, tmp_path / "mask.nii.gz", tmp_path / "none.nii.gz") == {1: 3, 2: 3, 3: 3}
