"""Verdicts and their reasons, alone and in a segmentation."""

import csv
import json
import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from good_slice import BLANK, EMPTY_CORD, GOOD, GOOD_WITH_CORD, WITHOUT_CORD, predicted

from keras_scgm import Segmenter, segment
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.morphometry import CrossSection, cross_sections
from keras_scgm.nifti import volume_from_image
from keras_scgm.outputs import write_areas
from keras_scgm.quality.cord_features import with_cord
from keras_scgm.quality.features import slice_features
from keras_scgm.quality.model import REASONS
from keras_scgm.quality.verdicts import (
    CORD_ALONE,
    CORD_ALONE_FOUND,
    CORD_NEAR_EDGE,
    EXCHANGED,
    FAIL_DSC,
    NEAR_EDGE,
    NO_CORD,
    NOTHING,
    NOTHING_FOUND,
    OF_VOLUME,
    PASS_DSC,
    UNKNOWN_CONTRAST,
    UNKNOWN_CONTRAST_DSC,
    anatomical_doubts,
    mask_doubts,
    predict_quality,
)


@pytest.mark.parametrize("n_slices", range(1, 16))
def test_a_volume_of_slices_at_a_bound_has_its_verdict(n_slices):
    found = predict_quality([replace(GOOD, near_edge=True)] * n_slices)
    assert (found.predicted_dsc, found.verdict) == (FAIL_DSC, "review")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"area_mm2": 1.0}, REASONS["area_mm2"]),
        ({"centroid_shift_mm": 6.0}, REASONS["centroid_shift_mm"]),
        ({"agreement": 0.2}, REASONS["agreement"]),
        ({"near_edge": True}, NEAR_EDGE),
        ({"contrast": -2.0, "separation": 0.1}, UNKNOWN_CONTRAST[-1]),
    ],
)
def test_what_speaks_most_against_a_slice_is_named(changes, reason):
    quality = predict_quality([replace(GOOD, **changes)])
    assert quality.slices[0].verdict != "pass"
    assert quality.slices[0].reason == quality.reason == reason


def test_verdicts_of_slices_and_volume():
    quality = predict_quality([BLANK, GOOD, GOOD, GOOD, BLANK])
    assert [one.verdict for one in quality.slices] == ["review", "pass", "pass", "pass", "review"]
    assert [one.reason for one in quality.slices] == [NOTHING, "", "", "", NOTHING]
    assert (quality.verdict, quality.reason) == ("pass", "")
    assert (quality.contrast, quality.noise) == (2.0, 1.0)

    bad = replace(GOOD, area_mm2=0.6, neighbour_dice=0.1, centroid_shift_mm=6.0, agreement=0.3)
    assert predict_quality([bad] * 3).verdict == "fail"
    mostly_good = predict_quality([GOOD] * 29 + [bad])
    assert [one.verdict for one in mostly_good.slices] == ["pass"] * 29 + ["fail"]
    record = mostly_good.as_record(lambda k: 29 - k)
    assert record["slices"] == {"pass": list(range(1, 30)), "review": [], "fail": [0]}
    assert record["predicted_dsc"] == mostly_good.predicted_dsc
    assert record["reasons"] == {mostly_good.slices[29].reason: [0]}
    assert mostly_good.predicted_dsc > PASS_DSC
    assert mostly_good.verdict == "pass"

    missing = predict_quality([GOOD, BLANK, GOOD, BLANK, GOOD])
    assert [one.verdict for one in missing.slices] == ["pass", "fail", "pass", "fail", "pass"]
    assert missing.predicted_dsc == pytest.approx(3 / 5 * predicted(GOOD))
    assert (missing.verdict, missing.reason) == ("fail", NOTHING)

    empty = predict_quality([BLANK, BLANK])
    assert (empty.verdict, empty.predicted_dsc) == ("fail", 0.0)
    assert empty.reason
    json.dumps(empty.as_record(lambda k: k), allow_nan=False)


