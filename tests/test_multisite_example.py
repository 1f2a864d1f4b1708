"""The multi-site table against scores computed by hand."""

import csv
import json
import math
import runpy
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError, Segmenter
from keras_scgm.dice import dice

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "multisite.py"), run_name="multisite")
SPACING_MM = (0.5, 0.5, 4.0)


@pytest.fixture(scope="module")
def segmenter(cord_network: keras.Model) -> Segmenter:
    return Segmenter(cord_network)


def discs(gray_mm, cord_mm):
    x_mm, y_mm = (np.arange(n) * 0.5 for n in (140, 120))
    distance = np.hypot(x_mm[:, None] - 36, y_mm - 30)
    return [np.repeat((distance < radius)[..., None], 5, axis=2) for radius in (gray_mm, cord_mm)]


def write(folder, name, voxels, affine=None):
    affine = np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")


def write_scan(folder, name, gray, cord):
    noise = np.random.default_rng(0).normal(0, 1, gray.shape)
    write(folder, name, (100 + 100 * cord + 100 * gray + noise).astype(np.float32))


@pytest.fixture
def folder(tmp_path):
    """A volume with both masks and a rescan, and one with neither; masks end in the slice before the last."""
    gray, cord = discs(2.5, 6.0)
    write_scan(tmp_path, "a_scan", gray, cord)
    write_scan(tmp_path, "a_rescan", *discs(2.8, 6.5))
    write_scan(tmp_path, "b_scan", gray, cord)
    for name, radius_mm in (("gm", 2.0), ("cord", 5.0)):
        label = discs(radius_mm, radius_mm)[0].astype(np.uint8)
        label[..., 4] = 0
        if name == "gm":
            label[..., 1] = discs(1.5, 1.5)[0][..., 0]
        write(tmp_path, f"a_{name}", label)
    return tmp_path


def test_scores_of_a_folder(folder, segmenter):
    one, other = EXAMPLE["read_cases"](folder)
    assert (one.name, one.rescan.name, one.cord.name) == ("a", "a_rescan.nii.gz", "a_cord.nii.gz")
    assert (other.name, other.rescan, other.gm, other.cord) == ("b", None, None, None)
    gray, cord = EXAMPLE["case_rows"](one, "w", segmenter)
    found = segmenter.segment(one.volume)
    for row, voxels, label in (
        (gray, found.mask_voxels, "a_gm"),
        (cord, found.cord_voxels, "a_cord"),
    ):
        mask, truth = voxels > 0, np.asarray(nib.load(folder / f"{label}.nii.gz").dataobj) > 0
        labelled = slice(0, 4)
        assert row.dsc == pytest.approx(dice(mask[..., labelled], truth[..., labelled]))
        assert row.area_bias_percent == pytest.approx(100 * (mask[..., labelled].sum() / truth.sum() - 1))
        assert row.worst_slice == pytest.approx(min(dice(mask[..., k], truth[..., k]) for k in range(4)))
        assert row.area_mm2 == pytest.approx(mask[..., 0].sum() * 0.25)
    # The radius of the gray matter is 1 mm larger than that of its label in slice 1, of the cord in all.
    assert (gray.hsd_mm, cord.hsd_mm) == pytest.approx((1.0, 1.0), abs=0.25)
    assert gray.slices_under_2_mm_percent == cord.slices_under_2_mm_percent == 100
    areas = [voxels[..., 0].sum() for voxels in discs(2.5, 6.0) + discs(2.8, 6.5)]
    for row, pair in ((gray, areas[::2]), (cord, areas[1::2])):
        assert row.cov_percent == pytest.approx(100 * np.std(pair, ddof=1) / np.mean(pair))
    assert gray.outside_cord == 0
    assert math.isnan(cord.outside_cord)
    unknown = EXAMPLE["case_rows"](other, "w", segmenter)[0]
    assert [unknown.dsc, unknown.cov_percent, unknown.outside_cord] == pytest.approx(
        [math.nan] * 3, nan_ok=True
    )


def test_slices_in_which_nothing_was_found_are_not_under_2_mm(folder, segmenter):
    """Of five labelled slices, the contour is 3.5 mm off in one, and in one nothing is found."""
    gray, cord = discs(2.5, 6.0)
    for tissue in (gray, cord):
        tissue[..., 4] = False
    write_scan(folder, "a_scan", gray, cord)
    label = discs(6.0, 6.0)[0].astype(np.uint8)
    label[..., 0] = discs(9.5, 9.5)[0][..., 0]
    write(folder, "a_cord", label)
    _, row = EXAMPLE["case_rows"](EXAMPLE["read_cases"](folder)[0], "w", segmenter)
    assert row.slices_under_2_mm_percent == pytest.approx(60)
    assert row.worst_slice == 0


def test_gray_matter_outside_a_labelled_cord_is_counted(folder, segmenter):
    label = discs(1.0, 1.0)[0].astype(np.uint8)
    label[..., 4] = 0
    write(folder, "a_cord", label)
    gray, _ = EXAMPLE["case_rows"](EXAMPLE["read_cases"](folder)[0], "w", segmenter)
    inside, outside = discs(1.0, 1.0)[0][..., 0].sum(), discs(2.5, 2.5)[0][..., 0].sum()
    assert gray.outside_cord == 4 * (outside - inside)


