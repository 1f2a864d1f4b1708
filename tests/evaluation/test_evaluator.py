"""Scores of models and raters, slices left out, and errors that are reported."""

import math

import numpy as np
import pytest
from evaluation_helpers import AFFINE, disc, full_disc, partly, save

from keras_scgm import InputError, evaluate
from keras_scgm.evaluation import (
    challenge_metrics,
    write_evaluation,
)


def test_challenge_layout(result):
    assert not result.errors
    assert not result.warnings
    assert len(result.scores) == 2 * 6 * 3
    assert len(result.rater_scores) == 6 * 3 * 2
    assert (result.raters, result.sites) == (("r1", "r2", "r3"), ("1", "2", "3"))
    assert all(case.image is not None for case in result.cases)
    score = next(
        s for s in result.scores if (s.annotator, s.case_id, s.rater) == ("good", "site2-sc01", "r2")
    )
    # The white matter of the masks does not count, and the spacing comes from the header.
    wanted = challenge_metrics(disc(5.1), disc(5.5), (0.5, 0.5, 4.0))
    assert score.challenge == pytest.approx(wanted, nan_ok=True)
    assert score.site_id == "2"


def test_annotated_slices_only(tmp_path, run):
    found = save(tmp_path / "found.nii", full_disc(5))
    wanted = save(tmp_path / "wanted.nii", partly(full_disc(4), [1, 3]))
    plain = evaluate(found, wanted)
    assert plain.warnings == (
        "empty slices between annotated ones, taken as free of gray matter (to leave them out, "
        "--annotated-slices): 1 reference, wanted.nii (1)",
    )
    result = evaluate(found, wanted, annotated_only=True)
    assert result.warnings == ()
    (score,) = result.scores
    section = disc(5)[:, :, 1], disc(4)[:, :, 1]
    dice = 2 * (section[0] & section[1]).sum() / (section[0].sum() + section[1].sum())
    assert score.challenge["DSC"] == pytest.approx(dice)
    assert plain.scores[0].challenge["DSC"] < 0.65 * dice
    assert [row["slice_from_inferior"] for row in score.slices] == [1, 3]
    assert [row["dice"] for row in score.slices] == pytest.approx([dice, dice])
    assert score.details["TN"] == 2 * (section[0].size - (section[0] | section[1]).sum())
    assert score.details["volume_reference_mm3"] == 2 * section[1].sum()
    code, out, err = run(found, wanted, "--annotated-slices")
    assert (code, err) == (0, "")
    assert "annotated slices only: 2 compared, 3 without annotation left out" in out


def test_raters_are_compared_where_both_annotated(tmp_path):
    found = save(tmp_path / "found.nii", full_disc(5))
    raters = [
        save(tmp_path / f"{name}.nii", partly(full_disc(4), slices))
        for name, slices in (("one", [0, 1, 2]), ("two", [2, 3]))
    ]
    result = evaluate(found, raters, annotated_only=True)
    assert [score.details["n_slices_compared"] for score in result.scores] == [3, 2]
    assert [score.challenge["DSC"] for score in result.rater_scores] == [1, 1]


def test_a_reference_without_annotation_has_no_slice_to_compare(tmp_path):
    found = save(tmp_path / "found.nii", full_disc(5))
    result = evaluate(found, save(tmp_path / "empty.nii", 0 * full_disc(5)), annotated_only=True)
    assert math.isnan(result.scores[0].challenge["DSC"])
    write_evaluation(result, tmp_path / "out")
    header = (tmp_path / "out" / "slices.csv").read_text().splitlines()
    assert len(header) == 1
    assert header[0].startswith("model,case,site,rater,slice_from_inferior,DSC,MSD_mm,")


def test_a_bad_rater_is_reported_once(tmp_path):
    one, two = save(tmp_path / "one.nii", disc(5)), save(tmp_path / "two.nii", disc(5)[:-1])
    good, bad = (
        save(tmp_path / "good.nii", disc(4)),
        save(tmp_path / "bad.nii", 0.5 * disc(4), dtype=np.float32),
    )
    result = evaluate({"one": one, "two": two}, [good, bad])
    assert [error for error in result.errors if error.startswith(str(bad))] == [
        f"{bad}: holds 0, 0.5, probabilities and not labels; cut it at 0.5 first"
    ]


BAD = {
    "grid": (
        disc(4)[:-1],
        AFFINE,
        "not on the grid of .*b.nii, 39 x 36 x 4 voxels, not 40 x 36 x 4; .*--resample-ref",
    ),
    "affine": (
        disc(4),
        AFFINE + np.array([[0, 0, 0, 2.0], *np.zeros((3, 4))]),
        "not on the grid of .*b.nii, lies up to 2 mm elsewhere; .*--resample-reference",
    ),
    "labels": (disc(4) + 2 * disc(2), AFFINE, "holds 0, 1, 3, not a binary mask; choose one with --label"),
    "fractions": (disc(4) * 0.7, AFFINE, r"holds 0, 0.7, probabilities and not labels"),
    "frames": (np.stack([disc(4)] * 2, axis=3), AFFINE, "40 x 36 x 4 x 2 voxels; a mask has one frame"),
    "nan": (np.where(disc(4), np.nan, 0.0), AFFINE, r"\d+ NaN or infinite voxels in a mask"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_does_not_stop_the_others(name, tmp_path):
    voxels, affine, message = BAD[name]
    for case in "abc":
        save(tmp_path / "found" / f"{case}.nii", disc(5))
        save(tmp_path / "manual" / f"{case}.nii", disc(4))
    save(tmp_path / "manual" / "b.nii", voxels, affine, np.float32)
    result = evaluate(tmp_path / "found", tmp_path / "manual")
    assert [score.case_id for score in result.scores] == ["a", "c"]
    assert len(result.errors) == 1
    with pytest.raises(InputError, match=rf"^\S*b.nii: {message}"):
        evaluate(tmp_path / "found" / "b.nii", tmp_path / "manual" / "b.nii")
    if name not in ("grid", "affine"):
        with pytest.raises(InputError, match=rf"^\S*manual/b.nii: {message}"):
            evaluate(tmp_path / "manual" / "b.nii", tmp_path / "found" / "b.nii")
