"""Warnings about slices and the cord, as a function of what was found in them."""

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from good_slice import BLANK, EMPTY_CORD, GOOD, GOOD_WITH_CORD, WITHOUT_CORD

from keras_scgm import messages, segment
from keras_scgm.quality.verdicts import NO_CORD, predict_quality
from keras_scgm.segmentation.native_grid import SliceMeasurement
from keras_scgm.segmentation.warnings import (
    CORD_CUT_OFF,
    CUT_OFF,
    SLICES_NOT_PASSED,
    quality_warnings,
    result_warnings,
)

CORD_AT_EDGE = replace(GOOD_WITH_CORD, cord_near_edge=True)
BOTH_AT_EDGE = replace(CORD_AT_EDGE, near_edge=True)
AT_EDGE = replace(GOOD, near_edge=True)


def warned(features, removed_mm2=()):
    """Warnings about slices, less those about the predicted Dice coefficient."""
    removed = dict(removed_mm2)
    measurements = [
        SliceMeasurement(
            n_voxels=int(one.area_mm2),
            n_cord_voxels=int(one.has_cord),
            near_edge=one.near_edge,
            removed_mm2=removed.get(k, 0.0),
        )
        for k, one in enumerate(features)
    ]
    lines = result_warnings(
        SimpleNamespace(stored_slice_index=lambda k: k),
        SimpleNamespace(statistics=SimpleNamespace(n_not_finite=0, is_constant=False)),
        (),
        (),
        measurements,
        predict_quality(features),
        unknown_contrast=-1,
        knows_cord=features[0].knows_cord,
    )
    return [line for line in lines if not line.startswith("predicted DSC")]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ([GOOD] * 3, []),
        ([GOOD_WITH_CORD] * 3, []),
        ([EMPTY_CORD, GOOD_WITH_CORD, GOOD_WITH_CORD, WITHOUT_CORD], []),
        ([GOOD, BLANK, GOOD], [messages.MISSING_SLICES.format("slice 1")]),
        ([GOOD_WITH_CORD, EMPTY_CORD, GOOD_WITH_CORD], [messages.MISSING_SLICES.format("slice 1")]),
        ([GOOD_WITH_CORD, WITHOUT_CORD, GOOD_WITH_CORD], [messages.MISSING_CORD.format("slice 1")]),
        (
            [GOOD_WITH_CORD, WITHOUT_CORD, EMPTY_CORD, GOOD_WITH_CORD, WITHOUT_CORD, EMPTY_CORD],
            [messages.MISSING_SLICES.format("slice 2"), messages.MISSING_CORD.format("slices 1, 4")],
        ),
        ([CORD_AT_EDGE, GOOD_WITH_CORD], [CORD_CUT_OFF.format("slice 0")]),
        (
            [CORD_AT_EDGE, BOTH_AT_EDGE, GOOD_WITH_CORD],
            [CUT_OFF.format("slice 1"), CORD_CUT_OFF.format("slice 0")],
        ),
        ([BLANK] * 2, [messages.EMPTY_MASK]),
        ([WITHOUT_CORD] * 2, [messages.EMPTY_MASK]),
        ([WITHOUT_CORD, EMPTY_CORD], [messages.CORD_ALONE]),
    ],
)
def test_what_was_found_is_told(features, expected):
    assert warned(features) == expected


def test_a_segmentation_measures_the_cord(nested_discs, cord_network, bright_network):
    image, _, _ = nested_discs()
    result = segment(image, cord_network)
    voxel_mm2 = 0.25
    for k, one in enumerate(one.features for one in result.quality.slices):
        n_gray_matter, n_cord = (
            np.count_nonzero(voxels[..., k]) for voxels in (result.mask_voxels, result.cord_voxels)
        )
        assert one.cord_area_mm2 == pytest.approx(n_cord * voxel_mm2, rel=0.06)
        assert one.gm_cord_ratio == pytest.approx(n_gray_matter / n_cord, rel=0.15)
        assert one.cord_aspect == pytest.approx(1, abs=0.02)
        assert one.cord_offset == pytest.approx(0, abs=0.02)
        assert not one.cord_near_edge
    without = segment(image, bright_network).quality.slices
    assert not any(one.features.knows_cord for one in without)


def test_a_segmentation_tells_what_is_wrong_with_the_cord(nested_discs, cord_network):
    image, gray_matter, cord = nested_discs()
    values = np.asarray(image.dataobj)
    cut = segment(nib.Nifti1Image(values[70:], image.affine), cord_network)
    assert CORD_CUT_OFF.format("slices 0, 1, 2, 3, 4") in cut.warnings
    hidden = segment(nib.Nifti1Image(values - 100 * gray_matter, image.affine), cord_network)
    assert messages.CORD_ALONE in hidden.warnings
    assert hidden.quality.verdict == "fail"
    values = values.copy()
    values[..., 2] -= 100 * (cord[..., 2] + 1.0 * gray_matter[..., 2])
    assert (
        messages.MISSING_CORD.format("slice 2")
        in segment(nib.Nifti1Image(values, image.affine), cord_network).warnings
    )


def test_gray_matter_removed_where_no_cord_is_found():
    volume = [GOOD_WITH_CORD, WITHOUT_CORD, GOOD_WITH_CORD, WITHOUT_CORD]
    removed = messages.REMOVED_WITHOUT_CORD.format("slice 3")
    assert warned(volume, {0: 2.0, 3: 4.0}) == [messages.MISSING_CORD.format("slice 1"), removed]
    assert warned([GOOD, BLANK], {0: 2.0, 1: 4.0}) == []


def warned_of_quality(features, known=(), doubts=()):
    quality = predict_quality(features, doubts)
    measurements = [SliceMeasurement(n_voxels=int(one.area_mm2)) for one in features]
    volume = SimpleNamespace(stored_slice_index=lambda k: k)
    return quality, quality_warnings(volume, measurements, quality, known)


def test_a_volume_that_does_not_pass_is_told_with_its_slices():
    quality, warnings = warned_of_quality([GOOD, BLANK, BLANK, GOOD, AT_EDGE])
    dsc = messages.shown_dsc(quality.predicted_dsc)
    assert quality.verdict != "pass"
    assert warnings == [
        messages.VOLUME_NOT_PASSED.format(
            dsc, quality.verdict, quality.reason, messages.LOOK_AT.format("slice 4")
        )
    ]
    assert warned_of_quality([GOOD, BLANK, BLANK, GOOD, AT_EDGE], known=[quality.reason])[1] == []


def test_single_slices_that_do_not_pass_are_told():
    quality, warnings = warned_of_quality([GOOD, AT_EDGE, *[GOOD] * 30])
    assert quality.verdict == "pass"
    assert warnings == [
        SLICES_NOT_PASSED.format(quality.slices[1].reason, messages.LOOK_AT.format("slice 1"))
    ]
    assert warned_of_quality([GOOD] * 3)[1] == []


def test_a_slice_without_a_cord_has_none_in_its_features(nested_discs, cord_network):
    image, gray_matter, cord = nested_discs()
    values = np.asarray(image.dataobj).copy()
    values[..., 2] -= 100 * (cord[..., 2] + 1.0 * gray_matter[..., 2])
    of_slice = segment(nib.Nifti1Image(values, image.affine), cord_network).quality.slices[2]
    assert of_slice.features.knows_cord
    assert not of_slice.features.has_cord
    assert of_slice.reason == NO_CORD
