"""Areas of cross-sections, by slice and by vertebral level."""

import csv
import math
from decimal import Decimal

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.morphometry import (
    CrossSection,
    cross_sections,
    region_means,
    tissue_cells,
    write_sections,
)
from keras_scgm.nifti import volume_from_image

SPACING_MM = (0.25, 0.25, 2.0)


def volume(data, affine=None):
    affine = np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0]) if affine is None else affine
    return volume_from_image(nib.Nifti1Image(np.asarray(data), affine))


def test_parts_sum_to_the_whole_and_what_sticks_out_is_told():
    rng = np.random.default_rng(0)
    gray, cord = rng.random((2, 12, 10, 5)).astype(np.float32)
    rows = cross_sections(volume(gray), cord=volume(cord))
    for k, row in enumerate(rows):
        assert row.cord_area_mm2 == pytest.approx(cord[..., k].sum(dtype=float) * 0.0625)
        assert row.area_mm2 == pytest.approx(np.minimum(gray, cord)[..., k].sum(dtype=float) * 0.0625)
        assert row.area_mm2 + row.wm_area_mm2 == pytest.approx(row.cord_area_mm2)
        assert row.gm_perpendicular_mm2 + row.wm_perpendicular_mm2 == pytest.approx(
            row.cord_perpendicular_mm2
        )
        assert row.area_mm2 + row.gm_outside_cord_mm2 == pytest.approx(gray[..., k].sum(dtype=float) * 0.0625)
        assert row.wm_area_mm2 >= 0


def test_drawn_subject_by_level():
    subject = draw_subject(PhantomConfig(matrix_size=64, n_slices=6, levels=(5.0, 3.0)), seed=2)
    levels = np.zeros(subject.mask.shape, np.uint8)
    levels[:] = subject.levels
    rows = cross_sections(
        volume_from_image(subject.gray_matter),
        cord=volume_from_image(subject.cord),
        levels=volume_from_image(nib.Nifti1Image(levels, subject.mask.affine)),
    )
    assert [row.level for row in rows] == list(subject.levels)
    voxel_mm2 = subject.config.spacing_mm**2
    fractions = np.asarray(subject.gray_matter.dataobj)
    _, *of_levels = region_means(rows)
    for region in of_levels:
        members = [k for k, level in enumerate(subject.levels) if region["levels"] == [level]]
        assert region["n_slices"] == len(members)
        areas = [fractions[..., k].sum(dtype=float) * voxel_mm2 for k in members]
        cosines = [math.cos(math.radians(rows[k].cord_angle_deg)) for k in members]
        assert region["area_mm2"] == pytest.approx(np.mean(areas), rel=1e-3)
        assert region["area_mm2_sd"] == pytest.approx(np.std(areas), rel=1e-2)
        assert region["gm_perpendicular_mm2"] == pytest.approx(np.mean(np.multiply(areas, cosines)), rel=1e-3)
        assert region["area_mm2"] + region["wm_area_mm2"] == pytest.approx(region["cord_area_mm2"])
    assert {int(region["region"]) for region in of_levels} == set(subject.levels)


def test_the_cord_of_a_level_does_not_depend_on_its_gray_matter():
    cord, gray, levels = np.zeros((3, 12, 12, 4), np.uint8)
    levels[:] = [3, 3, 3, 4]
    for k, width in enumerate((6, 7, 8, 8)):
        cord[2 : 2 + width, 2:10, k] = 1
    gray[4:6, 4:8, :2] = 1
    alone = region_means(cross_sections(None, volume(cord), levels=volume(levels)))
    both = region_means(cross_sections(volume(gray), volume(cord), levels=volume(levels)))
    assert [region["cord_area_mm2"] for region in both] == [region["cord_area_mm2"] for region in alone]
    assert [(region["n_slices"], region["n_cord_slices"]) for region in both] == [(2, 4), (2, 3), (0, 1)]
    assert [(region["n_slices"], region["n_cord_slices"]) for region in alone] == [(0, 4), (0, 3), (0, 1)]
    assert [region["levels"] for region in both] == [[3], [3], []]
    assert [region["levels"] for region in alone] == [[3, 4], [3], [4]]
    voxel_mm2 = volume(gray).voxel_area_mm2
    assert both[1]["area_mm2"] == pytest.approx(8 * voxel_mm2)
    assert math.isnan(both[2]["area_mm2"])
    assert both[1]["wm_area_mm2"] == pytest.approx((52 - 8) * voxel_mm2)
    assert tissue_cells(both[1])["wm_area_mm2"] == f"{44 * voxel_mm2:.3f}"


