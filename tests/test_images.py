"""Folders of real studies: what is an image in them, and that nothing else is touched."""

import hashlib
import os
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError, segment
from keras_scgm.cohort import OutputConfig, SegmentationJob, do_job
from keras_scgm.datasets import AnnotatedVolume, Split, find_bids, find_challenge
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.errors import NotAnImageError
from keras_scgm.evaluation import evaluate, write_evaluation
from keras_scgm.images import LABEL_NAME, MAX_LABEL, check_is_image, find_images
from keras_scgm.nifti import volume_from_image
from keras_scgm.outputs import OutputPaths
from keras_scgm.segmentation import Segmenter

POINTERS = {
    "sub-04/anat/sub-04_T2starw.nii.gz": "/annex/objects/MD5E-s1234--0123456789abcdef.nii.gz\n",
    "sub-05/anat/sub-05_T2starw.nii.gz": "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 12\n",
    # A link where the file system knows none.
    "sub-06/anat/sub-06_T2starw.nii": "../../.git/annex/objects/aB/cD/MD5E-s1--00.nii/MD5E-s1--00.nii",
}


@pytest.fixture
def small(blob_image):
    """An image of two slices, and a mask of it."""
    image = blob_image(shape=(64, 64, 2), radius_mm=2.0)
    return image, nib.Nifti1Image((np.asarray(image.dataobj) > 200).astype(np.uint8), image.affine)