def test_with_a_doubt_about_the_volume_neither_it_nor_a_slice_passes():
    edge = replace(GOOD, near_edge=True)
    quality = predict_quality([edge, *[GOOD] * 29], doubts=["the header is wrong"])
    assert (quality.verdict, quality.reason) == ("review", "the header is wrong")
    assert [one.verdict for one in quality.slices] == ["review"] * 30
    assert [one.reason for one in quality.slices] == [NEAR_EDGE, *[OF_VOLUME] * 29]
    assert quality.slices[1].predicted_dsc == predicted(GOOD)

    bad = predict_quality([GOOD, edge, edge], doubts=["the header is wrong"])
    assert (bad.verdict, bad.reason) == ("review", NEAR_EDGE)


def test_some_slices_are_never_passed():
    assert predicted(GOOD) > PASS_DSC
    assert predicted(replace(GOOD, near_edge=True)) == FAIL_DSC
    assert predicted(replace(GOOD, contrast=-2.0)) == UNKNOWN_CONTRAST_DSC


@pytest.mark.parametrize("contrast", [-2.0, -1e-3, 0.0, 1e-3, 2.0, math.nan])
@pytest.mark.parametrize("unknown", [-1, 0, 1])
def test_contrasts_that_the_weights_do_not_know_never_pass(unknown, contrast):
    (found,) = predict_quality([replace(GOOD, contrast=contrast)], unknown_contrast=unknown).slices
    is_unknown = (unknown, math.copysign(1, contrast)) in ((-1, -1), (1, 1)) and abs(contrast) > 0
    assert (found.reason == UNKNOWN_CONTRAST.get(unknown)) == is_unknown
    assert (found.predicted_dsc <= UNKNOWN_CONTRAST_DSC) == is_unknown


def test_the_unit_of_the_image_does_not_matter():
    unit = 2.0**-10
    small = replace(GOOD, contrast=unit * GOOD.contrast, noise=unit * GOOD.noise)
    assert predict_quality([small]).slices[0].reason == predict_quality([GOOD]).slices[0].reason == ""
    assert predicted(small) == predicted(GOOD)


def test_the_contrast_of_a_volume_is_the_mean_by_area_of_what_is_known():
    slices = [
        replace(GOOD, area_mm2=area_mm2, contrast=contrast)
        for area_mm2, contrast in ((10, 1.0), (20, 4.0), (15, math.nan))
    ]
    assert predict_quality([BLANK, *slices]).contrast == pytest.approx((10 + 80) / 30)
    assert math.isnan(predict_quality(slices[2:]).contrast)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, None),
        ({"area_mm2": 27.0}, "27.0 mm2"),
        ({"area_mm2": 2.0}, "check the voxel spacing"),
        ({"width_mm": 12.4}, "12.4 mm width"),
        ({"depth_skewness": 0.5}, EXCHANGED),
    ],
)
def test_what_anatomy_does_not_allow(changes, text):
    doubts = anatomical_doubts([replace(GOOD, **changes)] * 3 + [GOOD, BLANK])
    assert len(doubts) == (text is not None)
    assert text is None or text in doubts[0]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, None),
        ({"cord_area_mm2": 150.0}, "a cord of 150.0 mm2, 1.60 times as wide as deep"),
        ({"cord_area_mm2": 20.0}, "check the voxel spacing"),
        ({"cord_aspect": 2.6}, "2.60 times as wide as deep"),
        ({"cord_aspect": 0.7}, "0.70 times as wide as deep"),
        ({"area_mm2": 29.0}, None),
        ({"area_mm2": 31.0}, "anatomy allows 3.5 to 30 mm2"),
        ({"gm_cord_ratio": 0.05}, "5.0 % of the cord"),
        ({"gm_cord_ratio": 0.6}, "60.0 % of the cord (median): anatomy allows 8 to 45 %"),
        ({"cord_offset": 0.4}, "0.40 radii of the cord beside its centre"),
        ({"cord_agreement": 0.93}, "mask and probabilities agree by 0.93"),
    ],
)
def test_what_anatomy_does_not_allow_of_the_cord(changes, text):
    volume = [replace(GOOD_WITH_CORD, **changes)] * 3 + [GOOD_WITH_CORD, EMPTY_CORD, WITHOUT_CORD]
    doubts = anatomical_doubts(volume)
    assert len(doubts) == (text is not None)
    assert text is None or text in doubts[0]


