"""Areas of cross-sections, by slice and by vertebral level."""

import csv
import math
from decimal import Decimal

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from keras_scgm import InputError, Segmenter
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.morphometry import (
    TISSUE_COLUMNS,
    CrossSection,
    cross_sections,
    region_means,
    tissue_cells,
    write_sections,
)
from keras_scgm.nifti import volume_from_image
from keras_scgm.outputs import write_areas
from keras_scgm_cli.main import app

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


def test_tables(tmp_path):
    subject = draw_subject(PhantomConfig(matrix_size=48, n_slices=3, levels=(5.0, 4.0)), seed=2)
    levels = np.zeros(subject.mask.shape, np.uint8)
    levels[:] = subject.levels
    paths = [tmp_path / f"{name}.nii.gz" for name in ("gm", "cord", "levels")]
    images = (subject.mask, subject.cord, nib.Nifti1Image(levels, subject.mask.affine))
    for image, path in zip(images, paths, strict=True):
        nib.save(image, path)
    command = ["areas", str(paths[0]), "--cord", str(paths[1]), "--levels", str(paths[2])]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    with open(tmp_path / "gm_sections.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(tmp_path / "gm_sections_regions.csv", newline="") as file:
        regions = list(csv.DictReader(file))
    assert [int(row["level"]) for row in rows] == list(subject.levels)
    assert rows[0]["low_mm2"] == ""
    voxels = np.asarray(subject.mask.dataobj).sum(axis=(0, 1))
    assert [float(row["area_mm2"]) + float(row["gm_outside_cord_mm2"]) for row in rows] == pytest.approx(
        voxels * 0.25, abs=2e-3
    )
    assert [row["region"] for row in regions] == ["all", *map(str, sorted(set(subject.levels)))]
    assert float(regions[0]["area_mm2"]) == pytest.approx(
        np.mean([float(row["area_mm2"]) for row in rows]), abs=1e-3
    )
    assert isinstance(CliRunner().invoke(app, command).exception, InputError)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(path.name for path in paths), "gm_sections.csv", "gm_sections_regions.csv"]
    )
    (tmp_path / "gm_sections.csv").unlink()
    assert isinstance(CliRunner().invoke(app, command).exception, InputError)


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


def test_the_command_says_how_much_lies_outside_the_cord(run, tmp_path):
    gray, cord = np.zeros((2, 40, 40, 4), np.uint8)
    cord[10:30, 10:30] = 1
    gray[16:24, 18:24] = 1
    gray[30:34, 18:20, 1:3] = 1
    affine = np.diag([-0.5, 0.5, 2.0, 1.0])
    for name, mask in (("gray", gray), ("cord", cord)):
        nib.Nifti1Image(mask, affine).to_filename(tmp_path / f"{name}.nii")
    code, _, err = run("areas", tmp_path / "gray.nii", "--cord", tmp_path / "cord.nii")
    assert code == 0
    assert err == (
        f"warning: {tmp_path / 'gray.nii'}: gray matter outside the cord mask, left out: "
        "7.7 % (4.0 of 52.0 mm2, summed over slices), in slices 1, 2\n"
    )


def test_the_command_says_that_the_direction_is_unknown(run, tmp_path):
    cord = np.zeros((40, 40, 4), np.uint8)
    cord[10:30, 10:30, 2] = 1
    nib.Nifti1Image(cord, np.diag([-0.5, 0.5, 2.0, 1.0])).to_filename(tmp_path / "cord.nii")
    code, out, err = run("areas", tmp_path / "cord.nii")
    assert (code, out) == (
        0,
        f"{tmp_path / 'cord_sections.csv'}: 1 of 4 slices have cord\n"
        f"{tmp_path / 'cord_sections_regions.csv'}: mean cord in mm2: all 100.0\n",
    )
    assert err.endswith("the cord is marked in fewer than 2 slices; its direction is unknown\n")
    with open(tmp_path / "cord_sections.csv", newline="") as file:
        row = list(csv.DictReader(file))[2]
    assert (row["cord_angle_deg"], row["cord_perpendicular_mm2"]) == ("", "")
    assert (row["cord_area_mm2"], row["cord_rl_mm"]) == (
        "100.000",
        f"{4 * math.sqrt((20**2 - 1) / 12) / 2:.3f}",
    )


