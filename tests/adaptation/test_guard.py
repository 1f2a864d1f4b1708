"""The guard: every measure refuses what got worse, and passes what did not."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keras_scgm.adaptation import GuardConfig, compare
from keras_scgm.adaptation.guard import (
    AGREEMENT,
    GAIN,
    PREDICTED,
    REPEATABILITY,
    SYNTHETIC,
    WORST,
    Compared,
    coefficient_of_variation,
    judge,
    mean_area_mm2,
)
from keras_scgm.segmentation import Segmenter

CONFIG = GuardConfig()


def result(predicted_dsc, n_voxels=10, areas=(10.0, 0.0, 20.0)):
    mask = np.zeros((20, 1, 1), np.uint8)
    mask[:n_voxels] = 1
    quality = SimpleNamespace(predicted_dsc=predicted_dsc)
    return SimpleNamespace(
        quality=quality, mask_voxels=mask, areas=[SimpleNamespace(area_mm2=area) for area in areas]
    )


def refused(pairs, cov=(3.0, 3.0), synthetic=(0.9, 0.9), config=CONFIG):
    judgement = judge([Compared(*pair) for pair in pairs], cov, synthetic, config)
    assert judgement.accepted == (not judgement.reasons)
    return [check.name for check in judgement.checks if not check.passed]


BETTER = (result(0.80), result(0.81))


def test_what_is_better_is_accepted():
    assert refused([BETTER, BETTER]) == []


@pytest.mark.parametrize(
    ("pairs", "measures", "names"),
    [
        ([(result(0.80), result(0.79))], {}, [PREDICTED, GAIN]),
        ([(result(0.80), result(0.802))], {}, [GAIN]),
        ([(result(0.80), result(0.77)), (result(0.80), result(0.85))], {}, [WORST]),
        ([(result(0.86, 10), result(0.87, 14))], {}, [AGREEMENT]),
        # Masks of a predicted DSC of 0.8 need not be agreed with by 0.85.
        ([(result(0.80, 10), result(0.81, 14))], {}, []),
        ([(result(0.80, 10), result(0.81, 16))], {}, [AGREEMENT]),
        ([(result(0.80, 0), result(0.81, 0))], {}, [AGREEMENT]),
        ([BETTER], {"cov": (3.0, 3.3)}, [REPEATABILITY]),
        ([BETTER], {"cov": (3.0, math.inf)}, [REPEATABILITY]),
        ([BETTER], {"synthetic": (0.9, 0.88)}, [SYNTHETIC]),
        ([BETTER], {"synthetic": (0.9, math.nan)}, [SYNTHETIC]),
        ([BETTER], {"cov": (math.nan, math.nan)}, []),
    ],
)
def test_what_is_worse_is_refused(pairs, measures, names):
    assert refused(pairs, **measures) == names


def test_no_gain_is_required_if_the_limit_is_0():
    assert refused([(result(0.80), result(0.80))], config=replace(CONFIG, required_gain=0.0)) == []


def test_the_area_is_that_of_slices_with_gray_matter():
    assert mean_area_mm2(result(0.8)) == 15.0
    assert mean_area_mm2(result(0.8, areas=(0.0,))) == 0.0


def test_coefficient_of_variation():
    # Standard deviations 2 and 0 (n - 1) of means 10 and 5.
    pairs = [(10 - math.sqrt(2), 10 + math.sqrt(2)), (5.0, 5.0)]
    assert coefficient_of_variation(pairs) == pytest.approx(100 * math.sqrt((0.2**2 + 0) / 2))
    assert math.isnan(coefficient_of_variation([]))
    assert coefficient_of_variation([(0.0, 3.0)]) == math.inf


def test_the_verdict_as_table_and_file():
    judgement = judge([Compared(result(0.80), result(0.79))], (3.0, math.inf), (0.9, 0.9), CONFIG)
    lines = judgement.table().splitlines()
    assert len(lines) == 7
    assert [line.split()[-1] for line in lines[1:]] == [
        "refused",
        "passed",
        "passed",
        "passed",
        "refused",
        "refused",
    ]
    kept = json.loads(judgement.to_json())
    assert kept["accepted"] is False
    assert kept["checks"][0] == {
        "name": PREDICTED,
        "before": 0.8,
        "after": 0.79,
        "limit": pytest.approx(0.795),
        "passed": False,
    }
    assert kept["checks"][4]["after"] is None
    assert judgement.reasons[0] == f"{PREDICTED}: 0.7900, limit 0.7950"


def test_the_same_weights_are_as_good_as_themselves(scan_folder: Path, start_weights: Path):
    held_back, pair = (
        [scan_folder / "b.nii.gz"],
        [(scan_folder / "a_scan.nii.gz", scan_folder / "a_rescan.nii.gz")],
    )
    judgement, compared = compare(str(start_weights), str(start_weights), held_back, pair)
    by_name = {check.name: check for check in judgement.checks}
    assert by_name[PREDICTED].before == by_name[PREDICTED].after > 0
    assert by_name[AGREEMENT].after == 1.0
    segmenter = Segmenter(str(start_weights))
    first, second = (mean_area_mm2(segmenter.segment(path)) for path in pair[0])
    cov = 100 * math.sqrt(2) * abs(first - second) / (first + second)
    assert by_name[REPEATABILITY].before == by_name[REPEATABILITY].after == pytest.approx(cov)
    assert cov > 1
    assert SYNTHETIC not in by_name
    assert [name for name, check in by_name.items() if not check.passed] == [GAIN]
    assert len(compared) == 1
