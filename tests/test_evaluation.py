"""Metrics against reference values, brute force and other libraries; whole evaluations of files."""

import csv
import json
import math
import shutil
from functools import partial
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import wilcoxon

from keras_scgm import InputError, evaluate
from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    FCN_METRICS,
    Comparison,
    MeasuredMask,
    challenge_metrics,
    compare_models,
    fcn_metrics,
    inter_rater_agreement,
    published,
    summary_text,
    table2,
    table3,
    write_evaluation,
)
from keras_scgm.evaluation.skeleton import thin
from keras_scgm.evaluation.summary import bootstrap_interval
from keras_scgm.evaluation.surface import DirectedDistances
from keras_scgm.evaluation.tables import all_tables

CASES = (
    "identical",
    "dilate1",
    "shift1",
    "dilate1_empty5",
    "dilate1_vs_refempty5",
    "bothempty5",
    "erode2",
    "noise_island",
)
TOYS = ("square5_shift1", "square3_in_square9", "edge_touch", "line_half_overlap")


@pytest.fixture(scope="module")
def expected(reference):
    return json.loads((reference / "metrics" / "metrics_reference.json").read_text())


@pytest.fixture(scope="module")
def masks(reference):
    return dict(np.load(reference / "metrics" / "masks.npz"))


def same(measured, wanted):
    """To a relative 1e-9; null in the file means undefined."""
    measured = np.atleast_1d(np.asarray(measured, float))
    wanted = np.atleast_1d(np.array(wanted, float))
    np.testing.assert_allclose(measured, wanted, rtol=1e-9, atol=1e-13)


def column(comparison, name):
    return [row[name] for row in comparison.slices()]


def test_every_case_of_the_reference_file_is_tested(expected):
    assert set(expected["cases"]) == set(CASES)
    assert set(expected["toys"]) == set(TOYS)


@pytest.mark.parametrize("name", CASES)
def test_reference_values(name, expected, masks):
    case = expected["cases"][name]
    prediction, reference = masks[case["pred"]], masks[case["ref"]]
    spacing_mm = case["spacing_mm_xyz"]
    comparison = Comparison.of(MeasuredMask(prediction, spacing_mm), MeasuredMask(reference, spacing_mm))
    details, rows = comparison.details(), comparison.slices()
    for count in ("TP", "FP", "FN", "TN"):
        assert details[count] == case["counts"][count]

    values = challenge_metrics(prediction, reference, spacing_mm)
    assert tuple(values) == CHALLENGE_METRICS
    for metric, overlap in case["volume_overlap"].items():
        same(values[metric], overlap["value"])
    for metric, overlap in case["slice_overlap"].items():
        same(column(comparison, metric), overlap["value"])
    surface = case["surface_3d"]
    same(values["HSD"], surface["HSD"]["value"])
    same(values["MSD"], surface["MSD_assd"]["value"])
    same(details["MSD_prediction_to_reference"], surface["asd_pred2ref"]["value"])
    same(details["MSD_reference_to_prediction"], surface["asd_ref2pred"]["value"])
    directed_means = [details["MSD_prediction_to_reference"], details["MSD_reference_to_prediction"]]
    same(np.mean(directed_means), surface["MSD_masd"]["value"])
    same(max(directed_means), surface["MSD_maxdir"]["value"])
    in_plane = case["surface_2d_per_slice"]
    same(column(comparison, "HSD"), in_plane["HSD"]["value"])
    same(column(comparison, "MSD"), in_plane["MSD_assd"]["value"])
    same(details["HSD_2d"], in_plane["HSD"]["mean_finite"])
    same(details["MSD_2d"], in_plane["MSD_assd"]["mean_finite"])
    pooled = np.concatenate(
        [part for slice_ in comparison.slice_surfaces for part in (slice_.to_reference, slice_.to_prediction)]
    )
    same(pooled.mean(), case["surface_2d_pooled_over_slices"]["MSD"])
    skeleton = case["skeleton_0p1mm"]
    for metric, key in (("SHD", "SHD"), ("SMD", "SMD_sct")):
        same(column(comparison, metric), skeleton[key]["value"])
        same(values[metric], skeleton[key]["mean_finite"])
    filled = (prediction | reference).any(axis=(0, 1))
    excluded = [k for k, row in enumerate(rows) if math.isnan(row["HSD"])]
    assert excluded == case["slices_excluded_from_distance_means"]
    assert details["n_slices_without_surface_distance"] == sum(filled[excluded])

    table_3 = fcn_metrics(prediction, reference)
    assert tuple(table_3) == FCN_METRICS
    for metric, value in case["fcn_volume"].items():
        same(table_3[metric], value["value"])
    for metric, value in case["fcn_slice"].items():
        same(column(comparison, metric), value["value"])
        same(np.nanmean(column(comparison, metric)), value["mean_finite"])


@pytest.mark.parametrize("name", CASES)
def test_reference_values_of_skeletons_on_the_native_grid(name, expected, masks):
    case = expected["cases"][name]
    skeletons = [
        [np.argwhere(pixels) * 0.5 for pixels in thin(np.moveaxis(masks[case[key]] > 0, 2, 0))]
        for key in ("pred", "ref")
    ]
    pairs = [DirectedDistances.between(*pair) for pair in zip(*skeletons, strict=True)]
    same([pair.maximum for pair in pairs], case["skeleton_native"]["SHD"]["value"])
    same([pair.larger_median for pair in pairs], case["skeleton_native"]["SMD_sct"]["value"])


def test_specificity_over_the_whole_field(expected, masks):
    for case in expected["cases"].values():
        pair = np.zeros((2, 320, 320, 11), bool)
        pair[:, 152:193, 139:181] = masks[case["pred"]], masks[case["ref"]]
        values = challenge_metrics(*pair, spacing_mm=(0.5, 0.5, 7.5))
        same(values["TNR"], case["volume_TNR_full_320x320x11"])
        same(values["HSD"], case["surface_3d"]["HSD"]["value"])


