"""Spread of the cohort: each participant counts once."""

import numpy as np
import pandas as pd
import pytest
from group_studies import row, write_summary

from keras_scgm.study.group.cohort_table import per_participant, read_cohort
from keras_scgm.study.group.spread import spread


def test_each_participant_counts_once(tmp_path):
    rows = [
        row("sub-1", "3", 10.0, session="ses-1", run="1"),
        row("sub-1", "3", 12.0, session="ses-1", run="2"),
        row("sub-1", "3", 17.0, session="ses-2", run="1"),
        row("sub-2", "3", 15.0, session="ses-1", run="1"),
        row("sub-3", "3", 19.0, session="ses-1", run="1"),
        row("sub-3", "10", 11.0, session="ses-1", run="1"),
        row("sub-3", "all", 16.0, session="ses-1", run="1"),
    ]
    table = spread(read_cohort(write_summary(tmp_path, rows)))
    gray = table.rows[table.rows["measure"] == "gm_perpendicular_mm2"].set_index("region")
    assert [*gray.index] == ["all", "3", "10"]
    people = [(11 + 17) / 2, 15, 19]
    level = gray.loc["3"]
    assert level["n_participants"] == 3
    assert level["mean"] == pytest.approx(np.mean(people))
    assert level["sd"] == pytest.approx(np.std(people, ddof=1))
    assert level["cov_percent"] == pytest.approx(100 * np.std(people, ddof=1) / np.mean(people))
    assert [level[name] for name in ("min", "q25", "median", "q75", "max")] == pytest.approx(
        [14, 14.5, 15, 17, 19]
    )
    assert np.isnan(gray.loc["10", "sd"])
    assert level["unit"] == "mm^2"
    assert table.rows.query("measure == 'gm_cord_ratio'")["unit"].eq("n/a").all()


def test_without_sessions_runs_and_participants(tmp_path):
    columns = ["image", "region", "status", "area_mm2"]
    rows = [row(f"s{n}", "all", 0.0, area_mm2=10.0 + n) for n in range(3)]
    cohort = read_cohort(write_summary(tmp_path, rows, columns))
    assert [measure.column for measure in cohort.measures] == ["area_mm2"]
    assert spread(cohort).rows["mean"].tolist() == [11.0]
    assert spread(cohort).rows["n_participants"].tolist() == [3]


def test_a_written_table_is_bids(tmp_path):
    table = spread(
        read_cohort(write_summary(tmp_path, [row("sub-1", "2:3", 10.5), row("sub-1", "all", 11.5)]))
    )
    table.write(tmp_path)
    written = pd.read_csv(tmp_path / "by_level.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert [*written] == [column.name for column in table.columns]
    first = written.iloc[1]
    assert (first["region"], first["mean"], first["sd"], first["n_participants"]) == (
        "2:3",
        "10.5",
        "n/a",
        "1",
    )
    dictionary = pd.read_json(tmp_path / "by_level.json", orient="index")
    assert [*dictionary.index] == [*written]
    assert dictionary.loc["cov_percent", "Units"] == "%"
    assert dictionary["Description"].str.endswith(".").all()


def test_a_participant_counts_by_the_mean_of_the_means_of_sessions(tmp_path):
    values = {"ses-1": (10.0, 10.0, 16.0), "ses-2": (14.0,)}
    rows = [
        row("sub-1", "all", value, session=session, run=str(run), area_mm2=value)
        for session, runs in values.items()
        for run, value in enumerate(runs)
    ]
    cohort = read_cohort(write_summary(tmp_path, rows))
    people = per_participant(cohort.values)
    assert people.loc[people["measure"] == "gm_perpendicular_mm2", "value"].tolist() == [13.0]
    # The area in the slice stands in for the one perpendicular to the cord, and is not analysed beside it.
    assert "area_mm2" not in set(people["measure"])
