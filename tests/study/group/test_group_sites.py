"""Sites and vendors, against SciPy and least squares."""

import numpy as np
import pytest
from group_studies import row, write_summary
from scipy.stats import f, f_oneway

from keras_scgm.study.group.cohort_table import read_cohort
from keras_scgm.study.group.sites import site_effects, site_values

VALUES = {"A": [14.0, 15.0, 16.5, 15.2], "B": [17.0, 16.2, 18.1], "C": [15.5, 16.5, 16.9, 17.4, 15.1]}
VENDOR = {"A": "SIEMENS", "B": "GE MEDICAL SYSTEMS", "C": "Siemens Healthineers"}


def of_gray_matter(table, factor):
    rows = table.rows[(table.rows["measure"] == "gm_perpendicular_mm2") & (table.rows["factor"] == factor)]
    return rows.set_index("name") if "name" in rows else rows.iloc[0]


def cohort_of(folder, more=lambda number: {}):
    rows = []
    for site, values in VALUES.items():
        for value in values:
            about = {"site": site, "manufacturer": VENDOR[site], **more(len(rows))}
            rows.append(row(f"sub-{len(rows):02d}", "all", value, **about))
    return read_cohort(write_summary(folder, rows))


def residual(columns, values):
    columns = np.column_stack([np.ones(len(values)), *columns])
    return np.sum((values - columns @ np.linalg.lstsq(columns, values, rcond=None)[0]) ** 2)


def test_values_of_sites_and_vendors(tmp_path):
    table = site_values(cohort_of(tmp_path))
    sites, vendors = of_gray_matter(table, "site"), of_gray_matter(table, "vendor")
    assert sites["mean"].tolist() == pytest.approx([np.mean(values) for values in VALUES.values()])
    assert sites["sd"].tolist() == pytest.approx([np.std(values, ddof=1) for values in VALUES.values()])
    assert [*vendors.index] == ["GE", "Siemens"]
    siemens = vendors.loc["Siemens"]
    means = [np.mean(VALUES["A"]), np.mean(VALUES["C"])]
    assert (siemens["n_participants"], siemens["n_sites"]) == (9, 2)
    assert siemens["mean"] == pytest.approx(np.mean(VALUES["A"] + VALUES["C"]))
    assert siemens["between_sites_cov_percent"] == pytest.approx(100 * np.std(means, ddof=1) / np.mean(means))


