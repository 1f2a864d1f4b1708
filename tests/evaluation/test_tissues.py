"""Gray matter, white matter and cord: which files and labels they come from, and what is compared."""

import csv
import json
import shutil

import numpy as np
import pytest
from evaluation_helpers import AFFINE, disc, save

from keras_scgm import InputError, evaluate
from keras_scgm.evaluation import challenge_metrics, evaluate_tissues, table2
from keras_scgm.evaluation.tissues import label_values, named_tissue

GRAY, CORD = disc(4), disc(9)
FOUND_GRAY, FOUND_CORD = disc(5), disc(8)
SPACING_MM = (0.5, 0.5, 4.0)

TRUE = {"gm": GRAY, "wm": CORD & ~GRAY, "cord": CORD}
FOUND = {"gm": FOUND_GRAY, "wm": FOUND_CORD & ~FOUND_GRAY, "cord": FOUND_CORD}
WANTED = {tissue: challenge_metrics(FOUND[tissue], TRUE[tissue], SPACING_MM) for tissue in TRUE}

SUFFIXES = {"gm": "_gmseg", "wm": "_wmseg", "cord": "_seg"}


def save_found(folder, stem, tissues=("gm", "wm", "cord")):
    for tissue in tissues:
        save(folder / f"{stem}{SUFFIXES[tissue]}.nii.gz", FOUND[tissue])


def metrics(results):
    return {tissue: [score.challenge for score in result.scores] for tissue, result in results.items()}


@pytest.mark.parametrize(
    ("stem", "tissue", "rest"),
    [
        ("sub-1_T2star_gmseg-manual", "gm", "sub-1_T2star-manual"),
        ("sub-1_T2star_seg", "cord", "sub-1_T2star"),
        ("sub-1_label-SC_seg", "cord", "sub-1"),
        ("sub-1_label-GM_mask", "gm", "sub-1"),
        ("sub-1_mask", None, "sub-1_mask"),
        ("sub-1_label-WM_seg_anna", "wm", "sub-1_anna"),
        ("9584_cord", "cord", "9584"),
        ("9584_gm", "gm", "9584"),
        ("t2s_uncropped", None, "t2s_uncropped"),
        ("sub-1_segment", None, "sub-1_segment"),
        ("site1-sc01-mask-r1", None, "site1-sc01-mask-r1"),
    ],
)
def test_names_say_the_tissue(stem, tissue, rest):
    assert named_tissue(stem) == (tissue, rest)


def test_results_of_a_study_are_told_apart(tmp_path):
    for tissue, label in (("gm", "GM"), ("wm", "WM"), ("cord", "SC")):
        save(tmp_path / "found" / "sub-1" / "anat" / f"sub-1_label-{label}_mask.nii.gz", FOUND[tissue])
        save(tmp_path / "manual" / f"sub-1_label-{label}_mask.nii.gz", TRUE[tissue])
    results = evaluate_tissues(tmp_path / "found", tmp_path / "manual")
    assert metrics(results) == {tissue: [values] for tissue, values in WANTED.items()}


def test_every_tissue_from_the_masks_of_the_challenge(tmp_path):
    save(tmp_path / "raters" / "site1-sc01-mask-r1.nii.gz", GRAY + 2 * (CORD & ~GRAY))
    save_found(tmp_path / "found", "site1-sc01-image")
    results = evaluate_tissues(tmp_path / "found", tmp_path / "raters")
    assert metrics(results) == {tissue: [values] for tissue, values in WANTED.items()}
    for tissue in TRUE:
        one = evaluate(tmp_path / "found", tmp_path / "raters", tissue=tissue)
        assert one.tissue == tissue
        assert metrics({tissue: one}) == {tissue: [WANTED[tissue]]}
        # A prediction in the challenge's labels, and as a single file.
        rater = tmp_path / "raters" / "site1-sc01-mask-r1.nii.gz"
        assert evaluate(rater, rater, tissue=tissue).scores[0].challenge["DSC"] == 1


@pytest.mark.parametrize("given", [("gm", "wm"), ("gm", "cord"), ("gm", "wm", "cord")])
def test_the_third_tissue_follows_from_the_two_others(given, tmp_path):
    save_found(tmp_path / "found", "a", given)
    for tissue in ("gm", "cord"):
        save(tmp_path / "manual" / f"a{SUFFIXES[tissue]}-manual.nii.gz", TRUE[tissue])
    results = evaluate_tissues(tmp_path / "found", tmp_path / "manual")
    assert metrics(results) == {tissue: [values] for tissue, values in WANTED.items()}
    assert results["wm"].raters == ("r1",)
    assert not any(result.warnings or result.errors for result in results.values())