@pytest.mark.parametrize("name", TOYS)
def test_reference_toys(name, expected, masks):
    toy = expected["toys"][name]
    prediction, reference = masks[f"toy_{name}_pred"] > 0, masks[f"toy_{name}_ref"] > 0
    values = challenge_metrics(prediction, reference, toy["spacing_mm"])
    for metric, value in toy["overlap"].items():
        same(values[metric], value)
    same(values["HSD"], toy["surface"]["HSD"]["value"])
    same(values["MSD"], toy["surface"]["MSD_assd"]["value"])
    skeletons = [
        np.argwhere(thin(mask[np.newaxis])[0]) * toy["spacing_mm"] for mask in (prediction, reference)
    ]
    distances = DirectedDistances.between(*skeletons)
    same(distances.maximum, toy["skeleton"]["SHD"])
    same(distances.larger_median, toy["skeleton"]["SMD_sct"])


# Own toys, worked out by hand.


def bars(length=30):
    """Two bars 2 voxels wide, one ending 4 voxels before the other, in slices 1 and 2 of 4."""
    prediction, reference = np.zeros((2, 12, length + 6, 4), bool)
    reference[4:6, 3 : 3 + length, 1:3] = True
    prediction[4:6, 3 : 3 + length - 4, 1:3] = True
    return prediction, reference


def test_bars_by_hand():
    prediction, reference = bars()
    values = challenge_metrics(prediction, reference, (0.5, 0.5, 4.0))
    TP, FN, n_voxels = 26 * 4, 4 * 4, prediction.size
    assert values["DSC"] == pytest.approx(2 * TP / (2 * TP + FN))
    assert values["JI"] == pytest.approx(TP / (TP + FN))
    assert values["TPR"] == pytest.approx(100 * TP / (TP + FN))
    assert values["PPV"] == values["TNR"] == 100
    assert values["CC"] == pytest.approx(100 * (1 - FN / TP))
    # Every voxel is contour. The reference's last four columns are 1 to 4 voxels from the prediction.
    assert values["HSD"] == pytest.approx(4 * 0.5)
    assert values["MSD"] == pytest.approx(0.5 * (1 + 2 + 3 + 4) * 4 / (2 * TP + FN))
    table_3 = fcn_metrics(prediction, reference)
    TN = n_voxels - TP - FN
    assert table_3["pixel_accuracy"] == pytest.approx((TP + TN) / n_voxels)
    assert table_3["mean_accuracy"] == pytest.approx((TP / (TP + FN) + 1) / 2)
    gray_iu, other_iu = TP / (TP + FN), TN / (TN + FN)
    assert table_3["mean_iu"] == pytest.approx((gray_iu + other_iu) / 2)
    assert table_3["fw_iu"] == pytest.approx(((TP + FN) * gray_iu + TN * other_iu) / n_voxels)


def test_one_voxel_each_in_a_grid_of_three_spacings():
    prediction, reference = np.zeros((2, 9, 8, 7), bool)
    prediction[1, 2, 3] = reference[4, 6, 5] = True
    values = challenge_metrics(prediction, reference, (0.3, 0.6, 2.5))
    distance_mm = math.sqrt(0.9**2 + 2.4**2 + 5.0**2)
    assert values["HSD"] == values["MSD"] == pytest.approx(distance_mm)
    assert values["DSC"] == values["TPR"] == values["PPV"] == 0
    assert math.isnan(values["CC"])
    # They share no slice, so nothing can be said in the plane.
    assert math.isnan(values["SHD"])


def test_a_slice_that_only_one_mask_has_is_left_out_and_counted():
    prediction, reference = bars()
    prediction[:, :, 2] = False
    pair = [MeasuredMask(mask, (0.5, 0.5, 4.0)) for mask in (prediction, reference)]
    comparison = Comparison.of(*pair)
    details = comparison.details()
    assert details["n_slices"] == 2
    assert details["n_slices_without_surface_distance"] == 1
    assert details["n_slices_without_skeleton_distance"] == 1
    assert details["HSD_2d"] == pytest.approx(2.0)
    assert comparison.surface.maximum == pytest.approx(math.hypot(2.0, 4.0))


def test_a_block_of_two_by_two_has_no_skeleton():
    assert not thin(np.pad(np.ones((1, 2, 2), bool), ((0, 0), (3, 3), (3, 3)))).any()
    block, bar = np.zeros((2, 10, 10, 1), bool)
    block[4:6, 4:6], bar[4, 2:8] = True, True
    # At 0.1 mm voxels are pixels.
    comparison = Comparison.of(*(MeasuredMask(mask, (0.1, 0.1, 1.0)) for mask in (block, bar)))
    values = comparison.challenge_metrics()
    assert math.isnan(values["SHD"])
    assert math.isnan(values["SMD"])
    assert values["HSD"] > 0
    assert comparison.details()["n_slices_without_skeleton_distance"] == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "zero", "undefined"),
    [
        (0, 1, {"DSC", "JI", "TPR"}, {"PPV", "CC"}),
        (1, 0, {"DSC", "JI", "PPV"}, {"TPR", "CC"}),
        (0, 0, set(), {"DSC", "JI", "TPR", "PPV", "CC"}),
    ],
)
def test_empty_masks(prediction, reference, zero, undefined):
    _, mask = bars()
    values = challenge_metrics(mask & bool(prediction), mask & bool(reference), (0.5, 0.5, 4.0))
    undefined = undefined | {"HSD", "MSD", "SHD", "SMD"}
    assert {name for name, value in values.items() if math.isnan(value)} == undefined
    assert {name for name, value in values.items() if value == 0} == zero
    table_3 = fcn_metrics(mask & bool(prediction), mask & bool(reference))
    assert math.isnan(table_3["recall"]) == math.isnan(table_3["mean_accuracy"]) == (not reference)
    assert not math.isnan(table_3["fw_iu"])


