"""Means over ranges of levels and of slices, by `keras-scgm areas` and against pandas."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

AFFINE = np.diag([-0.5, 0.5, 4.0, 1.0])
LEVELS = [5, 4, 4, 3, 3, 2, 0]


@pytest.fixture
def masks(tmp_path):
    """Gray matter and cord of seven slices of other sizes, the last without gray matter, and their levels."""
    cord, gray, levels = np.zeros((3, 40, 40, 7), np.uint8)
    levels[:] = LEVELS
    for k in range(7):
        cord[10 : 25 + k, 10:30, k] = 1
        gray[13 : 19 + k, 14:22, k] = k < 6
    paths = []
    for name, voxels in (("a_gmseg", gray), ("a_seg", cord), ("levels", levels)):
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(voxels, AFFINE), paths[-1])
    return paths


def tables(folder):
    return (
        pd.read_csv(folder / f"a_gmseg_sections{ending}.csv", dtype={"region": str, "levels": str}).set_index(
            key
        )
        for ending, key in (("", "slice"), ("_regions", "region"))
    )


def test_ranges_of_levels_and_slices(run, masks, tmp_path):
    gray, cord, levels = masks
    code, out, err = run(
        "areas", gray, "--cord", cord, "--levels", levels, "--level-range", "2:4", "--slices", "1:3"
    )
    assert (code, err) == (0, "")
    sections, regions = tables(tmp_path)
    members = {
        "all": range(7),
        "slices 1:3": [1, 2, 3],
        "2": [5],
        "3": [3, 4],
        "4": [1, 2],
        "5": [0],
        "2:4": range(1, 6),
    }
    assert list(regions.index) == list(members)
    for name, slices in members.items():
        of_region = sections.loc[list(slices)]
        with_gray = of_region[of_region.area_mm2 > 0]
        for column, rows in (
            ("area_mm2", with_gray),
            ("gm_cord_ratio", with_gray),
            ("cord_area_mm2", of_region),
            ("cord_rl_mm", of_region),
        ):
            assert regions.loc[name, column] == pytest.approx(rows[column].mean(), abs=2e-3)
            assert regions.loc[name, f"{column}_sd"] == pytest.approx(rows[column].std(ddof=0), abs=2e-3)
        assert regions.loc[name, "cord_angle_deg"] == pytest.approx(of_region.cord_angle_deg.mean(), abs=2e-3)
    assert "cord_angle_deg_sd" not in regions
    assert list(regions.levels) == ["2, 3, 4, 5", "3, 4", "2", "3", "4", "5", "2, 3, 4"]
    assert out.splitlines()[1].endswith(
        "_regions.csv: mean gray matter in mm2: all 17.0, slices 1:3 16.0, 2 22.0, 3 19.0, 4 15.0, 5 12.0, 2:4 18.0"
    )


def test_a_range_that_lacks_a_level_is_told(run, masks):
    gray, _, levels = masks
    code, out, err = run("areas", gray, "--levels", levels, "--level-range", "5:7", "--level-range", "8:9")
    assert code == 0
    assert err == (
        f"warning: {levels}: levels 5:7: no gray matter at 6, 7\n"
        f"warning: {levels}: levels 8:9: no gray matter at 8, 9\n"
    )
    assert out.endswith("5:7 12.0, 8:9 none\n")


def test_labels_of_discs_in_place_of_levels(run, masks, tmp_path):
    gray, cord, _ = masks
    points = np.zeros((20, 20, 14), np.uint8)
    for label, k in ((2, 11), (3, 7), (4, 3)):
        points[10, 10, k] = label
    nib.save(nib.Nifti1Image(points, np.diag([-1.0, 1.0, 2.0, 1.0])), tmp_path / "discs.nii.gz")
    code, _, err = run(
        "areas", gray, "--cord", cord, "--discs", tmp_path / "discs.nii.gz", "--level-range", "2:3"
    )
    assert (code, err) == (0, "")
    sections, regions = tables(tmp_path)
    # The discs lie at 22, 14 and 6 mm, the slices at 0, 4, ... 24 mm.
    assert list(sections.level.fillna(0)) == [0, 0, 3, 3, 2, 2, 0]
    assert regions.loc["2:3", "area_mm2"] == pytest.approx(sections.area_mm2[2:6].mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--level-range", "2:3"], "ranges of levels need levels; give a level map or labels of discs"),
        (["--levels", "LEVELS", "--level-range", "3:2"], "level_ranges must be a first and a last number"),
        (["--slices", "a:b"], "--slices must be two whole numbers such as 2:3, received 'a:b'"),
        (["--levels", "LEVELS", "--discs", "LEVELS"], "give one of the two"),
    ],
)
def test_ranges_that_cannot_be_measured_are_refused(run, masks, tmp_path, options, message):
    gray, _, levels = masks
    code, out, err = run("areas", gray, *(levels if option == "LEVELS" else option for option in options))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.csv"))


def test_slices_of_a_file_that_begins_at_the_top(run, masks, tmp_path):
    gray = nib.load(masks[0])
    from_the_top = nib.Nifti1Image(np.asarray(gray.dataobj)[..., ::-1], AFFINE @ np.diag([1, 1, -1, 1]))
    nib.save(from_the_top, tmp_path / "top.nii.gz")
    code, _, err = run("areas", tmp_path / "top.nii.gz", "--slices", "0:2")
    assert code == 0
    assert err.endswith("the file begins at the top: its slices are counted from there, not from below\n")
    regions = pd.read_csv(tmp_path / "top_sections_regions.csv")
    assert list(regions.n_slices) == [6, 2]
