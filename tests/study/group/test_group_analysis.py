"""Everything of the group, from summary.tsv to the files."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from group_studies import multicentre, row, write_summary
from PIL import Image

from keras_scgm.errors import InputError
from keras_scgm.files import sha256_of
from keras_scgm.segmentation.edited_masks import EDITED
from keras_scgm.study.group import analyse
from keras_scgm.study.group.analysis import group_figures, group_tables
from keras_scgm.study.group.cohort_table import read_cohort
from keras_scgm.study.page.marks import mask_id

FAILED = {
    "participant_id": "sub-99",
    "image": "sub-99/anat/x.nii.gz",
    "region": "all",
    "status": "failed",
    "error": "4-D",
}


def written(path):
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def test_files_of_a_study(tmp_path):
    rows = [*multicentre(12, regions=("all", "2", "3")), FAILED]
    rows[0]["verdict"] = "fail"
    folder = write_summary(tmp_path, rows) / "group"
    files = analyse(tmp_path)
    assert files == sorted(folder.iterdir())
    tables = {path.stem for path in files if path.suffix == ".tsv"}
    assert tables == {
        *(
            "by_level",
            "outliers",
            "session_differences",
            "session_tests",
            "test_retest",
            "sites",
            "site_effects",
        )
    }
    assert {path.stem for path in files if path.suffix == ".json"} == tables
    text = (folder / "group.md").read_text()
    figures = {path.name for path in files if path.suffix == ".png"}
    assert set(re.findall(r"\]\((.*?)\)", text)) == figures == {
        "by_level.png", "sessions.png", "sites.png", "test_retest.png"
    }  # fmt: skip
    for name in figures:
        with Image.open(folder / name) as image:
            assert min(image.size) > 500
    assert "12 participants, 24 sessions, 48 images (verdicts: 47 pass, 1 fail)" in text
    assert "Left out: 0 marked by a person, 1 not segmented, 0 without an image." in text
    assert "- sub-99/anat/x.nii.gz: 4-D" in text
    assert "Images with the verdict fail are in all results" in text
    gray = (
        written(folder / "by_level.tsv").query("measure == 'gm_perpendicular_mm2' and region == '2'").iloc[0]
    )
    values = pd.DataFrame(r for r in rows if r["region"] == "2")
    means = (
        values.groupby(["participant_id", "session_id"])["gm_perpendicular_mm2"]
        .mean()
        .groupby(level=0)
        .mean()
    )
    assert float(gray["mean"]) == pytest.approx(means.mean())
    assert float(gray["sd"]) == pytest.approx(means.std())


def test_a_plain_study_has_the_tables_that_it_can_have_and_no_older_ones(tmp_path):
    analyse(write_summary(tmp_path, multicentre(4, regions=("all",))))
    assert (tmp_path / "group" / "test_retest.png").exists()
    rows = [row(f"image{n}", region, 15.0 + n) for n in range(3) for region in ("all", "-10:0", "0:10")]
    files = analyse(write_summary(tmp_path, rows))
    assert {path.stem for path in files} == {"by_level", "outliers", "group"}
    assert files == sorted((tmp_path / "group").iterdir())
    text = (tmp_path / "group" / "group.md").read_text()
    assert "No participant has several sessions." in text
    assert "No participant has runs that repeat an image." in text
    assert "Neither the site nor the manufacturer" in text
    assert written(tmp_path / "group" / "by_level.tsv")["region"].tolist()[:3] == ["all", "-10:0", "0:10"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (
            "qc.yml",
            "marks:\n- {image: IMAGE, mark: artefact, comment: motion}\n- {image: gone.nii.gz, mark: pass}\n",
            "artefact, motion",
        ),
        ("qc.tsv", "image\tmark\tcomment\nIMAGE\tfail\tn/a\ngone.nii.gz\tpass\tn/a\n", "fail"),
    ],
)
def test_excluded_images_are_left_out(tmp_path, name, text, why):
    rows = [row(f"sub-{n}", "all", 15.0 + n) for n in range(4)]
    write_summary(tmp_path, rows)
    (tmp_path / name).write_text(text.replace("IMAGE", rows[3]["image"]))
    warnings = []
    analyse(tmp_path, tmp_path / name, warnings.append)
    assert float(written(tmp_path / "group" / "by_level.tsv")["mean"][0]) == 16.0
    assert rows[3]["image"] not in written(tmp_path / "group" / "outliers.tsv")["image"].tolist()
    report = (tmp_path / "group" / "group.md").read_text()
    assert f"Excluded:\n\n- {rows[3]['image']}: {why}\n" in report
    assert warnings == ["1 image marked, but not in this study: gone.nii.gz"]
    assert f"**Warning**: {warnings[0]}\n" in report
    (tmp_path / name).write_text(text.replace("IMAGE", "other.nii.gz"))
    with pytest.raises(InputError, match="no marked image is in the study"):
        analyse(tmp_path, tmp_path / name)


def test_masks_that_are_not_those_of_the_tables_and_the_marks_are_named(tmp_path):
    rows = [row(f"sub-{n}", "all", 15.0 + n, mask=f"sub-{n}_label-GM_mask.nii.gz") for n in range(4)]
    write_summary(tmp_path, rows)
    masks = [tmp_path / one["mask"] for one in rows]
    for mask in masks:
        mask.write_bytes(mask.name.encode())
    hashes = [mask_id(masks[0]), "0123456789ab", "n/a"]
    lines = [f"{one['image']}\tpass\t{sha256}\n" for one, sha256 in zip(rows, hashes, strict=False)]
    (tmp_path / "qc.tsv").write_text("".join(["image\tmark\tmask_sha256\n", *lines]))
    for mask in masks[2:]:
        measured = {"file": mask.relative_to(tmp_path.parent).as_posix(), "sha256": sha256_of(mask)}
        record = mask.with_name(mask.name.replace(".nii.gz", ".json"))
        record.write_text(json.dumps({"files": [], "masks": [measured]}))
    masks[3].write_bytes(b"edited")
    warnings = []
    analyse(tmp_path, tmp_path / "qc.tsv", warnings.append)
    edited, marked = warnings
    assert (
        edited == f"1 image edited by hand and not measured since; run participant again: {rows[3]['image']}"
    )
    assert marked.startswith("1 image marked with an earlier mask, and the mark counts; ")
    assert marked.endswith(f": {rows[1]['image']}")
    text = (tmp_path / "group" / "group.md").read_text()
    assert [f"**Warning**: {warning}" in text for warning in warnings] == [True, True]


def test_images_without_levels_among_others_with_levels_are_named(tmp_path):
    rows = [row(f"sub-{n}", region, 15.0 + n) for n in range(3) for region in ("all", "3")]
    warnings = []
    analyse(write_summary(tmp_path, rows[:-1]), report=warnings.append)
    (warning,) = warnings
    assert warning.startswith("1 image without levels, ")
    assert warning.endswith(f": {rows[-1]['image']}")


def test_figures_show_the_tables(tmp_path):
    cohort = read_cohort(
        write_summary(tmp_path, multicentre(44, runs=2, sessions=2, regions=("all", "2", "3")))
    )
    tables = group_tables(cohort)
    figures = group_figures(cohort, tables)
    assert set(figures) == {"by_level", "outliers", "sessions", "test_retest", "sites"}
    for figure in figures.values():
        assert len(figure.axes) == 4
    gray = tables["by_level"].rows.query("measure == 'gm_perpendicular_mm2'").set_index("region")
    axes = figures["by_level"].axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "3"]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_allclose(lines["median of participants"], gray.loc[["2", "3"], "median"])
    assert "sub-00" in [text.get_text() for text in axes.texts]
    marked = tables["outliers"].rows.query(
        "measure == 'gm_perpendicular_mm2' and outlier == 'yes' and region != 'all'"
    )
    rings = next(
        points for points in figures["outliers"].axes[0].collections if points.get_label() == "outlier"
    )
    np.testing.assert_allclose(np.asarray(rings.get_offsets())[:, 1], marked["z"])
    repeats = tables["test_retest"].rows.query("measure == 'gm_perpendicular_mm2' and region == '2'").iloc[0]
    heights = [line.get_ydata()[0] for line in figures["test_retest"].axes[0].lines]
    np.testing.assert_allclose(heights, [repeats["bias"], repeats["limit_low"], repeats["limit_high"]])
    names = [text.get_text() for text in figures["sites"].axes[0].get_xticklabels()]
    assert names == [f"site{number} (n = 11)" for number in (3, 4, 1, 2)]


def test_many_regions_of_few_participants(tmp_path):
    regions = [str(level) for level in range(1, 22)]
    rows = [
        row(f"sub-{n}", region, 15.0 + n) for n in range(4) for region in regions if n < 2 or int(region) > 3
    ]
    cohort = read_cohort(write_summary(tmp_path, rows))
    figure = group_figures(cohort, group_tables(cohort))["by_level"]
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == regions[::2]
    median = next(line for line in axes.lines if line.get_label() == "median of participants").get_ydata()
    np.testing.assert_array_equal(np.isnan(median), [True] * 3 + [False] * 18)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "quartiles",
        "median of participants",
    ]


def test_one_centre_whose_scanners_are_known(tmp_path):
    rows = [row(f"sub-{n}", "all", 15.0 + n, manufacturer=("GE", "Philips")[n % 2]) for n in range(8)]
    assert tmp_path / "group" / "sites.png" in analyse(write_summary(tmp_path, rows))
    cohort = read_cohort(tmp_path)
    figure = group_figures(cohort, group_tables(cohort))["sites"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["GE (n = 4)", "Philips (n = 4)"]


def test_a_site_of_few_participants_has_no_median(tmp_path):
    rows = [
        row(f"sub-{n}", "all", 15.0 + n, site="many" if n else "one", manufacturer="GE") for n in range(4)
    ]
    cohort = read_cohort(write_summary(tmp_path, rows))
    figure = group_figures(cohort, group_tables(cohort))["sites"]
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["many (n = 3)", "one (n = 1)"]
    (medians,) = (one for one in axes.collections if one.get_label() == "median")
    assert [segment[0, 1] for segment in medians.get_segments()] == [17.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["GE", "median"]


def test_the_text_is_about_the_level_of_most_participants(tmp_path):
    # Levels are alike at both sites, which cover different ones.
    levels = {"A": ("2", "3", "4"), "B": ("4", "5", "6")}
    rows = []
    for n in range(20):
        site = "AB"[n % 2]
        values = {level: 10.0 + 2 * int(level) + n / 20 for level in levels[site]}
        values["all"] = np.mean(list(values.values()))
        rows += [row(f"sub-{n}", region, value, site=site) for region, value in values.items()]
    analyse(write_summary(tmp_path, rows))
    text = (tmp_path / "group" / "group.md").read_text()
    assert "This text reports vertebral level 4, which most participants have." in text
    effects = written(tmp_path / "group" / "site_effects.tsv").query("measure == 'gm_perpendicular_mm2'")
    p = effects.set_index("region")["p"].astype(float)
    assert p["4"] > 0.5 > 1e-6 > p["all"]
    gray = next(line for line in text.splitlines() if line.startswith("| site") and "gm_perp" in line)
    assert f"{p['4']:.3g}" in gray
    analyse(write_summary(tmp_path, [one for one in rows if one["region"] == "all"]))
    assert "**Vertebral levels are not known**" in (tmp_path / "group" / "group.md").read_text()


def test_the_text_names_what_is_mixed(tmp_path):
    rows = [
        row(f"sub-{n}", "all", 15.0 + n, version=f"keras_scgm 0.{n // 3}.0", weights="synthetic")
        for n in range(6)
    ]
    rows[0]["reason"] = EDITED
    low = "sub-0/anat/sub-0_acq-low_T2starw.nii.gz"
    rows.append(row("sub-0", "all", 12.0, version="keras_scgm 0.0.0", weights="synthetic", image=low))
    warnings = []
    analyse(write_summary(tmp_path, rows), report=warnings.append)
    text = (tmp_path / "group" / "group.md").read_text()
    (warning,) = warnings
    assert warning.startswith(
        "several versions of the program: 4 by keras_scgm 0.0.0, 3 by keras_scgm 0.1.0. Their"
    )
    assert f"**Warning**: {warning}" in text
    assert "**Several acquisitions in 1 session** (T2starw, acq-low_T2starw)" in text
    assert "1 image with masks that were edited by hand." in text


def test_the_text_names_settings_that_differ(tmp_path):
    rows = [
        row(f"sub-{n}", "all", 15.0 + n, settings="threshold 0.9, mirror" if n < 2 else "n/a")
        for n in range(6)
    ]
    warnings = []
    analyse(write_summary(tmp_path, rows), report=warnings.append)
    (warning,) = warnings
    assert warning.startswith("several settings: 4 by the defaults, 2 by threshold 0.9, mirror. Their areas")


def test_the_mean_over_sessions_is_of_those_who_have_all(tmp_path):
    rows = [
        row(f"sub-{n:02d}", "all", 15.0 + n - 0.5 * session, session=f"ses-{session}")
        for n in range(12)
        for session in range(3)
        if n >= 6 or session < 2
    ]
    cohort = read_cohort(write_summary(tmp_path, rows))
    figure = group_figures(cohort, group_tables(cohort))["sessions"]
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["mean of 6 with all sessions"], [23.5, 23.0, 22.5])


GOOD = row("sub-1", "all", 15.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([FAILED], "has no segmented image that is not excluded"),
        ([GOOD, GOOD], "has a region twice"),
        ([GOOD | {"gm_perpendicular_mm2": "many"}], "column gm_perpendicular_mm2 has many, not a number"),
        ([GOOD | {"cord_ap_mm": "inf"}], "column cord_ap_mm has inf, not a number"),
        ([{"image": "a.nii", "region": "all", "status": "segmented"}], "has no measurement"),
        ([{"image": "a.nii", "region": "all"}], "no column status"),
    ],
)
def test_a_summary_that_cannot_be_used(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        analyse(write_summary(tmp_path, rows))
    assert not (tmp_path / "group").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such table; run participant first"),
        (b"", "no column image"),
        (b"image\tregion\tstatus\na.nii\tall\tsegmented\tmore\n", "line 2 has 4 columns, the first line 3"),
        (b"image\tregion\tstatus\na.nii\tall\n", "line 2 has 2 columns, the first line 3"),
        (b"\xff\xfe\x00", r"not a text in UTF-8; save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_summary(tmp_path, content, message):
    if content is not None:
        (tmp_path / "summary.tsv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        analyse(tmp_path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_scgm.study.group.find_spec", lambda name: None if name == "pingouin" else name)
    with pytest.raises(InputError, match=r"need pingouin; pip install 'keras-scgm\[study\]'"):
        analyse(tmp_path)


def test_a_range_that_lacks_a_level_is_in_no_table(tmp_path):
    rows = multicentre(4, sessions=2, runs=1, regions=("all", "2", "3", "2:3"))
    for one in rows:
        one["levels"] = {"2:3": "2, 3", "all": "2, 3"}.get(one["region"], one["region"])
    (cut,) = (
        one
        for one in rows
        if (one["participant_id"], one["session_id"], one["region"]) == ("sub-01", "ses-2", "2:3")
    )
    cut["levels"] = "3"
    analyse(write_summary(tmp_path, rows))
    differences = written(tmp_path / "group/session_differences.tsv").query(
        "measure == 'gm_perpendicular_mm2'"
    )
    of_range = differences[differences["region"] == "2:3"]
    assert set(of_range["participant_id"]) == {"sub-00", "sub-02", "sub-03"}
    assert set(differences.query("region == '3'")["participant_id"]) == {
        "sub-00",
        "sub-01",
        "sub-02",
        "sub-03",
    }
    text = (tmp_path / "group/group.md").read_text()
    assert f"1 image without all levels of a range, and left out of the range: {cut['image']} (2:3)" in text


def test_spellings_of_people_are_no_groups(tmp_path):
    rows = multicentre(12, sessions=1, runs=1, regions=("all",))
    sexes = ("M", "male", "F", "Female", "m", "f")
    for number, one in enumerate(rows):
        one["sex"], one["group"] = sexes[number % 6], ("Patient", "patient", "control")[number % 3]
        one["age"] = "45,5" if number == 4 else one["age"]
    cohort = read_cohort(write_summary(tmp_path, rows))
    assert set(cohort.participants["sex"]) == {"M", "F"}
    assert set(cohort.participants["group"]) == {"Patient", "control"}
    assert cohort.participants["age"].isna().sum() == 1
    analyse(tmp_path)
    assert (
        "1 age not known, as not a number such as 45.5: sub-04 (45,5)"
        in (tmp_path / "group/group.md").read_text()
    )


def test_warnings_of_images_are_told(tmp_path):
    rows = multicentre(4, sessions=1, runs=1, regions=("all", "3"))
    for one in rows[:2]:
        one["warnings"] = "gray matter is darker than white matter, in others brighter"
    analyse(write_summary(tmp_path, rows))
    text = (tmp_path / "group/group.md").read_text()
    (listed,) = re.findall(r"Analysed with warnings:\n\n(.*?)\n\n", text, re.DOTALL)
    assert listed == f"- {rows[0]['image']}: {rows[0]['warnings']}"


def test_images_without_a_direction_of_the_cord_are_named(tmp_path):
    rows = multicentre(4, sessions=1, runs=1, regions=("all",))
    rows[1]["gm_perpendicular_mm2"] = "n/a"
    analyse(write_summary(tmp_path, rows))
    text = (tmp_path / "group/group.md").read_text()
    assert (
        f"1 image without gm_perpendicular_mm2, as of one slice or without a cord, in no row of it: {rows[1]['image']}"
        in text
    )
    for one in rows:
        one["area_mm2"] = one.pop("gm_perpendicular_mm2")
        for name in ("wm_perpendicular_mm2", "cord_perpendicular_mm2", "gm_cord_ratio"):
            del one[name]
    rows[1]["area_mm2"] = 14.0
    analyse(write_summary(tmp_path, rows))
    assert (
        "areas are in the slice, not perpendicular to the cord" in (tmp_path / "group/group.md").read_text()
    )


def test_a_covariate_that_tells_the_groups_apart_is_named(tmp_path):
    rows = multicentre(16, sessions=1, runs=1, regions=("all",))
    for one in rows:
        one["group"] = {"M": "patient", "F": "control"}[one["sex"]]
        del one["age"], one["site"]
    analyse(write_summary(tmp_path, rows))
    text = (tmp_path / "group/group.md").read_text()
    assert "**No p where it is n/a**: what the model is adjusted for (sex)" in text
    (groups,) = re.findall(r"## Groups.*?(\|.*?)\n\n", text, re.DOTALL)
    assert len(groups.splitlines()) == 4
    assert "; 8)" in groups
