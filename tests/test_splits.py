"""Splits by subject, and of the slices of one volume."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotated_data import annotated, blob

from keras_scgm.datasets import (
    AnnotatedVolume,
    Split,
    evenly_spaced_split,
    find_challenge,
    paper_split,
    split_slices,
)
from keras_scgm.errors import InputError


def test_paper_split_takes_two_subjects_per_site(written):
    volumes = find_challenge(written)
    split = paper_split(volumes)
    assert [volume.site_id for volume in split.validation] == ["1", "1", "2", "2", "3", "3"]
    assert len(split.train) == 3
    assert {v.subject_id for v in split.train}.isdisjoint(v.subject_id for v in split.validation)
    assert paper_split(volumes[::-1]) == split
    assert any(paper_split(volumes, seed).validation != split.validation for seed in range(1, 5))
    assert len(paper_split(volumes, validation_per_site=1).train) == 6


def test_paper_split_keeps_all_volumes_of_a_subject_together():
    volumes = [
        AnnotatedVolume(Path(f"sub-{n}_run-{run}.nii"), (Path("m.nii"),), f"sub-{n}")
        for n in range(5)
        for run in (1, 2)
    ]
    split = paper_split(volumes)
    assert (len(split.train), len(split.validation)) == (6, 4)


def test_paper_split_refuses_what_leaves_nothing_to_train_on(written):
    with pytest.raises(
        InputError, match="3 labelled subjects of site 1, 3 of them for validation leave none"
    ):
        paper_split(find_challenge(written), validation_per_site=3)
    with pytest.raises(InputError, match="none of 1 volumes has a mask"):
        paper_split(find_challenge(written)[3:4])
    with pytest.raises(ValueError, match="validation_per_site must be an integer of at least 1, received 0"):
        paper_split(find_challenge(written), validation_per_site=0)


@pytest.mark.parametrize("place", ["split.json", "../split.json", "runs/split.json"])
def test_split_round_trip(challenge, place):
    (challenge / "runs").mkdir()
    split = paper_split(find_challenge(challenge))
    few = replace(split.train[0], labelled_slices=(0, 2))
    split = replace(split, train=(few, *split.train[1:]))
    split.write(challenge / place)
    assert Split.read(challenge / place) == split
    assert str(challenge) not in (challenge / place).read_text()


def test_split_moves_with_its_folder(challenge):
    paper_split(find_challenge(challenge)).write(challenge / "split.json")
    moved = challenge.rename(challenge.with_name("elsewhere"))
    assert Split.read(moved / "split.json") == paper_split(find_challenge(moved))


@pytest.mark.parametrize("text", ["", "[]", '{"train": [{}]}', '{"folds": []}', '{"train": [1]}'])
def test_what_is_not_a_split_is_refused(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=r"split.json: not a split \(.*\); write it with Split.write"):
        Split.read(tmp_path / "split.json")


def test_missing_split_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"split.json: no such file; write it with Split.write"):
        Split.read(tmp_path / "split.json")


def test_a_subject_is_in_one_part_only(tmp_path):
    volume = AnnotatedVolume(Path("image.nii"), (Path("mask.nii"),), "sub-01")
    part = {name: (replace(volume, labelled_slices=slices),) for name, slices in (("a", (1, 2)), ("b", (3,)))}
    Split(train=part["a"], validation=part["b"])
    with pytest.raises(InputError, match=r"image.nii: subject sub-01 is in train and in test; keep every"):
        Split(train=part["a"], validation=(), test=(volume,))
    with pytest.raises(InputError, match="in train and in validation"):
        Split(train=part["a"], validation=(replace(volume, labelled_slices=(2, 3)),))
    other_run = replace(volume, image=Path("run-2.nii"))
    with pytest.raises(InputError, match="in train and in validation"):
        Split(train=(volume,), validation=(other_run,))
    (tmp_path / "split.json").write_text(
        json.dumps({"train": [_json(volume)], "validation": [_json(other_run)], "test": []})
    )
    with pytest.raises(InputError, match=r"image.nii: subject sub-01 is in train and in validation"):
        Split.read(tmp_path / "split.json")


def _json(volume):
    return {
        "image": str(volume.image),
        "masks": ["mask.nii"],
        "subject_id": volume.subject_id,
        "labelled_slices": None,
    }


def test_few_slices_of_the_ex_vivo_volume():
    split = evenly_spaced_split(4676)
    assert [len(part) for part in split] == [15, 7, 8]
    together = sorted(sum(split, ()))
    assert len(set(together)) == 30
    assert set(np.diff(together)) <= {155, 156}
    assert (together[0], together[-1]) == (77, 4598)
    for part in split:
        steps = np.diff(part)
        assert steps.max() - steps.min() <= 2 * 156 + 1
        assert abs(np.mean(part) - 4676 / 2) < 156


@pytest.mark.parametrize(
    ("n_slices", "counts"), [(30, (15, 7, 8)), (6, (4, 0, 2)), (1, (1, 0, 0)), (7, (1, 1, 1))]
)
def test_few_slices_are_disjoint_and_exist(n_slices, counts):
    split = evenly_spaced_split(n_slices, *counts)
    assert tuple(map(len, split)) == counts
    together = sum(split, ())
    assert len(set(together)) == sum(counts)
    assert set(together) <= set(range(n_slices))


def test_few_slices_of_too_few_are_refused():
    with pytest.raises(ValueError, match="n_slices must be at least the 30 asked for, received 29"):
        evenly_spaced_split(29)
    with pytest.raises(ValueError, match="n_train must be an integer of at least 1, received 0"):
        evenly_spaced_split(100, n_train=0)


def marked_on(n_slices, marked):
    mask = np.zeros((60, 60, n_slices), np.uint8)
    mask[..., list(marked)] = blob((60, 60, 1))
    return mask


def test_slices_are_split_as_the_few_of_the_ex_vivo_volume(tmp_path):
    # The paper's 30 slices of a volume, annotated on these alone: they are found, and take turns.
    marked = range(5, 95, 3)
    volume = annotated(tmp_path, marked_on(100, marked))
    split = split_slices([volume])
    parts = [part[0].labelled_slices for part in (split.train, split.validation, split.test)]
    assert sorted(sum(parts, ())) == list(marked)
    assert [len(part) for part in parts] == [15, 7, 8]
    turns = evenly_spaced_split(30)
    assert parts == [tuple(5 + 3 * turn for turn in part) for part in turns]


def test_slices_are_split_in_every_volume(tmp_path):
    volumes = [
        replace(annotated(tmp_path / name, marked_on(8, range(8))), subject_id=name) for name in ("a", "b")
    ]
    split = split_slices(volumes, (2, 1, 0))
    assert [volume.subject_id for volume in split.train] == ["a", "b"]
    assert [volume.labelled_slices for volume in split.train] == [(1, 6)] * 2
    assert [volume.labelled_slices for volume in split.validation] == [(4,)] * 2
    assert split.test == ()


def test_too_few_slices_to_split_are_refused(tmp_path):
    volume = annotated(tmp_path, marked_on(40, range(29)))
    with pytest.raises(
        InputError,
        match=r"image.nii.gz: 29 slices with gray matter, fewer than the 15 for training, 7 for validation and 8 for",
    ):
        split_slices([volume])
    with pytest.raises(InputError, match="none of 1 volumes has a mask"):
        split_slices([replace(volume, masks=())])
    with pytest.raises(InputError, match="counts must be three numbers of slices"):
        split_slices([volume], (1, 2))
