"""Verdicts and their reasons, alone and in a segmentation."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from good_slice import GOOD

from keras_scgm import Segmenter, segment
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.outputs import write_areas
from keras_scgm.quality.features import SliceFeatures, slice_features
from keras_scgm.quality.model import REASONS
from keras_scgm.quality.verdicts import (
    DARK,
    DARK_DSC,
    EXCHANGED,
    FAIL_DSC,
    NEAR_EDGE,
    NOTHING,
    PASS_DSC,
    anatomical_doubts,
    predict_quality,
)

BLANK = SliceFeatures(area_mm2=0.0)


def predicted(features, **settings):
    return predict_quality([features], **settings).slices[0].predicted_dsc


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
        ({"contrast": -2.0, "separation": 0.1}, DARK),
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
    assert record["reasons"] == {mostly_good.slices[29].reason: [0]}
    assert mostly_good.predicted_dsc > PASS_DSC
    assert mostly_good.verdict == "pass"

    missing = predict_quality([GOOD, BLANK, GOOD])
    assert missing.slices[1].verdict == "fail"
    assert missing.predicted_dsc == pytest.approx(2 / 3 * predicted(GOOD))
    assert (missing.verdict, missing.reason) == ("fail", NOTHING)

    empty = predict_quality([BLANK, BLANK])
    assert (empty.verdict, empty.predicted_dsc) == ("fail", 0.0)
    assert empty.reason
    json.dumps(empty.as_record(lambda k: k), allow_nan=False)


def test_a_doubt_about_the_volume_never_passes():
    quality = predict_quality([GOOD] * 3, doubts=["the header is wrong"])
    assert (quality.verdict, quality.reason) == ("review", "the header is wrong")
    assert [one.verdict for one in quality.slices] == ["pass"] * 3


def test_some_slices_are_never_passed():
    assert predicted(GOOD) > PASS_DSC
    assert predicted(replace(GOOD, near_edge=True)) == FAIL_DSC
    assert predicted(replace(GOOD, contrast=-2.0)) == DARK_DSC


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


@pytest.mark.parametrize("level", [3, 6, 9, 14, 19])
def test_drawn_anatomy_of_every_level_is_allowed(level):
    drawn = draw_subject(PhantomConfig(n_slices=3, matrix_size=100, levels=(level + 0.3, level)), seed=level)
    mask = np.moveaxis(np.asarray(drawn.mask.dataobj, np.float32), 2, 0)
    assert anatomical_doubts([slice_features(one, one, 0.5) for one in mask]) == []
    turned = [slice_features(one, one, 0.5) for one in mask[:, :, ::-1]]
    assert anatomical_doubts(turned) == [EXCHANGED]


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
        PhantomConfig(matrix_size=100, n_slices=3, levels=(5.0, 4.0), contrast_to_noise=(10.0, 10.0)), seed=7
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
