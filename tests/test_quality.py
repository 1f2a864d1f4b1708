import csv
import json
import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from good_slice import GOOD
from scipy.ndimage import gaussian_filter

from keras_scgm import Segmenter, segment
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.outputs import write_areas
from keras_scgm.quality import (
    DARK,
    DARK_DSC,
    EXCHANGED,
    FAIL_DSC,
    NEAR_EDGE,
    NOTHING,
    PASS_DSC,
    REASONS,
    SliceFeatures,
    anatomical_doubts,
    compare_with_neighbours,
    fitted_model,
    model_inputs,
    noise_level,
    predict_quality,
    slice_features,
)

BLANK = SliceFeatures(area_mm2=0.0)


def predicted(features, **settings):
    return predict_quality([features], **settings).slices[0].predicted_dsc


def disc(center, radius, shape=(40, 40)):
    rows, columns = np.indices(shape)
    return (np.hypot(rows - center[0], columns - center[1]) <= radius).astype(np.float32)


# --- features ------------------------------------------------------------------------------------------


def test_features_of_a_disc_and_an_island():
    probabilities = disc((20, 20), 5)
    n = int(probabilities.sum())
    image = 10 + 3 * probabilities
    whole = slice_features(image, probabilities, 0.5, unit=2.0)
    assert whole.area_mm2 == pytest.approx(n * 0.25)
    assert (whole.agreement, whole.detached_fraction, whole.contrast) == pytest.approx((1.0, 0.0, 6.0))
    # Of a disc, the standard deviation along any axis is half its radius.
    assert (whole.width_mm, whole.depth_mm) == pytest.approx((5.0, 5.0), rel=0.06)
    assert whole.compactness == pytest.approx(1, abs=0.2)
    assert (whole.symmetry, whole.separation, whole.sharpness) == pytest.approx((1, 1, 1))
    assert whole.depth_skewness == pytest.approx(0, abs=1e-12)
    with_island = probabilities.copy()
    with_island[2:4, 2:5] = 1
    assert slice_features(image, with_island, 0.5).detached_fraction == pytest.approx(6 / (n + 6))
    assert slice_features(image, np.zeros_like(image), 0.5) == BLANK


def test_width_and_depth_follow_the_mask_when_it_is_turned():
    rows, columns = np.indices((80, 80)) - 39.5
    for degrees in (0, 25):
        angle = np.radians(degrees)
        across = rows * np.cos(angle) + columns * np.sin(angle)
        along = columns * np.cos(angle) - rows * np.sin(angle)
        box = ((np.abs(across) < 20) & (np.abs(along) < 8)).astype(np.float32)
        found = slice_features(box, box, 0.25)
        # Of a box, the standard deviation is its length by the square root of 12.
        assert (found.width_mm, found.depth_mm) == pytest.approx(
            (4 * 10 / 12**0.5, 4 * 4 / 12**0.5), rel=0.02
        )
        assert found.symmetry > 0.97


def test_blur_and_lost_contrast_show_in_the_features():
    mask = disc((40, 40), 10, (80, 80))
    noise = np.random.default_rng(0).normal(size=mask.shape)
    sharp = slice_features(4 * mask, mask, 0.25)
    blurred = slice_features(gaussian_filter(4 * mask, 4), mask, 0.25)
    assert blurred.sharpness < 0.75 < sharp.sharpness
    assert slice_features(mask + noise, mask, 0.25).separation == pytest.approx(0.76, abs=0.03)
    assert slice_features(noise, mask, 0.25).separation == pytest.approx(0.5, abs=0.05)
    assert slice_features(-mask, mask, 0.25).separation == 0


def test_the_threshold_decides_what_is_measured():
    probabilities = np.where(disc((20, 20), 6) > 0, 0.4, 0).astype(np.float32)
    probabilities[disc((20, 20), 3) > 0] = 0.8
    image = probabilities
    assert slice_features(image, probabilities, 1.0, threshold=0.3).area_mm2 == disc((20, 20), 6).sum()
    assert slice_features(image, probabilities, 1.0).area_mm2 == disc((20, 20), 3).sum()
    assert slice_features(image, probabilities, 1.0, threshold=0.9) == BLANK


def test_agreement_falls_where_passes_disagree():
    one, other = disc((20, 18), 5), disc((20, 22), 5)
    sure = slice_features(one, one, 0.25)
    mean = 0.51 * one + 0.49 * other
    unsure = slice_features(one, mean, 0.25)
    assert sure.agreement == pytest.approx(1.0)
    assert unsure.area_mm2 == sure.area_mm2
    assert unsure.agreement == pytest.approx(2 * mean[one > 0].sum() / (mean.sum() + one.sum()))
    assert unsure.agreement < 0.85