def test_sites_are_compared_by_participants_and_vendors_by_sites(tmp_path):
    table = site_effects(cohort_of(tmp_path))
    site, vendor = of_gray_matter(table, "site"), of_gray_matter(table, "vendor")
    expected = f_oneway(*VALUES.values())
    assert (site["n"], site["n_groups"], site["counted"], site["adjusted_for"]) == (
        12,
        3,
        "participant",
        "n/a",
    )
    assert (site["f"], site["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert (site["df_groups"], site["df_residual"]) == (2, 9)
    assert site["partial_eta_squared"] == pytest.approx(2 * site["f"] / (2 * site["f"] + 9))
    assert site["p"] <= site["p_holm"] <= 1
    means = {name: np.mean(values) for name, values in VALUES.items()}
    expected = f_oneway([means["A"], means["C"]], [means["B"]])
    assert (vendor["n"], vendor["counted"]) == (3, "site")
    assert (vendor["f"], vendor["p"]) == pytest.approx((expected.statistic, expected.pvalue))


def test_adjusted_for_age_and_sex(tmp_path):
    ages = [20, 31, 45, 28, 60, 35, 52, 41, 24, 37, 66, 50]
    cohort = cohort_of(tmp_path, lambda n: {"age": ages[n], "sex": "MFF"[n % 3], "group": "healthy"})
    found = of_gray_matter(site_effects(cohort), "site")
    values = np.concatenate([*VALUES.values()])
    sites = np.repeat([*VALUES], [len(of_site) for of_site in VALUES.values()])
    beside = [np.array(ages), np.array(["MFF"[n % 3] == "M" for n in range(12)])]
    with_sites = residual([*beside, sites == "B", sites == "C"], values)
    expected = (residual(beside, values) - with_sites) / 2 / (with_sites / 7)
    assert found["adjusted_for"] == "age, sex"
    assert found["f"] == pytest.approx(expected)
    assert found["p"] == pytest.approx(f.sf(expected, 2, 7))


def test_a_site_that_unknown_ages_leave_too_small_is_not_compared(tmp_path):
    rng = np.random.default_rng(5)
    rows = [
        row(
            f"sub-{n:02d}",
            "all",
            15 + rng.normal(0, 0.5),
            site="AB"[n // 10] if n < 20 else "C",
            age="n/a" if n == 22 else 30 + n,
        )
        for n in range(23)
    ]
    found = of_gray_matter(site_effects(read_cohort(write_summary(tmp_path, rows))), "site")
    assert (found["adjusted_for"], found["n_groups"], found["n"], found["n_left_out"]) == ("age", 2, 20, 1)


def test_participants_of_unknown_age_are_left_out_unless_they_are_many(tmp_path):
    rng = np.random.default_rng(4)
    ages = np.concatenate([rng.uniform(20, 40, 20), rng.uniform(60, 89, 20)])

    def cohort(age_of, name="age"):
        rows = [
            row(
                f"sub-{n:02d}",
                "all",
                20 - age / 20 + rng.normal(0, 0.2),
                site="AB"[n // 20],
                **{name: age_of(n)},
            )
            for n, age in enumerate(ages)
        ]
        return read_cohort(write_summary(tmp_path, rows))

    for unknown in ("n/a", "34,5"):
        found = of_gray_matter(
            site_effects(cohort(lambda n, unknown=unknown: unknown if n == 3 else ages[n])), "site"
        )
        assert (found["adjusted_for"], found["n"], found["n_left_out"]) == ("age", 39, 1)
        assert found["p"] > 0.01
    alike = cohort(lambda n: "n/a" if n == 3 else 40)
    found = of_gray_matter(site_effects(alike), "site")
    assert (found["adjusted_for"], found["n"], found["n_left_out"]) == ("n/a", 40, 0)
    oldest = cohort(lambda n: "89+" if n == 39 else ages[n], name="Age")
    found = of_gray_matter(site_effects(oldest), "site")
    assert (found["adjusted_for"], found["n"], found["n_left_out"]) == ("age", 40, 0)
    assert oldest.participants["age"].iloc[39] == 89
    fifth = of_gray_matter(site_effects(cohort(lambda n: "n/a" if n % 5 == 0 else ages[n])), "site")
    assert (fifth["adjusted_for"], fifth["n"], fifth["n_left_out"]) == ("age", 32, 8)
    few = of_gray_matter(site_effects(cohort(lambda n: "n/a" if n % 3 == 0 else ages[n])), "site")
    assert (few["adjusted_for"], few["n"], few["n_left_out"]) == ("n/a", 40, 0)
    assert few["p"] < 1e-6


def test_travelling_participants_are_compared_with_themselves(tmp_path):
    rng = np.random.default_rng(2)
    people, shift = rng.normal(16, 2, 6), {"A": 0.0, "B": 0.5, "C": -0.3}
    values = {site: people + shift[site] + rng.normal(0, 0.2, 6) for site in shift}
    rows = [
        row(f"sub-{n}", "all", value, session=f"ses-{site}", site=site)
        for site, of_site in values.items()
        for n, value in enumerate(of_site)
    ]
    found = of_gray_matter(site_effects(read_cohort(write_summary(tmp_path, rows))), "site")
    table = np.column_stack([*values.values()])
    between = 6 * np.sum((table.mean(axis=0) - table.mean()) ** 2) / 2
    error = table - table.mean(axis=0) - table.mean(axis=1)[:, None] + table.mean()
    assert (found["adjusted_for"], found["df_residual"]) == ("participant", 10)
    assert found["f"] == pytest.approx(between / (np.sum(error**2) / 10))


@pytest.mark.parametrize(("first_of_b", "adjusted_for", "n"), [(3, "participant", 6), (4, "n/a", 10)])
def test_participants_are_compared_with_themselves_from_half_of_them_on(
    tmp_path, first_of_b, adjusted_for, n
):
    """Six participants of site A, and six or more of B, of whom those below 6 are the same."""
    rng = np.random.default_rng(5)
    people = {"A": range(6), "B": range(first_of_b, 6 if first_of_b == 3 else 10)}
    rows = [
        row(f"sub-{number}", "all", rng.normal(15, 1), session=f"ses-{site}", site=site)
        for site, numbers in people.items()
        for number in numbers
    ]
    found = of_gray_matter(site_effects(read_cohort(write_summary(tmp_path, rows))), "site")
    assert (found["adjusted_for"], found["n"]) == (adjusted_for, n)


@pytest.mark.parametrize("travellers", [0, 1, 3])
def test_few_travelling_participants_count_in_their_first_group(tmp_path, travellers):
    rng = np.random.default_rng(3)
    values = {"GE": rng.normal(15, 1, 30), "Philips": rng.normal(18, 1, 30)}
    rows = [
        row(f"sub-{maker}{n}", "all", value, session="ses-1", manufacturer=maker)
        for maker, of_maker in values.items()
        for n, value in enumerate(of_maker)
    ]
    rows += [
        row(f"sub-GE{n}", "all", 30.0, session="ses-2", manufacturer="Philips") for n in range(travellers)
    ]
    found = of_gray_matter(site_effects(read_cohort(write_summary(tmp_path, rows))), "vendor")
    assert (found["n"], found["df_residual"]) == (60, 58)
    assert found["p"] == pytest.approx(f_oneway(*values.values()).pvalue)


def test_a_site_of_one_participant_is_no_mean_of_a_vendor(tmp_path):
    rows = [
        row(f"sub-{n:02d}", "all", 30.0 if n == 9 else 15.0 + n, site="ABBBABABAC"[n], manufacturer="GE")
        for n in range(10)
    ]
    vendor = of_gray_matter(site_values(read_cohort(write_summary(tmp_path, rows))), "vendor").loc["GE"]
    assert vendor["n_sites"] == 2
    assert vendor["between_sites_cov_percent"] < 10


def test_what_cannot_be_compared(tmp_path):
    confounded = cohort_of(tmp_path, lambda n: {"group": "patient" if n < 4 else "healthy"})
    found = of_gray_matter(site_effects(confounded), "site")
    assert found["adjusted_for"] == "group"
    assert np.isnan(found["p"])
    two = [row(f"sub-{n}", "all", 15.0 + n, site="AB"[n // 2]) for n in range(4)]
    assert site_effects(read_cohort(write_summary(tmp_path, two))) is None
    one = [row(f"sub-{n}", "all", 15.0 + n, site="A", manufacturer="GE") for n in range(8)]
    assert site_effects(read_cohort(write_summary(tmp_path, one))) is None
    assert site_values(read_cohort(write_summary(tmp_path, [row("sub-1", "all", 15.0)]))) is None


def test_equal_values_have_no_f(tmp_path):
    rows = [row(f"sub-{n}", "all", 0.1, site="ABC"[n % 3]) for n in range(10)]
    found = of_gray_matter(site_effects(read_cohort(write_summary(tmp_path, rows))), "site")
    assert (found["n"], found["n_groups"]) == (10, 3)
    assert found[["f", "p", "partial_eta_squared"]].isna().all()


def test_vendors_without_sites_are_compared_by_participants(tmp_path):
    rows = [
        row(f"sub-{n}", "all", 15.0 + n**0.5, manufacturer="GE" if n % 2 else "Philips") for n in range(9)
    ]
    found = of_gray_matter(site_effects(read_cohort(write_summary(tmp_path, rows))), "vendor")
    values = 15 + np.arange(9) ** 0.5
    assert found["counted"] == "participant"
    assert found["p"] == pytest.approx(f_oneway(values[::2], values[1::2]).pvalue)


def test_the_place_may_have_another_name(tmp_path):
    rows = [row(f"sub-{n}", "all", 15.0 + n, Institution="AB"[n % 2], site="n/a") for n in range(8)]
    table = site_values(read_cohort(write_summary(tmp_path, rows)))
    assert [*of_gray_matter(table, "site").index] == ["A", "B"]


def test_one_unknown_site_leaves_the_others(tmp_path):
    rows = [row(f"sub-{n}", "all", 15.0 + n, site=["A", "B", "n/a"][n % 3]) for n in range(9)]
    sites = of_gray_matter(site_values(read_cohort(write_summary(tmp_path, rows))), "site")
    assert sites["n_participants"].to_dict() == {"A": 3, "B": 3}
