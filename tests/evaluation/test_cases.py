"""Files that belong together, by name."""

import numpy as np
import pytest
from evaluation_helpers import disc, save

from keras_scgm import InputError, evaluate
from keras_scgm.evaluation import (
    challenge_metrics,
)


def test_two_files_belong_together_whatever_their_names(tmp_path):
    one, other = save(tmp_path / "a.nii", disc(5)), save(tmp_path / "b.nii.gz", disc(4), dtype=np.float32)
    result = evaluate(one, other)
    assert (result.models, result.cases[0].case_id) == (("a",), "b")
    assert result.scores[0].challenge == challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0))


def test_folders_match_by_name(tmp_path):
    for name in ("sub-1_T2star", "sub-10_T2star", "sub-1"):
        save(tmp_path / "found" / f"{name}_gmseg.nii.gz", disc(5))
        save(tmp_path / "found" / f"{name}.nii.gz", disc(9))
        for rater in ("anna", "ben"):
            save(tmp_path / rater / f"{name}_gmseg-manual.nii.gz", disc(4))
    save(tmp_path / "found" / "sub-3_gmseg.nii.gz", disc(5))
    save(tmp_path / "anna" / "sub-4_gmseg.nii.gz", disc(5))
    (tmp_path / "ben" / "sub-1_gmseg-manual.nii.gz").unlink()
    result = evaluate(tmp_path / "found", [tmp_path / "anna", tmp_path / "ben"])
    assert [case.case_id for case in result.cases] == ["sub-1", "sub-10_T2star", "sub-1_T2star"]
    assert result.raters == ("anna", "ben")
    assert result.warnings == (
        "no reference for 1 file: sub-3_gmseg.nii.gz",
        "no prediction for 1 file: sub-4_gmseg.nii.gz",
        "fewer than 2 raters for 1 case: sub-1",
    )
    assert {score.challenge["DSC"] for score in result.scores} == {
        challenge_metrics(disc(5), disc(4), (0.5, 0.5, 4.0))["DSC"]
    }


def test_paths_that_lead_nowhere(tmp_path):
    mask = save(tmp_path / "found" / "a.nii", disc(5))
    save(tmp_path / "manual" / "z.nii", disc(5))
    (tmp_path / "empty").mkdir()
    for predictions, references, message in (
        (tmp_path / "no", mask, "no: no such file or folder"),
        (mask, tmp_path / "no", "no: no such file or folder"),
        (tmp_path / "empty", mask, "empty: no .nii or .nii.gz file in it"),
        (tmp_path / "found", tmp_path / "manual", "no prediction has the name of a reference"),
        (mask, [], "no reference"),
        ({}, mask, "no prediction"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(predictions, references)


def test_images_belong_to_the_cases_of_their_names(tmp_path):
    for name in ("sub-1", "sub-2", "site1-sc01"):
        save(tmp_path / "found" / f"{name}_gmseg.nii.gz", disc(5))
        save(tmp_path / "images" / f"{name}.nii.gz", disc(9))
    for name in ("sub-1", "sub-2"):
        save(tmp_path / "manual" / f"{name}_gmseg.nii.gz", disc(4))
    save(tmp_path / "manual" / "site1-sc01-mask-r1.nii.gz", disc(4))
    save(tmp_path / "images" / "sub-9.nii.gz", disc(9))
    place = tmp_path / "found", tmp_path / "manual"
    cases = evaluate(*place, images=tmp_path / "images").cases
    assert {case.case_id: case.image.name for case in cases} == {
        name: f"{name}.nii.gz" for name in ("site1-sc01", "sub-1", "sub-2")
    }
    assert {case.image for case in evaluate(*place).cases} == {None}
    one = tmp_path / "images" / "sub-9.nii.gz"
    files = (folder / "sub-1_gmseg.nii.gz" for folder in place)
    assert [case.image for case in evaluate(*files, images=one).cases] == [one]


def test_which_cases_a_model_lacks_and_which_files_are_twice(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / "one" / f"{name}.nii.gz", disc(5))
        save(tmp_path / "manual" / f"{name}.nii.gz", disc(4))
    save(tmp_path / "two" / "b.nii.gz", disc(4))
    models = {name: tmp_path / name for name in ("one", "two")}
    result = evaluate(models, tmp_path / "manual")
    assert result.warnings == ("model two has no prediction for 2 cases: a, c",)
    assert [len(result.of_model(name)) for name in models] == [3, 1]
    alone = evaluate(tmp_path / "one", tmp_path / "manual" / "b.nii.gz")
    assert [case.case_id for case in alone.cases] == ["b"]
    again = save(tmp_path / "one" / "again" / "a.nii.gz", disc(5))
    with pytest.raises(InputError, match=r"a.nii.gz: belongs to the same case as .*a.nii.gz; keep one"):
        evaluate(models, tmp_path / "manual")
    again.unlink()
    save(tmp_path / "raters" / "site1-sc01-mask-r1.nii.gz", disc(4))
    with pytest.raises(InputError, match="raters: holds raters' masks only; give the folder of the pred"):
        evaluate(tmp_path / "raters", tmp_path / "raters")
