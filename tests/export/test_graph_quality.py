"""Verdicts, reasons and warnings of the graph are those of `keras_scgm.quality`."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from feature_matrix import as_matrix, name_slices
from good_slice import BLANK, EMPTY_CORD, GOOD, GOOD_WITH_CORD, WITHOUT_CORD

from keras_scgm.export.graph import quality as graph
from keras_scgm.export.graph.slice_features import FEATURES, column
from keras_scgm.quality import verdicts
from keras_scgm.quality.features import SliceFeatures
from keras_scgm.quality.model import CORD_REASONS, REASONS, AdditiveModel, fitted_model
from keras_scgm.quality.verdicts import UNKNOWN_CONTRAST
from keras_scgm.segmentation.native_grid import SliceMeasurement
from keras_scgm.segmentation.warnings import quality_warnings

NAN = math.nan


def traced_judge(unknown_contrast, knows_cord):
    """Traced once; judges volumes as NumPy does."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, len(FEATURES)], tf.float64),
            tf.TensorSpec([2], tf.bool),
        ]
    )
    def judged(features, is_doubted):
        anatomical = graph.anatomical_doubts(features, knows_cord)
        doubts = [(is_doubted[0], "first"), (is_doubted[1], tf.constant("sec") + "ond"), *anatomical]
        found = graph.predict_quality(features, doubts, unknown_contrast, knows_cord)
        warnings = graph.quality_warnings(found, column(features, "area_mm2") > 0, name_slices)
        is_given, lines = (tf.stack(each) for each in zip(*anatomical, *warnings, strict=True))
        return found, tf.boolean_mask(lines, is_given)

    def compare(slices, is_doubted=(False, False)):
        found, lines = judged(as_matrix(slices), np.array(is_doubted))
        assert_judged_equal(slices, is_doubted, unknown_contrast, found, lines)
        return found

    compare.unknown_contrast, compare.knows_cord = unknown_contrast, knows_cord
    return compare


@pytest.fixture(
    scope="module",
    params=((-1, False), (0, False), (-1, True), (0, True), (1, True)),
    ids=("dark unknown", "both known", "cord", "cord, both known", "cord, bright unknown"),
)
def judge(request):
    return traced_judge(*request.param)


def of_network(volume, knows_cord):
    """The slices of a volume as a network that segments the cord, or does not, gives them."""
    names = [each for each in FEATURES if "cord" in each]
    cords = (GOOD_WITH_CORD, EMPTY_CORD) if knows_cord else (BLANK, BLANK)
    return [
        one
        if one.knows_cord == knows_cord
        else replace(one, **{name: getattr(cords[one.area_mm2 == 0], name) for name in names})
        for one in volume
    ]


def assert_judged_equal(slices, is_doubted, unknown_contrast, found, lines):
    anatomical = verdicts.anatomical_doubts(slices)
    given = [each for each, given in zip(("first", "second"), is_doubted, strict=True) if given]
    expected = verdicts.predict_quality(slices, [*given, *anatomical], unknown_contrast)
    np.testing.assert_allclose(
        [found.predicted_dsc, found.contrast, found.noise],
        [expected.predicted_dsc, expected.contrast, expected.noise],
        rtol=1e-9,
        atol=1e-12,
    )
    np.testing.assert_allclose(
        found.slice_predicted_dsc, [one.predicted_dsc for one in expected.slices], rtol=1e-9
    )
    assert text(found.verdict) == expected.verdict
    assert text(found.reason) == expected.reason
    assert [text(each) for each in found.slice_verdict] == [one.verdict for one in expected.slices]
    assert [text(each) for each in found.slice_reason] == [one.reason for one in expected.slices]
    warned = [*anatomical, *expected_warnings(expected, [*given, *anatomical])]
    assert [text(each) for each in lines] == warned


def expected_warnings(judged, doubts):
    volume = SimpleNamespace(stored_slice_index=lambda k: k)
    measurements = [SliceMeasurement(n_voxels=one.features.area_mm2) for one in judged.slices]
    return quality_warnings(volume, measurements, judged, doubts)


def text(tensor):
    return (tensor.numpy() if hasattr(tensor, "numpy") else tensor).decode()


