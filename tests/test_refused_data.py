"""A wrong value of any argument of data sets and the phantom is one line, never a traceback from inside."""

import numpy as np
import pytest
from wrong_values import (
    INTEGERS,
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

from keras_scgm.datasets import (
    AnnotatedVolume,
    Split,
    check_volumes,
    evenly_spaced_split,
    find_bids,
    find_challenge,
    find_dataset,
    load_slices,
    paper_split,
    smooth_contour,
    split_slices,
)
from keras_scgm.datasets.phantom import (
    DomainConfig,
    PhantomConfig,
    average_section,
    draw_slices,
    draw_stacks,
    draw_subject,
    write_challenge_dataset,
    write_exvivo_dataset,
)
from keras_scgm.slices import SliceConfig

ANNOTATED = {"image": "i.nii", "masks": ("m.nii",), "subject_id": "s"}
CASES = [
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
        drift=(*NUMBERS, 1.5),
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
        draw_stacks,
        {"n": 1, "n_slices": 2, "seed": 0},
        n=(*INTEGERS, 0),
        n_slices=(*INTEGERS, 0),
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
        also_checked=(*NO_OBJECTS, None, [None]),
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
    *config_cases(
        find_dataset,
        {"folder": "no"},
        folder=NO_PATHS,
        image_pattern=but(NO_TEXTS, None),
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
        split_slices,
        {"volumes": [AnnotatedVolume(**ANNOTATED)]},
        volumes=(*NO_OBJECTS, None),
        counts=(3, "abc", (1, 2), (1, -1, 1), None),
    ),
    *config_cases(
        write_exvivo_dataset,
        {"folder": "/dev/null/none"},
        folder=NO_PATHS,
        n_slices=(*INTEGERS, 3),
        seed=INTEGERS,
    ),
    *config_cases(
        smooth_contour,
        {"mask": np.zeros((4, 4), bool), "spacing_mm": (1, 1), "width_mm": 1},
        mask=(None, 3, "text", np.zeros((4, 4)), np.zeros(4, bool)),
        spacing_mm=(*NO_PAIRS, None),
        width_mm=NUMBERS,
    ),
]


@pytest.mark.parametrize(("call", "given", "name", "values"), CASES, ids=map(case_id, CASES))
def test_wrong_values_are_one_line(call, given, name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_refused(call, given, name, values)
    assert list(tmp_path.iterdir()) == []