def test_interval_of_raters():
    sizes = np.array([[20, 24, 22], [30, 30, 30]])
    samples = np.zeros((3, 10, 10, 2), np.uint8)
    for number, counts in enumerate(sizes.T):
        for k, count in enumerate(counts):
            samples[number, ..., k].flat[:count] = 1
    rows = cross_sections(volume(samples[0]), samples=[volume(sample) for sample in samples])
    # Student's t at 97.5 % with 2 degrees of freedom is 4.3027; the three areas have a deviation of 2 voxels.
    reach = 4.3027 * 2 * math.sqrt(4 / 3) * 0.0625
    assert (rows[0].low_mm2, rows[0].high_mm2) == pytest.approx(
        (22 * 0.0625 - reach, 22 * 0.0625 + reach), rel=1e-4
    )
    assert rows[1].low_mm2 == rows[1].high_mm2 == pytest.approx(30 * 0.0625)
    with pytest.raises(InputError, match="at least 2 samples"):
        cross_sections(volume(samples[0]), samples=[volume(samples[1])])


def test_interval_of_raters_holds_another_rater():
    subject = draw_subject(PhantomConfig(matrix_size=64, n_slices=8), seed=4)
    *four, fifth = [volume_from_image(mask) for mask in subject.raters(5)]
    rows = cross_sections(four[0], samples=four)
    areas = [row.area_mm2 for row in cross_sections(fifth)]
    held = [row.low_mm2 <= area <= row.high_mm2 for row, area in zip(rows, areas, strict=True)]
    assert sum(held) >= 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cord": np.ones((4, 4, 3), np.uint8)}, "not on the grid of"),
        ({"cord": np.full((4, 4, 2), 2, np.uint8)}, "holds values from 2 to 2"),
        ({"cord": np.full((4, 4, 2), np.nan, np.float32)}, "32 voxels NaN or infinite"),
        ({"levels": np.full((4, 4, 2), 2.5, np.float32)}, "whole numbers"),
    ],
)
def test_bad_volumes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        cross_sections(volume(np.ones((4, 4, 2), np.uint8)), **{k: volume(v) for k, v in changes.items()})


def test_shifted_affine_is_refused():
    moved = np.diag([-0.25, 0.25, 2.0, 1.0])
    moved[0, 3] = 5.0
    ones = np.ones((4, 4, 2), np.uint8)
    with pytest.raises(InputError, match="lies up to 5 mm elsewhere"):
        cross_sections(volume(ones), cord=volume(ones, moved))


def test_a_table_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    rows = cross_sections(volume(np.ones((4, 4, 2), np.uint8)))
    with pytest.raises(InputError, match="writing failed"):
        write_sections(tmp_path / "file" / "a.csv", rows)


def test_a_slice_without_gray_matter_is_all_white_matter():
    gray = np.zeros((40, 40, 3), np.uint8)
    gray[18:22, 18:22, :2] = 1
    cord = np.zeros_like(gray)
    cord[10:30, 10:30] = 1
    rows = cross_sections(volume(gray), volume(cord))
    assert [row.cord_area_mm2 for row in rows] == pytest.approx([25.0] * 3)
    assert [row.wm_area_mm2 for row in rows] == pytest.approx([24.0, 24.0, 25.0])
    assert [row.gm_cord_ratio for row in rows] == pytest.approx([0.04, 0.04, 0.0])


