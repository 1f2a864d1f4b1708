"""A wrong value of any argument of the adaptation is one line, and so is wrong JSON of its settings."""

from pathlib import Path

import pytest
from wrong_values import (
    INTEGERS,
    NO_FLAGS,
    NO_OBJECTS,
    NO_PATHS,
    NO_TEXTS,
    NUMBERS,
    but,
    case_id,
    check_refused,
    config_cases,
)

from keras_scgm.adaptation import (
    AdaptationConfig,
    GuardConfig,
    Scans,
    adapt,
    compare,
    find_scans,
    suggest_slices,
)
from keras_scgm.training import SyntheticBatches, TrainingConfig, train

SHARES = (*NUMBERS, 1.1)
SCANS = Scans((Path("no.nii.gz"),))
NO_PATH_LISTS = (3, None, "text", [3], [None], {1: 2})
NO_PAIRS_OF_PATHS = (3, None, "text", [3], [("a",)], [("a", 3)], [("a", "b", "c")])
CASES = [
    *config_cases(
        AdaptationConfig,
        {},
        **dict.fromkeys(
            ("epochs", "steps_per_epoch", "synthetic_slices", "real_slices", "labelled_slices"),
            (*INTEGERS, 0),
        ),
        window_px=(*INTEGERS, 15),
        learning_rate=(*NUMBERS, 0),
        ema_momentum=(*NUMBERS, 1),
        consistency_weight=NUMBERS,
        temperature=(*NUMBERS, 0),
        ramp_up=SHARES,
        labelled_weight=NUMBERS,
        augmentation=(*NO_OBJECTS, None),
        statistics_share=SHARES,
        statistics_only=NO_FLAGS,
        held_back=(*SHARES, 1),
        seed=(*INTEGERS, 2**32),
    ),
    *config_cases(
        GuardConfig,
        {},
        **dict.fromkeys(
            ("predicted_drop", "scan_drop", "least_agreement", "synthetic_drop", "required_gain"), SHARES
        ),
        cov_rise=NUMBERS,
        synthetic_subjects=(*INTEGERS, 0),
    ),
    *config_cases(
        Scans,
        {"images": ["no.nii.gz"]},
        images=(*NO_PATH_LISTS, []),
        labelled=NO_OBJECTS[:-1],
        rescans=NO_PAIRS_OF_PATHS,
    ),
    *config_cases(
        adapt,
        {"scans": SCANS, "folder": "/dev/null/none"},
        scans=(*NO_OBJECTS, None),
        folder=NO_PATHS,
        weights=NO_TEXTS,
        config=NO_OBJECTS,
        guard=NO_OBJECTS,
        domain=NO_OBJECTS,
        resume=NO_FLAGS,
    ),
    *config_cases(
        find_scans,
        {"images": "no.nii.gz"},
        images=(3, None, [None], [3], "", [""]),
        labels=(*but(NO_PATHS, None), "none"),
        rescans=(*but(NO_PATHS, None), "none"),
    ),
    *config_cases(
        compare,
        {"before": "synthetic", "after": "synthetic", "held_back": ["no.nii.gz"]},
        held_back=(*NO_PATH_LISTS, []),
        rescans=NO_PAIRS_OF_PATHS,
        synthetic=(*NO_OBJECTS, None, [3]),
        config=NO_OBJECTS,
    ),
    *config_cases(
        suggest_slices,
        {"images": ["no.nii.gz"], "weights": "synthetic", "count": 1},
        images=NO_PATH_LISTS,
        count=(*INTEGERS, 0),
        seed=(*INTEGERS, 2**32),
    ),
    *config_cases(
        train,
        {"config": TrainingConfig(), "batches": SyntheticBatches(), "folder": "/dev/null/none"},
        method=NO_OBJECTS,
    ),
    *[
        case
        for kind in (AdaptationConfig, GuardConfig)
        for case in config_cases(kind.from_json, {}, text=(*NO_TEXTS, "", "{", "[]", '"a"', '{"nothing": 1}'))
    ],
]


@pytest.mark.parametrize(("call", "given", "name", "values"), CASES, ids=map(case_id, CASES))
def test_wrong_values_are_one_line(call, given, name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_refused(call, given, name, values)
    assert list(tmp_path.iterdir()) == []