def test_arguments_are_checked():
    mask = np.zeros((4, 4, 2), bool)
    with pytest.raises(ValueError, match=r"same shape, received \(4, 4, 2\) and \(4, 4, 1\)"):
        challenge_metrics(mask, mask[..., :1], (1, 1, 1))
    with pytest.raises(ValueError, match="same shape"):
        fcn_metrics(mask, mask[..., :1])
    for values in (np.full((4, 4, 2), 2), np.full((4, 4, 2), np.nan), np.full((4, 4, 2), 0.5)):
        with pytest.raises(ValueError, match="0 and 1 only"):
            challenge_metrics(values, mask, (1, 1, 1))
        with pytest.raises(ValueError, match="0 and 1 only"):
            fcn_metrics(values, mask)
    for spacing_mm in ((1, 1), (1, 1, 0), (1, 1, math.nan)):
        with pytest.raises(ValueError, match="spacing_mm must be 3 positive numbers"):
            challenge_metrics(mask, mask, spacing_mm)
    with pytest.raises(ValueError, match="2 or 3 axes"):
        challenge_metrics(mask[0, 0], mask[0, 0], (1,))
    with pytest.raises(ValueError, match="same spacing"):
        Comparison.of(MeasuredMask(mask, (1, 1, 1)), MeasuredMask(mask, (1, 1, 2)))


# Brute force.


def brute_contour(mask):
    padded = np.pad(mask, 1)
    points = []
    for index in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = index + 1
                neighbour[axis] += step
                if not padded[tuple(neighbour)]:
                    points.append(tuple(index))
    return np.array(sorted(set(points))).reshape(-1, mask.ndim)


def brute_distances(prediction, reference):
    if not len(prediction) or not len(reference):
        return None
    matrix = cdist(prediction, reference)
    return matrix.min(axis=1), matrix.min(axis=0)


def brute_thin(mask):
    """Zhang and Suen (1984), pixel by pixel."""
    mask = np.pad(mask, 1).astype(int)
    changed = True
    while changed:
        changed = False
        for step in (0, 1):
            doomed = []
            for i, j in np.argwhere(mask):
                p = [mask[i - 1, j], mask[i - 1, j + 1], mask[i, j + 1], mask[i + 1, j + 1]]
                p += [mask[i + 1, j], mask[i + 1, j - 1], mask[i, j - 1], mask[i - 1, j - 1]]
                rises = sum(p[k] == 0 and p[(k + 1) % 8] == 1 for k in range(8))
                north, east, south, west = p[0], p[2], p[4], p[6]
                if step == 0:
                    free = north * east * south == 0 and east * south * west == 0
                else:
                    free = north * east * west == 0 and north * south * west == 0
                if 2 <= sum(p) <= 6 and rises == 1 and free:
                    doomed.append((i, j))
            for pixel in doomed:
                mask[pixel] = 0
            changed = changed or bool(doomed)
    return mask[1:-1, 1:-1] > 0


def brute_skeleton(mask, spacing_mm):
    sources = []
    for n_voxels, mm in zip(mask.shape, spacing_mm, strict=True):
        n_pixels = round(n_voxels * mm / 0.1)
        indices = [math.floor(j * n_voxels / n_pixels + 0.5) for j in range(n_pixels)]
        sources.append([min(index, n_voxels - 1) for index in indices])
    return np.argwhere(brute_thin(mask[np.ix_(*sources)])) * 0.1


def brute_challenge(prediction, reference, spacing_mm):
    surface = brute_distances(brute_contour(prediction) * spacing_mm, brute_contour(reference) * spacing_mm)
    SHD, SMD = [], []
    for k in range(prediction.shape[2]):
        pair = (brute_skeleton(mask[..., k], spacing_mm[:2]) for mask in (prediction, reference))
        both = brute_distances(*pair)
        if both:
            SHD.append(max(part.max() for part in both))
            SMD.append(max(np.median(part[part > 0]) if part.any() else 0 for part in both))
    return {
        "MSD": np.mean(np.concatenate(surface)) if surface else np.nan,
        "HSD": max(part.max() for part in surface) if surface else np.nan,
        "SHD": np.mean(SHD) if SHD else np.nan,
        "SMD": np.mean(SMD) if SMD else np.nan,
    }


