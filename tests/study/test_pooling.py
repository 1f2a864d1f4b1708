"""Means over levels, ranges, slices and positions, against NumPy."""

import numpy as np
import pytest

from keras_scgm.study.columns import MEASUREMENTS
from keras_scgm.study.pooling import pool
from keras_scgm.study.tsv import cell


def rows_of(areas, levels, cords=None, spacing_mm=5.0):
    rows = []
    cords = cords or [80.0] * len(areas)
    for index, (area, cord, level) in enumerate(zip(areas, cords, levels, strict=True)):
        row = dict.fromkeys(MEASUREMENTS, "n/a")
        given = {
            "area_mm2": area,
            "cord_area_mm2": cord,
            "gm_cord_ratio": area / cord if cord else None,
            "n_voxels": round(4 * area),
            "slice": index,
            "position_mm": spacing_mm * index,
            "level": level,
        }
        rows.append(row | {name: cell(value) for name, value in given.items()})
    return rows


def test_each_slice_of_a_range_counts_the_same_not_each_level():
    areas = [10.0, 12.0, 13.0, 19.0]
    regions = {row["region"]: row for row in pool(rows_of(areas, [3, 3, 3, 2]), [(2, 3)])}
    assert list(regions) == ["all", "2", "3", "2:3"]
    assert regions["2:3"]["area_mm2"] == pytest.approx(np.mean(areas))
    assert regions["2:3"]["area_mm2_sd"] == pytest.approx(np.std(areas))
    assert regions["3"]["area_mm2"] == pytest.approx(np.mean(areas[:3]))
    assert regions["2"]["area_mm2_sd"] == 0
    assert regions["3"]["n_voxels"] == 140
    assert [regions[name]["n_slices"] for name in regions] == [4, 1, 3, 4]


def test_a_region_says_which_levels_it_has():
    regions = {
        row["region"]: row["levels"]
        for row in pool(rows_of([10.0, 0.0, 13.0, 9.0], [4, 3, 2, None]), [(2, 4)])
    }
    assert regions == {"all": "2, 4", "2": "2", "3": "n/a", "4": "4", "2:4": "2, 4"}


def test_slices_without_a_tissue_do_not_count_for_it():
    (every, *_) = pool(rows_of([0.0, 12.0, 16.0], [3, 3, 3]))
    assert (every["n_slices"], every["n_cord_slices"]) == (2, 3)
    assert every["area_mm2"] == pytest.approx(14)
    assert every["gm_cord_ratio"] == pytest.approx(14 / 80)
    assert every["cord_area_mm2"] == pytest.approx(80)


def test_slices_that_were_asked_for():
    regions = {
        row["region"]: row for row in pool(rows_of([10, 11, 12, 13], [3, 3, None, None]), slices=(1, 2))
    }
    assert regions["slices 1:2"]["area_mm2"] == pytest.approx(11.5)


def test_positions_from_the_middle_without_levels():
    regions = pool(rows_of([10.0, 11, 12, 13, 14, 15], [None] * 6))
    assert [row["region"] for row in regions] == ["all", "-20:-10", "-10:0", "0:10", "10:20"]
    assert [row["area_mm2"] for row in regions] == pytest.approx([12.5, 10, 11.5, 13.5, 15])


def test_a_range_without_slices_has_no_values():
    row = pool(rows_of([10.0], [3]), [(5, 6)])[-1]
    assert row["region"] == "5:6"
    assert row["n_slices"] == 0
    assert np.isnan(row["area_mm2"])


def test_slices_are_left_out_by_their_verdicts_and_regions_stay():
    rows = rows_of([10.0, 11, 12, 13, 14, 15], [None] * 6)
    for row, verdict in zip(rows, ("fail", "pass", "pass", "review", "fail", "pass"), strict=True):
        row["verdict"] = verdict
    regions = {row["region"]: row for row in pool(rows, slices=(3, 4), left_out=("review", "fail"))}
    assert list(regions) == ["all", "slices 3:4", "-20:-10", "-10:0", "0:10", "10:20"]
    assert regions["all"]["area_mm2"] == pytest.approx(np.mean([11, 12, 15]))
    assert [regions[name]["n_slices"] for name in regions] == [3, 0, 0, 2, 0, 1]
    assert np.isnan(regions["slices 3:4"]["area_mm2"])


def test_the_cord_is_pooled_over_its_own_slices():
    (every, *_) = pool(rows_of([0.0, 12.0, 16.0, 14.0], [3] * 4, cords=[60.0, 80.0, 85.0, 0.0]))
    assert (every["n_slices"], every["n_cord_slices"]) == (3, 3)
    assert every["cord_area_mm2"] == pytest.approx(np.mean([60, 80, 85]))
    assert every["area_mm2"] == pytest.approx(14)


def test_ranges_leave_out_slices_without_a_level():
    regions = {row["region"]: row for row in pool(rows_of([10.0, 12.0, 99.0], [3, 4, None]), [(3, 4)])}
    assert list(regions) == ["all", "3", "4", "3:4"]
    assert regions["3:4"]["area_mm2"] == pytest.approx(11)
    nothing = pool(rows_of([10.0, 12.0], [None, None]), [(3, 4)])
    assert [(row["region"], row["n_slices"]) for row in nothing] == [("all", 2), ("3:4", 0)]
    with_levels = pool(rows_of([10.0, 12.0], [3, None]))
    assert [row["region"] for row in with_levels] == ["all", "3"]
