"""Test-retest reliability against formulas of the literature, computed with NumPy."""

import numpy as np
import pytest
from group_studies import row, write_summary

from keras_scgm.study.group.cohort_table import read_cohort
from keras_scgm.study.group.repeats import reliability, repeated_runs

RUNS = np.array([[14.0, 14.4], [15.5, 15.1], [17.2, 17.5], [16.0, 16.3], [18.4, 18.2]])


def of_runs(folder, runs, **more):
    rows = [
        row(f"sub-{n}", "all", value, run=str(k), **more)
        for n, values in enumerate(runs)
        for k, value in enumerate(values)
    ]
    return read_cohort(write_summary(folder, rows))


def gray_matter(cohort):
    table = reliability(cohort).rows
    return table[table["measure"] == "gm_perpendicular_mm2"].iloc[0]


def icc_absolute_agreement(runs):
    """ICC(A,1) of McGraw and Wong, from the mean squares of a two-way analysis of variance."""
    n, k = runs.shape
    people, columns = runs.mean(axis=1), runs.mean(axis=0)
    rows = k * np.sum((people - runs.mean()) ** 2) / (n - 1)
    cols = n * np.sum((columns - runs.mean()) ** 2) / (k - 1)
    error = np.sum((runs - people[:, None] - columns + runs.mean()) ** 2) / ((n - 1) * (k - 1))
    return (rows - error) / (rows + (k - 1) * error + k * (cols - error) / n)


def test_two_runs(tmp_path):
    found = gray_matter(of_runs(tmp_path, RUNS))
    differences = RUNS[:, 1] - RUNS[:, 0]
    variances = differences**2 / 2
    within = np.sqrt(variances.mean())
    assert (found["n_participants"], found["n_runs"]) == (5, 10)
    assert found["mean"] == pytest.approx(RUNS.mean())
    assert found["within_sd"] == pytest.approx(within)
    assert found["cov_percent"] == pytest.approx(100 * np.sqrt(np.mean(variances / RUNS.mean(axis=1) ** 2)))
    assert found["repeatability"] == pytest.approx(1.96 * np.sqrt(2) * within)
    reach = 1.96 * differences.std(ddof=1)
    limits = differences.mean() + np.array([-reach, 0, reach])
    assert [found[name] for name in ("limit_low", "bias", "limit_high")] == pytest.approx([*limits])
    assert found["icc"] == pytest.approx(icc_absolute_agreement(RUNS))
    assert found["icc_low"] < found["icc"] < found["icc_high"] <= 1


def test_more_runs_count_for_the_variation_and_the_first_two_for_agreement(tmp_path):
    runs = [*RUNS.tolist(), [15.0, 15.2, 16.0]]
    found = gray_matter(of_runs(tmp_path, runs))
    variances = np.array([np.var(values, ddof=1) for values in runs])
    freedom = np.array([len(values) - 1 for values in runs])
    assert found["n_runs"] == 13
    assert found["within_sd"] == pytest.approx(np.sqrt((freedom * variances).sum() / freedom.sum()))
    first = np.array([values[:2] for values in runs])
    assert found["bias"] == pytest.approx(np.diff(first).mean())
    assert found["icc"] == pytest.approx(icc_absolute_agreement(first))


def test_runs_of_the_first_session_that_has_two_and_of_one_protocol(tmp_path):
    def image(name):
        return {"image": f"sub-1/anat/{name}.nii.gz"}

    rows = [
        row("sub-1", "all", 10.0, session="ses-1", run="1"),
        row("sub-1", "all", 11.0, session="ses-2", run="10"),
        row("sub-1", "all", 12.0, session="ses-2", run="9"),
        row("sub-1", "all", 13.0, session="ses-3", run="1"),
        row("sub-1", "all", 14.0, session="ses-3", run="2"),
        row("sub-2", "all", 15.0, run="1", **image("sub-2_acq-a_run-1_T2starw")),
        row("sub-2", "all", 16.0, run="2", **image("sub-2_acq-b_run-2_T2starw")),
        row("sub-3", "all", 17.0, **image("sub-3_T2starw")),
        row("sub-3", "all", 18.0, **image("sub-3_acq-b_T2starw")),
    ]
    runs = repeated_runs(read_cohort(write_summary(tmp_path, rows)))
    runs = runs[runs["measure"] == "gm_perpendicular_mm2"]
    assert runs["value"].tolist() == [12.0, 11.0]


def test_few_participants_and_equal_runs(tmp_path):
    few = gray_matter(of_runs(tmp_path, RUNS[:2]))
    assert np.isnan(few["icc"])
    assert few["within_sd"] > 0
    equal = gray_matter(of_runs(tmp_path, RUNS[:, [0, 0]]))
    assert equal["icc"] == pytest.approx(1)
    assert equal["repeatability"] == 0


def test_no_table_without_repeats(tmp_path):
    assert reliability(of_runs(tmp_path, RUNS[:, :1])) is None


def test_a_region_that_one_run_lacks_is_no_repeat(tmp_path):
    rows = [
        row(f"sub-{n}", region, value, run=str(k))
        for n, values in enumerate([*RUNS, [30.0, 31.0]])
        for k, value in enumerate(values)
        for region in ("all", "3")
        if (n, k, region) != (5, 1, "3")
    ]
    table = reliability(read_cohort(write_summary(tmp_path, rows))).rows
    found = table[table["measure"] == "gm_perpendicular_mm2"].set_index("region")
    assert found["n_participants"].to_dict() == {"all": 6, "3": 5}
    assert found.loc["3", "n_runs"] == 10
    assert found.loc["3", "mean"] == pytest.approx(RUNS.mean())
