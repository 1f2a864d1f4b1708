"""`keras-scgm areas`: tables, warnings and refusals."""

import csv
import math

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from keras_scgm import InputError, Segmenter
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.morphometry import (
    TISSUE_COLUMNS,
)
from keras_scgm.outputs import write_areas
from keras_scgm_cli.main import app


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


def test_both_tables_are_written_or_none(run, tmp_path):
    mask, table, region_table = (
        tmp_path / name for name in ("a_gmseg.nii", "a_gmseg_sections.csv", "a_gmseg_sections_regions.csv")
    )
    gray = np.zeros((40, 40, 4), np.uint8)
    gray[16:24, 18:24] = 1
    nib.Nifti1Image(gray, np.diag([-0.5, 0.5, 2.0, 1.0])).to_filename(mask)
    table.write_text("of before")
    region_table.mkdir()
    code, out, err = run("areas", mask, "--force")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {region_table}: cannot be replaced (Is a directory); ")
    assert table.read_text() == "of before"
    region_table.rmdir()
    assert run("areas", mask, "--force")[0] == 0
    assert sorted(tmp_path.iterdir()) == [mask, table, region_table]


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
