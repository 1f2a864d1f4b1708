"""What the predicted Dice coefficient depends on."""

import math
from dataclasses import replace

import pytest
from good_slice import EMPTY_CORD, GOOD, GOOD_WITH_CORD, predicted

from keras_scgm.quality.model import CORD_REASONS, REASONS, fitted_model, model_inputs
from keras_scgm.quality.verdicts import predict_quality


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


def test_dark_gray_matter_counts_as_bright_for_a_network_that_knows_it():
    dark = replace(GOOD, contrast=-GOOD.contrast, separation=1 - GOOD.separation)
    assert model_inputs([dark], unknown_contrast=0) == [pytest.approx(model_inputs([GOOD])[0], nan_ok=True)]
    assert predicted(dark, unknown_contrast=0) == pytest.approx(predicted(GOOD))


def test_a_single_slice_can_be_judged():
    alone = replace(GOOD, neighbour_dice=math.nan, log_area_ratio=math.nan, centroid_shift_mm=math.nan)
    assert predict_quality([alone]).verdict == "pass"
    (inputs,) = model_inputs([alone])
    assert set(inputs) == set(REASONS | CORD_REASONS)
    contributions = fitted_model(with_cord=False).contributions(inputs)
    unknown = {name: 0.0 for name in contributions if math.isnan(inputs[name])}
    assert len(unknown) == 4
    assert contributions == contributions | unknown


def test_medians_of_a_volume_are_of_what_its_slices_with_gray_matter_tell():
    with_gray_matter = [
        replace(GOOD_WITH_CORD, cord_agreement=agreement, neighbour_dice=neighbour_dice)
        for agreement, neighbour_dice in ((0.9, math.nan), (0.96, 0.5), (0.99, 0.75))
    ]
    for inputs in model_inputs([*with_gray_matter, *[EMPTY_CORD] * 4]):
        assert (inputs["volume_cord_agreement"], inputs["volume_neighbour_dice"]) == (0.96, 0.625)


def test_models_have_the_terms_that_have_a_message():
    assert set(fitted_model(with_cord=False).terms) == set(REASONS)
    assert set(fitted_model(with_cord=True).terms) == set(REASONS | CORD_REASONS)


def test_the_cord_counts_only_for_networks_that_segment_it():
    unusual = {"cord_aspect": 3.0, "cord_offset": 0.6, "cord_balance": 0.2}
    assert predicted(replace(GOOD_WITH_CORD, **unusual)) < predicted(GOOD_WITH_CORD) - 0.02
    assert predicted(replace(GOOD, **unusual)) == predicted(GOOD)


def test_bright_gray_matter_stays_what_it_is_for_a_network_that_knows_dark():
    for unit in (1.0, 0.01):
        one = replace(GOOD, contrast=unit * GOOD.contrast, noise=unit * GOOD.noise)
        (bright,) = model_inputs([one], unknown_contrast=0)
        assert (bright["separation"], bright["contrast_to_noise"]) == (one.separation, one.contrast_to_noise)
    dark = replace(GOOD, contrast=-GOOD.contrast)
    (unknown,) = model_inputs([dark], unknown_contrast=-1)
    assert (unknown["separation"], unknown["contrast_to_noise"]) == (dark.separation, dark.contrast_to_noise)