@st.composite
def blobs(draw):
    """Two overlapping masks of discs, some of them touching the edge, and an anisotropic spacing."""
    shape = draw(st.tuples(st.integers(3, 11), st.integers(3, 11), st.integers(1, 4)))
    spacing_mm = draw(st.tuples(*(st.sampled_from([0.2, 0.25, 0.3, 0.35, 0.5]),) * 2, st.floats(0.3, 8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = np.indices(shape).reshape(3, -1).T
    pair = []
    for _ in range(2):
        centers, radii = rng.uniform(0, shape, (4, 3)), rng.uniform(0.8, 3.5, 4)
        pair.append((cdist(grid, centers) < radii).any(axis=1).reshape(shape))
    return *pair, spacing_mm


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_masks_agree_with_brute_force(case):
    prediction, reference, spacing_mm = case
    values = challenge_metrics(prediction, reference, spacing_mm)
    for metric, value in brute_challenge(prediction, reference, spacing_mm).items():
        same(values[metric], value)

    for order in permutations(range(3)):
        turned = challenge_metrics(
            prediction.transpose(order), reference.transpose(order), [spacing_mm[axis] for axis in order]
        )
        for metric in set(CHALLENGE_METRICS) - {"SHD", "SMD"}:
            same(turned[metric], values[metric])

    field = np.zeros((2, 90, 110, 20), bool)
    rows, columns, slices = prediction.shape
    field[:, 40 : 40 + rows, 70 : 70 + columns, 9 : 9 + slices] = prediction, reference
    large = challenge_metrics(*field, spacing_mm)
    for metric in ("DSC", "TPR", "PPV", "JI", "CC", "HSD", "MSD"):
        same(large[metric], values[metric])

    swapped = challenge_metrics(reference, prediction, spacing_mm)
    same(swapped["TPR"], values["PPV"])
    for metric in ("DSC", "JI", "CC", "MSD", "HSD", "SHD", "SMD"):
        same(swapped[metric], values[metric])


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_slices_agree_with_scikit_learn(case):
    sklearn = pytest.importorskip("sklearn.metrics")
    prediction, reference, _ = case
    values = fcn_metrics(prediction, reference)
    truth, found = reference.ravel(), prediction.ravel()
    both = [False, True]
    same(values["pixel_accuracy"], sklearn.accuracy_score(truth, found))
    if truth.any() and not truth.all():
        same(values["recall"], sklearn.recall_score(truth, found))
        same(values["mean_accuracy"], sklearn.balanced_accuracy_score(truth, found))
        same(values["dice"], sklearn.f1_score(truth, found))
        same(values["mean_iu"], sklearn.jaccard_score(truth, found, labels=both, average="macro"))
        same(values["fw_iu"], sklearn.jaccard_score(truth, found, labels=both, average="weighted"))
    if found.any():
        same(values["precision"], sklearn.precision_score(truth, found))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_surfaces_agree_with_mikan(case):
    mikan = pytest.importorskip("mikan", exc_type=ImportError)
    prediction, reference, spacing_mm = case
    if not (prediction.any() and reference.any()):
        return
    values = challenge_metrics(prediction, reference, spacing_mm)
    # Its arrays have the axes in reverse, and it wants a rim of background.
    arrays = (np.pad(mask, 1).astype(np.uint8).T.copy() for mask in (reference, prediction))
    theirs = mikan.ArrayEvaluator(*arrays, spacing_mm).labels(1).metrics(["hausdorff_distance", "assd"])
    same([values["HSD"], values["MSD"]], theirs)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_surfaces_agree_with_grand_challenge_metrics(case):
    stats = pytest.importorskip("grand_challenge_metrics.stats")
    prediction, reference, spacing_mm = case
    if prediction.any() and reference.any():
        theirs = stats.hausdorff_distance(prediction, reference, voxelspacing=spacing_mm, connectivity=1)
        same(challenge_metrics(prediction, reference, spacing_mm)["HSD"], theirs)


@pytest.mark.parametrize("name", CASES)
def test_keras_metrics_agree_on_hard_masks(name, expected, masks):
    from keras_scgm.metrics import HardDice, SoftDice

    case = expected["cases"][name]
    prediction, reference = (np.moveaxis(masks[case[key]], 2, 0)[..., np.newaxis] for key in ("pred", "ref"))
    for metric in (HardDice(), SoftDice()):
        metric.update_state(reference, prediction)
        assert float(metric.result()) == pytest.approx(case["volume_overlap"]["DSC"]["value"], rel=1e-6)


# Evaluations of files.

AFFINE = np.diag([-0.5, 0.5, 4.0, 1.0])


def disc(radius=4.0, shift=(0.0, 0.0), shape=(40, 36, 4)):
    rows, columns = np.indices(shape[:2])
    inside = np.hypot(rows - 19.5 - shift[0], columns - 17.5 - shift[1]) < radius
    mask = np.repeat(inside[..., np.newaxis], shape[2], axis=2)
    mask[..., 0] = False
    return mask


def save(path, mask, affine=AFFINE, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.asarray(mask).astype(dtype), affine).to_filename(path)
    return path


@pytest.fixture(scope="module")
def drawn_study(tmp_path_factory):
    """Three sites with two subjects, three raters; "good" draws like them and "poor" smaller."""
    folder = tmp_path_factory.mktemp("study")
    for site in (1, 2, 3):
        for number in (1, 2):
            stem = f"site{site}-sc{number:02d}"
            radius = 4 + 0.4 * site + 0.2 * number
            for rater, wider in ((1, 0.0), (2, 0.5), (3, -0.4)):
                gray = disc(radius + wider)
                white = disc(radius + 6) & ~gray
                save(folder / "raters" / f"{stem}-mask-r{rater}.nii.gz", gray + 2 * white)
            image = 100.0 + 50 * disc(radius) + np.random.default_rng(number).normal(0, 5, (40, 36, 4))
            save(folder / "raters" / f"{stem}-image.nii.gz", image, dtype=np.float32)
            save(folder / "good" / f"{stem}-image_gmseg.nii.gz", disc(radius + 0.1))
            save(folder / "poor" / f"{stem}-image_gmseg.nii.gz", disc(radius - 1.5, (0.6, 0.3)))
    return folder


@pytest.fixture
def run(run):
    return partial(run, "evaluate")


@pytest.fixture
def study(drawn_study, tmp_path):
    """A copy to change."""
    return Path(shutil.copytree(drawn_study, tmp_path / "study"))


@pytest.fixture(scope="module")
def result(drawn_study):
    return evaluate({"good": drawn_study / "good", "poor": drawn_study / "poor"}, drawn_study / "raters")


def test_challenge_layout(result):
    assert not result.errors
    assert not result.warnings
    assert len(result.scores) == 2 * 6 * 3
    assert len(result.rater_scores) == 6 * 3 * 2
    assert (result.raters, result.sites) == (("r1", "r2", "r3"), ("1", "2", "3"))
    assert all(case.image is not None for case in result.cases)
    score = next(
        s for s in result.scores if (s.annotator, s.case_id, s.rater) == ("good", "site2-sc01", "r2")
    )
    # The white matter of the masks does not count, and the spacing comes from the header.
    wanted = challenge_metrics(disc(5.1), disc(5.5), (0.5, 0.5, 4.0))
    assert score.challenge == pytest.approx(wanted, nan_ok=True)
    assert score.site_id == "2"


def test_summaries_run_over_pairs_and_slices(result):
    scores = [score.challenge["DSC"] for score in result.of_model("good")]
    cell = f"{np.mean(scores):.2f} ({np.std(scores, ddof=1):.2f})"
    table = table2(result, with_published=True)
    assert table.rows[0][:2] == ("DSC", cell)
    assert [row[0].split()[0] for row in table.rows] == list(CHALLENGE_METRICS)
    assert table.columns[:4] == ("", "good", "poor", "JCSCS (published)")
    assert table.rows[0][-1] == "0.85 (0.04)"

    dice = [row["dice"] for score in result.of_model("good") for row in score.slices]
    assert sum(map(math.isnan, dice)) == 18
    table = table3(result)
    assert table.rows[1][:2] == ("Dice", f"{np.nanmean(dice):.4f} ({np.nanstd(dice, ddof=1):.2f})")
    assert "Dice good 18" in table.notes[0]


def test_parameters_of_table_3(drawn_study):
    result = evaluate(drawn_study / "good", drawn_study / "raters", parameters={"good": 124769})
    assert table3(result, with_published=True).rows[0] == ("Num. of Params.", "124,769", "776,321", "124,769")
    with pytest.raises(InputError, match="parameters of bad: no such model; there are good"):
        evaluate(drawn_study / "good", drawn_study / "raters", parameters={"bad": 1})


def test_written_files(result, tmp_path):
    written = write_evaluation(result, tmp_path / "out", with_published=True)
    assert {path.name for path in written} == {path.name for path in (tmp_path / "out").iterdir()}
    with open(tmp_path / "out" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.scores)
    first = result.scores[0]
    assert float(rows[0]["HSD_mm"]) == first.challenge["HSD"]
    assert float(rows[0]["TPR_percent"]) == first.challenge["TPR"]
    assert int(rows[0]["TP"]) == first.details["TP"]
    with open(tmp_path / "out" / "slices.csv", newline="") as file:
        slices = list(csv.DictReader(file))
    assert len(slices) == 4 * len(result.scores)
    assert slices[0]["DSC"] == ""
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    good = summary["models"]["good"]
    assert good["table2"]["DSC"]["n"] == 18
    assert good["table3"]["dice"]["n_undefined"] == 18
    assert set(good["sites"]) == {f"{how}site {n}" for how in ("", "without ") for n in (1, 2, 3)}
    at_2 = [score.challenge["DSC"] for score in result.of_model("good") if score.site_id == "2"]
    assert good["sites"]["site 2"]["DSC"]["mean"] == pytest.approx(np.mean(at_2))
    others = [score.challenge["DSC"] for score in result.of_model("good") if score.site_id != "2"]
    assert good["sites"]["without site 2"]["DSC"]["mean"] == pytest.approx(np.mean(others))
    latex = (tmp_path / "out" / "table2.tex").read_text()
    assert r"TPR (\%) & " in latex
    assert latex.count(r"\\") == 1 + len(CHALLENGE_METRICS)


def test_tables_of_an_earlier_evaluation_go_with_it(result, tmp_path):
    before = {path.name for path in write_evaluation(result, tmp_path, with_published=True)}
    (tmp_path / "notes.txt").write_text("mine")
    after = {path.name for path in write_evaluation(result, tmp_path)}
    assert before - after == {"table1.csv", "table1.tex"}
    assert {path.name for path in tmp_path.iterdir()} == {*after, "notes.txt"}


def test_an_unwritable_folder_is_an_input_error(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="writing failed"):
        write_evaluation(result, tmp_path / "file")


def test_models_are_tested_case_by_case(result, drawn_study):
    tests = {test.metric: test for test in compare_models(result)}
    assert set(tests) == set(CHALLENGE_METRICS)
    dsc = tests["DSC"]
    assert (dsc.first, dsc.second, dsc.n_cases) == ("good", "poor", 6)
    of_case = {
        model: [
            np.mean([s.challenge["DSC"] for s in result.of_model(model) if s.case_id == case.case_id])
            for case in result.cases
        ]
        for model in ("good", "poor")
    }
    differences = np.subtract(of_case["good"], of_case["poor"])
    assert dsc.difference == pytest.approx(differences.mean())
    assert dsc.p_value == pytest.approx(wilcoxon(differences).pvalue) == pytest.approx(2 / 2**6)
    assert 0 < dsc.interval[0] < dsc.difference < dsc.interval[1]
    p_values = sorted(test.p_value for test in tests.values())
    assert min(test.p_holm for test in tests.values()) == pytest.approx(min(1, 10 * p_values[0]))
    assert all(test.p_value <= test.p_holm <= 1 for test in tests.values())
    assert compare_models(evaluate(drawn_study / "good", drawn_study / "raters")) == []


def test_equal_models_do_not_differ(drawn_study):
    result = evaluate({"one": drawn_study / "good", "two": drawn_study / "good"}, drawn_study / "raters")
    assert {(test.difference, test.p_value, test.p_holm) for test in compare_models(result)} == {(0, 1, 1)}


def test_bootstrap_interval_covers_the_mean():
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        low, high = bootstrap_interval(rng.normal(3, 1, 30), seed)
        hits += low < 3 < high
    assert 51 <= hits <= 60
    assert np.isnan(bootstrap_interval(np.ones(1))).all()


def test_fewer_than_six_values_give_no_interval():
    assert np.isnan(bootstrap_interval(np.arange(5.0))).all()
    low, high = bootstrap_interval(np.arange(6.0))
    assert 0 < low < 2.5 < high < 5


def test_tables_of_few_cases_show_no_interval(tmp_path):
    for number in range(3):
        for model, radius in (("one", 4), ("two", 5)):
            save(tmp_path / model / f"c{number}.nii", disc(radius))
        save(tmp_path / "manual" / f"c{number}.nii", disc(4.5 + 0.1 * number))
    result = evaluate({name: tmp_path / name for name in ("one", "two")}, tmp_path / "manual")
    tables = {table.name: table for table in all_tables(result)}
    assert all("[" not in row[4] for row in tables["models"].rows)
    assert "fewer than 6 cases have none" in tables["models"].notes[0]


def test_areas_and_volumes(result, tmp_path):
    write_evaluation(result, tmp_path)
    with open(tmp_path / "cases.csv", newline="") as file:
        row = next(
            row
            for row in csv.DictReader(file)
            if (row["model"], row["case"], row["rater"]) == ("good", "site2-sc01", "r2")
        )
    for name, mask in (("prediction", disc(5.1)), ("reference", disc(5.5))):
        assert float(row[f"volume_{name}_mm3"]) == pytest.approx(mask.sum())
        filled = mask.any(axis=(0, 1)).sum()
        assert float(row[f"mean_area_{name}_mm2"]) == pytest.approx(mask.sum() * 0.25 / filled)

    # By hand: the raters' mean is 0.1 of a rater's spread away, the model 0.1 mm of radius.
    def areas(radius):
        return disc(radius).sum(axis=(0, 1)) * 0.25

    pairs = []
    for site, number in ((site, number) for site in (1, 2, 3) for number in (1, 2)):
        radius = 4 + 0.4 * site + 0.2 * number
        raters = np.mean([areas(radius + wider) for wider in (0.0, 0.5, -0.4)], axis=0)
        pairs += [pair for pair in zip(areas(radius + 0.1), raters, strict=True) if any(pair)]
    differences = -np.diff(pairs, axis=1)
    bias, reach = differences.mean(), 1.96 * differences.std(ddof=1)
    tables = {table.name: table for table in all_tables(result)}
    first = tables["agreement"].rows[0]
    assert first[:3] == ("good", "slice area (mm2)", str(len(pairs)))
    assert first[4:] == (f"{bias:.2f}", f"[{bias - reach:.2f}, {bias + reach:.2f}]")
    assert [row[:3] for row in tables["agreement"].rows[1:3]] == [
        ("good", "volume (mm3)", "6"),
        ("poor", "slice area (mm2)", str(len(pairs))),
    ]


def partly(mask, slices):
    return mask * np.isin(np.arange(mask.shape[2]), slices)


def full_disc(radius):
    return np.repeat(disc(radius)[:, :, 1:2], 5, axis=2)


def test_annotated_slices_only(tmp_path, run):
    found = save(tmp_path / "found.nii", full_disc(5))
    wanted = save(tmp_path / "wanted.nii", partly(full_disc(4), [1, 3]))
    plain = evaluate(found, wanted)
    assert plain.warnings == (
        "empty slices between annotated ones, taken as free of gray matter (to leave them out, "
        "--annotated-slices): 1 references, wanted.nii (1)",
    )
    result = evaluate(found, wanted, annotated_only=True)
    assert result.warnings == ()
    (score,) = result.scores
    section = disc(5)[:, :, 1], disc(4)[:, :, 1]
    dice = 2 * (section[0] & section[1]).sum() / (section[0].sum() + section[1].sum())
    assert score.challenge["DSC"] == pytest.approx(dice)
    assert plain.scores[0].challenge["DSC"] < 0.65 * dice
    assert [row["slice_from_inferior"] for row in score.slices] == [1, 3]
    assert [row["dice"] for row in score.slices] == pytest.approx([dice, dice])
    assert score.details["TN"] == 2 * (section[0].size - (section[0] | section[1]).sum())
    assert score.details["volume_reference_mm3"] == 2 * section[1].sum()
    code, out, err = run(found, wanted, "--annotated-slices")
    assert (code, err) == (0, "")
    assert "annotated slices only: 2 compared, 3 without annotation left out" in out


def test_raters_are_compared_where_both_annotated(tmp_path):
    found = save(tmp_path / "found.nii", full_disc(5))
    raters = [
        save(tmp_path / f"{name}.nii", partly(full_disc(4), slices))
        for name, slices in (("one", [0, 1, 2]), ("two", [2, 3]))
    ]
    result = evaluate(found, raters, annotated_only=True)
    assert [score.details["n_slices_compared"] for score in result.scores] == [3, 2]
    assert [score.challenge["DSC"] for score in result.rater_scores] == [1, 1]


def test_a_reference_without_annotation_has_no_slice_to_compare(tmp_path):
    found = save(tmp_path / "found.nii", full_disc(5))
    result = evaluate(found, save(tmp_path / "empty.nii", 0 * full_disc(5)), annotated_only=True)
    assert math.isnan(result.scores[0].challenge["DSC"])
    write_evaluation(result, tmp_path / "out")
    header = (tmp_path / "out" / "slices.csv").read_text().splitlines()
    assert len(header) == 1
    assert header[0].startswith("model,case,site,rater,slice_from_inferior,DSC,MSD_mm,")


def test_a_bad_rater_is_reported_once(tmp_path):
    one, two = save(tmp_path / "one.nii", disc(5)), save(tmp_path / "two.nii", disc(5)[:-1])
    good, bad = (
        save(tmp_path / "good.nii", disc(4)),
        save(tmp_path / "bad.nii", 0.5 * disc(4), dtype=np.float32),
    )
    result = evaluate({"one": one, "two": two}, [good, bad])
    assert [error for error in result.errors if error.startswith(str(bad))] == [
        f"{bad}: holds 0, 0.5, probabilities and not labels; cut it at 0.5 first"
    ]


def test_a_grid_within_the_tolerance_is_the_same_grid(tmp_path):
    """Spacing off by 0.1 % moves the last of 40 voxels by 0.02 mm."""
    found = save(tmp_path / "found.nii", disc(5))
    wanted = save(tmp_path / "wanted.nii", disc(4), AFFINE * [1.001, 1, 1, 1])
    result = evaluate(found, wanted)
    assert result.scores[0].challenge == pytest.approx(challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0)))


def test_inter_rater_agreement(result, drawn_study):
    agreement = next(agreement for agreement in inter_rater_agreement(result) if agreement.metric == "DSC")
    means = {
        name: np.mean([s.challenge["DSC"] for s in result.rater_scores if s.annotator == name])
        for name in ("r1", "r2", "r3")
    }
    assert agreement.rater_means == pytest.approx(means)
    assert agreement.bounds == pytest.approx((min(means.values()), max(means.values())))
    assert agreement.all_raters == pytest.approx(np.mean(list(means.values())))
    good, poor = agreement.models["good"], agreement.models["poor"]
    assert good.mean == pytest.approx(np.mean([s.challenge["DSC"] for s in result.of_model("good")]))
    assert good.n_raters_reached == 3
    assert good.cases_in_range == 1
    assert good.interval[0] > 0
    assert (poor.n_raters_reached, poor.cases_in_range) == (0, 0)
    assert poor.interval[1] < 0
    distances = next(agreement for agreement in inter_rater_agreement(result) if agreement.metric == "HSD")
    assert distances.bounds[0] > distances.bounds[1]
    assert distances.models["poor"].n_raters_reached == 0
    one_rater = drawn_study / "raters" / "site1-sc01-mask-r1.nii.gz"
    assert inter_rater_agreement(evaluate(drawn_study / "good", one_rater)) == []


def test_published_values_are_consistent():
    table_2 = published()["table2"]
    assert len(table_2) == 7
    for values in table_2.values():
        assert set(values) == set(CHALLENGE_METRICS)
        dsc = values["DSC"][0]
        # Means of a curve are not the curve of means, and the paper has two decimals.
        assert values["JI"][0] == pytest.approx(dsc / (2 - dsc), abs=0.02)
    for values in published()["table3"].values():
        assert set(values) == {"parameters", *FCN_METRICS}
    assert len(published()["table1"]["rows"]) == 7


def test_two_files_belong_together_whatever_their_names(tmp_path):
    one, other = save(tmp_path / "a.nii", disc(5)), save(tmp_path / "b.nii.gz", disc(4), dtype=np.float32)
    result = evaluate(one, other)
    assert (result.models, result.cases[0].case_id) == (("a",), "b")
    assert result.scores[0].challenge == challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0))