def test_only_what_both_have_is_compared(tmp_path):
    save_found(tmp_path / "found", "a", ("gm",))
    save_found(tmp_path / "found", "b")
    save(tmp_path / "manual" / "a_gmseg.nii.gz", GRAY)
    save(tmp_path / "manual" / "b_seg.nii.gz", CORD)
    results = evaluate_tissues(tmp_path / "found", tmp_path / "manual")
    assert {tissue: [score.case_id for score in one.scores] for tissue, one in results.items()} == {
        "gm": ["a"],
        "cord": ["b"],
    }
    assert results["cord"].warnings == (
        f"no cord: 1 mask, {tmp_path / 'found' / 'a_gmseg.nii.gz'}: no mask of the cord beside it",
    )
    shutil.rmtree(tmp_path / "manual")
    save(tmp_path / "manual" / "a.nii.gz", GRAY)
    with pytest.raises(InputError, match=r"a_gmseg.nii.gz: no mask of the cord beside it"):
        evaluate(tmp_path / "found", tmp_path / "manual", tissue="cord")


def test_a_mask_of_unknown_tissue_is_what_was_asked_for(tmp_path):
    found, manual = save(tmp_path / "x" / "a_seg.nii", FOUND_CORD), save(tmp_path / "y" / "b.nii", CORD)
    assert metrics({"cord": evaluate(found, manual, tissue="cord")}) == {"cord": [WANTED["cord"]]}
    # Without names that say the cord, two single masks are compared as gray matter.
    assert evaluate(found, manual).tissue == "gm"
    save(tmp_path / "x" / "a_gmseg.nii", FOUND_GRAY)
    save(tmp_path / "z" / "a.nii", GRAY)
    assert metrics(evaluate_tissues(tmp_path / "x", tmp_path / "z")) == {"gm": [WANTED["gm"]]}


@pytest.mark.parametrize("name", ["a_gmseg.nii", "a_label-GM_mask.nii"])
def test_a_file_of_this_package_is_not_taken_for_another_tissue(tmp_path, name):
    found = save(tmp_path / name, FOUND_GRAY)
    message = rf"{name}: named as a mask of the gray matter, not of the cord; change --tissue"
    with pytest.raises(InputError, match=message):
        evaluate(found, save(tmp_path / "b.nii", CORD), tissue="cord")
    assert metrics({"gm": evaluate(found, save(tmp_path / "c.nii", GRAY))}) == {"gm": [WANTED["gm"]]}


def test_labels_of_gray_and_white_matter(tmp_path):
    both = save(tmp_path / "both.nii", 3 * GRAY + 7 * (CORD & ~GRAY))
    found = save(tmp_path / "found.nii", 3 * FOUND_GRAY + 7 * (FOUND_CORD & ~FOUND_GRAY))
    assert metrics(evaluate_tissues(found, both, label=(3, 7))) == {t: [v] for t, v in WANTED.items()}
    assert metrics({"wm": evaluate(found, both, tissue="wm", label=7)}) == {"wm": [WANTED["wm"]]}
    with pytest.raises(InputError, match=r"found.nii: holds 0, 3, 7, no voxel is 2, white matter"):
        evaluate(found, both, tissue="cord", label=(3, 2))
    gray_only = save(tmp_path / "gray.nii", 3 * GRAY)
    assert list(evaluate_tissues(found, gray_only, label=(3, 7))) == ["gm"]
    assert list(evaluate_tissues(found, both, label=3)) == ["gm"]


def test_a_label_that_a_model_has_in_other_cases_was_not_found(tmp_path):
    gray, white = GRAY * np.uint8(1), (CORD & ~GRAY) * np.uint8(2)
    found = {"both": gray + white, "gray": gray, "white": white, "neither": 0 * gray}
    for case, mask in found.items():
        save(tmp_path / "found" / f"{case}.nii.gz", mask)
        save(tmp_path / "manual" / f"{case}.nii.gz", gray + white)
    results = evaluate_tissues(tmp_path / "found", tmp_path / "manual", label=(1, 2))
    for tissue, values in {"gm": (1,), "wm": (2,), "cord": (1, 2)}.items():
        expected = {
            case: challenge_metrics(np.isin(mask, values), TRUE[tissue], SPACING_MM)["DSC"]
            for case, mask in found.items()
        }
        assert {score.case_id: score.challenge["DSC"] for score in results[tissue].scores} == expected
    single = evaluate(tmp_path / "found", tmp_path / "manual", label=1)
    assert [score.challenge["DSC"] for score in single.scores] == [
        score.challenge["DSC"] for score in results["gm"].scores
    ]
    white_alone = tmp_path / "found" / "white.nii.gz"
    with pytest.raises(InputError, match=r"white.nii.gz: holds 0, 2, no voxel is 1; choose another --label"):
        evaluate(white_alone, tmp_path / "manual" / "white.nii.gz", label=(1, 2))


