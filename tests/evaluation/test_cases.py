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