def test_folders_match_by_name(tmp_path):
    for name in ("sub-1_T2star", "sub-10_T2star", "sub-1"):
        save(tmp_path / "found" / f"{name}_gmseg.nii.gz", disc(5))
        save(tmp_path / "found" / f"{name}.nii.gz", disc(9))
        for rater in ("anna", "ben"):
            save(tmp_path / rater / f"{name}_gmseg-manual.nii.gz", disc(4))
    save(tmp_path / "found" / "sub-3_gmseg.nii.gz", disc(5))
    save(tmp_path / "anna" / "sub-4_gmseg.nii.gz", disc(5))
    (tmp_path / "ben" / "sub-1_gmseg-manual.nii.gz").unlink()
    result = evaluate(tmp_path / "found", [tmp_path / "anna", tmp_path / "ben"])
    assert [case.case_id for case in result.cases] == ["sub-1", "sub-10_T2star", "sub-1_T2star"]
    assert result.raters == ("anna", "ben")
    assert result.warnings == (
        "no reference for 1 files: sub-3_gmseg.nii.gz",
        "no prediction for 1 files: sub-4_gmseg.nii.gz",
        "fewer than 2 raters for 1 cases: sub-1",
    )
    assert {score.challenge["DSC"] for score in result.scores} == {
        challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0))["DSC"]
    }