def test_cells_add_up_to_the_last_digit(tmp_path):
    """An area of voxels of 0.59 mm has more digits than the table."""
    rng = np.random.default_rng(0)
    cord = (rng.random((24, 24, 30)) < 0.9).astype(np.uint8)
    gray = cord * (rng.random(cord.shape) < 0.3)
    affine = np.diag([-0.5912, 0.5873, 2.5, 1.0])
    write_sections(tmp_path / "a.csv", cross_sections(volume(gray, affine), volume(cord, affine)))
    with open(tmp_path / "a.csv", newline="") as file:
        rows = [{k: Decimal(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    assert len(rows) == 30
    for row in rows:
        assert row["area_mm2"] + row["wm_area_mm2"] == row["cord_area_mm2"]
        assert row["gm_perpendicular_mm2"] + row["wm_perpendicular_mm2"] == row["cord_perpendicular_mm2"]
        assert row["gm_left_mm2"] + row["gm_right_mm2"] == row["area_mm2"]
        assert row["gm_ventral_mm2"] + row["gm_dorsal_mm2"] == row["area_mm2"]


def test_an_interval_holds_its_own_area():
    def square(width):
        mask = np.zeros((40, 40, 2), np.uint8)
        mask[:width, :width] = 1
        return volume(mask)

    # Two samples that agree, and a mask that is larger than both.
    rows = cross_sections(square(12), samples=[square(10), square(10)])
    for row in rows:
        assert (row.low_mm2, row.high_mm2) == pytest.approx((100 / 16, 144 / 16))
        assert row.low_mm2 <= row.area_mm2 <= row.high_mm2


def test_samples_count_inside_the_cord_only():
    cord, gray = np.zeros((2, 20, 20, 2), np.uint8)
    cord[5:15, 5:15] = 1
    gray[8:12, 8:12] = 1
    outside = gray.copy()
    outside[0:5] = 1
    rows = cross_sections(volume(gray), volume(cord), samples=[volume(gray), volume(outside)])
    assert [(row.low_mm2, row.high_mm2) for row in rows] == [pytest.approx((1.0, 1.0))] * 2


def test_a_mask_with_a_value_above_1_is_refused():
    mask = np.zeros((4, 4, 2), np.uint8)
    mask[1:3, 1:3] = 2
    with pytest.raises(InputError, match="holds values from 0 to 2"):
        cross_sections(volume(mask))


def test_a_mask_with_a_value_below_0_is_refused():
    mask = np.ones((4, 4, 2), np.float32)
    mask[1, 1, 0] = -1
    with pytest.raises(InputError, match="holds values from -1 to 1"):
        cross_sections(volume(mask))


# The mean of the others, which NaN is read as, is a whole number.
@pytest.mark.parametrize("value", [2.5, 2.6, -1.0, np.nan])
def test_one_voxel_that_is_no_level_is_refused(value):
    levels = np.full((4, 4, 2), 3, np.float32)
    levels[0, 0, 0] = value
    with pytest.raises(InputError, match="whole numbers from 0"):
        cross_sections(volume(np.ones((4, 4, 2), np.uint8)), levels=volume(levels))


def test_a_slice_has_the_level_of_most_of_its_voxels_in_the_cord():
    levels, cord = np.zeros((2, 10, 10, 4), np.uint8)
    cord[4:8, 4:8] = 1
    levels[:, :, 0] = 2
    levels[4:8, 4:6, 0] = 3
    levels[4:8, 6:8, 0] = 4
    levels[4, 6, 0] = 3
    # Only a part of the cord has a level; the cord has none; nothing has one.
    levels[4, 4, 1] = 1
    levels[0, :, 1] = 6
    levels[0, 0, 2] = 1
    rows = cross_sections(volume(cord), volume(cord), levels=volume(levels))
    assert [row.level for row in rows] == [3, 1, 1, None]
    rows = cross_sections(volume(cord), levels=volume(levels))
    assert [row.level for row in rows] == [2, 6, 1, None]


def test_levels_of_gray_matter_without_a_cord():
    gray, levels = np.zeros((2, 10, 10, 3), np.uint8)
    gray[4:8, 4:8, 0] = 1
    gray[4:8, 4:6, 1] = 1
    levels[:] = 3, 3, 4
    _, region, empty = region_means(cross_sections(volume(gray), levels=volume(levels)))
    assert (region["region"], region["n_slices"], region["n_cord_slices"]) == ("3", 2, 0)
    assert (region["area_mm2"], region["area_mm2_sd"]) == pytest.approx((0.75, 0.25))
    assert math.isnan(region["cord_area_mm2"])
    assert (empty["region"], empty["n_slices"], empty["levels"]) == ("4", 0, [])


def test_means_of_a_level_are_over_its_slices_with_the_tissue():
    def section(level, gray_mm2, cord_mm2, angle_deg=math.nan):
        return CrossSection(
            0, 0.0, level, gray_mm2, cord_area_mm2=cord_mm2, wm_area_mm2=0.0, cord_angle_deg=angle_deg
        )

    every, lowest, lower, higher = region_means(
        [
            section(5, 0.9, 60.0, 3.0),
            section(5, 1.5, 61.0),
            section(5, 6.0, 68.0, 6.0),
            section(5, 0.0, 0.9, 30.0),
            section(5, 0.0, 0.0),
            section(None, 9.0, 50.0),
            section(4, 0.0, 0.0),
            section(3, 0.0, 0.5),
        ]
    )
    assert (higher["region"], higher["n_slices"], higher["n_cord_slices"]) == ("5", 3, 4)
    assert higher["area_mm2"] == pytest.approx((0.9 + 1.5 + 6) / 3)
    assert higher["area_mm2_sd"] == pytest.approx(np.std([0.9, 1.5, 6]))
    assert higher["cord_area_mm2"] == pytest.approx((60 + 61 + 68 + 0.9) / 4)
    assert higher["cord_angle_deg"] == pytest.approx((3 + 6 + 30) / 3)
    assert (lower["region"], lower["n_slices"], lower["n_cord_slices"]) == ("4", 0, 0)
    assert (lowest["region"], lowest["n_cord_slices"], lowest["cord_area_mm2"]) == ("3", 1, 0.5)
    assert every["area_mm2"] == pytest.approx((0.9 + 1.5 + 6 + 9) / 4)