@pytest.fixture
def study(tmp_path, small):
    """A data set as DataLad has it: links into the annex, some without content, labels, derivatives."""
    image, mask = small
    labels = nib.Nifti1Image(
        np.broadcast_to((np.arange(64) // 8)[:, None, None], (64, 64, 2)).astype(np.float32), image.affine
    )
    folder = tmp_path / "study"
    stored = Path(".git/annex/objects/aB/cD/MD5E-s1--01.nii.gz/MD5E-s1--01.nii.gz")
    for name, content in {
        stored: image,
        "sub-01/anat/sub-01_T1w.nii.gz": image,
        "sub-02/anat/sub-02_T2starw.NII.GZ": image,
        "sub-02/anat/sub-02_T2starw_seg-manual.nii.gz": mask,
        "sub-02/anat/sub-02_dseg.nii.gz": labels,
        "sub-02/anat/sub-02_label-GM_mask.nii.gz": mask,
        "sub-02/anat/sub-02_levels.nii.gz": labels,
        "sub-02/anat/sub-02_T2starw_gm-r1.nii.gz": mask,
        ".datalad/environments/a.nii.gz": image,
        "derivatives/labels/sub-01/anat/sub-01_T2starw_gmseg.nii.gz": mask,
        "derivatives/resampled/sub-01/anat/sub-01_T2starw.nii.gz": image,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content.to_filename(folder / name)
    (folder / stored).chmod(0o444)
    for name in ("sub-01_T2starw.nii.gz", "sub-01_rec-again_T2starw.nii.gz"):
        (folder / "sub-01/anat" / name).symlink_to(Path("../..") / stored)
    for name, text in POINTERS.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    (folder / "sub-03/anat").mkdir(parents=True)
    (folder / "sub-03/anat/sub-03_T2starw.nii.gz").symlink_to(
        "../../.git/annex/objects/xX/yY/MD5E-s9--09.nii.gz/MD5E-s9--09.nii.gz"
    )
    (folder / "sub-03/anat/sub-03_circle_T2starw.nii.gz").symlink_to("sub-03_circle_T2starw.nii.gz")
    (folder / "sub-03/anat/sub-03_moved_T2starw.nii.gz").symlink_to("../elsewhere.nii.gz")
    for circle in ("again", "and-again", "sub-01/back"):
        (folder / circle).symlink_to(folder)
    (folder / "participants.tsv").write_text("participant_id\nsub-01\n")
    return folder


def state(folder: Path) -> dict[str, str]:
    """Every file, hidden ones too: where a link points, or what a file holds."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def results(*stems: str) -> set[str]:
    endings = (".json", ".nii.gz", "_area.csv", "_qc.png")
    return {f"{stem}_gmseg{ending}" for stem in stems for ending in endings}


def test_results_are_left_out_in_silence_and_other_cords_with_a_line(tmp_path, blob_image):
    for name in ("a.nii", "a_gmseg.nii", "a_wmseg.nii", "a_seg.nii", "b.nii", "b_seg.nii"):
        blob_image(shape=(20, 20, 2)).to_filename(tmp_path / name)
    found = find_images([tmp_path])
    assert [image.path.name for image in found.images] == ["a.nii", "b.nii"]
    assert found.notes == [f"{tmp_path}: 1 file left out, named like labels: b_seg.nii"]


def test_the_images_of_a_study_are_segmented_once_each_and_nothing_else_is_touched(run, study, weights):
    before = state(study)
    named = study / "sub-01/anat/sub-01_T1w.nii.gz"
    code, out, err = run("segment", named, study, f"{study}/", "-w", weights, "--window", "center")
    assert code == 2
    assert "4 segmented, 2 skipped, 6 failed" in out
    after = state(study)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == results(
        "sub-01/anat/sub-01_T1w",
        "sub-01/anat/sub-01_T2starw",
        "sub-01/anat/sub-01_rec-again_T2starw",
        "sub-02/anat/sub-02_T2starw",
    )
    anat = study / "sub-02/anat"
    lines = [re.sub(r"^\[\d+/\d+\] ", "", line) for line in out.splitlines()]
    assert (
        lines.count(f"{study}: 3 files left out, named like labels: sub-02_T2starw_seg-manual.nii.gz, ...")
        == 1
    )
    assert (
        f"{anat}/sub-02_T2starw_gm-r1.nii.gz: labels, not an image, it holds 2 values (0, 1); skipped"
        in lines
    )
    assert (
        f"{anat}/sub-02_levels.nii.gz: labels, not an image, it holds 8 values (0, 1, 2, 3, ...); skipped"
        in lines
    )
    annexed = (
        "its content is not here, git-annex has only a pointer to it; fetch it in its folder: datalad get"
    )
    assert err.splitlines() == [
        f"error: {study}/sub-03/anat/{line}"
        for line in (
            f"sub-03_T2starw.nii.gz: {annexed} sub-03_T2starw.nii.gz, or git annex get sub-03_T2starw.nii.gz",
            "sub-03_circle_T2starw.nii.gz: cannot be read (Too many levels of symbolic links); check the file and "
            "the disk",
            "sub-03_moved_T2starw.nii.gz: a link to ../elsewhere.nii.gz, which does not exist; copy the file there, "
            "or remove the link",
        )
    ] + [
        f"error: {study}/sub-04/anat/sub-04_T2starw.nii.gz: {annexed} sub-04_T2starw.nii.gz, or git annex get "
        "sub-04_T2starw.nii.gz",
        f"error: {study}/sub-05/anat/sub-05_T2starw.nii.gz: its content is not here, Git LFS has only a pointer to "
        "it; fetch it in its folder: git lfs pull --include=sub-05_T2starw.nii.gz",
        f"error: {study}/sub-06/anat/sub-06_T2starw.nii: {annexed} sub-06_T2starw.nii, or git annex get "
        "sub-06_T2starw.nii",
    ]


def test_suffix_and_pattern_choose(run, study, weights, tmp_path):
    def chosen(**options):
        return [str(image.path.relative_to(study)) for image in find_images([study], **options).images]

    assert "sub-01/anat/sub-01_T1w.nii.gz" not in chosen(suffix="T2starw")
    assert chosen(suffix="_T2starw", pattern="sub-0[12]/*") == [
        "sub-01/anat/sub-01_T2starw.nii.gz",
        "sub-01/anat/sub-01_rec-again_T2starw.nii.gz",
        "sub-02/anat/sub-02_T2starw.NII.GZ",
    ]
    assert chosen(pattern="*_T1w.NII.gz") == ["sub-01/anat/sub-01_T1w.nii.gz"]
    out = tmp_path / "out"
    code, *_ = run("segment", study, "-w", weights, "-o", out, "--suffix", "T2starw", "--pattern", "sub-02*")
    assert code == 0
    assert set(state(out)) == results("sub-02/anat/sub-02_T2starw")
    code, _, err = run("segment", study, "-w", weights, "--suffix", "T2w", "--pattern", "sub-09/*")
    assert code == 2
    wanted = "none of its 15 NIfTI files has the suffix T2w and pattern sub-09/*; check it, or the folder"
    assert err == f"error: {study}: {wanted}\n"
    code, _, err = run("segment", study / "sub-01/anat/sub-01_T1w.nii.gz", "--suffix", "T2w")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "suffix and pattern choose among the images of a folder" in err


def test_patterns_leave_derivatives_to_those_who_name_them_and_do_not_go_in_circles(study, monkeypatch):
    def found(pattern):
        return [str(image.path) for image in find_images([pattern]).images]

    monkeypatch.chdir(study)
    scans = ["sub-01_T1w.nii.gz", "sub-01_T2starw.nii.gz", "sub-01_rec-again_T2starw.nii.gz"]
    for pattern in ("**/sub-01*.nii.gz", "sub-*/anat/sub-01_*", "sub-01/**", "sub-?1/**/*01_*w.NII.gz"):
        assert found(pattern) == [f"sub-01/anat/{name}" for name in scans], pattern
    assert found("again/sub-0[12]/anat/sub-02*T2starw.nii.gz") == ["again/sub-02/anat/sub-02_T2starw.NII.GZ"]
    assert found(".datalad/**/*.nii.gz") == [".datalad/environments/a.nii.gz"]
    assert found("derivatives/**/*w.nii.gz") == ["derivatives/resampled/sub-01/anat/sub-01_T2starw.nii.gz"]
    assert find_images(["nowhere/*.nii"]).problems == [
        "nowhere/*.nii: no image matches this pattern; check the path"
    ]


def test_an_input_without_an_image_is_one_line_and_does_not_stop_the_others(run, small, weights, tmp_path):
    for name in ("full", "empty", "dicom", "pair"):
        (tmp_path / name).mkdir()
    small[0].to_filename(tmp_path / "full/a.nii.gz")
    (tmp_path / "dicom/IM0001").write_bytes(bytes(128) + b"DICM" + bytes(100))
    nib.Nifti1Pair(np.asarray(small[0].dataobj), small[0].affine).to_filename(tmp_path / "pair/b.img")
    shutil.copy(tmp_path / "dicom/IM0001", tmp_path / "slice.dcm")
    inputs = ["full", "empty", "dicom", "*.mgz", "slice.dcm", "pair/b.img", "pair/b.hdr", "pair"]
    code, out, err = run("segment", *(tmp_path / name for name in inputs), "-w", weights)
    assert code == 2
    assert "1 segmented, 0 skipped, 7 failed" in out
    assert set(err.splitlines()) == {
        f"error: {tmp_path}/{line}"
        for line in (
            "empty: no .nii or .nii.gz file in it; check the path",
            "dicom: holds DICOM images; give a folder for the converted images and the masks with --output",
            "*.mgz: no image matches this pattern; check the path",
            "slice.dcm: a DICOM file, not NIfTI; convert it, for example with dcm2niix",
            "pair/b.img: part of a .hdr/.img pair; convert the pair to a single .nii file",
            "pair/b.hdr: header of a .hdr/.img pair; convert it to a single .nii file",
            "pair: no .nii or .nii.gz file in it; it holds a .hdr/.img pair; convert it to a single .nii file",
        )
    }
    with pytest.raises(InputError, match=r"dicom: is a folder; it holds DICOM files; convert them"):
        segment(tmp_path / "dicom")


@pytest.mark.parametrize(
    ("stem", "is_label"),
    [
        *[
            (stem, True)
            for stem in ("a_seg", "a_gmseg-manual", "A_GMSEG_rater1", "seg", "a_dseg", "a_probseg")
        ],
        *[
            (stem, True)
            for stem in ("a_wmseg2", "a_softseg", "a_segmentation", "site1-sc01-mask-r1", "a_labels-disc")
        ],
        *[(stem, True) for stem in ("sub-1_label-SC_mask", "cord_mask", "out_uncertainty")],
        *[
            (stem, False)
            for stem in ("sub-segal_T2star", "a_masked", "sub-1_acq-3seg_T2starw", "a_unlabelled", "a-r1")
        ],
    ],
)
def test_names_of_labels(stem, is_label):
    assert (LABEL_NAME.search(stem) is not None) == is_label


@pytest.mark.parametrize(
    ("voxels", "held"),
    [
        (np.array([0, 1]), r"2 values \(0, 1\)"),
        (np.array([0, 255]), r"2 values \(0, 255\)"),
        (np.array([0.0, 0.5]), r"2 values \(0, 0.5\)"),
        (np.array([0, 1, 2, 5, 24]), r"5 values \(0, 1, 2, 5, ...\)"),
        (np.arange(MAX_LABEL + 1), f"{MAX_LABEL + 1} values"),
        (np.array([7]), None),
        (np.arange(MAX_LABEL + 2), None),
        (np.array([32, 33, 34, 99, 100, 101]), None),
        (np.array([0.0, 0.5, 1.0]), None),
    ],
)
def test_few_values_are_labels(voxels, held):
    stored = np.repeat(np.resize(voxels, (40, 40, 1)), 3, axis=2).astype(np.float32)
    stored[..., 0] = voxels[0]
    volume = volume_from_image(nib.Nifti1Image(stored, np.diag([1.0, 1, 1, 1])))
    if held is None:
        check_is_image(volume)
    else:
        with pytest.raises(
            NotAnImageError, match=rf"image: labels, not an image, it holds {held}.*; give the image"
        ):
            check_is_image(volume)


def test_a_few_voxels_are_not_taken_for_labels():
    check_is_image(volume_from_image(nib.Nifti1Image(np.arange(3.0).reshape(1, 1, 3), np.eye(4))))


def test_labels_that_were_named_are_refused(run, reference, tmp_path, bright_network):
    mask = tmp_path / "scan.nii.gz"
    shutil.copy(reference / "failing/mask_as_input.nii.gz", mask)
    code, out, err = run("segment", tmp_path, mask)
    assert (code, out) == (2, "")
    assert err == f"error: {mask}: labels, not an image, it holds 2 values (0, 1); give the image itself\n"
    job = SegmentationJob(mask, OutputPaths.for_input(mask), is_named=False)
    assert do_job(Segmenter(bright_network), job, OutputConfig()).status == "skipped"
    with pytest.raises(NotAnImageError, match="labels, not an image"):
        segment(nib.load(mask), bright_network)
    assert list(tmp_path.iterdir()) == [mask]


def test_the_home_folder_may_be_a_tilde_in_python(tmp_path, monkeypatch, small, bright_network):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    image, mask = small
    image.to_filename("a.nii")
    mask.to_filename("a_gmseg.nii")
    assert segment("~/a.nii", bright_network).record["input"] == f"{tmp_path}/a.nii"
    assert [found.path for found in find_images(["~"]).images] == [tmp_path / "a.nii"]
    job = SegmentationJob(Path("~/a.nii"), OutputPaths.for_input(Path("~/a.nii"), Path("~/out")))
    assert do_job(Segmenter(bright_network), job, OutputConfig()).status == "segmented"
    assert (tmp_path / "out" / "a_gmseg.json").is_file()

    site = PhantomConfig(spacing_mm=0.5, matrix_size=40, n_slices=1)
    write_challenge_dataset("~/drawn", 1, raters=1, sites={1: site})
    (drawn,) = find_challenge("~/drawn")
    assert drawn.image == tmp_path / "drawn" / "site1-sc01-image.nii.gz"
    assert AnnotatedVolume(Path("~/a.nii"), (Path("~/b.nii"),), "1").masks == (tmp_path / "b.nii",)
    Split((drawn,), ()).write("~/split.json")
    assert Split.read("~/split.json").train == (drawn,)
    with pytest.raises(InputError, match=f"{tmp_path}/none: no such folder"):
        find_bids("~/none")

    result = evaluate("~/a_gmseg.nii", ["~/a_gmseg.nii"])
    assert result.scores[0].challenge["DSC"] == 1
    assert write_evaluation(result, "~/tables")[0].parent == tmp_path / "tables"
    bright_network.save("bright.keras")
    assert Segmenter("~/bright.keras").networks.cards[0].name == "bright"
    assert not (tmp_path / "~").exists()


def test_a_result_may_be_named_in_upper_case(run, small, weights, tmp_path):
    small[0].to_filename(tmp_path / "a.nii")
    code, *_ = run("segment", tmp_path / "a.nii", "-w", weights, "-o", tmp_path / "MASK.NII.GZ")
    assert code == 0
    assert set(state(tmp_path)) == {"a.nii", "MASK.NII.GZ", "MASK.json", "MASK_area.csv", "MASK_qc.png"}
    assert (tmp_path / "MASK.NII.GZ").read_bytes().startswith(b"\x1f\x8b")
    assert nib.load(tmp_path / "MASK.NII.GZ").shape == (64, 64, 2)
