import csv
import json
import math
from dataclasses import replace

import keras
import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from keras_scgm import Segmenter, segment
from keras_scgm.datasets.phantom import PhantomSpec, draw_subject
from keras_scgm.outputs import write_areas
from keras_scgm.quality import (
    FAIL_DSC,
    PASS_DSC,
    TERMS,
    SliceEvidence,
    compare_with_neighbours,
    examine,
    judge,
    noise_level,
    predicted_dsc,
)

GOOD = SliceEvidence(
    area_mm2=15.0, agreement=0.98, rest=0.0, contrast=2.0, noise=1.0, likeness=0.85, jump=0.05, step_mm=0.3
)
BLANK = SliceEvidence(area_mm2=0.0)


def disc(center, radius, shape=(40, 40)):
    rows, columns = np.indices(shape)
    return (np.hypot(rows - center[0], columns - center[1]) <= radius).astype(np.float32)


# --- evidence ------------------------------------------------------------------------------------------


def test_evidence_of_a_disc_and_an_island():
    probabilities = disc((20, 20), 5)
    n = int(probabilities.sum())
    image = 10 + 3 * probabilities
    whole = examine(image, probabilities, 0.5, unit=2.0)
    assert whole.area_mm2 == pytest.approx(n * 0.25)
    assert (whole.agreement, whole.rest, whole.contrast) == pytest.approx((1.0, 0.0, 6.0))
    with_island = probabilities.copy()
    with_island[2:4, 2:5] = 1
    assert examine(image, with_island, 0.5).rest == pytest.approx(6 / (n + 6))
    assert examine(image, np.zeros_like(image), 0.5) == BLANK


def test_agreement_falls_where_passes_disagree():
    one, other = disc((20, 18), 5), disc((20, 22), 5)
    sure = examine(one, one, 0.25)
    unsure = examine(one, 0.51 * one + 0.49 * other, 0.25)
    assert sure.agreement == pytest.approx(1.0)
    mean = 0.51 * one + 0.49 * other
    assert unsure.area_mm2 == sure.area_mm2
    assert unsure.agreement == pytest.approx(2 * mean[one > 0].sum() / (mean.sum() + one.sum()))
    assert unsure.agreement < 0.85


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
        slices = [examine(s, s, 0.5, origin=o) for s, o in zip(sections, origins, strict=True)]
        for start, stop in bounds:
            compare_with_neighbours(slices, start, stop, 0.5)
        return slices

    slices = compared([(0, 5)])
    assert slices == compared([(0, 2), (2, 3), (3, 5)])
    # The second window starts two pixels lower, so both discs lie at the same place.
    assert (slices[0].likeness, slices[0].jump, slices[0].step_mm) == pytest.approx((1, 0, 0))
    assert math.isnan(slices[2].likeness)
    small, large = sections[3].sum(), sections[4].sum()
    assert slices[3].jump == slices[4].jump == pytest.approx(math.log(large / small))
    assert slices[3].step_mm == pytest.approx(3.0)
    assert slices[3].likeness == pytest.approx(2 * small / (small + large))
    assert all(one.pixels is None for one in slices[:-1])


def test_the_better_neighbour_counts():
    sections = [disc((20, 20), 5), disc((20, 20), 5), disc((30, 20), 2)]
    slices = [examine(s, s, 0.5) for s in sections]
    compare_with_neighbours(slices, 0, 3, 0.5)
    assert (slices[1].likeness, slices[1].jump, slices[1].step_mm) == pytest.approx((1, 0, 0))
    assert slices[2].step_mm == pytest.approx(5.0)


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
        {"agreement": 0.6},
        {"rest": 0.5},
        {"near_edge": True},
        {"area_mm2": 8.0},
        {"likeness": 0.4},
        {"jump": 1.0},
        {"step_mm": 2.0},
    ],
)
def test_everything_bad_lowers_the_prediction(changes):
    assert predicted_dsc(replace(GOOD, **changes)) < predicted_dsc(GOOD) - 0.01


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"area_mm2": 1.0}, "little gray matter"),
        ({"step_mm": 4.0}, "beside its neighbours"),
        ({"agreement": 0.1, "rest": 0.3, "step_mm": 0.8}, "uncertain"),
        ({"rest": 0.8, "likeness": 0.5, "step_mm": 1.2}, "several pieces"),
        ({"likeness": 0.1, "rest": 0.3, "step_mm": 1.0}, "unlike its neighbours"),
        ({"near_edge": True}, "near the edge"),
        ({"contrast": -2.0}, "darker"),
    ],
)
def test_what_speaks_most_against_a_slice_is_named(changes, reason):
    (judged,) = judge([replace(GOOD, **changes)]).slices
    assert judged.verdict != "pass"
    assert reason in judged.reason


