"""Labelled slices of long volumes: the same masks as from the whole volume, from few slices."""

import os
from dataclasses import replace

import numpy as np
import pytest
from annotated_data import annotated, blob

from keras_scgm.datasets import AnnotatedVolume, labelled_part
from keras_scgm.datasets.labelled_slices import STATISTICS_SLICES, slices_with_labels
from keras_scgm.dice import dice
from keras_scgm.errors import InputError
from keras_scgm.nifti import read_volume
from keras_scgm.segmentation import Segmenter
from keras_scgm.training.validation import volume_dice

N_SLICES = 90
LABELLED = (7, 80, 41)
UPWARD, DOWNWARD = np.diag([-0.5, 0.5, 5, 1.0]), np.diag([-0.5, 0.5, -5, 1.0])


def long_volume(folder, affine=UPWARD, **fields):
    """The same dark noise in all slices, with bright blobs of which the masks are off by a pixel in turn."""
    mask = np.stack([blob((60, 60, 1), (24 + k % 3, 27))[..., 0] for k in range(N_SLICES)], axis=2)
    bright = blob((60, 60, 1), (25, 27)).astype(np.float32)
    noise = np.random.default_rng(0).normal(100, 1, (60, 60, 1)).astype(np.float32)
    image = np.repeat(noise + 200 * bright, N_SLICES, axis=2)
    return annotated(folder, mask, mask, image=image, affine=affine, **fields)


@pytest.mark.parametrize("affine", [UPWARD, DOWNWARD])
def test_few_slices_are_judged_as_in_the_whole_volume(tmp_path, bright_network, affine):
    volume = long_volume(tmp_path, affine)
    few = replace(volume, labelled_slices=LABELLED)
    segmenter = Segmenter(bright_network)
    whole = segmenter.segment(volume.image)
    found = np.asarray(whole.mask.dataobj) > 0
    mask = np.stack([blob((60, 60, 1), (24 + k % 3, 27))[..., 0] for k in LABELLED], axis=2) > 0
    expected = dice(found[:, :, list(LABELLED)], mask)
    assert 0.8 < expected < 1
    assert volume_dice(segmenter, few) == pytest.approx(expected)


@pytest.mark.parametrize("affine", [UPWARD, DOWNWARD])
def test_a_part_holds_the_slices_that_training_sees(tmp_path, affine):
    volume = long_volume(tmp_path, affine, labelled_slices=LABELLED)
    part = labelled_part(volume)
    data = np.asarray(part.image.dataobj)
    assert STATISTICS_SLICES <= data.shape[2] <= STATISTICS_SLICES + len(LABELLED)
    assert labelled_part(volume) is part
    in_file = read_volume(volume.image)
    expected = np.concatenate([in_file.read_slices(k, k + 1)[0] for k in volume.slices_of(in_file)])
    np.testing.assert_array_equal(part.labelled(data), expected.astype(np.float32))
    whole = read_volume(volume.image)
    assert part.read_mask(volume.masks[0], whole).shape == (3, 60, 60)
    np.testing.assert_array_equal(
        part.read_mask(volume.masks[0], whole),
        volume.read_mask(volume.masks[0], whole)[volume.slices_of(whole)],
    )
    other = labelled_part(volume)
    assert other.read_mask(volume.masks[0], whole, any_label=True).any()


def test_a_short_volume_is_taken_whole(tmp_path):
    volume = annotated(tmp_path, blob(), labelled_slices=(3, 1))
    part = labelled_part(volume)
    assert (part.image, part.positions) == (volume.image, (1, 3))
    whole = replace(volume, labelled_slices=None)
    assert labelled_part(whole).positions is None


def test_a_part_is_read_anew_when_a_file_changes(tmp_path):
    volume = long_volume(tmp_path, labelled_slices=LABELLED)
    first = labelled_part(volume)
    changed = volume.image.stat().st_mtime_ns + 10**9

    os.utime(volume.image, ns=(changed, changed))
    assert labelled_part(volume) is not first


def test_a_missing_file_is_one_line(tmp_path):
    volume = AnnotatedVolume(tmp_path / "no.nii", (tmp_path / "m.nii",), "sub-01", labelled_slices=(1,))
    with pytest.raises(InputError, match=r"no.nii: no such file"):
        labelled_part(volume)


def test_slices_that_every_rater_marked(tmp_path):
    masks = [np.repeat(blob((60, 60, 1)), 6, axis=2) for _ in range(2)]
    masks[0][:, :, 0] = masks[1][:, :, 4] = 0
    volume = annotated(tmp_path, *masks, affine=DOWNWARD)
    assert slices_with_labels(volume) == (1, 2, 3, 5)
    assert slices_with_labels(replace(volume, labelled_slices=(5, 0, 2))) == (2, 5)
    with pytest.raises(InputError, match="no voxel is 2, it holds 0, 1"):
        slices_with_labels(replace(volume, label_value=2))