@pytest.mark.parametrize("wrong", [0, (), (1, 1), (1, 2, 3), "12", 1.5, (1, 0)])
def test_wrong_labels(wrong):
    with pytest.raises(InputError, match="label must be a label, or those of gray and of white matter"):
        label_values("label", wrong)


def test_raters_who_drew_several_tissues(tmp_path):
    save_found(tmp_path / "found", "a")
    for rater, grown in (("anna", 0), ("ben", 1)):
        save(tmp_path / "manual" / f"a_gmseg-{rater}.nii.gz", disc(4 + grown))
        save(tmp_path / "manual" / f"a_seg-{rater}.nii.gz", disc(9 + grown))
    results = evaluate_tissues(tmp_path / "found", tmp_path / "manual")
    for grown, white in enumerate(results["wm"].scores):
        expected = challenge_metrics(FOUND["wm"], disc(9 + grown) & ~disc(4 + grown), SPACING_MM)
        assert (white.rater, white.challenge) == (f"r{grown + 1}", expected)
    files = [tmp_path / "manual" / f"a_{name}-anna.nii.gz" for name in ("gmseg", "seg")]
    assert metrics(evaluate_tissues(tmp_path / "found", files)) == {t: [v] for t, v in WANTED.items()}


def test_tissues_of_one_case_must_lie_on_one_grid(tmp_path):
    save_found(tmp_path / "found", "a")
    save(tmp_path / "manual" / "a_gmseg.nii.gz", GRAY)
    save(tmp_path / "manual" / "a_seg.nii.gz", CORD, AFFINE @ np.diag([2, 1, 1, 1]))
    with pytest.raises(InputError, match=r"a_gmseg.nii.gz: not on the grid of \S*a_seg.nii.gz, "):
        evaluate(tmp_path / "found", tmp_path / "manual", tissue="wm")
    results = evaluate_tissues(tmp_path / "found", tmp_path / "manual")
    assert list(results) == ["gm"]
    white, cord = results["gm"].errors
    assert white.startswith(f"{tmp_path / 'manual' / 'a_gmseg.nii.gz'}: not on the grid of ")
    assert cord.startswith(f"{tmp_path / 'manual' / 'a_seg.nii.gz'}: not on the grid of ")


def test_tables_of_a_tissue_say_it_and_those_of_the_paper_are_of_gray_matter(tmp_path, run):
    save(tmp_path / "raters" / "site1-sc01-mask-r1.nii.gz", GRAY + 2 * (CORD & ~GRAY))
    save_found(tmp_path / "found", "site1-sc01-image")
    arguments = tmp_path / "found", tmp_path / "raters"
    code, out, err = run(*arguments, "--tissue", "all", "--published", "-o", tmp_path / "out")
    assert (code, err.count("undefined")) == (0, 0)
    titles = [line for line in out.splitlines() if ": mean (std)" in line]
    assert titles == [
        "Table 2: mean (std) over pairs of case and rater (found: 1)",
        "Table 3: mean (std) over slices (found: 4)",
        "White matter. Metrics of Table 2: mean (std) over pairs of case and rater (found: 1)",
        "Cord. Metrics of Table 2: mean (std) over pairs of case and rater (found: 1)",
    ]
    assert out.count("DEEPSEG (published)") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cord", "gm", "wm"]
    for tissue, values in WANTED.items():
        with open(tmp_path / "out" / tissue / "cases.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        assert float(row["HSD_mm"]) == values["HSD"]
        summary = json.loads((tmp_path / "out" / tissue / "summary.json").read_text())
        assert summary["tissue"] == tissue
        assert bool(summary["published"]) == (tissue == "gm")
    code, out, _ = run(*arguments, "--tissue", "cord")
    assert code == 0
    assert out.startswith("Cord. Metrics of Table 2")
    assert f"{WANTED['cord']['DSC']:.2f} (-)" in out
    assert table2(evaluate(*arguments, tissue="cord")).rows[0][1] == f"{WANTED['cord']['DSC']:.2f} (-)"
    code, _, err = run(*arguments, "--tissue", "csf")
    assert (code, err) == (2, "error: --tissue must be one of gm, wm, cord, all, received 'csf'\n")
