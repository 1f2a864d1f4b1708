"""Differences between sessions."""

import numpy as np
import pandas as pd
import pytest
from group_studies import of_gray_matter, row, write_summary
from scipy.stats import ttest_1samp, wilcoxon
from statsmodels.stats.multitest import multipletests

from keras_scgm.study.group import analyse
from keras_scgm.study.group.cohort_table import read_cohort
from keras_scgm.study.group.repeats import reliability
from keras_scgm.study.group.sessions import session_differences, session_tests
from keras_scgm.study.group.tables import GroupTable

CHANGES = [-0.4, -0.7, 0.1, -0.9, -0.3, -0.6, -1.1]


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
    # Means of two runs each.
    limit = 1.96 * np.sqrt(0.02) * np.sqrt(1 / 2 + 1 / 2)
    assert found["beyond_repeatability"].tolist() == [
        "n/a",
        *("yes" if abs(change) > limit else "no" for change in CHANGES[1:]),
    ]
    assert of_gray_matter(session_differences(cohort, None))["beyond_repeatability"].eq("n/a").all()


def test_common_direction(cohort):
    table = session_tests(session_differences(cohort, None), cohort)
    of_scanner = of_gray_matter(table).set_index("same_scanner")
    found, other = of_scanner.loc["yes"], of_scanner.loc["no"]
    on_one = CHANGES[1:]
    assert (found["n_participants"], other["n_participants"]) == (6, 1)
    assert other["difference"] == pytest.approx(CHANGES[0])
    assert found["difference"] == pytest.approx(np.mean(on_one))
    assert found["sd"] == pytest.approx(np.std(on_one, ddof=1))
    expected = ttest_1samp(on_one, 0).confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["percent"] == pytest.approx(np.mean([100 * d / (16 + n) for n, d in enumerate(on_one)]))
    assert found["p"] == pytest.approx(wilcoxon(on_one).pvalue)
    corrected = multipletests(table.rows["p"], method="holm")[1]
    assert table.rows["p_holm"].tolist() == pytest.approx([*corrected])
    ratio = table.rows.set_index("measure").loc["gm_cord_ratio"].iloc[0]
    assert (ratio["difference"], ratio["p"]) == (0, 1)


def test_sessions_are_in_the_order_in_time(tmp_path):
    dates = {"ses-pre": "-01-10T10:00:00", "ses-post": "-07-11T10:00:00"}
    rows = [
        # Anonymized years differ between participants.
        row(f"sub-{n}", "all", value, session=session, acq_time=f"{1900 + n}{dates[session]}")
        for n in range(6)
        for session, value in (("ses-pre", 16.0 + n), ("ses-post", 15.0 + n))
    ]
    dropped_out = row("sub-7", "all", 15.0, session="ses-pre", acq_time="1909-05-01T10:00:00")
    cohort = read_cohort(write_summary(tmp_path, [*rows, dropped_out]))
    assert (cohort.sessions, cohort.has_times) == (("ses-pre", "ses-post"), True)
    missing = {"participant_id": "sub-9", "session_id": "ses-post", "image": "x.nii", "region": "all"}
    with_failed = write_summary(tmp_path, [*rows, missing | {"status": "failed"}])
    assert read_cohort(with_failed).has_times
    found = of_gray_matter(session_differences(cohort, None))
    assert found["difference"].tolist() == [-1.0] * 6
    assert found["years"].tolist() == pytest.approx([182 / 365.25] * 6, abs=2 / 365)
    cohort = read_cohort(write_summary(tmp_path, [*rows, dropped_out | {"acq_time": "n/a"}]))
    assert (cohort.sessions, cohort.has_times) == (("ses-post", "ses-pre"), False)


def test_times_of_another_format_are_named(tmp_path):
    dates = {"ses-pre": "05.02.2021", "ses-post": "2021-07-11T10:00:00"}
    rows = [
        row(f"sub-{n}", "all", 15.0 + n, session=session, acq_time=date)
        for n in range(6)
        for session, date in dates.items()
    ]
    warnings = []
    analyse(write_summary(tmp_path, rows), report=warnings.append)
    (warning,) = warnings
    assert warning.startswith(
        "6 acq_times not read, as not like 2021-02-05T10:00:00, and sessions are in the order"
    )
    assert f"{rows[0]['image']} (05.02.2021)" in warning
    assert f"**Warning**: {warning}" in (tmp_path / "group/group.md").read_text()


def test_acquisitions_are_compared_each_with_its_like(tmp_path):
    rows = []
    for n in range(6):
        for session in ("ses-1", "ses-2"):
            for name, value in (("hi", 16.0 + n), ("lo", 13.0 + n)):
                if session == "ses-1" or name == "hi":
                    image = f"sub-{n}/{session}/anat/sub-{n}_{session}_acq-{name}_T2starw.nii.gz"
                    rows.append(row(f"sub-{n}", "all", value, session=session, image=image))
    cohort = read_cohort(write_summary(tmp_path, rows))
    assert set(cohort.values["acquisition"]) == {"acq-hi_T2starw", "acq-lo_T2starw"}
    found = of_gray_matter(session_differences(cohort, None))
    assert found["difference"].tolist() == [0.0] * 6
    assert found["same_scanner"].eq("n/a").all()


@pytest.mark.parametrize(("change", "expected"), [(0.55, "no"), (0.62, "yes")])
def test_repeatability_of_the_mean_of_two_acquisitions(tmp_path, change, expected):
    """Of one run each: their difference has twice the variance of a run, and the mean of two differences its own."""
    rows = [
        row(
            "sub-1", "all", value, session=session, image=f"sub-1/anat/sub-1_{session}_acq-{name}_T2starw.nii"
        )
        for session, value in (("ses-1", 15.0), ("ses-2", 15.0 + change))
        for name in ("hi", "lo")
    ]
    within = pd.DataFrame([{"region": "all", "measure": "gm_perpendicular_mm2", "within_sd": 0.3}])
    differences = session_differences(
        read_cohort(write_summary(tmp_path, rows)), GroupTable("test_retest", (), within)
    )
    found = of_gray_matter(differences).iloc[0]
    assert found["difference"] == pytest.approx(change)
    assert (change > 1.96 * 0.3) == (expected == "yes")
    assert found["beyond_repeatability"] == expected


@pytest.mark.parametrize(("first_runs", "later_runs"), [(1, 1), (2, 1), (3, 3)])
def test_no_change_is_beyond_repeatability_in_five_percent(tmp_path, first_runs, later_runs):
    rng = np.random.default_rng(5)
    rows = [
        row(f"sub-{n}", "all", 15 + rng.normal(0, 0.3), session=f"ses-{session}", run=str(run), model="A")
        for n in range(1200)
        for session, runs in ((1, first_runs), (2, later_runs))
        for run in range(1, runs + 1)
    ]
    cohort = read_cohort(write_summary(tmp_path, rows))
    repeats = reliability(cohort) or GroupTable(
        "test_retest",
        (),
        pd.DataFrame([{"region": "all", "measure": "gm_perpendicular_mm2", "within_sd": 0.3}]),
    )
    found = of_gray_matter(session_differences(cohort, repeats))["beyond_repeatability"]
    assert (found == "yes").mean() == pytest.approx(0.05, abs=0.02)


def test_no_table_without_several_sessions(tmp_path):
    rows = [row("sub-1", "all", 15.0, session="ses-1"), row("sub-2", "all", 15.0), row("sub-2", "3", 15.0)]
    assert session_differences(read_cohort(write_summary(tmp_path, rows)), None) is None
