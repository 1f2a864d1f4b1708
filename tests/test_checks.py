"""A wrong value of any argument of a public entry is one line, never a traceback from inside."""

import inspect
import json
from dataclasses import fields
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest

import keras_scgm
from keras_scgm import (
    AugmentationConfig,
    AugmentationLayer,
    DiceCrossEntropyLoss,
    DiceLoss,
    DilatedGMNet,
    HardDice,
    InputError,
    PolyLearningRate,
    SegmentationConfig,
    Segmenter,
    TerminateOnCollapse,
    UNet,
    augment,
    checks,
    evaluate,
    export_saved_model,
    segment,
)
from keras_scgm.augmentation import augment_batch, preview, sample_parameters
from keras_scgm.calibration import calibrate, write_calibration
from keras_scgm.datasets import (
    AnnotatedVolume,
    Split,
    check_volumes,
    evenly_spaced_split,
    find_bids,
    find_challenge,
    load_slices,
    paper_split,
    smooth_contour,
)
from keras_scgm.datasets.phantom import (
    DomainConfig,
    PhantomConfig,
    average_section,
    draw_slices,
    draw_subject,
    write_challenge_dataset,
)
from keras_scgm.evaluation import challenge_metrics, fcn_metrics, write_evaluation
from keras_scgm.export.formats import export_network
from keras_scgm.models import binarize_predictions, load_model, load_network, preprocess_input
from keras_scgm.morphometry import cross_sections
from keras_scgm.pretrained import WeightsCard, resolve_weights, weights_card
from keras_scgm.slices import SliceConfig
from keras_scgm.training import SliceBatches, SyntheticBatches, TrainingConfig, annotated_source, train
from keras_scgm.tuning import TuningConfig, tune

NO_NUMBERS = (
    None,
    "1",
    "",
    b"1",
    [1],
    {},
    np.ones(2),
    True,
    np.True_,
    float("nan"),
    float("inf"),
    1j,
    object(),
)
NO_INTEGERS = (*NO_NUMBERS, 1.5, 2.0, np.float64(2))
NO_FLAGS = (None, "yes", 1, 0, 1.0, np.ones(2), [])
NO_TEXTS = (None, 3, True, b"text", [], {}, np.ones(2), float("nan"))
NO_PATHS = (None, 3, True, b"text", [], {}, np.ones(2), "")
NO_PAIRS = (
    3,
    "ab",
    b"ab",
    (1,),
    (1, 2, 3),
    (1, None),
    ("1", "2"),
    (float("nan"), 1),
    {1: 2, 2: 3},
    np.ones((2, 2)),
)
NO_OBJECTS = (3, "text", b"text", [1], {}, np.ones(2), float("nan"))


def but(values, *allowed):
    """The values without those that an argument does take."""
    return [value for value in values if not any(value is item for item in allowed)]


IMAGE = nib.Nifti1Image(np.ones((16, 16, 2), np.float32), np.diag([-0.5, 0.5, 5, 1]))
SLICES = np.zeros((2, 16, 16, 1), np.float32)
CARD = {
    "name": "n",
    "architecture": "DilatedGMNet",
    "model_kwargs": {},
    "file": "n.keras",
    "sha256": "0" * 64,
}
ANNOTATED = {"image": "i.nii", "masks": ("m.nii",), "subject_id": "s"}
WEIGHTS = (3, 0.5, b"large", {}, np.ones(2), (3,), [None], object())


def settings(**values):
    return SegmentationConfig(**values)


def config_cases(kind, given, **wrong):
    return [(kind, given, name, values) for name, values in wrong.items()]


def negative(values):
    return (*values, -1, np.int64(-1), -0.5)