def test_storage_order_does_not_matter(tmp_path):
    path = save(tmp_path / "a.nii", disc(5, (3, 1)))
    image = nib.load(save(tmp_path / "b.nii", disc(4)))
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("S", "P", "R")))
    turned.to_filename(tmp_path / "turned.nii")
    assert turned.shape != image.shape
    plain, other = (evaluate(path, tmp_path / name).scores[0] for name in ("b.nii", "turned.nii"))
    assert other.challenge == pytest.approx(plain.challenge)


def test_a_reference_without_orientation_is_taken_as_stored(tmp_path):
    image = nib.Nifti1Image(disc(4).astype(np.uint8), None)
    image.header.set_zooms((0.5, 0.5, 4.0))
    image.to_filename(tmp_path / "b.nii")
    result = evaluate(save(tmp_path / "a.nii", disc(5)), tmp_path / "b.nii")
    assert result.scores[0].challenge == challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0))
    with pytest.raises(InputError, match=r"b.nii: neither it nor its partner has an orientation"):
        evaluate(tmp_path / "b.nii", tmp_path / "b.nii")


BAD = {
    "grid": (
        disc(4)[:-1],
        AFFINE,
        "not on the grid of .*b.nii, 39 x 36 x 4 voxels, not 40 x 36 x 4; .*--resample-ref",
    ),
    "affine": (
        disc(4),
        AFFINE + np.array([[0, 0, 0, 2.0], *np.zeros((3, 4))]),
        "not on the grid of .*b.nii, lies up to 2 mm elsewhere; .*--resample-reference",
    ),
    "labels": (disc(4) + 2 * disc(2), AFFINE, "holds 0, 1, 3, not a binary mask; choose one with --label"),
    "fractions": (disc(4) * 0.7, AFFINE, r"holds 0, 0.7, probabilities and not labels"),
    "frames": (np.stack([disc(4)] * 2, axis=3), AFFINE, "40 x 36 x 4 x 2 voxels; a mask has one frame"),
    "nan": (np.where(disc(4), np.nan, 0.0), AFFINE, r"\d+ NaN or infinite voxels in a mask"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_does_not_stop_the_others(name, tmp_path):
    voxels, affine, message = BAD[name]
    for case in "abc":
        save(tmp_path / "found" / f"{case}.nii", disc(5))
        save(tmp_path / "manual" / f"{case}.nii", disc(4))
    save(tmp_path / "manual" / "b.nii", voxels, affine, np.float32)
    result = evaluate(tmp_path / "found", tmp_path / "manual")
    assert [score.case_id for score in result.scores] == ["a", "c"]
    assert len(result.errors) == 1
    with pytest.raises(InputError, match=rf"^\S*b.nii: {message}"):
        evaluate(tmp_path / "found" / "b.nii", tmp_path / "manual" / "b.nii")
    if name not in ("grid", "affine"):
        with pytest.raises(InputError, match=rf"^\S*manual/b.nii: {message}"):
            evaluate(tmp_path / "manual" / "b.nii", tmp_path / "found" / "b.nii")


def test_a_reference_can_be_resampled(tmp_path):
    shifted = AFFINE.copy()
    shifted[:3, 3] = AFFINE[:3, :3] @ (-3, -2, 0)
    found = save(tmp_path / "a.nii", disc(5))
    wanted = save(tmp_path / "b.nii", np.pad(disc(4), ((3, 1), (2, 2), (0, 1))), shifted)
    result = evaluate(found, wanted, resample_reference=True)
    assert not result.errors
    assert result.scores[0].challenge == pytest.approx(challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0)))


