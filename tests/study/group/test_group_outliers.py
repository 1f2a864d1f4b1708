"""Robust z-scores within scanner and level."""

import numpy as np
import pytest
from group_studies import row, write_summary

from keras_scgm.study.group.cohort_table import read_cohort
from keras_scgm.study.group.outliers import LIMIT_Z, MIN_PARTICIPANTS, outliers

SIEMENS = {"manufacturer": "Siemens", "model": "Prisma", "field_strength_t": "3", "site": "Bern"}


def of_gray_matter(folder, rows):
    table = outliers(read_cohort(write_summary(folder, rows))).rows
    return table[table["measure"] == "gm_perpendicular_mm2"]


def test_z_scores_are_within_scanner_and_level(tmp_path):
    values = [14.0, 14.5, 15.0, 15.2, 15.5, 15.9, 16.0, 16.3, 17.0, 23.0, 16.1]
    rows = [row(f"sub-{n:02d}", "3", value, **SIEMENS) for n, value in enumerate(values)]
    rows += [row(f"sub-{n:02d}", "4", 2 * value, **SIEMENS) for n, value in enumerate(values)]
    rows += [row(f"sub-{n:02d}", "3", 23.0 + n / 10, manufacturer="GE", site="Bonn") for n in range(20, 31)]
    table = of_gray_matter(tmp_path, rows)
    deviation = 1.482602218505602 * np.median(np.abs(values - np.median(values)))
    expected = (23.0 - np.median(values)) / deviation
    assert expected > LIMIT_Z
    marked = table[table["outlier"] == "yes"]
    assert set(zip(marked["participant_id"], marked["region"], strict=True)) == {
        ("sub-09", "3"),
        ("sub-09", "4"),
    }
    assert marked["z"].tolist() == pytest.approx([expected] * 2)
    assert marked["scanner"].eq("Bern, Siemens, Prisma, 3 T").all()
    assert table["n_participants"].eq(11).all()
    assert table["outlier"].isin(["yes", "no"]).all()
    assert table["z"].abs().is_monotonic_decreasing


def test_no_scores_of_few_participants_or_without_spread(tmp_path):
    rows = [
        row(f"sub-{n}", "3", 15.0 + n * n, run=str(run))
        for n in range(MIN_PARTICIPANTS - 1)
        for run in (1, 2)
    ]
    rows += [row(f"sub-{n}", "4", 15.0 if n else 99.0) for n in range(MIN_PARTICIPANTS)]
    table = of_gray_matter(tmp_path, rows)
    assert table["outlier"].eq("n/a").all()
    assert table["z"].isna().all()


def test_one_image_is_judged_by_the_spread_of_images(tmp_path):
    """The means of participants vary less than images if noise prevails, and would make outliers of usual images."""
    rng = np.random.default_rng(1)
    rows = [row(f"sub-{n}", "3", rng.normal(15, 1), run=str(run)) for n in range(40) for run in range(8)]
    table = of_gray_matter(tmp_path, rows)
    assert (table["outlier"] == "yes").mean() < 0.01
    values = table["value"].to_numpy()
    z = (values - np.median(values)) / (1.4826 * np.median(np.abs(values - np.median(values))))
    np.testing.assert_allclose(table["z"], z, rtol=1e-5)


def test_patients_are_compared_with_patients(tmp_path):
    rng = np.random.default_rng(1)
    rows = [
        row(f"sub-{n:02d}", "3", (14 if n >= 30 else 18) + rng.normal(0, 0.8), group="CP"[n // 30], **SIEMENS)
        for n in range(36)
    ]
    rows.append(row("sub-36", "3", 10.0, group="P", **SIEMENS))
    rows += [row(f"sub-{n}", "3", 25.0, group="rare", **SIEMENS) for n in (37, 38)]
    table = of_gray_matter(tmp_path, rows).set_index("participant_id")
    assert table.index[table["outlier"] == "yes"][0] == "sub-36"
    assert table.loc[[f"sub-{n}" for n in range(30, 36)], "outlier"].eq("no").all()
    assert set(table.index[table["outlier"] == "n/a"]) == {"sub-37", "sub-38"}


def test_small_groups_do_not_narrow_the_spread(tmp_path):
    """The one member of a group is its median, and no measure of how far people are from it."""
    rng = np.random.default_rng(1)
    values = rng.normal(15, 1, 2 * MIN_PARTICIPANTS)
    rows = [
        row(f"sub-{n:02d}", "3", value, group="control" if n < MIN_PARTICIPANTS else f"rare {n}")
        for n, value in enumerate(values)
    ]
    table = of_gray_matter(tmp_path, rows).set_index("participant_id")
    controls = table[table["group"] == "control"]
    deviations = np.abs(values[:MIN_PARTICIPANTS] - np.median(values[:MIN_PARTICIPANTS]))
    assert controls["robust_sd"].tolist() == pytest.approx(
        [1.4826 * np.median(deviations)] * MIN_PARTICIPANTS, rel=1e-5
    )
    assert table["n_participants"].eq(MIN_PARTICIPANTS).all()
    assert table.loc[table["group"] != "control", "outlier"].eq("n/a").all()
    few = of_gray_matter(tmp_path / "few", rows[3:])
    assert few["outlier"].eq("n/a").all()


@pytest.mark.parametrize(("participants", "percent"), [(MIN_PARTICIPANTS, 1.7), (6, 3.0)])
def test_share_of_normal_values_that_few_participants_mark(participants, percent):
    values = np.random.default_rng(0).normal(size=(20000, participants))
    centred = np.abs(values - np.median(values, axis=1, keepdims=True))
    marked = centred >= LIMIT_Z * 1.4826 * np.median(centred, axis=1, keepdims=True)
    assert 100 * marked.mean() == pytest.approx(percent, abs=0.15)
