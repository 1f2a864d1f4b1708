"""The command `keras-scgm study`."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from study_data import read, save, write_bids

from keras_scgm.study.columns import MEASUREMENTS, WITH_SD

needs_ancpbids = pytest.mark.skipif(importlib.util.find_spec("ancpbids") is None, reason="no ancpbids")


@pytest.fixture
def weights(tmp_path, cord_network):
    path = tmp_path / "nested.keras"
    cord_network.save(path)
    return path


@pytest.fixture
def raw(tmp_path, nested_discs):
    folder = write_bids(tmp_path / "raw", [])
    for name in ("01", "02"):
        save(nested_discs()[0], folder / f"sub-{name}/anat/sub-{name}_T2star.nii.gz")
    return folder


@needs_ancpbids
def test_participants_by_label_with_levels_and_slices(run, raw, tmp_path, weights):
    shape = (160, 140, 5)
    for name in ("01", "02"):
        image = nib.load(raw / f"sub-{name}/anat/sub-{name}_T2star.nii.gz")
        levels = np.broadcast_to(np.array([4, 4, 3, 3, 2], np.uint8), shape)
        save(nib.Nifti1Image(levels.copy(), image.affine), raw / f"labels/sub-{name}.nii.gz")
    out = tmp_path / "out"
    arguments = ("study", raw, out, "participant", "--suffix", "T2star", "-w", weights, "--window", "center")
    chosen = ("--participant_label", "02", "--levels", "labels/{participant}.nii.gz", "--level-range", "2:3")
    code, text, _ = run(*arguments, *chosen, "--slices", "1:2", "--names", "sct")
    assert code == 0
    assert "1 segmented, 0 finished before, 0 failed, 0 other problems" in text
    rows = read(out / "summary.tsv")
    assert [row["region"] for row in rows] == ["all", "slices 1:2", "2", "3", "4", "2:3"]
    assert {row["participant_id"] for row in rows} == {"sub-02"}
    assert rows[0]["mask"].endswith("_gmseg.nii.gz")


def test_tables_that_a_study_reads_stay(run, raw, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    images, levels = out / "summary.tsv", out / "areas.tsv"
    images.write_text("image\nsub-01_T2star.nii.gz\n")
    levels.write_text("image\tslice\tlevel\n")
    before = {path: path.read_bytes() for path in out.iterdir()}
    for taken, *given in ((images, images), (levels, raw, "--level-table", levels)):
        code, _, err = run("study", given[0], out, "participant", *given[1:])
        assert (code, err) == (
            2,
            f"error: {taken}: the result would take the place of this input; give the output another name\n",
        )
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@needs_ancpbids
def test_a_frame_and_its_uncertainty(run, raw, tmp_path, weights):
    path = raw / "sub-01/anat/sub-01_T2star.nii.gz"
    image = nib.load(path)
    frames = np.stack([np.zeros(image.shape, np.float32), image.get_fdata(dtype=np.float32)], axis=3)
    save(nib.Nifti1Image(frames, image.affine), path)
    out = tmp_path / "out"
    arguments = ("study", raw, out, "participant", "--suffix", "T2star", "-w", weights, "--workers", "1")
    code, _, errors = run(*arguments, "--participant-label", "01")
    assert code == 2
    assert "study take --frame 0 to --frame 1" in errors
    code, text, _ = run(*arguments, "--participant-label", "01", "--frame", "1", "--uncertainty", "2")
    assert code == 0
    assert "1 segmented" in text
    (whole, *_) = read(out / "summary.tsv")
    assert float(whole["area_mm2"]) > 0
    assert float(whole["uncertainty"]) >= 0
    maps = nib.load(out / "sub-01/anat/sub-01_label-GM_desc-uncertainty_probseg.nii.gz")
    assert maps.shape == image.shape


def test_a_plain_folder_with_a_bad_image_ends_with_exit_code_2(run, tmp_path, weights, nested_discs):
    folder = tmp_path / "plain"
    save(nested_discs()[0], folder / "good.nii.gz")
    (folder / "bad.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    code, text, errors = run("study", folder, out, "participant", "-w", weights, "--workers", "1")
    assert code == 2
    assert "1 segmented, 0 finished before, 1 failed" in text
    assert text.startswith("[2/2] ")
    assert "bad.nii.gz" in errors
    assert "Traceback" not in errors
    assert {row["participant_id"]: row["status"] for row in read(out / "summary.tsv")}["sub-bad"] == "failed"


@needs_ancpbids
def test_a_study_with_missing_images_has_statistics_and_a_page(run, raw, tmp_path, weights):
    for package in ("jinja2", "pingouin", "skimage", "yaml"):
        pytest.importorskip(package, reason="needs the extra 'study'")
    (raw / "participants.tsv").write_text("participant_id\n01\n02\n03\n04\n")
    out = tmp_path / "out"
    arguments = ("--suffix", "T2star", "-w", weights, "--window", "center", "--workers", "1")
    code, text, _ = run("study", raw, out, "participant", *arguments)
    assert code == 2
    assert "2 segmented, 0 finished before, 0 failed, 2 other problems" in text
    code, _, errors = run("study", raw, out, "group")
    assert (code, errors) == (0, "")
    text, page = (out / "group" / "group.md").read_text(), (out / "quality.html").read_text()
    assert "2 participants, 2 images" in text
    assert "Left out: 0 marked by a person, 0 not segmented, 2 without an image." in text
    for name in ("sub-03", "sub-04"):
        reason = "in participants.tsv, but there is no image of this participant"
        assert f"- {name}: {reason}" in text
        assert (
            f'<section class="case"><h2>{name}</h2><p class="error">missing: {reason}</p></section>' in page
        )
    assert page.index(">sub-04<") < page.index('data-image="') < page.index('data-mark="')
    assert page.count('data-image="') == page.count('data-mark="pass"') == 2
    (raw / "participants.tsv").write_text("participant_id\tgroup\n01\tn/a\n02\tpatient\n03\tn/a\n05\tn/a\n")
    (raw / "participants.json").write_text("{}", encoding="utf-16")
    _, _, errors = run("study", raw, out, "group")
    undescribed = "not a text in UTF-8; save it as UTF-8; columns of participants.tsv have no description"
    reason = "participants.tsv and summary.tsv differ in 2 of the participants; run participant again"
    assert errors.splitlines() == [
        f"warning: {raw / 'participants.json'}: {undescribed}",
        f"warning: {out}: {reason}: sub-02, sub-05",
    ]
    _, _, errors = run("study", raw, out, "participant", *arguments)
    assert f"warning: {raw / 'participants.json'}: {undescribed}" in errors


@needs_ancpbids
@pytest.mark.parametrize("kind", ["bids", "plain", "list"])
def test_images_that_are_not_measured_yet_are_named(run, tmp_path, weights, nested_discs, kind):
    for package in ("jinja2", "pingouin", "skimage", "yaml"):
        pytest.importorskip(package, reason="needs the extra 'study'")
    folder = write_bids(tmp_path / "raw", []) if kind == "bids" else tmp_path / "raw"
    names = [
        f"sub-{name}/anat/sub-{name}_T2star.nii.gz" if kind == "bids" else f"{name}.nii.gz" for name in "123"
    ]
    images = tmp_path / "raw/list.txt" if kind == "list" else folder
    for name in names[:2]:
        save(nested_discs()[0], folder / name)
    (tmp_path / "raw/list.txt").write_text("\n".join(names[:2]))
    suffix = ("--suffix", "T2star") if kind == "bids" else ()
    out = tmp_path / "out"
    assert run("study", images, out, "participant", *suffix, "-w", weights, "--workers", "1")[0] == 0
    assert run("study", images, out, "group")[2] == ""
    save(nested_discs()[0], folder / names[2])
    (tmp_path / "raw/list.txt").write_text("\n".join(names))
    code, _, errors = run("study", images, out, "group")
    reason = "1 of the participants have images without a row in summary.tsv; run participant again"
    assert (code, errors) == (0, f"warning: {out}: {reason}, or give its --suffix here: sub-3\n")
    assert f"**Warning**: {reason}" in (out / "group/group.md").read_text(encoding="utf-8")
    for name in names:
        (folder / name).unlink()
    (tmp_path / "raw/list.txt").unlink()
    code, _, errors = run("study", folder, out, "group")
    assert (code, errors.count("\n")) == (0, 1)
    assert errors.startswith(f"warning: {out}: its images are not compared with summary.tsv: {folder}: no ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cohort"], "the third argument must be participant or group"),
        (["participant", "--level-range", "two"], "--level-range must be two whole numbers such as 2:3"),
        (["participant", "--engine", "slurm"], "--engine must be local or ray"),
        (["participant", "--cord", "mask.nii.gz"], "one mask cannot be that of all images"),
        (["participant", "--exclude", "qc.yml"], "--exclude belongs to group"),
        (
            ["group", "--participant-label", "01"],
            "--participant-label and --session-label belong to participant",
        ),
        (["participant"], "no such folder or list"),
        (["group"], "no results of a study in it; run participant first"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, tmp_path, arguments, message):
    code, _, errors = run("study", tmp_path / "none", tmp_path / "out", *arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


KILLED = """
import sys
from pathlib import Path
from keras_scgm.cohort import OutputConfig, run_on_cores
from keras_scgm.segmentation import SegmentationConfig
from keras_scgm.study import read_folder, run_study

