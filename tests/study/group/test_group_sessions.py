"""Differences between sessions."""

import numpy as np
import pytest
from group_studies import row, write_summary
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests

from keras_scgm.study.group.cohort_table import read_cohort
from keras_scgm.study.group.repeats import reliability
from keras_scgm.study.group.sessions import session_differences, session_tests

CHANGES = [-0.4, -0.7, 0.1, -0.9, -0.3, -0.6, -1.1]


def of_gray_matter(table):
    return table.rows[table.rows["measure"] == "gm_perpendicular_mm2"]


@pytest.fixture
def cohort(tmp_path):
    rows = []
    for n, change in enumerate(CHANGES):
        for run, noise in (("1", 0.1), ("2", -0.1)):
            rows.append(row(f"sub-{n}", "all", 15.0 + n + noise, session="ses-2", run=run, model="A"))
            later = "A" if n else "B"
            rows.append(
                row(f"sub-{n}", "all", 15.0 + n + change + noise, session="ses-10", run=run, model=later)
            )
    rows.append(row("sub-8", "all", 20.0, session="ses-2"))
    rows.append(row("sub-9", "all", 20.0, session="ses-10"))
    return read_cohort(write_summary(tmp_path, rows))


def test_differences_of_each_participant(cohort):
    repeats = reliability(cohort)
    found = of_gray_matter(session_differences(cohort, repeats))
    assert found["participant_id"].tolist() == [f"sub-{n}" for n in range(7)]
    assert set(zip(found["first_session"], found["later_session"], strict=True)) == {("ses-2", "ses-10")}
    assert found["difference"].tolist() == pytest.approx(CHANGES)
    assert found["percent"].tolist() == pytest.approx([100 * d / (15 + n) for n, d in enumerate(CHANGES)])
    assert found["same_scanner"].tolist() == ["no"] + ["yes"] * 6
    limit = 1.96 * np.sqrt(2) * np.sqrt(0.02)
    assert found["beyond_repeatability"].tolist() == ["yes" if abs(d) > limit else "no" for d in CHANGES]
    assert of_gray_matter(session_differences(cohort, None))["beyond_repeatability"].eq("n/a").all()


def test_common_direction(cohort):
    table = session_tests(session_differences(cohort, None), cohort)
    found = of_gray_matter(table).iloc[0]
    assert found["n_participants"] == 7
    assert found["difference"] == pytest.approx(np.mean(CHANGES))
    assert found["sd"] == pytest.approx(np.std(CHANGES, ddof=1))
    assert found["low"] < found["difference"] < found["high"] < 0
    assert found["p"] == pytest.approx(wilcoxon(CHANGES).pvalue)
    corrected = multipletests(table.rows["p"], method="holm")[1]
    assert table.rows["p_holm"].tolist() == pytest.approx([*corrected])
    ratio = table.rows.set_index("measure").loc["gm_cord_ratio"]
    assert (ratio["difference"], ratio["p"]) == (0, 1)


def test_no_table_without_several_sessions(tmp_path):
    rows = [row("sub-1", "all", 15.0, session="ses-1"), row("sub-2", "all", 15.0), row("sub-2", "3", 15.0)]
    assert session_differences(read_cohort(write_summary(tmp_path, rows)), None) is None
