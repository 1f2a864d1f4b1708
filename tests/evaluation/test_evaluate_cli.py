"""The command `evaluate`."""

from evaluation_helpers import disc, save

from keras_scgm import evaluate
from keras_scgm.evaluation import (
    summary_text,
)


def test_command(run, study):
    code, out, err = run(
        study / "good",
        study / "raters",
        *("--model", f"other={study / 'poor'}", "-o", study / "out", "--published"),
        *("--parameters", "other=776321"),
    )
    assert (code, err) == (0, "")
    assert out == (study / "out" / "summary.txt").read_text()
    for title in (
        "Table 2:",
        "Table 3:",
        "By site and rater",
        "Inter-rater agreement",
        "Models compared",
        "Table 1",
    ):
        assert title in out
    assert "Num. of Params.    -" in out
    assert out == summary_text(
        evaluate(
            {"good": study / "good", "other": study / "poor"}, study / "raters", parameters={"other": 776321}
        ),
        with_published=True,
    )


def test_command_goes_on_and_fails(run, study):
    save(study / "raters" / "site1-sc01-mask-r2.nii.gz", disc(5)[:-1])
    (study / "good" / "site1-sc02-image_gmseg.nii.gz").unlink()
    code, out, err = run(study / "good", study / "raters")
    assert code == 2
    assert "Table 2: mean (std) over pairs of case and rater (good: 14)" in out
    assert "warning: no prediction for 3 files: site1-sc02-mask-r1.nii.gz" in err
    assert "error: " in err
    assert "not on the grid of" in err
    assert "not on the grid of" not in out
    assert "Traceback" not in err


def test_command_line_mistakes(run, study):
    code, _, err = run(study / "good", study / "nowhere")
    assert (code, err) == (2, f"error: {study / 'nowhere'}: no such file or folder; check the path\n")
    code, _, err = run(study / "good", study / "raters", "-m", f"good={study / 'poor'}")
    assert code == 2
    assert "two models have the same name" in err
    code, _, err = run(study / "good", study / "raters", "--report", study / "mask.nii.gz")
    assert code == 2
    assert "give a name ending in .html" in err
    code, _, err = run(study / "good", study / "raters", "--parameters", "good")
    assert code == 2
    assert "give MODEL=NUMBER" in err