def test_labels(tmp_path):
    both = save(tmp_path / "both.nii", disc(3) + 5 * (disc(6) & ~disc(3)))
    for label, mask in ((1, disc(3)), (5, disc(6) & ~disc(3))):
        result = evaluate(save(tmp_path / "a.nii", 255 * disc(5)), both, label=label)
        assert result.scores[0].challenge["DSC"] == challenge_metrics(disc(5), mask, (1, 1, 1))["DSC"]
        assert evaluate(both, both, label=label).scores[0].challenge["DSC"] == 1
    with pytest.raises(InputError, match=r"both.nii: holds 0, 1, 5, no voxel is 2; choose another --label"):
        evaluate(tmp_path / "a.nii", both, label=2)


def test_undefined_values_are_counted_and_not_averaged(tmp_path):
    for case, radius in (("a", 5), ("b", 4), ("c", 0)):
        save(tmp_path / "found" / f"{case}.nii", disc(5))
        save(tmp_path / "manual" / f"{case}.nii", disc(radius))
    result = evaluate(tmp_path / "found", tmp_path / "manual")
    assert result.warnings == (
        "reference empty, MSD, HSD, SHD, SMD, TPR, CC undefined and left out of the means: 1 comparisons, "
        "found c r1",
    )
    table = table2(result)
    assert "HSD found 1" in table.notes[0]
    hausdorff = [score.challenge["HSD"] for score in result.scores[:2]]
    cells = {row[0]: row[1] for row in table.rows}
    assert cells["HSD (mm)"] == f"{np.mean(hausdorff):.2f} ({np.std(hausdorff, ddof=1):.2f})"
    summary = json.loads(write_evaluation(result, tmp_path / "out")[2].with_name("summary.json").read_text())
    assert summary["models"]["found"]["table2"]["TPR"]["n_undefined"] == 1
    assert summary["models"]["found"]["table2"]["DSC"]["n_undefined"] == 0