def test_verdicts_of_slices_and_volume():
    quality = judge([BLANK, GOOD, GOOD, GOOD, BLANK])
    assert [one.verdict for one in quality.slices] == ["review", "pass", "pass", "pass", "review"]
    assert quality.verdict == "pass"
    assert quality.predicted_dsc == pytest.approx(predicted_dsc(GOOD))
    assert (quality.contrast, quality.noise) == (2.0, 1.0)

    bad = replace(GOOD, area_mm2=0.6, likeness=0.1, step_mm=4.0, rest=0.4)
    assert predicted_dsc(bad) < FAIL_DSC
    assert judge([bad] * 3).verdict == "fail"
    mostly_good = judge([GOOD] * 9 + [bad])
    assert mostly_good.predicted_dsc > PASS_DSC
    assert mostly_good.verdict == "review"

    missing = judge([GOOD, BLANK, GOOD])
    assert missing.slices[1].verdict == "fail"
    assert missing.predicted_dsc == pytest.approx(predicted_dsc(GOOD) * 2 / 3)

    empty = judge([BLANK, BLANK])
    assert (empty.verdict, empty.predicted_dsc) == ("fail", 0.0)
    json.dumps(empty.as_record(lambda k: k), allow_nan=False)


@pytest.mark.parametrize("changes", [{"contrast": -2.0}, {"near_edge": True}])
def test_some_slices_are_never_passed(changes):
    suspect = replace(GOOD, **changes)
    assert predicted_dsc(suspect) > PASS_DSC
    (judged,) = judge([suspect]).slices
    assert (judged.verdict, judged.predicted_dsc) == ("review", FAIL_DSC)
    assert predicted_dsc(GOOD) > PASS_DSC


def test_a_single_slice_can_be_judged():
    alone = replace(GOOD, likeness=math.nan, jump=math.nan, step_mm=math.nan)
    assert judge([alone]).verdict == "pass"
    assert set(alone.features) == set(TERMS)


# --- in the flow ---------------------------------------------------------------------------------------


def test_result_record_and_table_tell_the_quality(tmp_path, blob_image, bright_network):
    image = blob_image()
    result = segment(image, bright_network)
    assert result.quality.verdict == "pass"
    assert result.warnings == ()
    assert result.record["quality"]["slices"]["pass"] == [0, 1, 2, 3, 4]
    for area in result.areas:
        # Voxels of the rim that the disc partly fills take from the 200 that were drawn.
        assert 150 < area.contrast < 201
        assert area.noise == pytest.approx(1, rel=0.35)
    write_areas(tmp_path / "areas.csv", result.areas)
    with open(tmp_path / "areas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["pass"] * 5
    assert [float(row["contrast"]) for row in rows] == pytest.approx(
        [a.contrast for a in result.areas], rel=1e-4
    )
    assert rows[0]["area_sd_mm2"] == ""


def test_slices_are_judged_where_the_file_has_them(blob_image, bright_network):
    image = blob_image(shape=(120, 120, 6))
    data = np.asarray(image.dataobj).copy()
    data[..., 1] = np.roll(data[..., 1], 40, axis=0)
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


def test_dropout_passes_give_a_spread_of_the_area(blob_image, bright_network):
    gentle = keras.models.clone_model(bright_network)
    gentle.set_weights([np.full((1, 1, 1, 1), 0.5), np.full(1, -2.0)])
    result = segment(blob_image(), gentle, dropout_passes=4)
    spread = np.asarray(result.uncertainty.dataobj).sum(axis=(0, 1), dtype=float) * 0.25
    assert [area.area_sd_mm2 for area in result.areas] == pytest.approx(spread, rel=1e-4)
    assert min(spread) > 0


def test_bundled_network_tells_good_from_damaged():
    subject = draw_subject(PhantomSpec(matrix_size=100, n_slices=2, contrast_to_noise=(6.0, 6.0)), seed=7)
    segmenter = Segmenter()
    values = np.asarray(subject.image.dataobj)
    good = segmenter.segment(subject.image)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 4 * good.quality.contrast, (2, *values.shape))
    truth = np.asarray(subject.mask.dataobj) > 0
    middle = round(np.argwhere(truth)[:, 1].mean())
    damaged = {
        "noise": np.hypot(values + noise[0], noise[1]),
        "inverted": values.max() - values,
        "half outside": values[:, middle:],
    }
    assert good.quality.verdict == "pass"
    for name, data in damaged.items():
        quality = segmenter.segment(nib.Nifti1Image(data.astype(np.float32), subject.image.affine)).quality
        assert quality.verdict != "pass", name
        assert quality.predicted_dsc < good.quality.predicted_dsc - 0.1, name
