"""Data of a training are checked, and compared with their split, before its first step."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from annotated_data import labelled

from keras_scgm.datasets import Split, find_challenge, paper_split
from keras_scgm.errors import InputError
from keras_scgm.locks import exclusive_start
from keras_scgm.training import DataConfig, TrainingConfig, annotated_source


def source(folder, split, resplit=False, **reading):
    return annotated_source(
        DataConfig(folder, split, **reading), TrainingConfig(window_px=32), resplit=resplit
    )


def rewritten(path, change):
    image = nib.load(path)
    voxels, affine = change(np.asarray(image.dataobj), image.affine)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda voxels, affine: (voxels[:-1], affine), "not on the grid of its image"),
        (lambda voxels, affine: (255 * (voxels == 1), affine), "no voxel is 1, it holds 0, 255;"),
        (
            lambda voxels, affine: (np.where(voxels == 2, np.nan, voxels), affine),
            "NaN or infinite, not labels",
        ),
        (lambda voxels, affine: (voxels / 2, affine), "holds fractions, not labels"),
    ],
)
def test_masks_for_validation_are_checked_like_those_for_training(challenge, tmp_path, change, message):
    split = paper_split(labelled(challenge))
    path = split.validation[-1].masks[2]
    rewritten(path, change)
    with pytest.raises(InputError, match=f"{path.name}: .*{message}"):
        source(challenge, tmp_path / "split.json")
    assert not (tmp_path / "split.json").exists()


def test_a_missing_rater_of_a_volume_for_validation_is_noticed(challenge, tmp_path):
    first = paper_split(labelled(challenge)).validation[0]
    first.masks[3].unlink()
    batches, _ = source(challenge, tmp_path / "split.json")
    assert f"fewer raters than 4: 1 in 9 volumes, {first.image.name} (3)" in batches.slices.warnings


def test_a_label_is_asked_for(challenge, tmp_path):
    for path in challenge.glob("*-mask-*"):
        rewritten(path, lambda voxels, affine: (255 * (voxels == 1), affine))
    with pytest.raises(InputError, match="it holds 0, 255; name the value of gray matter with --label-value"):
        source(challenge, tmp_path / "split.json")
    batches, validation = source(challenge, tmp_path / "split.json", label_value=255)
    assert {volume.label_value for volume in validation} == {255}
    # It counts for a split that was written with another one.
    split = paper_split(labelled(challenge))
    split.write(tmp_path / "one.json")
    again, _ = source(challenge, tmp_path / "one.json", label_value=255)
    np.testing.assert_array_equal(again.slices.masks, batches.slices.masks)


def test_what_was_added_to_the_data_of_a_split_is_named(challenge, tmp_path):
    path = tmp_path / "split.json"
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for pattern in ("site2-sc03-*", "site1-sc0[12]-mask-r4*"):
        for found in challenge.glob(pattern):
            found.rename(hidden / found.name)
    volumes = [volume for volume in find_challenge(challenge) if volume.masks]
    Split(train=tuple(volumes[:4]), validation=tuple(volumes[4:])).write(path)
    assert not [line for line in source(challenge, path)[0].slices.warnings if "split.json" in line]
    for found in hidden.iterdir():
        found.rename(challenge / found.name)
    batches, validation = source(challenge, path)
    assert [line for line in batches.slices.warnings if "split.json" in line] == [
        f"{path}: leaves out 1 of the annotated volumes in the data, site2-sc03; to use them, make a new split with "
        "--resplit",
        f"{path}: leaves out 2 of the masks in the data, site1-sc01-mask-r4.nii.gz, site1-sc02-mask-r4.nii.gz; to use "
        "them, make a new split with --resplit",
    ]
    assert len(validation) == 4
    batches, validation = source(challenge, path, resplit=True)
    assert not [line for line in batches.slices.warnings if "split.json" in line]
    assert Split.read(path) == paper_split(labelled(challenge))


def test_a_split_of_other_or_lost_data_is_refused(challenge, tmp_path):
    path = tmp_path / "split.json"
    source(challenge, path)
    before = path.read_bytes()
    other = tmp_path / "other"
    shutil.copytree(challenge, other)
    with pytest.raises(
        InputError, match=r"splits other data, its .* is not in .*other; .* split with --resplit"
    ):
        source(other, path)
    lost = [*Split.read(path).train[0].masks[:2], Split.read(path).validation[0].image]
    for file in lost:
        file.unlink()
    with pytest.raises(InputError) as refused:
        source(challenge, path)
    assert str(refused.value) == (
        f"{path}: 3 of its 45 files are missing in {challenge}, {', '.join(file.name for file in lost)}; copy them "
        "back, or make a new split with --resplit"
    )
    assert path.read_bytes() == before
    source(other, path, resplit=True)
    assert {volume.image.parent for volume in Split.read(path).train} == {other}


def test_a_split_of_files_in_no_known_layout_is_taken(challenge, tmp_path):
    volumes = []
    for volume in labelled(challenge)[:3]:
        image = volume.image.rename(challenge / f"{volume.subject_id}.nii.gz")
        volumes.append(replace(volume, image=image))
    Split(train=tuple(volumes[:2]), validation=tuple(volumes[2:])).write(tmp_path / "split.json")
    for path in challenge.glob("*-image.nii.gz"):
        path.unlink()
    assert source(challenge, tmp_path / "split.json")[1] == tuple(volumes[2:])


def test_data_settings_move_with_their_folder(tmp_path):
    config = DataConfig(
        str(tmp_path / "data"), str(tmp_path / "run" / "split.json"), "majority", label_value=2
    )
    config.write(tmp_path / "run" / "data.json")
    assert DataConfig.read(tmp_path / "run" / "data.json") == config
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "run").rename(moved / "run")
    assert DataConfig.read(moved / "run" / "data.json") == replace(
        config, folder=str(moved / "data"), split=str(moved / "run" / "split.json")
    )
    (moved / "run" / "data.json").write_text('{"folder": "a"}')
    with pytest.raises(InputError, match=r"run/data.json: DataConfig lacks split"):
        DataConfig.read(moved / "run" / "data.json")


@pytest.mark.parametrize("place", ["new", "new/deeper", "old"])
def test_a_failed_start_leaves_nothing(tmp_path, place):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    folder = tmp_path / place

    def start(*files):
        with exclusive_start(folder, "spec.json"):
            (folder / "drawn").mkdir(parents=True)
            for name in ("drawn/image.nii", *files):
                (folder / name).touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("split.json")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(KeyboardInterrupt):
        start("split.json", "spec.json")
    assert {path.name for path in folder.iterdir()} >= {"drawn", "split.json", "spec.json"}


def test_a_start_in_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"file: cannot write there \(Not a directory\); choose another"),
        exclusive_start(tmp_path / "file", "spec.json"),
    ):
        pass


def test_one_process_starts_in_a_folder_at_a_time(run, tmp_path):
    folder = tmp_path / "new"
    refused = f"error: {folder}: another process works there; wait for its end, or choose another folder\n"
    with exclusive_start(folder, "spec.json"):
        (folder / "read.json").touch()
        for command in (["train", folder], ["tune", folder, "--data", tmp_path]):
            assert run(*command) == (2, "", refused)
    assert [path.name for path in folder.iterdir()] == ["read.json"]
