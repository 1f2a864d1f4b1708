"""A wrong value of any argument of segmentation, evaluation, calibration and exports is one line."""

from pathlib import Path

import nibabel as nib
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
    SegmentationConfig,
    Segmenter,
    evaluate,
    export_saved_model,
    segment,
)
from keras_scgm.calibration import calibrate, write_calibration
from keras_scgm.evaluation import challenge_metrics, fcn_metrics, write_evaluation
from keras_scgm.export.formats import export_network
from keras_scgm.morphometry import cross_sections
from keras_scgm.slices import SliceConfig

IMAGE = nib.Nifti1Image(np.ones((16, 16, 2), np.float32), np.diag([-0.5, 0.5, 5, 1]))
SLICES = np.zeros((2, 16, 16, 1), np.float32)
WEIGHTS = (3, 0.5, b"large", {}, np.ones(2), (3,), [None], object())


def settings(**values):
    return SegmentationConfig(**values)


CASES = [
    *config_cases(SliceConfig, {}, spacing_mm=(*NUMBERS, 0), window_px=(*INTEGERS, 0)),
    *config_cases(
        settings,
        {},
        binarize=(*NO_TEXTS, "both"),
        threshold=but((*NUMBERS, 0, 1, "0.5"), None),
        window=(*NO_PAIRS, None, "middle", ()),
        cord=(*NO_PATHS, "our", "mask.png"),
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
        cross_sections, {"gray_matter": None}, gray_matter=(*NO_OBJECTS, None), cord=but(NO_OBJECTS, None)
    ),
]


@pytest.mark.parametrize(("call", "given", "name", "values"), CASES, ids=map(case_id, CASES))
def test_wrong_values_are_one_line(call, given, name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_refused(call, given, name, values)
    assert list(tmp_path.iterdir()) == []