def test_paths_that_lead_nowhere(tmp_path):
    mask = save(tmp_path / "found" / "a.nii", disc(5))
    save(tmp_path / "manual" / "z.nii", disc(5))
    (tmp_path / "empty").mkdir()
    for predictions, references, message in (
        (tmp_path / "no", mask, "no: no such file or folder"),
        (mask, tmp_path / "no", "no: no such file or folder"),
        (tmp_path / "empty", mask, "empty: no .nii or .nii.gz file in it"),
        (tmp_path / "found", tmp_path / "manual", "no prediction has the name of a reference"),
        (mask, [], "no reference"),
        ({}, mask, "no prediction"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(predictions, references)


def test_command(run, study):
    code, out, err = run(
        study / "good",
        study / "raters",
        *("--model", f"other={study / 'poor'}", "-o", study / "out", "--published"),
        *("--parameters", "other=776321"),
    )
    assert (code, err) == (0, "")
    assert out == (study / "out" / "summary.txt").read_text()
    for title in (
        "Table 2:",
        "Table 3:",
        "By site and rater",
        "Inter-rater agreement",
        "Models compared",
        "Table 1",
    ):
        assert title in out
    assert "Num. of Params.    -" in out
    assert out == summary_text(
        evaluate(
            {"good": study / "good", "other": study / "poor"}, study / "raters", parameters={"other": 776321}
        ),
        with_published=True,
    )


def test_command_goes_on_and_fails(run, study):
    save(study / "raters" / "site1-sc01-mask-r2.nii.gz", disc(5)[:-1])
    (study / "good" / "site1-sc02-image_gmseg.nii.gz").unlink()
    code, out, err = run(study / "good", study / "raters")
    assert code == 2
    assert "Table 2: mean (std) over pairs of case and rater (good: 14)" in out
    assert "warning: no prediction for 3 files: site1-sc02-mask-r1.nii.gz" in err
    assert "error: " in err
    assert "not on the grid of" in err
    assert "not on the grid of" not in out
    assert "Traceback" not in err


def test_command_line_mistakes(run, study):
    code, _, err = run(study / "good", study / "nowhere")
    assert (code, err) == (2, f"error: {study / 'nowhere'}: no such file or folder; check the path\n")
    code, _, err = run(study / "good", study / "raters", "-m", f"good={study / 'poor'}")
    assert code == 2
    assert "two models have the same name" in err
    code, _, err = run(study / "good", study / "raters", "--parameters", "good")
    assert code == 2
    assert "give MODEL=NUMBER" in err