MAY_BE_UNKNOWN = ("separation", "sharpness", "neighbour_dice", "log_area_ratio", "centroid_shift_mm")
ALWAYS_KNOWN = ("width_mm", "cord_area_mm2", "cord_aspect", "gm_cord_ratio", "cord_offset")
"""Features with anatomical limits, known wherever there is gray matter, and a cord if the network segments it."""

DIM = replace(GOOD, contrast=-1.0, separation=0.1)
EDGE = replace(GOOD, near_edge=True)

POOR = replace(GOOD, area_mm2=0.5, agreement=0.3)
FAR = replace(GOOD, centroid_shift_mm=9.0, voxel_mm=2.0)

LARGE = replace(GOOD, area_mm2=30.25, width_mm=12.05)
TURNED = replace(GOOD, depth_skewness=0.4)


def test_judgement_of_special_volumes(judge):
    volumes = [
        [BLANK],
        [BLANK] * 3,
        [GOOD],
        [EDGE],
        [DIM],
        [POOR],
        [BLANK, GOOD, BLANK, GOOD, BLANK],
        [BLANK, BLANK, GOOD],
        [GOOD] * 7,
        [EDGE] * 7,  # the mean of bounds is at the verdict's
        [EDGE, DIM, DIM, DIM],  # 0.375 between two values in the warning
        [DIM, EDGE] * 4,
        [EDGE, DIM] * 4,
        [DIM] * 3 + [GOOD] * 30,
        [GOOD] * 9 + [POOR, EDGE],
        [GOOD] * 9 + [EDGE, POOR],
        [LARGE] * 4,
        [LARGE, GOOD],
        [replace(GOOD, area_mm2=3.25)] * 2,
        [replace(GOOD, area_mm2=1.0)],
        [TURNED] * 2,
        [replace(TURNED, area_mm2=40.0, near_edge=True), replace(DIM, near_edge=True)],
        [replace(GOOD, noise=0.0), replace(GOOD, noise=NAN)],
        [replace(GOOD, noise=NAN, contrast=NAN, separation=NAN, sharpness=NAN)],
        [replace(GOOD, contrast=-0.0), replace(DIM, noise=0.0)],
        [GOOD, BLANK, BLANK, BLANK, BLANK, POOR, FAR],
    ]
    for volume in volumes:
        for is_doubted in ((False, False), (False, True), (True, True)):
            judge(of_network(volume, judge.knows_cord), is_doubted)


def changed_cord(**changes):
    return replace(GOOD_WITH_CORD, **changes)


def test_judgement_of_special_cords():
    judge = traced_judge(False, True)
    volumes = [
        [WITHOUT_CORD],
        [EMPTY_CORD],
        [WITHOUT_CORD, EMPTY_CORD],
        [EMPTY_CORD, GOOD_WITH_CORD, EMPTY_CORD, WITHOUT_CORD, GOOD_WITH_CORD, WITHOUT_CORD],
        [EMPTY_CORD] * 2 + [GOOD_WITH_CORD] * 2,
        [EMPTY_CORD] * 3 + [GOOD_WITH_CORD] * 2,
        [EMPTY_CORD] * 30 + [GOOD_WITH_CORD] + [WITHOUT_CORD] * 2,
        [changed_cord(cord_near_edge=True)] * 3,
        [changed_cord(cord_near_edge=True), changed_cord(cord_near_edge=True, near_edge=True)],
        [changed_cord(cord_near_edge=True, contrast=-1.0), replace(EMPTY_CORD, cord_near_edge=True)],
        *([changed_cord(cord_area_mm2=area)] * 2 for area in (24.96, 25.0, 130.0, 130.04, 310.06)),
        *([changed_cord(area_mm2=area)] * 2 for area in (24.5, 30.0, 30.25)),
        *([changed_cord(cord_aspect=aspect)] * 2 for aspect in (0.5, 0.85, 2.2, 2.205)),
        *([changed_cord(gm_cord_ratio=ratio)] * 2 for ratio in (0.0795, 0.08, 0.45, 0.4505, 1.0)),
        *([changed_cord(cord_offset=offset)] * 2 for offset in (0.0, 0.3, 0.305, 2.0)),
        *([changed_cord(cord_agreement=share), EMPTY_CORD] * 2 for share in (0.0, 0.94, 0.95, 1.0)),
        [replace(EMPTY_CORD, cord_agreement=0.6), WITHOUT_CORD],
        [changed_cord(cord_area_mm2=200.0, cord_aspect=3.0, gm_cord_ratio=0.9, cord_offset=1.0)] * 3,
    ]
    for volume in volumes:
        for is_doubted in ((False, False), (False, True)):
            judge(volume, is_doubted)


