"""The command: files, options, messages and exit codes."""

import csv
import json
import os
import subprocess
import sys
from statistics import fmean

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import segment

CONSOLE_SCRIPT = "from keras_scgm_cli.entry import main; main()"


@pytest.fixture
def images(tmp_path, blob_image):
    """in/a.nii.gz, in/deep/b.nii and a file that is no image."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    blob_image().to_filename(tmp_path / "in" / "a.nii.gz")
    blob_image(center_mm=(45.0, 30.0)).to_filename(tmp_path / "in" / "deep" / "b.nii")
    (tmp_path / "in" / "notes.txt").write_text("hello")
    return tmp_path / "in"


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_file_beside_itself(run, images, weights):
    code, out, err = run("segment", images / "a.nii.gz", "-w", weights)
    assert (code, err) == (0, "")
    assert "a_gmseg.nii.gz: gray matter in 5 of 5 slices, mean " in out
    assert [name for name in names(images) if "gmseg" in name] == [
        "a_gmseg.json",
        "a_gmseg.nii.gz",
        "a_gmseg_area.csv",
        "a_gmseg_qc.png",
    ]
    record = json.loads((images / "a_gmseg.json").read_text())
    assert record["input"] == str(images / "a.nii.gz")
    assert len(record["input_sha256"]) == 64


def test_tissues_and_cord(run, tmp_path, nested_discs, cord_network):
    image, _, cord = nested_discs()
    image.to_filename(tmp_path / "a.nii.gz")
    nib.Nifti1Image(cord.astype(np.uint8), image.affine).to_filename(tmp_path / "manual.nii.gz")
    weights = tmp_path / "nested.keras"
    cord_network.save(weights)

    code, line, _ = run("segment", tmp_path / "a.nii.gz", "-w", weights)
    rows = list(csv.DictReader((tmp_path / "a_gmseg_area.csv").read_text().splitlines()))
    gray_mm2, cord_mm2 = (fmean(float(row[name]) for row in rows) for name in ("area_mm2", "cord_area_mm2"))
    assert code == 0
    assert f"gray matter in {len(rows)} of {len(rows)} slices, mean {gray_mm2:.1f} mm2, " in line
    assert f"; cord in {len(rows)}, mean {cord_mm2:.1f} mm2; predicted DSC " in line

    def written(*options):
        assert run("segment", tmp_path / "a.nii.gz", "-w", weights, "--force", *options)[0] == 0
        tissues = {"gmseg", "wmseg", "seg"}
        return {name for name in tissues if (tmp_path / f"a_{name}.nii.gz").exists()}

    assert written() == {"gmseg", "wmseg", "seg"}
    assert written("--tissues", "gm") == {"gmseg"}
    assert written("--cord", tmp_path / "manual.nii.gz") == {"gmseg", "wmseg"}
    assert written("--cord", "none") == {"gmseg"}
    for options, message in (
        (("--tissues", "wm"), "error: tissues must be one of all, gm, received 'wm'"),
        (("--cord", "our"), "error: cord must be 'auto', 'ours', 'none' or the path"),
        (("--cord", tmp_path / "no.nii"), f"error: {tmp_path}/no.nii: no such file; give a mask of the cord"),
    ):
        code, _, err = run("segment", tmp_path / "a.nii.gz", "-w", weights, *options)
        assert code == 2
        assert err.startswith(message)
        assert err.count("\n") == 1


def test_folders_keep_their_places_and_results_are_no_inputs(run, images, weights, tmp_path):
    code, out, _ = run("segment", images, "-w", weights, "-o", tmp_path / "out", "--uncertainty", 2)
    assert code == 0
    assert "2 segmented, 0 skipped, 0 failed" in out
    assert "deep/b_gmseg.nii.gz" in names(tmp_path / "out")
    assert "a_gmseg_uncertainty.nii.gz" in names(tmp_path / "out")
    code, out, err = run("segment", tmp_path / "out", "-w", weights)
    assert code == 2
    assert f"{tmp_path}/out: no image in it, only results (*_gmseg) and files named like labels" in err


def test_patterns_and_one_output_file(run, images, weights, tmp_path):
    code, *_ = run("segment", images / "**" / "b.*", "-w", weights, "-o", tmp_path / "mask.nii", "--soft")
    assert code == 0
    assert nib.load(tmp_path / "mask.nii").get_data_dtype() == np.float32
    assert (tmp_path / "mask_area.csv").is_file()
    code, _, err = run("segment", images, "-w", weights, "-o", tmp_path / "x.nii.gz")
    assert (code, err) == (
        2,
        f"error: {tmp_path}/x.nii.gz: one file cannot hold the results of 2 images; give a folder\n",
    )


def test_results_are_not_overwritten_and_resume_skips(run, images, weights):
    image = images / "a.nii.gz"
    assert run("segment", image, "-w", weights)[0] == 0
    before = (images / "a_gmseg.json").read_text()
    code, _, err = run("segment", image, "-w", weights)
    assert (code, err) == (2, f"error: {images}/a_gmseg.nii.gz: exists; replace it with --force\n")
    code, out, _ = run("segment", image, "-w", weights, "--resume")
    assert code == 0
    assert "finished before, skipped" in out
    assert (images / "a_gmseg.json").read_text() == before
    code, _, err = run("segment", image, "-w", weights, "--resume", "--mirror")
    assert code == 2
    assert "exists and was made in another way (other mirror); replace it with --force" in err
    assert run("segment", image, "-w", weights, "--mirror", "--force")[0] == 0
    assert json.loads((images / "a_gmseg.json").read_text())["settings"]["mirror"]


def test_a_result_never_takes_the_place_of_an_input(run, images, weights, nested_discs):
    image, cord = images / "a.nii.gz", images / "cord.nii.gz"
    nib.Nifti1Image(np.ones((160, 140, 5), np.uint8), nib.load(image).affine).to_filename(cord)
    link = images / "link.nii.gz"
    link.symlink_to(image)
    (images / "hard.nii.gz").hardlink_to(image)
    (images / "a_gmseg.nii.gz").write_bytes(image.read_bytes())
    before = {name: (images / name).read_bytes() for name in names(images)}
    for taken, place, given in (
        (image, image, ()),
        (image, images / "deep" / ".." / "a.nii.gz", ()),
        (link, image, ()),
        (link, link, ()),
        (image, images / "hard.nii.gz", ()),
        (cord, cord, ("--cord", cord)),
        (images / "a_gmseg.nii.gz", images, (images / "a_gmseg.nii.gz",)),
    ):
        named = image if given else taken
        code, _, err = run("segment", named, "-w", weights, "-o", place, "--force", *given)
        assert (code, err) == (
            2,
            f"error: {taken}: the result would take the place of this input; give the output another name\n",
        )
    assert {name: (images / name).read_bytes() for name in names(images)} == before


def test_a_bad_file_does_not_stop_the_others(run, images, weights):
    (images / "0.nii.gz").write_bytes(b"")
    before = names(images)
    code, out, err = run("segment", images, images / "none.nii", "-w", weights)
    assert code == 2
    assert "2 segmented, 0 skipped, 2 failed" in out
    assert err.splitlines() == [
        f"error: {images}/0.nii.gz: the file is empty; copy it again",
        f"error: {images}/none.nii: no such file; check the path",
    ]
    assert not [name for name in set(names(images)) - set(before) if name.startswith(("0", "none"))]


def test_inputs_that_would_share_a_result_are_refused(run, images, weights, blob_image):
    blob_image().to_filename(images / "a.nii")
    code, _, err = run("segment", images / "a.nii", images / "a.nii.gz", "-w", weights)
    assert code == 2
    assert "would both become" in err
    assert "a_gmseg.nii.gz" not in names(images)


def test_warnings_name_the_file(run, weights, tmp_path):
    nib.Nifti1Image(np.ones((80, 80, 2)), np.diag([-0.5, 0.5, 5, 1])).to_filename(tmp_path / "flat.nii")
    code, _, err = run("segment", tmp_path / "flat.nii", "-w", weights)
    assert code == 0
    assert f"warning: {tmp_path}/flat.nii: the image is constant" in err


def many_frames(path, blob_image):
    image = blob_image()
    nib.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 3, 3), image.affine).to_filename(path)


def test_frames_are_picked(run, weights, tmp_path, blob_image):
    many_frames(tmp_path / "f.nii", blob_image)
    code, _, err = run("segment", tmp_path / "f.nii", "-w", weights)
    assert code == 2
    assert (
        "3 frames of 160 x 140 x 5 voxels; save one of them, or their mean; segment and study take --frame 0 to "
        "--frame 2" in err
    )
    assert run("segment", tmp_path / "f.nii", "-w", weights, "--frame", 1)[0] == 0
    assert nib.load(tmp_path / "f_gmseg.nii.gz").shape == (160, 140, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "left"], "window must be 'auto', 'center' or two numbers in mm, received 'left'"),
        (["--window", "1,b"], "--window 1,b: give auto, center, or two numbers in mm such as 80,75"),
        (["--threshold", "3"], "threshold must be a number above 0 and below 1, received 3.0"),
        (["--uncertainty", "1"], "uncertainty_passes must be 0 or at least 2, received 1"),
        (["--binarize", "soft"], "binarize must be one of native, paper, received 'soft'"),
        (["--orientation", "XYZ"], "orientation 'XYZ' is not three axis codes"),
        (["-w", "nobody"], "unknown weights 'nobody'"),
        (["-w", "none.keras"], "none.keras: no such weights file"),
    ],
)
def test_wrong_options_are_one_line(run, images, arguments, message):
    before = names(images)
    code, out, err = run("segment", images / "a.nii.gz", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert names(images) == before


def test_damaged_weights_are_refused(run, images, reference, monkeypatch, tmp_path):
    good = (reference / "weights" / "challenge_model.hdf5").read_bytes()
    (tmp_path / "challenge_model.hdf5").write_bytes(good[:-1] + b"x")
    monkeypatch.setenv("KERAS_SCGM_HOME", str(tmp_path))
    code, _, err = run("segment", images / "a.nii.gz", "-w", "challenge")
    assert code == 2
    assert "9b44228ad2fd360930b9d7fc6957a4eb7acbfa8cf6a091d13a932f8e8815dd9e" in err
    assert len(err.splitlines()) == 1


def test_an_error_is_one_line_whatever_the_name_of_the_file(run):
    code, _, err = run("areas", "a\x1b[2J\nerror: b.nii.gz")
    assert code == 2
    assert err.startswith("error: a\\x1b[2J\\nerror: b.nii.gz: ")
    assert err.count("\n") == 1


def test_unwritable_output_folder(run, images, weights, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run("segment", images / "a.nii.gz", "-w", weights, "-o", tmp_path / "file" / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "cannot write there (Not a directory); choose another folder" in err


@pytest.mark.usefixtures("published_weights")
def test_weights_are_listed(run):
    code, out, _ = run("weights")
    assert code == 0
    assert "challenge  (DilatedGMNet, 32 filters, cached)" in out
    assert "large  (DilatedGMNet, 64 filters, cached)" in out
    assert "synthetic_unet  (UNet, bundled)" in out
    assert all(len(line) <= 210 for line in out.splitlines() if line.startswith("    data: "))
    assert "syringomyelia\n" in out


def test_demo_needs_no_download(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_SCGM_HOME", str(tmp_path / "empty"))
    code, out, _ = run("demo", tmp_path / "demo")
    assert code == 0
    assert float(out.split("DSC ")[1].split()[0]) > 0.75
    assert {"phantom_t2s.nii.gz", "phantom_t2s_gmseg.nii.gz", "phantom_t2s_gmseg_qc.png"} <= set(
        names(tmp_path / "demo")
    )


def test_phantom_writes_the_challenge_layout(run, tmp_path):
    code, out, _ = run("phantom", tmp_path / "drawn", "--subjects", 1, "--raters", 2, "--seed", 4)
    assert code == 0
    assert "4 subjects, 2 raters, seed 4" in out
    assert {"site1-sc01-image.nii.gz", "site4-sc01-mask-r2.nii.gz"} <= set(names(tmp_path / "drawn"))
    code, _, err = run("phantom", tmp_path / "drawn", "--subjects", 0)
    assert (code, len(err.splitlines())) == (2, 1)


def test_a_drawn_cohort_is_segmented_and_scored(run, tmp_path):
    drawn = tmp_path / "drawn"
    assert run("phantom", drawn, "--subjects", 1, "--raters", 2)[0] == 0
    code, _, err = run("phantom", drawn, "--subjects", 1)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "site1-sc01-image.nii.gz: exists; replace all subjects of the folder with --force" in err
    code, out, err = run("segment", drawn)
    assert code == 0, err
    assert "4 segmented, 0 skipped, 0 failed" in out
    assert f"{drawn}: 8 files left out, named like labels: site1-sc01-mask-r1.nii.gz, ..." in out
    code, out, err = run("evaluate", drawn, drawn, "--output", tmp_path / "tables")
    assert code == 0, err
    with (tmp_path / "tables" / "cases.csv").open() as file:
        scores = [float(row["DSC"]) for row in csv.DictReader(file)]
    assert len(scores) == 8
    assert min(scores) > 0.7


def test_augmentation_preview(run, tmp_path, reference):
    assert run("augment-preview", tmp_path / "a.png", "--augmentation", "strong")[0] == 0
    invivo = reference / "invivo"
    code, *_ = run(
        "augment-preview",
        tmp_path / "b.png",
        *("--image", invivo / "t2s_uncropped.nii.gz"),
        *("--mask", invivo / "t2s_uncropped_gmseg_manual.nii.gz"),
    )
    assert code == 0
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    (tmp_path / "t2s.nii.gz").write_bytes(b"the image")
    code, _, err = run("augment-preview", tmp_path / "t2s.nii.gz")
    assert (code, err) == (
        2,
        f"error: {tmp_path}/t2s.nii.gz: the picture is PNG; give a name ending in .png\n",
    )
    assert (tmp_path / "t2s.nii.gz").read_bytes() == b"the image"
    code, _, err = run("augment-preview", tmp_path / "c.png", "--label-value", 1)
    assert (code, err) == (2, "error: --label-value: for a mask only; give it with --mask\n")
    code, _, err = run("augment-preview", tmp_path / "c.png", "--augmentation", "none.json")
    assert code == 2
    assert "augmentation 'none.json' is neither a file nor one of" in err


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("keras_scgm ")


def test_fresh_process_prints_nothing_but_its_own_lines(images, weights, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", CONSOLE_SCRIPT, "segment", images / "a.nii.gz", "nothing.nii", "-w", weights],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: nothing.nii: no such file; check the path\n"
    assert len(done.stdout.splitlines()) == 2


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "keras_scgm", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("keras_scgm ")


def test_segmentation_does_not_wait_for_tensorflow_to_be_imported(phantom, tmp_path):
    image, mask = tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz"
    phantom.to_filename(image)
    code = (
        "import sys\nfrom keras_scgm_cli.main import app\n"
        f"app(['segment', {str(image)!r}, '-o', {str(mask)!r}], standalone_mode=False)\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    expected = np.asarray(segment(image).mask.dataobj)
    assert expected.any()
    np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), expected)


def test_help_does_not_wait_for_tensorflow():
    code = "import sys, keras_scgm_cli.main; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lines_are_printable_whatever_the_names_of_files(run, images, weights):
    """As in a terminal whose locale is in UTF-8; without one, Python writes bytes of names as they are."""
    image = images.rename(images.with_name("\x1b[2J\n\udcff")) / "a.nii.gz"
    shown = str(image).replace(image.parent.name, r"\x1b[2J\n\udcff")
    code, out, err = run("segment", image, images / "no.nii.gz", "-w", weights)
    assert (code, err.count("\n")) == (2, 1)
    assert out.startswith("[1/2] " + shown.replace(".nii.gz", "_gmseg.nii.gz: gray matter in 5 of 5 slices"))
    code, out, _ = run("areas", image.with_name("a_gmseg.nii.gz"))
    assert code == 0
    assert out.startswith(shown.replace(".nii.gz", "_gmseg_sections.csv: "))


def test_paths_may_begin_with_a_tilde(run, tmp_path, monkeypatch, nested_discs):
    """In `--output=~/areas.csv` and in keras_scgm.toml no shell replaces it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    image, mask, _ = nested_discs()
    nib.Nifti1Image(mask.astype(np.uint8), image.affine).to_filename(tmp_path / "a.nii.gz")
    code, out, err = run(
        "areas", "~/a.nii.gz", "--sample", "~/a.nii.gz", "--sample", "~/a.nii.gz", "--output=~/b.csv"
    )
    assert (code, out.partition(":")[0]) == (0, str(tmp_path / "b.csv")), err
    code, _, err = run("areas", "~no-such-user/a.nii.gz")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("backend", ["torch", "nothing"])
def test_a_backend_that_is_missing_is_one_line(backend):
    """In an environment without PyTorch; what stands in its place is found first and cannot be imported."""
    code = f"import sys; sys.modules['torch'] = None; {CONSOLE_SCRIPT}"
    command = (sys.executable, "-c", code, "areas", "no.nii.gz")
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: Keras cannot use its backend (")
    assert done.stderr.endswith("); install it, or set KERAS_BACKEND=tensorflow\n")


def test_exhausted_memory_is_one_line(run, images, weights, monkeypatch):
    def exhausted(*_, **__):
        np.empty(2**50)

    said = "not enough memory (Unable to allocate 8.00 PiB for "
    monkeypatch.setattr("keras_scgm.segmentation.Segmenter.segment", exhausted)
    monkeypatch.setattr("keras_scgm.datasets.phantom.write_challenge_dataset", exhausted)
    for command, place in (
        (("segment", images / "a.nii.gz", "-w", weights), f"{images / 'a.nii.gz'}: "),
        (("phantom", images / "drawn"), ""),
    ):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"error: {place}{said}")
