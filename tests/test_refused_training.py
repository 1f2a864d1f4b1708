"""A wrong value of any argument of training and tuning is one line, and so is wrong JSON of any settings."""

import numpy as np
import pytest
from wrong_values import (
    INTEGERS,
    NO_FLAGS,
    NO_OBJECTS,
    NO_PAIRS,
    NO_PATHS,
    NO_TEXTS,
    NUMBERS,
    but,
    case_id,
    check_refused,
    config_cases,
)

from keras_scgm import (
    AugmentationConfig,
)
from keras_scgm.datasets import (
    AnnotatedVolume,
    Split,
)
from keras_scgm.pretrained import EnsembleCard, WeightsCard
from keras_scgm.training import (
    DataConfig,
    SliceBatches,
    SyntheticBatches,
    TrainingConfig,
    annotated_source,
    synthetic_source,
    train,
    train_folds,
)
from keras_scgm.tuning import SearchConfig, TuningConfig, tune

ANNOTATED = {"image": "i.nii", "masks": ("m.nii",), "subject_id": "s"}
CASES = [
    *config_cases(
        TrainingConfig,
        {},
        architecture=(*NO_TEXTS, "ResNet"),
        model_kwargs=(3, "text", [1], None, {3: 4}),
        initial_weights=but(NO_TEXTS, None),
        frozen_layers=(3, "name", [3], [None], np.ones(2)),
        spacing_mm=but((*NUMBERS, 0), None),
        window_px=(*INTEGERS, 0),
        validation_per_site=(*INTEGERS, 0),
        slice_counts=(3, "abc", (1, 2), (0, 1, 1), (1, -1, 0), (1, 1.5, 0), {1: 2}),
        contour_smoothing_mm=NUMBERS,
        epochs=(*INTEGERS, 0),
        steps_per_epoch=(*INTEGERS, 0),
        batch_size=(*INTEGERS, 0),
        stack_slices=(*INTEGERS, 0),
        learning_rate=(*NUMBERS, 0),
        power=(*NUMBERS, 0),
        schedule=(*NO_TEXTS, "linear"),
        rate_per=(*NO_TEXTS, "batch"),
        early_stopping_patience=(*but(INTEGERS, None), 0),
        loss=(
            *but(NO_TEXTS, None),
            "",
            "no_loss",
            "sparse_categorical_crossentropy",
            {"class_name": "DiceLoss"},
        ),
        cross_entropy_weight=NUMBERS,
        ema_momentum=(*NUMBERS, 1),
        augmentation=(*NO_OBJECTS, None),
        threshold_objective=but((*NO_TEXTS, "f1"), None),
        seed=(*INTEGERS, 2**32),
        mixed_precision=NO_FLAGS,
        xla=NO_FLAGS,
    ),
    *config_cases(
        SearchConfig,
        {},
        strategy=(*NO_TEXTS, "grid"),
        trials=(*INTEGERS, 0),
        seed=(*INTEGERS, 2**31),
    ),
    *config_cases(
        TuningConfig,
        {},
        strategy=(*NO_TEXTS, "grid"),
        trials=(*INTEGERS, 0),
        seed=(*INTEGERS, 2**31),
        augmentation=(
            *NO_OBJECTS,
            None,
            {"noise": 3},
            {"noise": (1,)},
            {"noise": (0.2, 0.1)},
            {3: (0, 1)},
            {"x": (0, 1)},
        ),
        threshold=(*NO_PAIRS, (0.4, 0.4), (0, 1)),
        dropout=(*NO_PAIRS, (0, 1)),
        filters=(3, "a", [0], [1.5], ["8"], [True]),
        dilation_rates=(3, "a", [3], [[0]], [["6"]], [[True]]),
    ),
    *config_cases(
        SyntheticBatches,
        {},
        window_px=INTEGERS,
        domain=(*NO_OBJECTS, None),
        spacing_mm=NUMBERS,
        small_windows=(3, "a", [3], [(1,)], [(1, "2")], None),
        full_share=NUMBERS,
        full_from=NUMBERS,
        inverted=NUMBERS,
        what=NO_TEXTS,
    ),
    *config_cases(SliceBatches, {}, slices=(*NO_OBJECTS, None)),
    *config_cases(
        train,
        {"config": TrainingConfig(), "batches": SyntheticBatches(), "folder": "/dev/null/none"},
        config=(*NO_OBJECTS, None),
        batches=(*NO_OBJECTS, None),
        folder=NO_PATHS,
        validation=(*NO_OBJECTS, None, [3]),
        resume=NO_FLAGS,
        tensorboard=NO_FLAGS,
        callbacks=(3, "a", [3], None),
    ),
    *config_cases(
        tune,
        {
            "tuning": TuningConfig(),
            "training": TrainingConfig(),
            "batches": SyntheticBatches(),
            "folder": "/dev/null/none",
            "validation": [AnnotatedVolume(**ANNOTATED)],
        },
        tuning=(*NO_OBJECTS, None),
        training=(*NO_OBJECTS, None),
        folder=NO_PATHS,
        validation=(*NO_OBJECTS, None),
        resume=NO_FLAGS,
        verbose=(*INTEGERS, 2),
        batches=(*NO_OBJECTS, None),
    ),
    *config_cases(
        annotated_source,
        {"data": DataConfig("no", "no.json")},
        data=(*NO_OBJECTS, None),
        config=NO_OBJECTS,
        resplit=NO_FLAGS,
    ),
    *config_cases(synthetic_source, {"folder": "no"}, folder=NO_PATHS, config=NO_OBJECTS),
    *config_cases(
        DataConfig,
        {"folder": "data", "split": "split.json"},
        folder=NO_PATHS,
        split=NO_PATHS,
        raters=(*NO_TEXTS, "none"),
        image_pattern=but(NO_TEXTS, None),
        mask_pattern=but(NO_TEXTS, None),
        label_value=but((*INTEGERS, 0), None),
    ),
    *config_cases(
        train_folds,
        {
            "config": TrainingConfig(),
            "folds": [Split((), (), ()), Split((), (), ())],
            "load": annotated_source,
            "folder": "/dev/null/none",
        },
        config=(*NO_OBJECTS, None),
        folds=(*NO_OBJECTS, None, [], [Split((), (), ())]),
        load=(*NO_OBJECTS, None),
        folder=NO_PATHS,
        resume=NO_FLAGS,
        callbacks=(3, "a", [3], None),
    ),
    *config_cases(
        EnsembleCard,
        {"name": "e", "members": {"fold1/best.weights.h5": "0" * 64}},
        name=(*NO_TEXTS, ""),
        members=(
            *NO_OBJECTS,
            None,
            {"/best.weights.h5": "0" * 64},
            {"best.h5": "0" * 64},
            {"best.weights.h5": "0"},
            {3: "0" * 64},
            {"best.weights.h5": None},
        ),
        scores=(3, "text", [3]),
    ),
    *[
        case
        for kind in (
            AugmentationConfig,
            DataConfig,
            TrainingConfig,
            SearchConfig,
            TuningConfig,
            WeightsCard,
            EnsembleCard,
        )
        for case in config_cases(kind.from_json, {}, text=(*NO_TEXTS, "", "{", "[]", '"a"', '{"nothing": 1}'))
    ],
]


@pytest.mark.parametrize(("call", "given", "name", "values"), CASES, ids=map(case_id, CASES))
def test_wrong_values_are_one_line(call, given, name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_refused(call, given, name, values)
    assert list(tmp_path.iterdir()) == []