INTEGERS, NUMBERS = negative(NO_INTEGERS), negative(NO_NUMBERS)
CASES = [
    *[
        case
        for builder in (DilatedGMNet, UNet)
        for case in config_cases(
            builder,
            {},
            filters=(*INTEGERS, 0),
            classes=(*INTEGERS, 0),
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
        DilatedGMNet,
        {},
        dilation_rates=(3, "6", {}, np.ones(2), None, (), (6, 6), (2,), (0,), (6.0,), ("6",), [[6]]),
    ),
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
    *config_cases(HardDice, {}, threshold=(*NUMBERS, 0, 1)),
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
    ),
    *config_cases(
        augment_batch,
        {"images": SLICES, "masks": SLICES, "config": AugmentationConfig(scaling=0.1), "seed": 0},
        images=(*NO_OBJECTS, None, SLICES[0]),
        masks=(*NO_OBJECTS, None),
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
    *config_cases(SliceConfig, {}, spacing_mm=(*NUMBERS, 0), window_px=(*INTEGERS, 0)),
    *config_cases(
        settings,
        {},
        binarize=(*NO_TEXTS, "both"),
        threshold=but((*NUMBERS, 0, 1, "0.5"), None),
        window=(*NO_PAIRS, None, "middle", ()),
        mirror=NO_FLAGS,
        uncertainty_passes=(*INTEGERS, 1),
        seed=INTEGERS,
        frame=but(INTEGERS, None),
        orientation=but((*NO_TEXTS, "XYZ", "LA", "LLS"), None),
        keep_probabilities=NO_FLAGS,
        runtime=but((*NO_TEXTS, "numpy"), None),
        precision=(*NO_TEXTS, "float8"),
    ),
    *config_cases(Segmenter, {}, weights=(*WEIGHTS, ()), config=but(NO_OBJECTS, None)),
    *config_cases(
        segment,
        {"image": IMAGE},
        image=(*NO_OBJECTS, None),
        weights=(*WEIGHTS, ()),
        progress=(3, "text", []),
        window=(None,),
        threshold=("0.5",),
    ),
    *config_cases(
        TrainingConfig,
        {},
        architecture=(*NO_TEXTS, "ResNet"),
        model_kwargs=(3, "text", [1], None, {3: 4}),
        initial_weights=but(NO_TEXTS, None),
        frozen_layers=(3, "name", [3], [None], np.ones(2)),
        window_px=(*INTEGERS, 0),
        epochs=(*INTEGERS, 0),
        steps_per_epoch=(*INTEGERS, 0),
        batch_size=(*INTEGERS, 0),
        learning_rate=(*NUMBERS, 0),
        power=(*NUMBERS, 0),
        rate_per=(*NO_TEXTS, "batch"),
        cross_entropy_weight=NUMBERS,
        ema_momentum=(*NUMBERS, 1),
        augmentation=(*NO_OBJECTS, None),
        seed=(*INTEGERS, 2**32),
        mixed_precision=NO_FLAGS,
        xla=NO_FLAGS,
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
        PhantomConfig,
        {},
        spacing_mm=NUMBERS,
        slice_thickness_mm=NUMBERS,
        matrix_size=(*INTEGERS, 8),
        n_slices=(*INTEGERS, 0),
        contrast=(*NO_TEXTS, "t9"),
        levels=(*NO_PAIRS, None, (2, 7)),
        gray_over_white=(*NO_PAIRS, (0, 1), (2, 1)),
        contrast_to_noise=(*NO_PAIRS, None, (2, 1)),
        zero_filling=(*NO_PAIRS, None, (0, 1)),
        off_centre_mm=NUMBERS,
        rotation_deg=NUMBERS,
        tilt_deg=NUMBERS,
        artefacts=NUMBERS,
    ),
    *config_cases(
        DomainConfig,
        {},
        spacing_mm=(*NO_PAIRS, None),
        slice_thickness_mm=(*NO_PAIRS, None),
        contrast_to_noise=(*NO_PAIRS, None),
        off_centre_mm=NUMBERS,
        rotation_deg=NUMBERS,
        empty=NUMBERS,
        contrast_weights=(*NO_OBJECTS, None, (0,) * 5),
        region_weights=(*NO_OBJECTS, None, (0, 0, 0), (-1, 1, 1)),
    ),
    *config_cases(
        average_section, {"level": 4}, level=(*NUMBERS, 0, 22), size=(*INTEGERS, 0), spacing_mm=NUMBERS
    ),
    *config_cases(
        draw_subject, {"config": PhantomConfig(), "seed": 0}, config=(*NO_OBJECTS, None), seed=INTEGERS
    ),
    *config_cases(
        draw_slices,
        {"n": 1, "seed": 0},
        n=(*INTEGERS, 0),
        seed=INTEGERS,
        size=(*INTEGERS, 4),
        spacing_mm=NUMBERS,
        config=but(NO_OBJECTS, None),
        start=INTEGERS,
    ),
    *config_cases(
        write_challenge_dataset,
        {"folder": "/dev/null/none"},
        folder=NO_PATHS,
        subjects_per_site=(*INTEGERS, 0),
        seed=INTEGERS,
        raters=(*INTEGERS, 0),
        unlabelled_per_site=INTEGERS,
    ),
    *config_cases(
        AnnotatedVolume,
        ANNOTATED,
        image=NO_PATHS,
        masks=(3, "m.nii", [3], None, {}),
        subject_id=NO_TEXTS,
        site_id=but(NO_TEXTS, None),
        label_value=but((*INTEGERS, 0), None),
        labelled_slices=(3, "1", [], [1, 1], [-1], ["1"], [1.0]),
    ),
    *config_cases(Split, {"train": (), "validation": ()}, train=(*NO_OBJECTS, None, [None]), test=(3, [3])),
    *config_cases(check_volumes, {}, volumes=(*NO_OBJECTS, None, [None])),
    *config_cases(
        load_slices,
        {"volumes": [AnnotatedVolume(**ANNOTATED)], "config": SliceConfig()},
        volumes=(*NO_OBJECTS, None, [None]),
        config=(*NO_OBJECTS, None),
        raters=(*NO_TEXTS, "none"),
        contour_smoothing_mm=NUMBERS,
        seed=INTEGERS,
    ),
    *config_cases(
        evenly_spaced_split,
        {"n_slices": 30},
        n_slices=(*INTEGERS, 3),
        n_train=(*INTEGERS, 0),
        n_validation=INTEGERS,
        n_test=INTEGERS,
    ),
    *config_cases(
        find_bids,
        {"folder": "no"},
        folder=NO_PATHS,
        image_pattern=(*NO_TEXTS, "/a"),
        mask_pattern=(*NO_TEXTS, "/a"),
        label_value=but(INTEGERS, None),
    ),
    *config_cases(find_challenge, {"folder": "no"}, folder=NO_PATHS, label_value=but(INTEGERS, None)),
    *config_cases(
        paper_split,
        {"volumes": [AnnotatedVolume(**ANNOTATED)]},
        volumes=(*NO_OBJECTS, None),
        seed=INTEGERS,
        validation_per_site=(*INTEGERS, 0),
    ),
    *config_cases(
        smooth_contour,
        {"mask": np.zeros((4, 4), bool), "spacing_mm": (1, 1), "width_mm": 1},
        mask=(None, 3, "text", np.zeros((4, 4)), np.zeros(4, bool)),
        spacing_mm=(*NO_PAIRS, None),
        width_mm=NUMBERS,
    ),
    *config_cases(
        challenge_metrics,
        {"prediction": SLICES[0] > 0, "reference": SLICES[0] > 0, "spacing_mm": (1, 1, 1)},
        prediction=(
            None,
            3,
            "text",
            np.full((16, 16, 1), 0.5),
            np.full((16, 16, 1), "a"),
            SLICES > 0,
            np.zeros((16, 16, 2)),
        ),
        spacing_mm=(None, 3, "abc", (1, 1), (1, 1, None), (1, 1, -1), (1, 1, float("nan")), ("1", 1, 1)),
    ),
    *config_cases(
        fcn_metrics,
        {"prediction": np.ones(3), "reference": np.ones(3)},
        prediction=(None, "text", np.ones(2), [0.5] * 3),
    ),
    *config_cases(
        evaluate,
        {"predictions": "no.nii", "references": "no.nii"},
        predictions=(*NO_PATHS, {3: "a"}, {"a": 3}, {"": "a"}),
        references=(*but(NO_PATHS, ""), [3], [None]),
        images=but(NO_PATHS, None),
        label=but(INTEGERS, None),
        resample_reference=NO_FLAGS,
        annotated_only=NO_FLAGS,
        progress=(3, "text"),
        parameters=(3, "text", {"no.nii": 3.5}, {"no": "3"}, {"no": -1}, {3: 4}),
    ),
    *config_cases(write_evaluation, {"folder": "out"}, evaluation=(*NO_OBJECTS, None)),
    *config_cases(
        calibrate,
        {"weights": "synthetic", "volumes": []},
        weights=(*WEIGHTS, None),
        volumes=(*NO_OBJECTS, None, [3]),
        objective=(*NO_TEXTS, "mean"),
        progress=(3, "text"),
    ),
    *config_cases(
        write_calibration, {"weights": "synthetic", "folder": Path("no")}, calibration=(*NO_OBJECTS, None)
    ),
    *config_cases(
        export_saved_model,
        {"weights": None, "path": "/dev/null/none"},
        weights=WEIGHTS,
        path=NO_PATHS,
        threshold=but((*NUMBERS, 0, 1), None),
        window=(*NO_TEXTS, (1, 2)),
        precision=(*NO_TEXTS, "int8"),
    ),
    *config_cases(
        export_network,
        {"weights": "synthetic", "folder": "/dev/null/none", "file_format": "onnx"},
        weights=(*WEIGHTS, None),
        folder=NO_PATHS,
        file_format=(*NO_TEXTS, "pickle"),
    ),
    *config_cases(
        SyntheticBatches,
        {},
        window_px=INTEGERS,
        domain=(*NO_OBJECTS, None),
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
        batches=(*NO_OBJECTS, None),
    ),
    *config_cases(annotated_source, {"folder": "no", "split": "no.json"}, folder=NO_PATHS, split=NO_PATHS),
    *config_cases(
        cross_sections, {"gray_matter": None}, gray_matter=(*NO_OBJECTS, None), cord=but(NO_OBJECTS, None)
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
        slices=(3, None, {}, {"spacing_mm": "0.25", "window_px": 200}),
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
    *[
        case
        for kind in (AugmentationConfig, TrainingConfig, TuningConfig, WeightsCard)
        for case in config_cases(kind.from_json, {}, text=(*NO_TEXTS, "", "{", "[]", '"a"', '{"nothing": 1}'))
    ],
]


@pytest.mark.parametrize(
    ("call", "given", "name", "values"),
    CASES,
    ids=[f"{call.__qualname__}-{name}" for call, _, name, _ in CASES],
)
def test_wrong_values_are_one_line(call, given, name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in values:
        with pytest.raises(ValueError) as raised:  # noqa: PT011
            call(**{**given, name: value})
        # Keras checks a loss's reduction by itself.
        assert isinstance(raised.value, InputError) or name == "reduction", repr(value)
        assert "\n" not in str(raised.value), repr(value)
    assert list(tmp_path.iterdir()) == []


def test_every_public_name_is_tested():
    """Those without arguments of their own, or that only hold results, aside."""
    tested = {call.__name__ for call, *_ in CASES} | {"SegmentationConfig"}
    assert set(keras_scgm.__all__) - tested == {
        "InputError",
        "Segmentation",
        "SoftDice",
        "__version__",
        "list_weights",
    }


@pytest.mark.parametrize("builder", [DilatedGMNet, UNet])
def test_numpy_numbers_are_numbers(builder):
    model = builder(
        input_shape=(np.int64(16), 16, np.int32(1)),
        filters=np.int64(2),
        classes=np.uint8(1),
        dropout=np.float32(0.25),
        batch_norm_momentum=np.float64(0.5),
        include_top=np.True_,
    )
    assert model.input_shape == (None, 16, 16, 1)
    assert keras.models.model_from_json(model.to_json()).count_params() == model.count_params()


def test_numpy_numbers_in_settings_are_written_to_json():
    config = TrainingConfig(
        model_kwargs={"filters": np.int64(8), "dilation_rates": [6, np.int64(12)]},
        epochs=np.int32(3),
        learning_rate=np.float32(0.5),
        xla=np.False_,
        augmentation=AugmentationConfig(scaling=np.float64(0.25)),
    )
    assert json.loads(config.to_json())["model_kwargs"] == {"filters": 8, "dilation_rates": [6, 12]}
    assert TrainingConfig.from_json(config.to_json()) == config
    tuning = TuningConfig(trials=np.int64(4), filters=np.array([8, 16]), threshold=np.array([0.25, 0.5]))
    assert TuningConfig.from_json(tuning.to_json()) == tuning
    chosen = SegmentationConfig(threshold=np.float32(0.5), window=np.array([3, 4]), seed=np.int64(2))
    assert (chosen.threshold, chosen.window, chosen.seed) == (0.5, (3, 4), 2)
    assert [type(value) for value in (chosen.threshold, *chosen.window, chosen.seed)] == [
        float,
        float,
        float,
        int,
    ]


def test_messages_say_received():
    """One word in all of the package's messages, also those that no test provokes."""
    for path in Path(inspect.getfile(keras_scgm)).parent.rglob("*.py"):
        assert ", got " not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (checks.integer(1), 0, "x must be an integer of at least 1, received 0"),
        (checks.integer(0, 9), "3", "x must be an integer from 0 to 9, received '3'"),
        (checks.number(), float("nan"), "x must be a number, received nan"),
        (checks.number(0, 1), 2, "x must be a number from 0 to 1, received 2"),
        (checks.number(above=0, below=1), "0.5", "x must be a number above 0 and below 1, received '0.5'"),
        (checks.number(0, below=1), True, "x must be a number of at least 0 and below 1, received True"),
        (checks.flag, 1, "x must be True or False, received 1"),
        (checks.one_of(("a", "b")), "c", "x must be one of a, b, received 'c'"),
        (checks.path, b"a", "x must be a path, received b'a'"),
        (
            checks.interval(1, 4),
            (3, 2),
            r"x must be a lower and a higher number from 1 to 4, received \(3, 2\)",
        ),
        (checks.seed, -1, "x must be an integer from 0 to 4294967295, received -1"),
        (checks.text, np.zeros(200), r"x must be a text, received array\(\[0., 0., .*\.\.\."),
    ],
)
def test_rules(rule, value, message):
    with pytest.raises(InputError, match=rf"^{message}$"):
        rule("x", value)