def test_the_cord_alone_is_measured_as_beside_gray_matter(run, tmp_path):
    subject = draw_subject(PhantomConfig(matrix_size=48, n_slices=4, levels=(5.0, 4.0)), seed=2)
    levels = np.zeros(subject.mask.shape, np.uint8)
    levels[:] = subject.levels
    nib.save(subject.mask, tmp_path / "a_gmseg.nii.gz")
    nib.save(subject.cord, tmp_path / "a_seg.nii.gz")
    nib.Nifti1Image(levels, subject.mask.affine).to_filename(tmp_path / "levels.nii.gz")
    both = ("areas", tmp_path / "a_gmseg.nii.gz", "--cord", tmp_path / "a_seg.nii.gz")
    levelled = ("--levels", tmp_path / "levels.nii.gz")
    assert run(*both, *levelled, "--output", tmp_path / "both.csv")[::2] == (0, "")
    assert run("areas", tmp_path / "a_seg.nii.gz", *levelled, "--output", tmp_path / "cord.csv")[::2] == (
        0,
        "",
    )
    for ending in (".csv", "_regions.csv"):
        tables = []
        for name in ("both", "cord"):
            with open(tmp_path / f"{name}{ending}", newline="") as file:
                tables.append(list(csv.DictReader(file)))
        for of_both, of_cord in zip(*tables, strict=True):
            gray = {name for name in of_cord if name.startswith(("gm_", "wm_", "area_"))}
            assert not any(of_cord[name] for name in gray)
            assert int(of_cord.pop("n_slices", 0)) == 0
            assert all(of_cord[name] == of_both[name] for name in of_cord.keys() - gray)
            assert of_cord["cord_area_mm2"]


def test_masks_that_are_not_gray_matter_are_refused_or_doubted(run, tmp_path):
    gray, cord = np.zeros((2, 40, 40, 4), np.uint8)
    cord[10:30, 10:30] = 1
    gray[16:24, 18:24] = 1
    masks = {
        "a_gmseg": gray,
        "a_wmseg": cord - gray,
        "a_seg": cord,
        "white": cord - gray,
        "whole": cord,
        "none": 0 * cord,
    }
    for name, mask in masks.items():
        nib.Nifti1Image(mask, np.diag([-0.5, 0.5, 2.0, 1.0])).to_filename(tmp_path / f"{name}.nii")

    def said(name, *options):
        code, _, err = run("areas", tmp_path / f"{name}.nii", "--force", *options)
        return code, err.removesuffix("\n")

    of_cord = ("--cord", tmp_path / "a_seg.nii")
    assert said("a_gmseg", *of_cord) == (0, "")
    assert said("a_wmseg", *of_cord) == (
        2,
        f"error: {tmp_path / 'a_wmseg.nii'}: named as white matter; give the gray matter, and the cord with --cord",
    )
    assert said("a_seg", *of_cord)[0] == 2
    assert run("areas")[0] == 2
    for name, options, doubts in (
        ("white", of_cord, ["gray matter of 88.0 mm2", "gray matter takes 88.0 % of the cord"]),
        ("whole", (), ["gray matter of 100.0 mm2 (median): anatomy allows 3.5 to 24 mm2"]),
        ("none", of_cord, ["no gray matter in the mask"]),
    ):
        code, err = said(name, *options)
        lines = [line.removeprefix(f"warning: {tmp_path / name}.nii: ") for line in err.splitlines()]
        assert code == 0
        assert [line[: len(doubt)] for line, doubt in zip(lines, doubts, strict=True)] == doubts