def test_dark_gray_matter_counts_as_bright_if_it_is_known(judge):
    found = judge(of_network([GOOD, replace(DIM, contrast=-2.0)], judge.knows_cord))
    reasons = [
        UNKNOWN_CONTRAST[judge.unknown_contrast] if judge.unknown_contrast == sign else "" for sign in (1, -1)
    ]
    assert list(map(text, found.slice_reason)) == reasons
    if not judge.unknown_contrast:
        assert float(found.slice_predicted_dsc[0]) == pytest.approx(float(found.slice_predicted_dsc[1]))


def test_random_volumes(judge):
    rng = np.random.default_rng(8)
    for _ in range(150):
        judge(random_volume(rng, judge.knows_cord))


@pytest.mark.parametrize(("unknown_contrast", "knows_cord"), [(-1, False), (0, False), (-1, True)])
def test_every_term_of_the_model(monkeypatch, unknown_contrast, knows_cord):
    """Alone at, between and beyond its knots; where no slice passes, every term is the reason of some."""
    terms = fitted_model(knows_cord).terms
    stern = AdditiveModel(-9.0, terms)
    for module in (verdicts, graph):
        monkeypatch.setattr(module, "fitted_model", lambda with_cord: stern)
    judge = traced_judge(unknown_contrast, knows_cord)
    good = GOOD_WITH_CORD if knows_cord else GOOD
    best = replace(good, **{n: knots[np.argmax(v)] for n, (knots, v) in terms.items() if n in FEATURES})
    best = replace(best, noise=best.contrast / terms["contrast_to_noise"][0][-1])
    seen = set()
    for name, (knots, _) in terms.items():
        of_slice = name.removeprefix("volume_")
        for value in (*knots, *np.add(knots[1:], knots[:-1]) / 2, knots[0] - 1, knots[-1] + 1, NAN):
            if np.isnan(value) and of_slice in ALWAYS_KNOWN:
                continue
            if name == "contrast_to_noise":
                changed = replace(best, noise=best.contrast / value)
            elif of_slice in ("area_mm2", "cord_area_mm2") and not value > 0:
                continue
            else:
                changed = replace(best, **{of_slice: float(value)})
            # Most of the volume has what the volume's term reads, and two slices all else.
            volume = [changed, best, best] if name == of_slice else [*[changed] * 3, best, best]
            seen |= {text(each) for each in judge(volume).slice_reason}
    reasons = REASONS | CORD_REASONS
    assert seen >= {reasons[name] for name, (_, values) in terms.items() if min(values) < 0}


def random_volume(rng, knows_cord):
    """Features all over the model's knots."""
    terms = fitted_model(knows_cord).terms
    slices = []
    for _ in range(int(rng.integers(1, 9))):
        if rng.random() < 0.15:
            slices.append((EMPTY_CORD, WITHOUT_CORD)[int(rng.integers(2))] if knows_cord else BLANK)
            continue
        drawn = {}
        for name in FEATURES:
            if name not in terms:
                continue
            knots, values = terms[name]
            # Most features are good: one bad one shall be the reason.
            drawn[name] = float(
                rng.uniform(knots[0], knots[-1]) if rng.random() < 0.2 else knots[np.argmax(values)]
            )
            if rng.random() < 0.1 and name in MAY_BE_UNKNOWN:
                drawn[name] = NAN
        drawn |= {"contrast": float(rng.normal(3)), "noise": float(rng.choice([0, 0.5, NAN, 3, 30]))}
        drawn |= {"near_edge": bool(rng.random() < 0.1), "depth_skewness": float(rng.normal(-0.1, 0.2))}
        if knows_cord:
            drawn["cord_near_edge"] = bool(rng.random() < 0.1)
        slices.append(SliceFeatures(**drawn))
    return slices


def test_many_slices(judge):
    volume = [one for _ in range(300) for one in random_volume(np.random.default_rng(9), judge.knows_cord)]
    judge(volume)
