"""Files of an evaluation."""

import csv
import json

import numpy as np
import pytest

from keras_scgm import InputError
from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    write_evaluation,
)
from keras_scgm.evaluation.output_files import TABLES
from keras_scgm.evaluation.tables import all_tables


def test_written_files(result, tmp_path):
    written = write_evaluation(result, tmp_path / "out", with_published=True)
    assert {path.name for path in written} == {path.name for path in (tmp_path / "out").iterdir()}
    with open(tmp_path / "out" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.scores)
    first = result.scores[0]
    assert float(rows[0]["HSD_mm"]) == first.challenge["HSD"]
    assert float(rows[0]["TPR_percent"]) == first.challenge["TPR"]
    assert int(rows[0]["TP"]) == first.details["TP"]
    with open(tmp_path / "out" / "slices.csv", newline="") as file:
        slices = list(csv.DictReader(file))
    assert len(slices) == 4 * len(result.scores)
    assert slices[0]["DSC"] == ""
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    good = summary["models"]["good"]
    assert good["table2"]["DSC"]["n"] == 18
    assert good["table3"]["dice"]["n_undefined"] == 18
    assert set(good["sites"]) == {f"{how}site {n}" for how in ("", "without ") for n in (1, 2, 3)}
    at_2 = [score.challenge["DSC"] for score in result.of_model("good") if score.site_id == "2"]
    assert good["sites"]["site 2"]["DSC"]["mean"] == pytest.approx(np.mean(at_2))
    others = [score.challenge["DSC"] for score in result.of_model("good") if score.site_id != "2"]
    assert good["sites"]["without site 2"]["DSC"]["mean"] == pytest.approx(np.mean(others))
    latex = (tmp_path / "out" / "table2.tex").read_text()
    assert r"TPR (\%) & " in latex
    assert latex.count(r"\\") == 1 + len(CHALLENGE_METRICS)


def test_tables_of_an_earlier_evaluation_go_with_it(result, tmp_path):
    assert {table.name for table in all_tables(result, with_published=True)} == set(TABLES)
    before = {path.name for path in write_evaluation(result, tmp_path, with_published=True)}
    (tmp_path / "notes.txt").write_text("mine")
    after = {path.name for path in write_evaluation(result, tmp_path)}
    assert before - after == {"table1.csv", "table1.tex"}
    assert {path.name for path in tmp_path.iterdir()} == {*after, "notes.txt"}


def test_an_unwritable_folder_is_an_input_error(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="writing failed"):
        write_evaluation(result, tmp_path / "file")
