"""Patients and controls, against SciPy and least squares."""

import numpy as np
import pytest
from group_studies import of_gray_matter, row, write_summary
from scipy.stats import ttest_ind
from statsmodels.stats.multitest import multipletests

from keras_scgm.study.group.cohort_table import read_cohort
from keras_scgm.study.group.groups import group_differences, group_values

CONTROLS, PATIENTS = np.random.default_rng(6).normal([[18], [14]], 1, (2, 20))


def cohort_of(folder, more=lambda number: {}):
    rows = [
        row(f"sub-{n:02d}", "all", value, Group="patient" if n >= 20 else "control", **more(n))
        for n, value in enumerate([*CONTROLS, *PATIENTS])
    ]
    return read_cohort(write_summary(folder, rows))


def test_values_and_difference_of_two_groups(tmp_path):
    cohort = cohort_of(tmp_path)
    values = of_gray_matter(group_values(cohort)).set_index("group")
    assert values["mean"].tolist() == pytest.approx([CONTROLS.mean(), PATIENTS.mean()])
    assert values["n_participants"].tolist() == [20, 20]
    table = group_differences(cohort)
    found, expected = of_gray_matter(table).iloc[0], ttest_ind(PATIENTS, CONTROLS)
    assert (found["group"], found["compared_with"]) == ("patient", "control")
    assert (found["n"], found["n_compared_with"], found["adjusted_for"]) == (20, 20, "n/a")
    assert found["difference"] == pytest.approx(PATIENTS.mean() - CONTROLS.mean())
    interval = expected.confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
    assert found["p"] == pytest.approx(expected.pvalue)
    pooled = np.sqrt((CONTROLS.var(ddof=1) + PATIENTS.var(ddof=1)) / 2)
    assert found["hedges_g"] == pytest.approx(found["difference"] / pooled * (1 - 3 / (4 * 40 - 9)))
    tested = table.rows[table.rows["p"].notna()]
    assert tested["p_holm"].tolist() == pytest.approx([*multipletests(tested["p"], method="holm")[1]])


def test_adjusted_for_age_and_site(tmp_path):
    ages = np.random.default_rng(7).uniform(20, 60, 40)
    cohort = cohort_of(
        tmp_path, lambda n: {"age": "n/a" if n == 5 else ages[n], "site": "AB"[n % 2], "sex": "F"}
    )
    found = of_gray_matter(group_differences(cohort)).iloc[0]
    kept = np.arange(40) != 5
    columns = np.column_stack([np.ones(40), np.arange(40) >= 20, ages, np.arange(40) % 2])[kept]
    values = np.concatenate([CONTROLS, PATIENTS])[kept]
    expected = np.linalg.lstsq(columns, values, rcond=None)[0][1]
    assert (found["adjusted_for"], found["n_left_out"], found["n_compared_with"]) == ("age, site", 1, 19)
    assert found["difference"] == pytest.approx(expected)


def test_groups_that_cannot_be_told_from_sites(tmp_path):
    cohort = cohort_of(tmp_path, lambda n: {"site": "AB"[n // 20]})
    found = of_gray_matter(group_differences(cohort)).iloc[0]
    assert found["adjusted_for"] == "site"
    assert np.isnan(found["p"])
    assert np.isnan(found["difference"])


def test_no_table_without_two_groups(tmp_path):
    rows = [row(f"sub-{n}", "all", 15.0 + n, group="healthy") for n in range(8)]
    cohort = read_cohort(write_summary(tmp_path, rows))
    assert group_values(cohort) is None
    assert group_differences(cohort) is None
    for groups in ("AAAAB", "ABBBB"):
        rows = [row(f"sub-{n}", "all", 15.0 + n, group=group) for n, group in enumerate(groups)]
        cohort = read_cohort(write_summary(tmp_path, rows))
        assert group_values(cohort) is not None
        assert group_differences(cohort) is None


def test_equal_values_do_not_differ(tmp_path):
    rows = [row(f"sub-{n}", "all", 0.1, group="AB"[n % 2]) for n in range(8)]
    found = of_gray_matter(group_differences(read_cohort(write_summary(tmp_path, rows)))).iloc[0]
    assert found["difference"] == 0
    assert found[["low", "high", "hedges_g", "p"]].isna().all()