def test_gray_matter_in_few_slices_of_a_cord_is_a_doubt():
    assert anatomical_doubts([EMPTY_CORD] * 2 + [GOOD_WITH_CORD] * 2) == []
    doubts = anatomical_doubts([EMPTY_CORD] * 3 + [GOOD_WITH_CORD] * 2 + [WITHOUT_CORD] * 9)
    assert len(doubts) == 1
    assert "in 2 of 5 slices" in doubts[0]


def test_a_cord_with_an_uncertain_outline_is_a_doubt_without_gray_matter_too():
    assert anatomical_doubts([EMPTY_CORD, WITHOUT_CORD]) == []
    vague = replace(EMPTY_CORD, cord_agreement=0.9)
    assert ["agree by 0.90" in doubt for doubt in anatomical_doubts([vague, vague, EMPTY_CORD])] == [True]


def test_the_cord_decides_what_a_slice_without_gray_matter_means():
    quality = predict_quality(
        [EMPTY_CORD, GOOD_WITH_CORD, EMPTY_CORD, WITHOUT_CORD, GOOD_WITH_CORD, WITHOUT_CORD]
    )
    assert [one.reason for one in quality.slices] == [CORD_ALONE, "", CORD_ALONE, NO_CORD, "", NO_CORD]
    assert [one.verdict for one in quality.slices] == ["review", "pass", "fail", "fail", "pass", "review"]
    assert predict_quality([EMPTY_CORD, WITHOUT_CORD]).reason == CORD_ALONE_FOUND
    assert predict_quality([WITHOUT_CORD]).reason == predict_quality([BLANK]).reason == NOTHING_FOUND


def test_a_cord_near_an_edge_never_passes():
    found = predict_quality([replace(GOOD_WITH_CORD, cord_near_edge=True)])
    assert (found.predicted_dsc, found.verdict, found.reason) == (FAIL_DSC, "review", CORD_NEAR_EDGE)
    both = predict_quality([replace(GOOD_WITH_CORD, cord_near_edge=True, near_edge=True)])
    assert both.reason == NEAR_EDGE


@pytest.mark.parametrize("level", [3, 6, 9, 14, 19])
def test_drawn_anatomy_of_every_level_is_allowed(level):
    drawn = draw_subject(PhantomConfig(n_slices=3, matrix_size=100, levels=(level + 0.3, level)), seed=level)
    mask, cord = (
        np.moveaxis(np.asarray(each.dataobj, np.float32), 2, 0) for each in (drawn.mask, drawn.cord)
    )
    pairs = [(slice_features(one, one, 0.5), around) for one, around in zip(mask, cord, strict=True)]
    if level < 19:  # the lumbar enlargement of a large cord is known by the cord around it
        assert anatomical_doubts([one for one, _ in pairs]) == []
    assert anatomical_doubts([with_cord(one, around, 0.5) for one, around in pairs]) == []
    if level < 19:  # in the lumbar enlargement the horns of some people are equally broad
        turned = [slice_features(one, one, 0.5) for one in mask[:, :, ::-1]]
        assert EXCHANGED in anatomical_doubts(turned)


