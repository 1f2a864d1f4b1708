"""A study from images to tables, with a stand-in network."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from study_data import SPACING_MM, engine, level_map, read, save, write_bids

from keras_scgm import InputError
from keras_scgm.study import LevelConfig, StudyConfig, read_bids, read_list, run_study, write_study_tables
from keras_scgm.study.columns import AREA_COLUMNS, SUMMARY_COLUMNS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ancpbids") is None, reason="no ancpbids")

NAME = "sub-{0}/anat/sub-{0}_T2starw.nii.gz"


@pytest.fixture
def study_folder(tmp_path, nested_discs):
    """Two participants, gray matter of 2.5 and of 3 mm radius."""
    folder = write_bids(tmp_path / "raw", [])
    for name, radius_mm in (("01", 2.5), ("02", 3.0)):
        save(nested_discs(SPACING_MM, radius_mm)[0], folder / NAME.format(name))
    (folder / "sub-01/anat/sub-01_T2starw.json").write_text(
        json.dumps({"Manufacturer": "A", "ManufacturersModelName": "B", "MagneticFieldStrength": 3})
    )
    (folder / "participants.tsv").write_text("participant_id\tage\tmodel\nsub-01\t30\tx\nsub-02\t40\ty\n")
    (folder / "participants.json").write_text(json.dumps({"age": {"Units": "year"}}))
    return folder


def test_masks_sidecars_and_tables(study_folder, tmp_path, cord_network):
    output = tmp_path / "out"
    levels = StudyConfig(
        levels=LevelConfig(level_map="derivatives/labels/{folder}/{name}_levels.nii.gz"),
        level_ranges=((3, 4),),
    )
    for name in ("01", "02"):
        image = nib.load(study_folder / NAME.format(name))
        voxels = level_map(image.shape, [5, 4, 4, 3, 3])
        place = f"derivatives/labels/sub-{name}/anat/sub-{name}_T2starw_levels.nii.gz"
        save(nib.Nifti1Image(voxels, image.affine), study_folder / place)
    result = run_study(read_bids(study_folder), output, engine(cord_network), levels)
    assert result.counts == {"segmented": 2, "problems": 0}
    masks = {}
    for tissue in ("GM", "WM", "SC"):
        path = output / f"sub-01/anat/sub-01_label-{tissue}_mask.nii.gz"
        masks[tissue] = np.asarray(nib.load(path).dataobj)
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["Sources"] == [f"bids:raw:{NAME.format('01')}"]
    assert np.array_equal(masks["GM"] + masks["WM"], masks["SC"])
    assert (
        json.loads((output / "sub-01/anat/sub-01_label-GM_mask.json").read_text())["settings"]["window"]
        == "center"
    )
    assert (output / "sub-01/figures/sub-01_label-GM_qc.png").exists()
    assert json.loads((output / "dataset_description.json").read_text())["DatasetLinks"] == {"raw": "../raw"}

    areas = read(output / "areas.tsv")
    assert list(areas[0]) == list(AREA_COLUMNS)
    assert [row["level"] for row in areas[:5]] == ["5", "4", "4", "3", "3"]
    per_slice = masks["GM"].sum(axis=(0, 1)) * 0.25
    assert [float(row["area_mm2"]) for row in areas[:5]] == pytest.approx(per_slice)
    cord = masks["SC"].sum(axis=(0, 1)) * 0.25
    summary = read(output / "summary.tsv")
    assert list(summary[0]) == [*SUMMARY_COLUMNS, "age", "participants_model"]
    of_first = {row["region"]: row for row in summary if row["participant_id"] == "sub-01"}
    assert list(of_first) == ["all", "3", "4", "5", "3:4"]
    for region, members in (("all", slice(0, 5)), ("4", slice(1, 3)), ("3:4", slice(1, 5))):
        row = of_first[region]
        assert float(row["area_mm2"]) == pytest.approx(per_slice[members].mean(), abs=1e-6)
        assert float(row["area_mm2_sd"]) == pytest.approx(per_slice[members].std(), abs=1e-6)
        assert float(row["gm_cord_ratio"]) == pytest.approx((per_slice / cord)[members].mean(), abs=1e-6)
        assert float(row["cord_area_mm2"]) == pytest.approx(cord[members].mean(), abs=1e-6)
    row = of_first["all"]
    assert (row["manufacturer"], row["model"], row["field_strength_t"], row["age"]) == ("A", "B", "3", "30")
    assert row["participants_model"] == "x"
    assert (row["status"], row["error"], row["session_id"]) == ("segmented", "n/a", "n/a")
    assert row["mask"] == "sub-01/anat/sub-01_label-GM_mask.nii.gz"
    assert (row["spacing_mm"], row["settings"]) == ("0.5 x 0.5 x 4", "window center")
    assert json.loads((output / "summary.json").read_text())["age"] == {"Units": "year"}
    assert set(json.loads((output / "areas.json").read_text())) == set(AREA_COLUMNS)


@pytest.mark.parametrize("removed", [".", "sub-01", "dataset_description.json"])
def test_results_that_were_removed_meanwhile_are_missed(study_folder, tmp_path, cord_network, removed):
    output = tmp_path / "out"

    def run(jobs):
        first, *others = engine(cord_network)(jobs)
        yield first
        path = output / removed
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield from others

    with pytest.raises(InputError, match=f"{output}/.*was removed while the study ran; run participant"):
        run_study(read_bids(study_folder), output, run)
    assert not (output / "summary.tsv").exists()


def test_a_scanner_that_a_sidecar_does_not_tell_is_a_warning(study_folder, tmp_path, cord_network):
    damaged, wrong = (study_folder / NAME.format(name).replace("nii.gz", "json") for name in ("01", "02"))
    damaged.write_text('{"Manufacturer": "A"}', encoding="utf-16")
    wrong.write_text(
        json.dumps({"Manufacturer": "A", "ManufacturersModelName": ["B"], "MagneticFieldStrength": True})
    )
    run_study(read_bids(study_folder), tmp_path / "out", engine(cord_network))
    first, second = [row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "all"]
    assert (first["status"], first["manufacturer"], first["model"]) == ("segmented", "n/a", "n/a")
    assert f"scanner not known: {damaged}: not a text in UTF-8; save it as UTF-8" in first["warnings"]
    assert (second["manufacturer"], second["model"], second["field_strength_t"]) == ("A", "n/a", "n/a")
    for name, key in (("model", "ManufacturersModelName"), ("field_strength_t", "MagneticFieldStrength")):
        assert f"{name} not known: {key} of the sidecar is neither a text nor a number" in second["warnings"]


def test_another_order_of_storage_is_no_other_voxel_spacing(
    study_folder, tmp_path, cord_network, nested_discs
):
    image = nested_discs((0.5, 0.6, 4.0))[0]
    for name, order in (("01", "LAS"), ("02", "SRA")):
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(order))
        save(image.as_reoriented(turn), study_folder / NAME.format(name))
    run_study(read_bids(study_folder), tmp_path / "out", engine(cord_network))
    rows = [row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "all"]
    assert [row["spacing_mm"] for row in rows] == ["0.5 x 0.6 x 4"] * 2
    assert not any("others have" in row["warnings"] for row in rows)


def test_ranges_that_lack_a_level_are_named(study_folder, tmp_path, cord_network):
    first = nib.load(study_folder / NAME.format("01"))
    for name, levels in (("01", [4, 4, 3, 3, 2]), ("02", [5, 5, 4, 4, 3])):
        save(
            nib.Nifti1Image(level_map(first.shape, levels), first.affine),
            study_folder / f"l/sub-{name}.nii.gz",
        )
    config = StudyConfig(
        levels=LevelConfig(level_map="l/{participant}.nii.gz"), level_ranges=((2, 3), (6, 7)), slices=(0, 2)
    )
    run_study(read_bids(study_folder), tmp_path / "out", engine(cord_network), config)
    rows = [row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "2:3"]
    assert [row["levels"] for row in rows] == ["2, 3", "3"]
    lacking = "region {} has no gray matter at {}; the group's tables leave it out"
    assert lacking.format("2:3", "2") not in rows[0]["warnings"]
    assert lacking.format("2:3", "2") in rows[1]["warnings"]
    assert lacking.format("6:7", "any level") in rows[0]["warnings"]


def test_slices_left_out_for_their_verdicts_are_counted(study_folder, tmp_path, cord_network):
    out = tmp_path / "out"
    run_study(read_bids(study_folder), out, engine(cord_network))
    verdicts = [row["verdict"] for row in read(out / "areas.tsv") if row["participant_id"] == "sub-01"]
    (left_out,) = set(verdicts)
    config = StudyConfig(left_out=(left_out,))
    run_study(read_bids(study_folder), out, engine(cord_network), config)
    (whole, *_) = read(out / "summary.tsv")
    assert f"{len(verdicts)} of {len(verdicts)} slices left out for their verdicts" in whole["warnings"]
    assert (whole["n_slices"], whole["area_mm2"]) == ("0", "n/a")
    assert [
        row["verdict"] for row in read(out / "areas.tsv") if row["participant_id"] == "sub-01"
    ] == verdicts


def test_slices_counted_from_the_top_are_named(study_folder, tmp_path, cord_network):
    image = nib.load(study_folder / NAME.format("02"))
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt("LAI")))
    save(nib.Nifti1Image(np.array(turned.dataobj), turned.affine), study_folder / NAME.format("02"))
    run_study(read_bids(study_folder), tmp_path / "out", engine(cord_network), StudyConfig(slices=(0, 2)))
    rows = [row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "all"]
    assert ["begins at the top" in row["warnings"] for row in rows] == [False, True]


def test_everything_that_is_wrong_is_a_row_with_its_reason(
    study_folder, tmp_path, cord_network, nested_discs
):
    (study_folder / NAME.format("03")).parent.mkdir(parents=True)
    (study_folder / NAME.format("03")).write_bytes(b"no image")
    save(nested_discs((0.4, 0.4, 4.0))[0], study_folder / NAME.format("04"))
    (study_folder / "sub-05").mkdir()
    (study_folder / "participants.tsv").write_text(
        "participant_id\tage\nsub-01\t3\nsub-02\t4\nsub-03\t5\nsub-06\t6\n"
    )
    first = nib.load(study_folder / NAME.format("01"))
    save(nib.Nifti1Image(level_map(first.shape, [3] * 5), first.affine), study_folder / "l/sub-01.nii.gz")
    save(nib.Nifti1Image(level_map((4, 4, 5), [3] * 5), first.affine), study_folder / "l/sub-02.nii.gz")
    config = StudyConfig(levels=LevelConfig(level_map="l/{participant}.nii.gz"))
    result = run_study(read_bids(study_folder), tmp_path / "out", engine(cord_network), config)
    assert result.counts == {"segmented": 3, "failed": 1, "problems": 4}
    rows = {
        row["participant_id"]: row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "all"
    }
    assert {name: row["status"] for name, row in rows.items()} == {
        "sub-01": "segmented",
        "sub-02": "segmented",
        "sub-03": "failed",
        "sub-04": "segmented",
        "sub-05": "failed",
        "sub-06": "failed",
    }
    assert rows["sub-02"]["error"].startswith("no levels: l/sub-02.nii.gz: not on the grid of sub-02/anat/")
    assert rows["sub-04"]["error"] == "no levels: no level map l/sub-04.nii.gz"
    assert "sub-04 is not in participants.tsv" in rows["sub-04"]["warnings"]
    assert "voxels of 0.4 x 0.4 x 4 mm, others have 0.5 x 0.5 x 4 mm" in rows["sub-04"]["warnings"]
    assert "most images" not in rows["sub-01"]["warnings"]
    assert not rows["sub-03"]["error"].startswith("/")
    assert rows["sub-03"]["age"] == "5"
    assert rows["sub-05"]["error"] == "no image with the suffix T2starw"
    assert rows["sub-06"]["error"].startswith("in participants.tsv")


def test_columns_of_a_list_are_those_of_its_image(study_folder, tmp_path, cord_network):
    images = [study_folder / NAME.format(name) for name in ("01", "02")]
    rows = [f"{path}\t7\t{n}\t{age}" for n, (path, age) in enumerate(zip(images, (35, 40), strict=True))]
    (tmp_path / "list.tsv").write_text("\n".join(["image\tparticipant_id\tsession_id\tage", *rows]) + "\n")
    run_study(read_list(tmp_path / "list.tsv"), tmp_path / "out", engine(cord_network))
    summary = [row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "all"]
    assert [(row["participant_id"], row["session_id"], row["age"]) for row in summary] == [
        ("sub-7", "ses-0", "35"),
        ("sub-7", "ses-1", "40"),
    ]


def test_what_a_session_does_not_know_the_participant_may(study_folder, tmp_path, cord_network):
    study = read_bids(study_folder)
    image_columns = {NAME.format("01"): {"age": "n/a", "dose": "2"}, NAME.format("02"): {"age": "41"}}
    run_study(replace(study, image_columns=image_columns), tmp_path / "out", engine(cord_network))
    rows = {
        row["participant_id"]: row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "all"
    }
    assert [(row["age"], row["dose"]) for row in rows.values()] == [("30", "2"), ("41", "n/a")]


def test_finished_images_are_not_done_again_and_remnants_of_a_kill_are(study_folder, tmp_path, cord_network):
    output = tmp_path / "out"
    study, run = read_bids(study_folder), engine(cord_network)
    run_study(study, output, run)
    before = (output / "summary.tsv").read_bytes()
    assert run_study(study, output, run).counts == {"skipped": 2, "problems": 0}
    # As if it had been killed while the files of sub-01 took their places.
    mask = output / "sub-01/anat/sub-01_label-GM_mask.nii.gz"
    mask.with_name("sub-01_label-GM_mask.json").unlink()
    leftover = output / "sub-01/.keras_scgm_abc"
    leftover.mkdir()
    assert run_study(study, output, run).counts == {"skipped": 1, "segmented": 1, "problems": 0}
    assert not leftover.exists()
    assert (output / "summary.tsv").read_bytes() == before


def test_masks_edited_by_hand_are_in_the_tables_and_stay(study_folder, tmp_path, cord_network):
    output, study = tmp_path / "out", read_bids(study_folder)
    run_study(study, output, engine(cord_network))
    before = (output / "summary.tsv").read_bytes()
    mask = output / "sub-01/anat/sub-01_label-GM_mask.nii.gz"
    image = nib.load(mask)
    gray = np.asarray(image.dataobj).copy()
    gray[..., 4] = 0
    gray[: gray.shape[0] // 2, :, 2] = 0
    nib.save(nib.Nifti1Image(gray, image.affine), mask)
    assert run_study(study, output, engine(cord_network)).counts == {
        "segmented": 1,
        "skipped": 1,
        "problems": 0,
    }
    for force in (False, True):
        summary = {
            row["participant_id"]: row for row in read(output / "summary.tsv") if row["region"] == "all"
        }
        areas_mm2 = gray.sum(axis=(0, 1)) * SPACING_MM[0] * SPACING_MM[1]
        assert float(summary["sub-01"]["area_mm2"]) == pytest.approx(areas_mm2[:4].mean(), abs=1e-2)
        assert summary["sub-01"]["predicted_dsc"] == "n/a"
        assert summary["sub-01"]["verdict"] == "review"
        assert summary["sub-01"]["warnings"] == "masks edited by hand, not judged"
        assert "edited" not in summary["sub-02"]["warnings"]
        slices = [row for row in read(output / "areas.tsv") if row["participant_id"] == "sub-01"]
        assert [float(row["area_mm2"]) for row in slices] == pytest.approx(areas_mm2, abs=1e-2)
        manual = {
            tissue: json.loads(mask.with_name(f"sub-01_label-{tissue}_mask.json").read_text())["Manual"]
            for tissue in ("GM", "WM", "SC")
        }
        assert manual == {"GM": True, "WM": False, "SC": False}
        run_study(study, output, engine(cord_network, force=force))
    np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), gray)
    mask.unlink()
    assert run_study(study, output, engine(cord_network, force=True)).counts == {
        "segmented": 2,
        "problems": 0,
    }
    assert (output / "summary.tsv").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"\.(?=[0-9])", ",", "column [a-z0-9_]+ has '[0-9]+,[0-9]+', not a number"),
        (r"\t", ";", "no column"),
    ],
)
def test_tables_that_another_program_saved_are_named(study_folder, tmp_path, cord_network, old, new, message):
    output, study, run = tmp_path / "out", read_bids(study_folder), engine(cord_network)
    run_study(study, output, run)
    before = (output / "summary.tsv").read_bytes()
    for kind in ("summary", "areas"):
        path = output / f"sub-01/sub-01_{kind}.tsv"
        kept = path.read_text()
        path.write_text(re.sub(old, new, kept))
        with pytest.raises(InputError, match=f"sub-01_{kind}.tsv: .*; delete it and run participant again"):
            write_study_tables(output)
        path.write_text(kept)
    assert (output / "summary.tsv").read_bytes() == before
    path = output / "sub-01/anat/sub-01_areas.tsv"
    path.write_text(re.sub(old, new, path.read_text()))
    assert run_study(study, output, run).counts == {"skipped": 1, "failed": 1, "problems": 0}
    row = read(output / "summary.tsv")[0]
    assert row["status"] == "failed"
    assert re.search(f"sub-01_areas.tsv: {message}.*run participant --force", row["error"])
    assert run_study(study, output, engine(cord_network, force=True)).counts["segmented"] == 2
    assert (output / "summary.tsv").read_bytes() == before


def test_participants_of_several_runs_come_together(study_folder, tmp_path, cord_network):
    output, run = tmp_path / "out", engine(cord_network)
    study = read_bids(study_folder)
    for name in ("01", "02"):
        run_study(study, output, run, StudyConfig(participants=(name,)))
    apart = read(output / "summary.tsv")
    run_study(study, output, run)
    assert read(output / "summary.tsv") == apart
    assert {row["participant_id"] for row in apart} == {"sub-01", "sub-02"}
    shutil.rmtree(study_folder / "sub-02")
    (study_folder / "participants.tsv").unlink()
    run_study(read_bids(study_folder), output, run)
    assert {row["participant_id"] for row in read(output / "summary.tsv")} == {"sub-01"}


def test_rows_of_other_sessions_stay(tmp_path, nested_discs, cord_network):
    folder = write_bids(tmp_path / "raw", [])
    for session in "AB":
        save(nested_discs()[0], folder / f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T2starw.nii.gz")
    study = read_bids(folder)
    for session in "ABA":
        config = StudyConfig(sessions=(session,))
        run_study(study, tmp_path / "out", engine(cord_network), config)
    rows = [row for row in read(tmp_path / "out/summary.tsv") if row["region"] == "all"]
    assert [row["session_id"] for row in rows] == ["ses-A", "ses-B"]
    assert rows[1]["mask"] == "sub-01/ses-B/anat/sub-01_ses-B_label-GM_mask.nii.gz"


def test_names_of_the_spinal_cord_toolbox(study_folder, tmp_path, cord_network):
    output = tmp_path / "out"
    run_study(read_bids(study_folder), output, engine(cord_network), StudyConfig(names="sct"))
    for ending in ("gmseg", "wmseg", "seg"):
        assert (output / f"sub-01/anat/sub-01_T2starw_{ending}.nii.gz").exists()
    assert (output / "sub-01/figures/sub-01_T2starw_gmseg_qc.png").exists()
    assert read(output / "summary.tsv")[0]["mask"] == "sub-01/anat/sub-01_T2starw_gmseg.nii.gz"


def test_a_folder_of_something_else_is_refused(study_folder, tmp_path, cord_network):
    study, run = read_bids(study_folder), engine(cord_network)
    with pytest.raises(InputError, match="is the folder of the images"):
        run_study(study, study_folder, run)
    other = write_bids(tmp_path / "other", [])
    with pytest.raises(InputError, match="holds a data set that this program has not made"):
        run_study(study, other, run)
    assert [path.name for path in other.iterdir()] == ["dataset_description.json"]
    with pytest.raises(InputError, match="config must be a StudyConfig, received 'sct'"):
        run_study(study, tmp_path / "out", run, "sct")


def test_ranges_need_levels_and_an_order():
    with pytest.raises(InputError, match="ranges of levels need levels"):
        StudyConfig(level_ranges=((2, 3),))
    with pytest.raises(
        InputError, match="slices must be a first and a last number, such as 2:3, received '5:2'"
    ):
        StudyConfig(slices=(5, 2))
    with pytest.raises(InputError, match="names must be one of bids, sct"):
        StudyConfig(names="other")


@pytest.mark.skipif(importlib.util.find_spec("bids_validator_deno") is None, reason="no bids-validator-deno")
def test_the_validator_of_bids_accepts_the_results(study_folder, tmp_path, cord_network):
    output = tmp_path / "out"
    run_study(read_bids(study_folder), output, engine(cord_network))
    (output / "group").mkdir()
    (output / "group/group.md").write_text("text")
    (output / "quality.html").write_text("page")
    program = Path(sys.executable).with_name("bids-validator-deno")
    environment = {**os.environ, "NO_COLOR": "1"}
    checked = subprocess.run(
        [program, output, "--format", "json"], capture_output=True, text=True, env=environment, check=False
    )
    issues = json.loads(checked.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert checked.returncode == 0