def run(jobs):
    settings, output = SegmentationConfig(window="center"), OutputConfig(resume=True)
    for outcome in run_on_cores([sys.argv[3]], settings, jobs, output, 2):
        print(outcome.status, outcome.pid, flush=True)
        yield outcome

if __name__ == "__main__":
    run_study(read_folder(Path(sys.argv[1])), Path(sys.argv[2]), run)
"""


def test_killed_in_the_middle_and_resumed_every_image_once(tmp_path, weights, nested_discs):
    folder, out, script = tmp_path / "plain", tmp_path / "out", tmp_path / "killed.py"
    image = nested_discs()[0]
    for number in range(8):
        save(image, folder / f"image{number}.nii.gz")
    script.write_text(KILLED)
    command = [sys.executable, script, folder, out, weights]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = [first.stdout.readline().split() for _ in range(2)]
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    assert [status for status, _ in lines] == ["segmented"] * 2
    workers = {int(pid) for _, pid in lines}
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    records = sorted(out.rglob("*_label-GM_mask.json"))
    stamps = {path: path.stat().st_mtime_ns for path in records}
    assert 2 <= len(records) < 8
    second = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    skipped = second[::2].count("skipped")
    # A record whose other files a worker could not write any more is no finished result.
    assert max(2, len(records) - len(workers)) <= skipped <= len(records)
    assert second[::2].count("segmented") == 8 - skipped
    assert sum(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()) == skipped
    rows = [row for row in read(out / "summary.tsv") if row["region"] == "all"]
    assert len({row["image"] for row in rows}) == len(rows) == 8
    assert {row["status"] for row in rows} == {"segmented"}
    assert not list(out.rglob(".keras_scgm_*"))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process without a parent that waits for it stays as a zombie in some containers.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@needs_ancpbids
def test_the_summary_of_a_real_volume_is_what_numpy_finds_in_its_masks(run, reference, tmp_path):
    """Five slices of a real volume with the default weights."""
    given = nib.load(reference / "multisite" / "9584_scan.nii.gz")
    raw = write_bids(tmp_path / "raw", [])
    save(given.slicer[:, :, 6:11], raw / "sub-9584/anat/sub-9584_T2starw.nii.gz")
    out = tmp_path / "out"
    code, *_ = run("study", raw, out, "participant", "--slices", "1:3")
    assert code == 0
    voxel_mm2 = np.linalg.norm(np.cross(*given.affine[:3, :2].T))
    anat = out / "sub-9584/anat"
    areas_mm2 = {
        label: np.count_nonzero(
            np.asarray(nib.load(anat / f"sub-9584_label-{label}_mask.nii.gz").dataobj), (0, 1)
        )
        * voxel_mm2
        for label in ("GM", "WM", "SC")
    }
    rows = {row["region"]: row for row in read(out / "summary.tsv")}
    columns = {"area_mm2": "GM", "wm_area_mm2": "WM", "cord_area_mm2": "SC"}
    for region, members in (("all", slice(0, 5)), ("slices 1:3", slice(1, 4))):
        for column, label in columns.items():
            values = areas_mm2[label][members]
            assert float(rows[region][column]) == pytest.approx(values.mean(), abs=1e-6)
            assert float(rows[region][f"{column}_sd"]) == pytest.approx(values.std(), abs=1e-6)
    slices, summary = (pd.read_csv(out / f"{name}.tsv", sep="\t") for name in ("areas", "summary"))
    whole = summary[summary["region"] == "all"].iloc[0]
    for name in MEASUREMENTS:
        counted = slices[slices["cord_area_mm2" if name.startswith("cord_") else "area_mm2"] > 0][name]
        expected = counted.sum() if name == "n_voxels" else counted.mean()
        assert whole[name] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        if name in WITH_SD:
            assert whole[f"{name}_sd"] == pytest.approx(counted.std(ddof=0), abs=1e-6)
    assert rows["all"]["spacing_mm"].startswith("0.4167 x 0.4167 x 3")
    assert json.loads((anat / "sub-9584_label-GM_mask.json").read_text())["weights"][0]["name"] == "synthetic"