def test_masks_need_no_orientation_but_one_frame(run, tmp_path):
    gray, cord = np.zeros((2, 40, 40, 4), np.uint8)
    cord[10:30, 10:30] = 1
    gray[16:24, 18:24] = 1
    affine = np.diag([-0.5, 0.5, 2.0, 1.0])
    nib.Nifti1Image(gray, affine).to_filename(tmp_path / "gray.nii")
    plain = nib.Nifti1Image(cord, None)
    plain.header.set_zooms((0.5, 0.5, 2.0))
    plain.to_filename(tmp_path / "plain.nii")
    turned = nib.Nifti1Image(cord, affine)
    turned.set_qform(affine * [-1, 1, 1, 1], code=1)
    turned.to_filename(tmp_path / "turned.nii")
    nib.Nifti1Image(np.stack([cord] * 2, axis=3), affine).to_filename(tmp_path / "frames.nii")
    points = np.zeros_like(cord)
    points[20, 20, :3] = 1, 2, 3
    nib.Nifti1Image(points, affine).to_filename(tmp_path / "points.nii")
    assert run("areas", tmp_path / "gray.nii", "--cord", tmp_path / "plain.nii")[::2] == (0, "")
    code, _, err = run("areas", tmp_path / "gray.nii", "--cord", tmp_path / "turned.nii", "--force")
    assert code == 0
    assert err.startswith(f"warning: {tmp_path / 'turned.nii'}: qform and sform exchange left and right")
    for option, name, message in (
        ("--cord", "frames", "40 x 40 x 4 x 2 voxels; a mask has one frame, keep one"),
        ("--levels", "points", "one voxel of each number, points of discs and not levels"),
    ):
        code, _, err = run("areas", tmp_path / "gray.nii", option, tmp_path / f"{name}.nii", "--force")
        assert code == 2
        assert err.startswith(f"error: {tmp_path / name}.nii: {message}")
    code, _, err = run("areas", tmp_path / "plain.nii")
    assert code == 2
    assert "has an orientation" in err


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 4.0), (0.59, 0.63, 3.3)])
def test_areas_of_the_masks_of_a_result_are_its_table(spacing_mm, run, cord_network, tmp_path):
    x_mm, y_mm, z_mm = np.meshgrid(
        *(np.arange(n) * mm for n, mm in zip((140, 120, 5), spacing_mm, strict=True)), indexing="ij"
    )
    distance_mm = np.hypot(x_mm - 36, y_mm - 30 - 0.2 * z_mm)
    brightness = 100.0 + 100 * (distance_mm < 6) + 100 * (distance_mm < 2.5)
    noise = np.random.default_rng(0).normal(0, 1, brightness.shape)
    image = nib.Nifti1Image(
        (brightness + noise).astype(np.float32), np.diag([-1, 1, 1, 1] * np.array([*spacing_mm, 1]))
    )
    turned = image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    result = Segmenter(cord_network).segment(turned)
    nib.save(result.mask, tmp_path / "gm.nii.gz")
    nib.save(result.cord, tmp_path / "cord.nii.gz")
    write_areas(tmp_path / "result.csv", result.areas)
    code, _, err = run("areas", tmp_path / "gm.nii.gz", "--cord", tmp_path / "cord.nii.gz")
    assert (code, err) == (0, "")
    tables = []
    for name in ("result", "gm_sections"):
        with open(tmp_path / f"{name}.csv", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    columns = ("slice", "position_mm", "area_mm2", *TISSUE_COLUMNS)
    one, other = ([[row[name] for name in columns] for row in table] for table in tables)
    assert one == other
    assert all(cell for row in one for cell in row)


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


def test_the_command_takes_the_direction_from_a_centreline_and_the_interval_from_samples(run, tmp_path):
    """A column of gray matter that moves a voxel to the front from slice to slice, in a cord that stands upright."""
    gray, cord, middle = np.zeros((3, 40, 40, 8), np.uint8)
    cord[5:35, 5:35] = 1
    for k in range(8):
        gray[15:25, 10 + k : 18 + k, k] = 1
        middle[20, 14 + k, k] = 1
    wide = np.maximum(gray, np.roll(gray, 1, axis=0))
    for name, mask in (("gray", gray), ("cord", cord), ("middle", middle), ("wide", wide)):
        nib.Nifti1Image(mask, np.diag([-0.5, 0.5, 1.5, 1.0])).to_filename(tmp_path / f"{name}.nii")
    paths = {name: tmp_path / f"{name}.nii" for name in ("gray", "cord", "middle", "wide")}
    samples = ("--sample", paths["gray"], "--sample", paths["wide"])
    given = ("areas", paths["gray"], "--centreline", paths["middle"], *samples, "--force")
    angle_deg = math.degrees(math.atan2(0.5, 1.5))
    # Student's t at 97.5 % with 1 degree of freedom is 12.7062; the areas are 20 and 22 mm2.
    high_mm2 = 21 + 12.7062 * math.sqrt(2) * math.sqrt(3 / 2)
    for options in ((), ("--cord", paths["cord"])):
        assert run(*given, *options)[0] == 0
        with open(tmp_path / "gray_sections.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            assert float(row["cord_angle_deg"]) == pytest.approx(angle_deg, abs=0.5)
            assert float(row["gm_perpendicular_mm2"]) == pytest.approx(20 * 3 / math.sqrt(10), rel=0.005)
            assert (row["low_mm2"], float(row["high_mm2"])) == ("0.000", pytest.approx(high_mm2, abs=1e-2))
    code, _, err = run("areas", "--cord", paths["cord"], *samples)
    assert (code, err) == (2, "error: samples of the gray matter need the gray matter itself; give it, too\n")
