"""Small real inputs that are wrong or doubtful in one way each: none of them passes without a word."""

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError, Segmenter
from keras_scgm.dice import dice
from keras_scgm.quality.verdicts import EXCHANGED

NETWORKS = ("synthetic", "challenge", "large")

pytestmark = pytest.mark.usefixtures("published_weights")


@pytest.fixture(scope="module")
def failing(reference):
    return reference / "failing"


@pytest.mark.parametrize("weights", NETWORKS)
def test_a_sound_image_passes_without_a_warning(failing, weights):
    result = Segmenter(weights).segment(failing / "base.nii.gz")
    truth = np.asarray(nib.load(failing / "base_reference_gm.nii.gz").dataobj) > 0
    mask = np.asarray(result.mask_voxels) > 0
    assert dice(mask, truth) > 0.91
    assert result.quality.verdict == "pass"
    assert result.quality.reason == ""
    assert result.warnings == ()


@pytest.mark.parametrize("weights", NETWORKS)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t2_sagittal_1mm", "predicted DSC"),
        ("ap_flipped_header", EXCHANGED),
        ("inplane_x1.4", "check the voxel spacing"),
        ("sform_scaled", "the sform counts and areas follow it"),
        ("qsform_lrflip", "qform and sform exchange left and right"),
        ("mton_36_10", "predicted DSC"),
    ],
)
def test_what_cannot_be_right_warns_and_never_passes(failing, weights, name, text):
    result = Segmenter(weights).segment(failing / f"{name}.nii.gz")
    assert result.quality.verdict in ("review", "fail")
    assert any(text in warning for warning in result.warnings)
    assert result.quality.reason
    assert any(result.quality.reason in warning for warning in result.warnings)
    assert result.record["quality"]["reason"] == result.quality.reason
    assert result.record["warnings"] == list(result.warnings)
    assert all((area.verdict == "pass") == (area.warning == "") for area in result.areas)
    assert all((one.verdict == "pass") == (one.reason == "") for one in result.quality.slices)


def test_both_spacings_are_named(failing):
    (warning,) = (
        text for text in Segmenter().segment(failing / "sform_scaled.nii.gz").warnings if "sform" in text
    )
    assert "0.5 x 0.5" in warning
    assert "0.703 x 0.703" in warning


def test_a_mask_given_as_the_image_is_refused(failing, tmp_path, run):
    code, out, err = run("segment", failing / "mask_as_input.nii.gz", "--output", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "mask_as_input.nii.gz" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_upper_case_suffix_is_found_in_a_folder(failing, tmp_path, run):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "UPPER.NII.GZ").symlink_to(failing / "UPPER.NII.GZ")
    code, _, err = run("segment", folder, "--output", tmp_path / "results")
    assert code == 0
    assert "error" not in err
    assert "warning" not in err
    assert (tmp_path / "results" / "UPPER_gmseg.nii.gz").is_file()


def test_values_that_overflow_are_one_line(failing, tmp_path, run):
    with pytest.raises(InputError, match=r"float64_1e300\.nii\.gz"):
        Segmenter().segment(failing / "float64_1e300.nii.gz")
    code, out, err = run("segment", failing / "float64_1e300.nii.gz", "--output", tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fail_on", "expected"),
    [
        ("base", "review", 0),
        ("base", None, 0),
        ("mton_36_10", None, 0),
        ("mton_36_10", "review", 3),
        ("mton_36_10", "fail", 0),
    ],
)
def test_a_script_can_react_to_the_verdict(failing, tmp_path, run, name, fail_on, expected):
    options = ("--fail-on", fail_on) if fail_on else ()
    command = ("segment", failing / f"{name}.nii.gz", "--output", tmp_path, *options)
    assert run(*command)[0] == expected
    code, out, _ = run(*command, "--resume")
    assert code == expected
    assert "finished before" in out


def test_an_empty_mask_fails_and_a_bad_file_counts_more(tmp_path, run, failing):
    noise = np.random.default_rng(0).normal(100, 10, (60, 60, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.diag([-0.7, 0.7, 5, 1])), tmp_path / "noise.nii.gz")
    results = ("--output", tmp_path / "results")
    code, _, err = run("segment", tmp_path / "noise.nii.gz", *results)
    assert code == 0
    assert "the cord could not be located" in err
    assert run("segment", tmp_path / "noise.nii.gz", *results, "--force", "--fail-on", "fail")[0] == 3
    both = (tmp_path / "noise.nii.gz", failing / "mask_as_input.nii.gz")
    assert run("segment", *both, *results, "--force", "--fail-on", "fail")[0] == 2
    code, _, err = run("segment", tmp_path / "noise.nii.gz", *results, "--fail-on", "pass")
    assert (code, err) == (2, "error: --fail-on must be review or fail, received 'pass'\n")