def test_neighbours_whose_centres_lie_between_two_pixels():
    small, large = np.zeros((20, 20)), np.zeros((20, 20))
    small[9:11, 9:11] = large[8:12, 8:12] = 1
    slices = [slice_features(each, each, 0.5) for each in (small, large)]
    compare_with_neighbours(slices, 0, 2, 0.5)
    assert slices[0].neighbour_dice == pytest.approx(2 * 4 / (4 + 16))


@pytest.mark.parametrize("n_slices", range(1, 16))
def test_a_volume_of_slices_at_a_bound_has_its_verdict(n_slices):
    found = predict_quality([replace(GOOD, near_edge=True)] * n_slices)
    assert (found.predicted_dsc, found.verdict) == (FAIL_DSC, "review")


def test_neighbours_are_compared_in_any_chunks():
    sections = [
        disc((20, 20), 5),
        disc((20, 22), 5),
        np.zeros((40, 40)),
        disc((20, 20), 4),
        disc((26, 20), 7),
    ]
    origins = [(0, 0), (0, -2), (0, 0), (0, 0), (0, 0)]

    def compared(bounds):
        slices = [slice_features(s, s, 0.5, origin=o) for s, o in zip(sections, origins, strict=True)]
        for start, stop in bounds:
            compare_with_neighbours(slices, start, stop, 0.5)
        return slices

    slices = compared([(0, 5)])
    assert repr(slices) == repr(compared([(0, 2), (2, 3), (3, 5)]))
    # The second window starts two pixels lower, so both discs lie at the same place.
    first = slices[0]
    assert (first.neighbour_dice, first.log_area_ratio, first.centroid_shift_mm) == pytest.approx((1, 0, 0))
    assert math.isnan(slices[2].neighbour_dice)
    small, large = sections[3].sum(), sections[4].sum()
    assert slices[3].log_area_ratio == slices[4].log_area_ratio == pytest.approx(math.log(large / small))
    assert slices[3].centroid_shift_mm == pytest.approx(3.0)
    assert slices[3].neighbour_dice == pytest.approx(2 * small / (small + large))
    assert all(one.pixels is None for one in slices[:-1])


def test_the_better_neighbour_counts():
    sections = [disc((20, 20), 5), disc((20, 20), 5), disc((30, 20), 2)]
    slices = [slice_features(s, s, 0.5) for s in sections]
    compare_with_neighbours(slices, 0, 3, 0.5)
    middle = slices[1]
    assert (middle.neighbour_dice, middle.log_area_ratio, middle.centroid_shift_mm) == pytest.approx(
        (1, 0, 0)
    )
    assert slices[2].centroid_shift_mm == pytest.approx(5.0)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5), (0.25, 0.5), (1.0, 1.0)])
def test_noise_level_finds_the_deviation_that_was_added(spacing_mm):
    rng = np.random.default_rng(1)
    smooth = 500 * gaussian_filter(rng.normal(size=(120, 120)), 12) + np.linspace(0, 90, 120)
    mask = disc((60, 60), 8, (120, 120)) > 0
    region = (slice(52, 69), slice(52, 69))
    for sigma in (0.5, 4.0):
        noisy = smooth + 5 * mask + rng.normal(0, sigma, smooth.shape)
        assert noise_level(noisy, region, spacing_mm) == pytest.approx(sigma, rel=0.2)
    assert math.isnan(noise_level(smooth, (slice(3, 3), slice(0, 0)), spacing_mm))


# --- judgement -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"agreement": 0.7},
        {"detached_fraction": 0.6},
        {"removed_mm2": 2.0},
        {"area_mm2": 5.0},
        {"separation": 0.55},
        {"sharpness": 0.2},
        {"neighbour_dice": 0.4},
        {"centroid_shift_mm": 3.0},
    ],
)
def test_everything_bad_lowers_the_prediction(changes):
    assert predicted(replace(GOOD, **changes)) < predicted(GOOD) - 0.005


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


def test_dark_gray_matter_counts_as_bright_for_a_network_that_knows_it():
    dark = replace(GOOD, contrast=-GOOD.contrast, separation=1 - GOOD.separation)
    assert model_inputs([dark], knows_dark=True) == [pytest.approx(model_inputs([GOOD])[0])]
    assert predicted(dark, knows_dark=True) == pytest.approx(predicted(GOOD))


def test_a_single_slice_can_be_judged():
    alone = replace(GOOD, neighbour_dice=math.nan, log_area_ratio=math.nan, centroid_shift_mm=math.nan)
    assert predict_quality([alone]).verdict == "pass"
    assert set(model_inputs([alone])[0]) == set(REASONS) == set(fitted_model().terms)


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


# --- in the flow ---------------------------------------------------------------------------------------


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