def test_a_folder_may_be_relative(folder, monkeypatch):
    absolute = EXAMPLE["read_cases"](folder)
    monkeypatch.chdir(folder.parent)
    relative = EXAMPLE["read_cases"](Path(folder.name))
    assert [case.volume.resolve() for case in relative] == [case.volume.resolve() for case in absolute]
    assert all(case.volume.exists() for case in relative)


def test_files_need_not_be_compressed(folder):
    for name in ("a_scan", "a_gm"):
        nib.save(nib.load(folder / f"{name}.nii.gz"), folder / f"{name}.nii")
        (folder / f"{name}.nii.gz").unlink()
    case, _ = EXAMPLE["read_cases"](folder)
    assert (case.name, case.volume.name, case.gm.name, case.cord.name) == (
        "a", "a_scan.nii", "a_gm.nii", "a_cord.nii.gz",
    )  # fmt: skip


def test_lists_name_the_files(folder):
    entry = {"volume": "a_scan.nii.gz", "cord": "a_cord.nii.gz", "rescan": "", "note": "by hand"}
    (folder / "list.json").write_text(json.dumps([entry]))
    # As Excel writes it.
    with open(folder / "list.csv", "w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, entry)
        table.writeheader()
        table.writerow(entry)
    for suffix in ("json", "csv"):
        (case,) = EXAMPLE["read_cases"](folder / f"list.{suffix}")
        assert (case.name, case.note) == ("a", "by hand")
        assert (case.volume, case.cord) == (folder / "a_scan.nii.gz", folder / "a_cord.nii.gz")
        assert (case.rescan, case.gm) == (None, None)


def test_bad_lists_and_masks_are_refused(folder, segmenter, tmp_path):
    (folder / "list.json").write_text(json.dumps([{"image": "a_scan.nii.gz"}]))
    with pytest.raises(InputError, match="an entry has volume, and may have rescan"):
        EXAMPLE["read_cases"](folder / "list.json")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no volumes; a folder needs NAME_scan"):
        EXAMPLE["read_cases"](folder / "empty")
    for name, text in (("c.csv", b"\xff\xfe\x00"), ("d.json", b"{"), ("nowhere.csv", None)):
        if text is not None:
            (folder / name).write_bytes(text)
        with pytest.raises(InputError, match=f"{name}: neither a folder nor a CSV or JSON list"):
            EXAMPLE["read_cases"](folder / name)
    (folder / "e.json").write_text('{"volume": "a_scan.nii.gz"}')
    with pytest.raises(InputError, match="give a list of objects, one of each volume"):
        EXAMPLE["read_cases"](folder / "e.json")
    write(folder, "a_gm", np.zeros((140, 120, 5), np.uint8))
    with pytest.raises(InputError, match=r"a_gm.nii.gz: no voxel is marked; mend the mask"):
        EXAMPLE["case_rows"](EXAMPLE["read_cases"](folder)[0], "w", segmenter)
    write(folder, "a_gm", np.ones((140, 120, 4), np.uint8))
    with pytest.raises(InputError, match=r"a_gm.nii.gz: not on the grid of .*a_scan.nii.gz"):
        EXAMPLE["case_rows"](EXAMPLE["read_cases"](folder)[0], "w", segmenter)


def test_the_summary_is_of_all_volumes():
    rows = [
        EXAMPLE["Row"]("a", "cord", "w", dsc=0.9, worst_slice=0.5, cov_percent=3.0, outside_cord=2),
        EXAMPLE["Row"]("b", "cord", "w", dsc=0.8, worst_slice=0.7, cov_percent=4.0, outside_cord=1),
        EXAMPLE["Row"]("c", "cord", "w"),
    ]
    (summary,) = EXAMPLE["summary_rows"](rows)
    assert (summary.volume, summary.worst_slice, summary.outside_cord) == ("all 3", 0.5, 3)
    assert (summary.dsc, summary.cov_percent) == pytest.approx((0.85, math.sqrt(12.5)))
    assert summary.note == "of 2: DSC, worst slice, voxels outside the cord, CoV (%)"
    table = EXAMPLE["markdown"]([summary]).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| all 3 | cord | w | 0.850 |  | 0.500 |")


def test_the_summary_says_what_is_known_in_fewer_volumes():
    rows = [
        EXAMPLE["Row"](name, "cord", "w", dsc=dsc, hsd_mm=hsd_mm, area_mm2=80.0, note="by hand")
        for name, dsc, hsd_mm in (("a", 0.9, 0.5), ("b", 0.8, math.nan), ("c", math.nan, math.nan))
    ]
    assert EXAMPLE["summary_rows"](rows)[0].note == "of 2: DSC; of 1: HSD (mm)"
    assert EXAMPLE["summary_rows"](rows[:1])[0].note == ""
