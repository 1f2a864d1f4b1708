"""Tables of an evaluation: means, parameter counts, undefined values, and few cases."""

import json
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from evaluation_helpers import disc, save

from keras_scgm import InputError, evaluate
from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    table2,
    table3,
    write_evaluation,
)
from keras_scgm.evaluation.tables import all_tables


def test_summaries_run_over_pairs_and_slices(result):
    scores = [score.challenge["DSC"] for score in result.of_model("good")]
    cell = f"{np.mean(scores):.2f} ({np.std(scores, ddof=1):.2f})"
    table = table2(result, with_published=True)
    assert table.rows[0][:2] == ("DSC", cell)
    assert [row[0].split()[0] for row in table.rows] == list(CHALLENGE_METRICS)
    assert table.columns[:4] == ("", "good", "poor", "JCSCS (published)")
    assert table.rows[0][-1] == "0.85 (0.04)"

    dice = [row["dice"] for score in result.of_model("good") for row in score.slices]
    assert sum(map(math.isnan, dice)) == 18
    table = table3(result)
    assert table.rows[1][:2] == ("Dice", f"{np.nanmean(dice):.4f} ({np.nanstd(dice, ddof=1):.2f})")
    assert "Dice good 18" in table.notes[0]


def test_breakdown_as_pandas_groups_the_scores(result, tmp_path):
    write_evaluation(result, tmp_path)
    cases = pd.read_csv(tmp_path / "cases.csv", dtype={"site": str})
    sites, raters = ("1", "2", "3"), ("r1", "r2", "r3")
    expected = {}
    for model, of_model in cases.groupby("model"):
        parts = {"all": of_model}
        parts |= {f"site {site}": of_model[of_model["site"] == site] for site in sites}
        parts |= {f"without site {site}": of_model[of_model["site"] != site] for site in sites}
        parts |= {f"rater {rater}": of_model[of_model["rater"] == rater] for rater in raters}
        for name, part in parts.items():
            hausdorff = part["HSD_mm"]
            expected[model, name] = (str(len(part)), f"{hausdorff.mean():.2f} ({hausdorff.std():.2f})")
    table = next(table for table in all_tables(result) if table.name == "breakdown")
    at = table.columns.index("HSD (mm)")
    assert {row[:2]: (row[2], row[at]) for row in table.rows} == expected
    assert list(table.rows[0][:3]) == ["good", "all", "18"]


@pytest.mark.parametrize(
    ("sites", "raters"), [((1, 2), ("r1",)), ((1,), ("r1", "r2"))], ids=["two sites", "two raters"]
)
def test_two_groups_of_scores_are_told_apart(drawn_study, tmp_path, sites, raters):
    for site, rater in product(sites, raters):
        name = f"site{site}-sc01-mask-{rater}.nii.gz"
        (tmp_path / name).symlink_to(drawn_study / "raters" / name)
    result = evaluate(drawn_study / "good", tmp_path)
    tables = {table.name: table for table in all_tables(result)}
    names = [f"{how}site {site}" for how in ("", "without ") for site in sites] * (len(sites) > 1)
    names += [f"rater {rater}" for rater in raters] * (len(raters) > 1)
    assert [row[1:3] for row in tables["breakdown"].rows] == [("all", "2"), *((name, "1") for name in names)]


def test_parameters_of_table_3(drawn_study):
    result = evaluate(drawn_study / "good", drawn_study / "raters", parameters={"good": 124769})
    assert table3(result, with_published=True).rows[0] == ("Num. of Params.", "124,769", "776,321", "124,769")
    with pytest.raises(InputError, match="parameters of bad: no such model; there are good"):
        evaluate(drawn_study / "good", drawn_study / "raters", parameters={"bad": 1})


def test_few_cases_have_an_interval_and_equal_ones_none(tmp_path):
    for number in range(3):
        for model, radius in (("one", 4), ("two", 5)):
            save(tmp_path / model / f"c{number}.nii", disc(radius))
        save(tmp_path / "manual" / f"c{number}.nii", disc(4.5 + 0.1 * number))
    result = evaluate({name: tmp_path / name for name in ("one", "two")}, tmp_path / "manual")
    table = next(table for table in all_tables(result) if table.name == "models")
    cells = {row[0]: row[4] for row in table.rows}
    assert cells["DSC"].startswith("-0.011 [-0.")
    # Every contour is half a millimetre off.
    assert cells["HSD (mm)"] == "0.000"
    assert "fewer than 6 cases cannot reach p < 0.05" in table.notes[0]
    write_evaluation(result, tmp_path / "out")
    comparisons = json.loads((tmp_path / "out" / "summary.json").read_text())["comparisons"]
    assert {row["metric"]: row["interval"] for row in comparisons}["HSD"] == [None, None]


def test_undefined_values_are_counted_and_not_averaged(tmp_path):
    for case, radius in (("a", 5), ("b", 4), ("c", 0)):
        save(tmp_path / "found" / f"{case}.nii", disc(5))
        save(tmp_path / "manual" / f"{case}.nii", disc(radius))
    result = evaluate(tmp_path / "found", tmp_path / "manual")
    assert result.warnings == (
        "reference empty, MSD, HSD, SHD, SMD, TPR, CC undefined and left out of the means: 1 comparison, "
        "found c r1",
    )
    table = table2(result)
    assert "HSD found 1" in table.notes[0]
    hausdorff = [score.challenge["HSD"] for score in result.scores[:2]]
    cells = {row[0]: row[1] for row in table.rows}
    assert cells["HSD (mm)"] == f"{np.mean(hausdorff):.2f} ({np.std(hausdorff, ddof=1):.2f})"
    summary = json.loads(write_evaluation(result, tmp_path / "out")[2].with_name("summary.json").read_text())
    assert summary["models"]["found"]["table2"]["TPR"]["n_undefined"] == 1
    assert summary["models"]["found"]["table2"]["DSC"]["n_undefined"] == 0
