"""A wrong value of any argument of networks, weights, losses, callbacks and augmentation is one line."""

from dataclasses import fields
from pathlib import Path

import keras
import numpy as np
import pytest
from wrong_values import (
    INTEGERS,
    NO_FLAGS,
    NO_OBJECTS,
    NO_TEXTS,
    NUMBERS,
    but,
    case_id,
    check_refused,
    config_cases,
)

from keras_scgm import (
    AugmentationConfig,
    AugmentationLayer,
    DiceCrossEntropyLoss,
    DiceLoss,
    DilatedGMNet,
    DilatedGMNet3D,
    HardDice,
    PolyLearningRate,
    TerminateOnCollapse,
    UNet,
    augment,
)
from keras_scgm.augmentation import augment_batch, preview, sample_parameters
from keras_scgm.models import binarize_predictions, load_model, load_network, preprocess_input
from keras_scgm.pretrained import WeightsCard, resolve_weights, weights_card

SLICES = np.zeros((2, 16, 16, 1), np.float32)
CARD = {
    "name": "n",
    "architecture": "DilatedGMNet",
    "model_kwargs": {},
    "file": "n.keras",
    "sha256": "0" * 64,
}
WEIGHTS = (3, 0.5, b"large", {}, np.ones(2), (3,), [None], object())
CASES = [
    *[
        case
        for builder in (DilatedGMNet, UNet)
        for case in config_cases(
            builder,
            {},
            filters=(*INTEGERS, 0),
            classes=but((*INTEGERS, 0), None),
            dropout=(*NUMBERS, 1, 1.0),
            batch_norm_momentum=(*NUMBERS, 1),
            include_top=(*NO_FLAGS, "challenge", (16, 16, 1)),
            input_tensor=but(
                (*NO_OBJECTS, keras.Input((16, 16)), keras.Input((16, 16, 1), dtype="uint8")), None
            ),
            pooling=(*NO_FLAGS[1:], "mean", "avg"),
            input_shape=(
                3,
                "abc",
                (16, 16),
                (16, 16, None),
                (16.0, 16, 1),
                (0, 16, 1),
                (True, 16, 1),
                {},
                (),
            ),
            classifier_activation=(3, 0.5, "no such thing", b"relu", [], np.ones(2)),
            name=NO_TEXTS,
            weights=but(WEIGHTS, None),
        )
    ],
    *config_cases(
        DilatedGMNet3D,
        {},
        filters=(*INTEGERS, 0),
        classes=but((*INTEGERS, 0), None),
        dropout=(*NUMBERS, 1, 1.0),
        batch_norm_momentum=(*NUMBERS, 1),
        include_top=(*NO_FLAGS, "challenge", (5, 16, 16, 1)),
        input_tensor=but((*NO_OBJECTS, keras.Input((16, 16, 1)), keras.Input((5, 16, 16, None))), None),
        pooling=(*NO_FLAGS[1:], "mean", "avg"),
        input_shape=(3, "abcd", (16, 16, 1), (5, 16, 16, None), (5.0, 16, 16, 1), (0, 16, 16, 1), {}),
        classifier_activation=(3, 0.5, "no such thing", b"relu", [], np.ones(2)),
        name=NO_TEXTS,
        weights=but(WEIGHTS, None),
        dilation_rates=(3, "6", {}, None, (), (6, 6), (2,), (0,), [[6]]),
    ),
    *config_cases(
        DilatedGMNet,
        {},
        dilation_rates=(3, "6", {}, np.ones(2), None, (), (6, 6), (2,), (0,), (6.0,), ("6",), [[6]]),
    ),
    *[
        case
        for user in (
            (DiceLoss, {}),
            (DiceCrossEntropyLoss, {}),
            (HardDice, {}),
            (TerminateOnCollapse, {"images": SLICES}),
        )
        for case in config_cases(
            *user,
            classifier_activation=but((*NO_TEXTS, "relu"), None),
            from_logits=NO_FLAGS,
            include_background=but(NO_FLAGS, None),
        )
    ],
    *config_cases(DiceLoss, {}, epsilon=(*NUMBERS, 0), per_sample=NO_FLAGS, reduction=(3, "no", [])),
    *config_cases(
        DiceCrossEntropyLoss,
        {},
        epsilon=(*NUMBERS, 0),
        per_sample=NO_FLAGS,
        dice_weight=NUMBERS,
        cross_entropy_weight=NUMBERS,
    ),
    *config_cases(DiceCrossEntropyLoss, {"dice_weight": 0}, cross_entropy_weight=(0,)),
    *config_cases(HardDice, {}, threshold=but((*NUMBERS, 0, 1), None), class_id=but((*INTEGERS, -1), None)),
    *config_cases(
        PolyLearningRate,
        {"initial_learning_rate": 0.1, "total": 5},
        initial_learning_rate=(*NUMBERS, 0),
        total=(*INTEGERS, 0),
        power=(*NUMBERS, 0),
        per=(*NO_TEXTS, "steps"),
    ),
    *config_cases(
        TerminateOnCollapse,
        {"images": SLICES},
        images=(None, 3, "text", SLICES[0], SLICES[:0], {}),
        floor=(*NUMBERS, 0, 1),
        patience=(*INTEGERS, 0),
    ),
    *config_cases(
        AugmentationConfig,
        {},
        mask_interpolation=(*NO_TEXTS, "cubic"),
        **{item.name: NUMBERS for item in fields(AugmentationConfig) if item.name != "mask_interpolation"},
    ),
    *config_cases(
        AugmentationLayer,
        {"config": AugmentationConfig()},
        config=(*NO_OBJECTS, None),
        seed=(*INTEGERS, 2**32),
    ),
    *config_cases(
        augment,
        {"dataset": None, "config": AugmentationConfig(), "seed": 0},
        dataset=(*NO_OBJECTS, None),
        config=(*NO_OBJECTS, None),
        seed=INTEGERS,
        first_step=INTEGERS,
        rerandomize_each_iteration=NO_FLAGS,
    ),
    *config_cases(
        augment_batch,
        {"images": SLICES, "masks": SLICES, "config": AugmentationConfig(scaling=0.1), "seed": 0},
        images=(*NO_OBJECTS, None, SLICES[0]),
        masks=but(NO_OBJECTS, None),
        config=(*NO_OBJECTS, None),
        seed=INTEGERS,
    ),
    *config_cases(
        preview,
        {
            "images": SLICES,
            "masks": SLICES,
            "config": AugmentationConfig(),
            "seed": 0,
            "path": Path("no.png"),
        },
        images=(*NO_OBJECTS, None),
        masks=(*NO_OBJECTS, None),
        config=(*NO_OBJECTS, None),
        seed=INTEGERS,
    ),
    *config_cases(
        sample_parameters,
        {"config": AugmentationConfig(), "shape": (1, 8, 8, 1), "seed": 0},
        config=(*NO_OBJECTS, None),
        seed=(*INTEGERS, 2**32),
    ),
    *config_cases(
        WeightsCard,
        CARD,
        name=NO_TEXTS,
        architecture=NO_TEXTS,
        model_kwargs=(3, None, "text", []),
        file=NO_TEXTS,
        sha256=NO_TEXTS,
        url=but(NO_TEXTS, None),
        slices=(3, None, {}, {"spacing_mm": 0.25, "window_px": 200}),
        threshold=(*NUMBERS, 0, 1),
        paper_threshold=NUMBERS,
        scores=(3, None, [3]),
    ),
    *config_cases(weights_card, {}, name=(None, 3, "", "no such weights", [])),
    *config_cases(resolve_weights, {}, name_or_path=(*WEIGHTS, None, "")),
    *[
        case
        for load in (load_model, load_network)
        for case in config_cases(load, {}, weights=(*WEIGHTS, None, ""))
    ],
    *config_cases(
        preprocess_input,
        {},
        x=(3, None, "text", {}, [], [[["a"]]], SLICES[0, 0], np.ones((1, 4, 4, 3)), [[[1j]]]),
    ),
    *config_cases(
        binarize_predictions,
        {"preds": SLICES},
        preds=("text", None, {}, [1j], [[1], [1, 2]]),
        weights=(*WEIGHTS, None, ""),
        threshold=but((*NUMBERS, 0, 1), None),
    ),
]


@pytest.mark.parametrize(("call", "given", "name", "values"), CASES, ids=map(case_id, CASES))
def test_wrong_values_are_one_line(call, given, name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_refused(call, given, name, values)
    assert list(tmp_path.iterdir()) == []
