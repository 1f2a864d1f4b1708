"""Masks of several raters: selection, fusion and contour smoothing."""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotated_data import SPEC, annotated, blob

from keras_scgm.datasets import (
    AnnotatedVolume,
    load_slices,
    raters,
    smooth_contour,
)
from keras_scgm.errors import InputError
from keras_scgm.slices import SliceConfig


def three_masks():
    """Disagreement on the columns 26, 27 and 28."""
    masks = [blob() for _ in range(3)]
    masks[0][26] = 0
    masks[1][26:28] = 0
    masks[2][26:29] = 0
    return masks


def test_rater_modes_on_masks_of_known_size(tmp_path):
    config = SliceConfig(spacing_mm=0.5, window_px=40)
    volume = annotated(tmp_path, *three_masks())
    area = {
        mode: load_slices([volume], config, mode).masks.sum(axis=(1, 2, 3))
        for mode in ("all", "random", "majority", "mean")
    }
    assert area["all"].tolist() == area["random"].tolist() == [30] * 4 + [24] * 4 + [18] * 4
    assert area["majority"].tolist() == [24] * 4
    np.testing.assert_allclose(area["mean"], [24] * 4)
    mean = load_slices([volume], config, "mean")
    assert mean.rater_indices.tolist() == [-1] * 4
    assert mean.slice_indices.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(np.unique(mean.masks), [0, 1 / 3, 2 / 3, 1], atol=1e-6)


def test_random_shows_one_rater_of_each_slice_per_epoch(tmp_path):
    loaded = load_slices([annotated(tmp_path, *three_masks())], SPEC, "random", seed=4)
    epochs = [loaded.samples_of_epoch(epoch) for epoch in range(60)]
    for samples in epochs:
        assert sorted(loaded.slice_indices[samples]) == [0, 1, 2, 3]
    np.testing.assert_array_equal(epochs[7], loaded.samples_of_epoch(7))
    shown = np.bincount(np.concatenate(epochs), minlength=12)
    assert shown.min() >= 8
    assert any((a != b).any() for a, b in itertools.pairwise(epochs))
    other = replace(loaded, seed=5)
    assert any((samples != other.samples_of_epoch(epoch)).any() for epoch, samples in enumerate(epochs))
    assert replace(loaded, raters="all").samples_of_epoch(3).tolist() == list(range(12))


def test_majority_of_four_needs_three():
    votes = np.arange(5)[:, None] > np.arange(4)
    assert raters.majority(votes.T).tolist() == [False, False, False, True, True]


def test_staple_outvotes_the_rater_who_is_off():
    pytest.importorskip("SimpleITK")
    x, y = np.meshgrid(np.arange(40), np.arange(40))
    distance = np.hypot(x - 20, y - 20)
    masks = np.stack([np.stack([distance < radius] * 3) for radius in (8, 8.5, 9, 5)])
    consensus = raters.staple(masks)
    assert consensus.dtype == bool
    np.testing.assert_array_equal(consensus, masks[1])
    nothing = np.zeros((2, 1, 8, 8), bool)
    assert not raters.staple(nothing).any()
    np.testing.assert_array_equal(raters.fuse(masks[:1], "staple"), masks[:1])


def test_staple_without_simpleitk_is_refused_before_any_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    volume = AnnotatedVolume(Path("nowhere.nii"), (Path("nowhere.nii"),), "sub-01")
    with pytest.raises(
        InputError, match="raters='staple' needs SimpleITK; install it with pip install Simple"
    ):
        load_slices([volume], SPEC, "staple")


@pytest.mark.parametrize("width_mm", [1.0, 2.0, 3.5])
def test_smoothed_disc_follows_the_signed_distance(width_mm):
    spacing_mm, radius_mm = (0.1, 0.1), 6.0
    axis = (np.arange(201) - 100) * 0.1
    inside_mm = radius_mm - np.hypot(axis[:, None], axis)
    smooth = smooth_contour(inside_mm > 0, spacing_mm, width_mm)
    assert smooth.dtype == np.float32
    expected = np.clip(0.5 + inside_mm / width_mm, 0, 1)
    # The contour of the voxels is a staircase within a voxel of the circle.
    np.testing.assert_allclose(smooth, expected, atol=0.1 / width_mm)
    assert abs(smooth - expected).mean() < 0.01
    np.testing.assert_array_equal(smooth[inside_mm > width_mm / 2 + 0.1], 1)
    np.testing.assert_array_equal(smooth[inside_mm < -width_mm / 2 - 0.1], 0)


@pytest.mark.parametrize("axis", [0, 1])
def test_smoothed_edge_is_exact_on_uneven_voxels(axis):
    spacing_mm = (0.5, 0.8)
    mask = np.zeros((12, 12), bool)
    mask[(slice(None),) * axis + (slice(6, None),)] = True
    smooth = smooth_contour(mask, spacing_mm, width_mm=3.0)
    along_mm = (np.arange(12) - 5.5) * spacing_mm[axis]
    profile = np.clip(0.5 + along_mm / 3.0, 0, 1)
    expected = np.broadcast_to(profile if axis else profile[:, None], mask.shape)
    np.testing.assert_allclose(smooth, expected, atol=1e-6)


def test_smoothing_does_not_depend_on_the_field_of_view():
    mask = np.zeros((50, 50), bool)
    mask[20:25, 18:30] = True
    smooth = smooth_contour(mask, (0.5, 0.5), 2.0)
    np.testing.assert_array_equal(smooth_contour(mask[10:40, 10:40], (0.5, 0.5), 2.0), smooth[10:40, 10:40])


def test_smoothing_leaves_alone_what_has_no_contour():
    for mask in (np.zeros((5, 5), bool), np.ones((5, 5), bool), np.eye(5, dtype=bool)):
        np.testing.assert_array_equal(smooth_contour(mask, (0.5, 0.5), 0.0), mask)
    np.testing.assert_array_equal(smooth_contour(np.ones((5, 5), bool), (0.5, 0.5), 3.0), 1)
    np.testing.assert_array_equal(smooth_contour(np.zeros((5, 5), bool), (0.5, 0.5), 3.0), 0)
    with pytest.raises(ValueError, match="width_mm must be a number of at least 0, received -1"):
        smooth_contour(np.ones((5, 5), bool), (0.5, 0.5), -1)
