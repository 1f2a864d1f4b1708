"""Metrics of a pair of masks: reference values, examples by hand, and invalid arguments."""

import json
import math

import numpy as np
import pytest
from evaluation_helpers import CASES, column, same

from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    FCN_METRICS,
    Comparison,
    MeasuredMask,
    challenge_metrics,
    fcn_metrics,
)
from keras_scgm.evaluation.skeleton import thin
from keras_scgm.evaluation.surface import DirectedDistances

TOYS = ("square5_shift1", "square3_in_square9", "edge_touch", "line_half_overlap")


@pytest.fixture(scope="module")
def expected(reference):
    return json.loads((reference / "metrics" / "metrics_reference.json").read_text())


@pytest.fixture(scope="module")
def masks(reference):
    return dict(np.load(reference / "metrics" / "masks.npz"))


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


def test_volumes_and_areas_are_those_of_each_mask():
    prediction, reference = bars()
    prediction[:, :, 2] = False
    prediction[6:8, 3:6, 1] = True
    voxel_mm2, voxel_mm3 = 0.3 * 0.6, 0.3 * 0.6 * 2.5
    details = Comparison.of(
        *(MeasuredMask(mask, (0.3, 0.6, 2.5)) for mask in (prediction, reference))
    ).details()
    assert details["volume_prediction_mm3"] == pytest.approx((52 + 6) * voxel_mm3)
    assert details["volume_reference_mm3"] == pytest.approx(2 * 60 * voxel_mm3)
    assert details["mean_area_prediction_mm2"] == pytest.approx((52 + 6) * voxel_mm2)
    assert details["mean_area_reference_mm2"] == pytest.approx(60 * voxel_mm2)


def test_slices_that_are_not_compared_are_as_if_empty():
    prediction, reference = bars()
    prediction[11, 0, 2] = True
    compared = np.array([True, True, False, True])
    pair = [MeasuredMask(mask, (0.5, 0.5, 4.0)) for mask in (prediction, reference)]
    found = Comparison.of(*pair, compared).challenge_metrics()
    emptied = [MeasuredMask(mask & compared, (0.5, 0.5, 4.0)) for mask in (prediction, reference)]
    expected = Comparison.of(*emptied).challenge_metrics()
    # TNR is over the field of the compared slices.
    others = [name for name in CHALLENGE_METRICS if name != "TNR"]
    assert [found[name] for name in others] == pytest.approx([expected[name] for name in others])
    assert found["HSD"] == pytest.approx(2.0)


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


def test_a_class_that_the_reference_lacks_has_no_weight():
    some, nothing = np.zeros((2, 4, 5), bool)
    some[0, :3] = True
    # Of the background 17 pixels are in both and 20 in either, of gray matter 3 and 20.
    assert fcn_metrics(some, nothing)["fw_iu"] == pytest.approx(17 / 20)
    assert fcn_metrics(some, ~nothing)["fw_iu"] == pytest.approx(3 / 20)


def test_arguments_are_checked():
    mask = np.zeros((4, 4, 2), bool)
    with pytest.raises(ValueError, match=r"same shape, received \(4, 4, 2\) and \(4, 4, 1\)"):
        challenge_metrics(mask, mask[..., :1], (1, 1, 1))
    with pytest.raises(ValueError, match="same shape"):
        fcn_metrics(mask, mask[..., :1])
    labels = np.arange(32).reshape(4, 4, 2) % 3
    for values in (labels, np.full((4, 4, 2), np.nan), np.full((4, 4, 2), 0.5)):
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


@pytest.mark.parametrize("name", CASES)
def test_keras_metrics_agree_on_hard_masks(name, expected, masks):
    from keras_scgm.metrics import HardDice, SoftDice

    case = expected["cases"][name]
    prediction, reference = (np.moveaxis(masks[case[key]], 2, 0)[..., np.newaxis] for key in ("pred", "ref"))
    for metric in (HardDice(), SoftDice()):
        metric.update_state(reference, prediction)
        assert float(metric.result()) == pytest.approx(case["volume_overlap"]["DSC"]["value"], rel=1e-6)
