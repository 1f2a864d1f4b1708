"""Segmentation of the real volume with published and bundled weights."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import Segmenter, segment
from keras_scgm.dice import dice
from keras_scgm.quality.verdicts import NEAR_EDGE

ORIENTATIONS = [
    codes for order in itertools.permutations(["LR", "AP", "SI"]) for codes in itertools.product(*order)
]

SOME = slice(4, 6)


def voxels(image):
    return np.asarray(image.dataobj)


def dsc(a, b):
    return dice(voxels(a) > 0, voxels(b) > 0)


@pytest.fixture(scope="module")
def t2s(reference):
    return nib.load(reference / "invivo" / "t2s_uncropped.nii.gz")


@pytest.fixture(scope="module")
def manual(reference):
    return nib.load(reference / "invivo" / "t2s_uncropped_gmseg_manual.nii.gz")


@pytest.fixture(scope="module")
def challenge(reference):
    """The published 32-filter network with default settings."""
    return Segmenter(reference / "weights" / "challenge_model.hdf5")


@pytest.fixture(scope="module")
def segmented(challenge, t2s):
    return challenge.segment(t2s)


@pytest.fixture(scope="module")
def some_slices(t2s):
    return t2s.slicer[..., SOME]


@pytest.fixture(scope="module")
def segmented_slices(challenge, some_slices):
    return challenge.segment(some_slices)


# --- the published networks on the real volume ---------------------------------------------------------


@pytest.mark.parametrize("name", ["challenge", "large"])
def test_paper_mode_equals_the_spinal_cord_toolbox(reference, t2s, name):
    result = segment(t2s, reference / "weights" / f"{name}_model.hdf5", binarize="paper")
    assert dsc(result.mask, nib.load(reference / "expected" / f"sct_{name}_t2s_uncropped.nii.gz")) >= 0.999


def test_default_mode_is_at_least_as_good_as_the_spinal_cord_toolbox(reference, t2s, manual, segmented):
    large = segment(t2s, reference / "weights" / "large_model.hdf5")
    scores = [dsc(result.mask, manual) for result in (segmented, large)]
    toolbox = [
        dsc(nib.load(reference / "expected" / f"sct_{name}_t2s_uncropped.nii.gz"), manual)
        for name in ("challenge", "large")
    ]
    assert np.mean(scores) >= np.mean(toolbox)
    assert min(np.subtract(scores, toolbox)) >= -0.003


def test_bundled_weights_segment_a_real_volume(t2s, manual):
    assert dsc(segment(t2s).mask, manual) >= 0.88


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_all_storage_orders_give_the_same_mask(challenge, some_slices, segmented_slices, codes):
    transform = nib.orientations.ornt_transform(
        nib.io_orientation(some_slices.affine), nib.orientations.axcodes2ornt(codes)
    )
    result = challenge.segment(some_slices.as_reoriented(transform))
    expected = segmented_slices.mask.as_reoriented(transform)
    assert result.mask.shape == expected.shape
    np.testing.assert_allclose(result.mask.affine, expected.affine, atol=1e-4)
    assert dsc(result.mask, expected) >= 0.999


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [-20, 20])
def test_oblique_headers_give_the_same_mask(challenge, some_slices, segmented_slices, axis, degrees):
    angle = np.deg2rad(degrees)
    rotation = np.eye(4)
    i, j = [other for other in range(3) if other != axis]
    rotation[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    oblique = nib.Nifti1Image(voxels(some_slices), rotation @ some_slices.affine)
    result = challenge.segment(oblique)
    np.testing.assert_array_equal(result.mask.affine, oblique.header.get_best_affine())
    assert dsc(result.mask, segmented_slices.mask) >= 0.999


@pytest.mark.parametrize(("shift_x", "shift_y"), [(60, 60), (60, -60), (-60, 60), (-60, -60)])
def test_a_cord_30_mm_off_centre_is_found(challenge, some_slices, manual, segmented_slices, shift_x, shift_y):
    manual = manual.slicer[..., SOME]
    moved, truth = (
        nib.Nifti1Image(np.roll(voxels(image), (shift_x, shift_y), (0, 1)), image.affine)
        for image in (some_slices, manual)
    )
    result = challenge.segment(moved)
    assert result.record["window_moved"]
    assert dsc(result.mask, truth) == pytest.approx(dsc(segmented_slices.mask, manual), abs=0.01)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_cord_half_outside_the_field_warns(challenge, some_slices, manual, axis):
    middle = round(np.argwhere(voxels(manual))[:, axis].mean())
    cut = np.take(voxels(some_slices), range(middle, some_slices.shape[axis]), axis)
    result = challenge.segment(nib.Nifti1Image(cut, some_slices.affine))
    assert any("edge of the window or the field of view" in warning for warning in result.warnings)
    assert any(area.warning == NEAR_EDGE for area in result.areas)
    assert result.quality.verdict != "pass"


@pytest.mark.parametrize(("factor", "offset"), [(1e-4, 0), (1e6, 0), (1, 1e4), (1e-4, -7), (1e6, -3e7)])
def test_intensity_scale_and_offset_do_not_matter(challenge, some_slices, segmented_slices, factor, offset):
    image = nib.Nifti1Image(voxels(some_slices).astype(np.float64) * factor + offset, some_slices.affine)
    np.testing.assert_array_equal(voxels(challenge.segment(image).mask), voxels(segmented_slices.mask))


def test_mirroring_treats_left_and_right_alike(phantom):
    """Pixels of 0.5 mm are sampled alike in an image and in its flipped copy."""
    flipped = nib.Nifti1Image(voxels(phantom)[::-1].copy(), phantom.affine)

    def differences(mirror):
        one, other = (segment(image, mirror=mirror) for image in (phantom, flipped))
        return np.abs(voxels(one.probabilities) - voxels(other.probabilities)[::-1]).max()

    assert differences(mirror=True) < 0.02
    assert differences(mirror=False) > 0.2


def test_inverted_contrast_warns(challenge, t2s):
    result = challenge.segment(nib.Nifti1Image(255 - voxels(t2s)[..., 4:6], t2s.affine))
    assert any("darker than its surroundings" in text or "mask is empty" in text for text in result.warnings)


def test_nothing_is_warned_about_a_good_image_but_a_doubtful_slice(segmented):
    assert segmented.quality.verdict == "pass"
    assert [text for text in segmented.warnings if "in some slices: " not in text] == []


def test_a_threshold_that_leaves_nothing_fails(reference):
    result = segment(reference / "failing" / "base.nii.gz", threshold=0.99999999)
    assert not np.any(result.mask_voxels)
    assert (result.quality.verdict, result.quality.predicted_dsc) == ("fail", 0.0)
    assert {area.verdict for area in result.areas} == {"fail"}
    assert any("no gray matter was found in what is marked as cord" in text for text in result.warnings)


@pytest.mark.parametrize("threshold", [0.02, 0.9])
def test_the_part_around_the_cord_holds_what_the_threshold_takes(reference, threshold):
    path = reference / "multisite" / "9584_scan.nii.gz"
    parts, wholes = (
        np.asarray(segment(path, threshold=threshold, window=window).mask_voxels) > 0
        for window in ("auto", "center")
    )
    assert 2 * np.count_nonzero(parts & wholes) >= 0.998 * (parts.sum() + wholes.sum())


@pytest.mark.parametrize("margin_mm", [5, 8])
def test_a_field_cut_down_to_the_cord_passes(reference, margin_mm):
    image = nib.load(reference / "multisite" / "9584_scan.nii.gz")
    truth = np.asarray(nib.load(reference / "multisite" / "9584_gm.nii.gz").dataobj) > 0
    margin = np.rint(margin_mm / np.array(image.header.get_zooms()[:2])).astype(int)
    low, high = np.argwhere(truth).min(axis=0)[:2] - margin, np.argwhere(truth).max(axis=0)[:2] + margin
    kept = slice(low[0], high[0] + 1), slice(low[1], high[1] + 1), slice(1, 14)
    result = segment(nib.Nifti1Image(np.asarray(image.dataobj)[kept], image.affine))
    assert dsc(result.mask, nib.Nifti1Image(truth[kept].astype(np.uint8), image.affine)) > 0.85
    assert result.quality.verdict == "pass"