def test_result_record_and_table_tell_the_quality(tmp_path, blob_image, bright_network):
    image = blob_image()
    result = segment(image, bright_network)
    assert result.record["quality"]["verdict"] == result.quality.verdict
    for area in result.areas:
        # Voxels of the rim that the disc partly fills take from the 200 that were drawn.
        assert 150 < area.contrast < 201
        assert area.noise == pytest.approx(1, rel=0.35)
    write_areas(tmp_path / "areas.csv", result.areas)
    with open(tmp_path / "areas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == [area.verdict for area in result.areas]
    assert [row["warning"] for row in rows] == [one.reason for one in result.quality.slices]
    assert [float(row["contrast"]) for row in rows] == pytest.approx(
        [a.contrast for a in result.areas], rel=1e-4
    )
    assert rows[0]["area_sd_mm2"] == ""


def test_slices_are_judged_where_the_file_has_them(blob_image, bright_network):
    image = blob_image(shape=(120, 120, 6))
    data = np.asarray(image.dataobj).copy()
    data[..., 1] = np.roll(data[..., 1], 12, axis=0)
    data[28:30, 20:24, 1] = 300
    for codes in ("LAS", "SRA"):
        turned = nib.Nifti1Image(data, image.affine)
        transform = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(codes))
        )
        flipped = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(("L", "A", "I"))
        )
        plain = segment(turned.as_reoriented(transform), bright_network, window="center")
        assert min(plain.areas, key=lambda area: area.predicted_dsc).slice == 1
        other = segment(turned.as_reoriented(flipped), bright_network, window="center")
        assert min(other.areas, key=lambda area: area.predicted_dsc).slice == 4


def test_bundled_network_tells_good_from_damaged():
    subject = draw_subject(
        PhantomConfig(matrix_size=100, n_slices=3, levels=(5.0, 4.0), contrast_to_noise=(10.0, 10.0)), seed=8
    )
    segmenter = Segmenter()
    values = np.asarray(subject.image.dataobj)
    good = segmenter.segment(subject.image)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 4 * good.quality.contrast, (2, *values.shape))
    truth = np.asarray(subject.mask.dataobj) > 0
    middle = round(np.argwhere(truth)[:, 1].mean())
    damaged = {
        "noise": np.hypot(values + noise[0], noise[1]),
        "half outside": values[:, middle:],
    }
    assert good.quality.verdict == "pass"
    for name, data in damaged.items():
        quality = segmenter.segment(nib.Nifti1Image(data.astype(np.float32), subject.image.affine)).quality
        assert quality.verdict != "pass", name
        assert quality.predicted_dsc < good.quality.predicted_dsc - 0.1, name


def rows_of(cord_px, slices_with_gray):
    """Slices of 0.5 mm voxels, of which 3 to 6 of 10 hold a square of cord, and some of them gray matter."""
    cord, gray = np.zeros((2, 40, 40, 10), np.uint8)
    cord[5 : 5 + cord_px, 5 : 5 + cord_px, 3:7] = 1
    for k in slices_with_gray:
        gray[10:16, 8:16, k] = 1
    grid = np.diag([-0.5, 0.5, 2.0, 1.0])
    of_cord, of_gray = (volume_from_image(nib.Nifti1Image(mask, grid)) for mask in (cord, gray))
    return cross_sections(of_gray if slices_with_gray else None, of_cord)


def test_more_gray_matter_is_allowed_in_a_cord_that_is_known():
    alone = CrossSection(0, 0.0, None, 27.0)
    (doubt,) = mask_doubts([alone])
    assert doubt.startswith("gray matter of 27.0 mm2 (median): anatomy allows 3.5 to 24 mm2")
    assert (
        mask_doubts([replace(alone, cord_area_mm2=100, cord_ap_mm=9, cord_rl_mm=13, gm_cord_ratio=0.27)])
        == []
    )


def test_masks_are_doubted_by_the_slices_that_have_the_tissue():
    assert mask_doubts(rows_of(20, [4])) == []
    for slices_with_gray in ([], [4]):
        (doubt,) = mask_doubts(rows_of(24, slices_with_gray))
        assert doubt.startswith("a cord of 144.0 mm2, 1.00 times as wide as deep")
    # One section that is far too large does not move the median.
    assert mask_doubts([*rows_of(20, [4]), *rows_of(20, [4]), *rows_of(30, [4])]) == []
