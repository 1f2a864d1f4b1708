"""`keras-scgm segment` with folders of DICOM images: the mask of the NIfTI file, and a DICOM segmentation."""

import gzip
import io
import json
import os
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_images import affine_of, in_dicom_order, make_images, save
from pydicom.uid import generate_uid

from keras_scgm import segment
from keras_scgm.dicom.conversion import convert
from keras_scgm.dicom.folders import find_series
from keras_scgm.dicom.objects import SegmentedSeries, make_segmentation, on_grid_of
from keras_scgm.dicom.series import quiet, read_series
from keras_scgm.errors import InputError
from keras_scgm.nifti import holds_dicom

TISSUES = ("gmseg", "wmseg", "seg")


@pytest.fixture(scope="module")
def drawn(phantom):
    """A drawn cord as whole numbers [column, row, slice], with an affine in DICOM's patient coordinates."""
    voxels = np.rint(np.asarray(phantom.dataobj) * 4).astype(np.uint16)
    return voxels, np.diag([-1, -1, 1, 1]) @ phantom.affine


def test_the_mask_is_that_of_the_nifti_file_and_goes_back_as_dicom(run, drawn, tmp_path):
    voxels, affine = drawn
    images = make_images(voxels, affine, SeriesNumber=5)
    save(images, tmp_path / "sub-01")
    code, out, err = run("segment", tmp_path / "sub-01", "-o", tmp_path / "out")
    assert code == 0, err
    expected = segment(nib.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) @ affine))
    masks = [expected.mask, expected.white_matter, expected.cord]
    assert np.asarray(expected.mask.dataobj).any()
    for tissue, mask in zip(TISSUES, masks, strict=True):
        written = nib.load(tmp_path / "out" / f"sub-01_{tissue}.nii.gz")
        np.testing.assert_array_equal(
            in_dicom_order(written, affine, voxels.shape), in_dicom_order(mask, affine, voxels.shape)
        )
    record = json.loads((tmp_path / "out" / "sub-01_gmseg.json").read_text())
    assert "sub-01_gmseg.dcm" in record["files"]
    assert json.loads((tmp_path / "out" / "sub-01.json").read_text())["EchoTime"] == 0.014

    plain = pydicom.dcmread(tmp_path / "out" / "sub-01_gmseg.dcm")
    assert plain.SOPClassUID == pydicom.uid.SegmentationStorage
    assert (plain.StudyInstanceUID, plain.PatientID) == (images[0].StudyInstanceUID, images[0].PatientID)
    by_place = {tuple(map(float, image.ImagePositionPatient)): k for k, image in enumerate(images)}
    pixels = plain.pixel_array
    seen = 0
    for frame, groups in zip(pixels, plain.PerFrameFunctionalGroupsSequence, strict=True):
        k = by_place[tuple(map(float, groups.PlanePositionSequence[0].ImagePositionPatient))]
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(
            frame.T, in_dicom_order(masks[number - 1], affine, voxels.shape)[..., k]
        )
        seen += 1
    assert seen == 3 * voxels.shape[2]
    orientation = plain.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(list(map(float, orientation)), images[0].ImageOrientationPatient, atol=1e-6)

    code, out, err = run("segment", tmp_path / "sub-01", "-o", tmp_path / "out", "--resume")
    assert (code, err) == (0, "")
    assert "finished before, skipped" in out
    (tmp_path / "out" / "sub-01_gmseg.dcm").unlink()
    code, _, err = run("segment", tmp_path / "sub-01", "-o", tmp_path / "out", "--resume")
    assert code == 2
    assert "exists and was made in another way; replace it with --force" in err
    code, *_ = run("segment", tmp_path / "sub-01", "-o", tmp_path / "out", "--force", "--tissues", "gm")
    assert code == 0
    stored = hd.seg.segread(tmp_path / "out" / "sub-01_gmseg.dcm")
    assert stored.number_of_segments == 1
    assert stored.SeriesDescription.startswith("Gray matter, research only: ")


def test_echoes_become_their_root_mean_square(run, drawn, tmp_path):
    voxels, affine = drawn
    first = make_images(voxels, affine, SeriesInstanceUID="1.2.3", EchoTime=3.0)
    shared = {key: first[0][key].value for key in ("StudyInstanceUID", "FrameOfReferenceUID")}
    second = make_images(
        voxels // 3, affine, SeriesInstanceUID="1.2.3", EchoTime=9.0, EchoNumbers=2, **shared
    )
    phase = make_images(voxels, affine, SeriesInstanceUID="1.2.3", ImageType=["ORIGINAL", "PRIMARY", "P"])
    for name, images in (("a", first), ("b", second), ("c", phase)):
        save(images, tmp_path / "me" / name)
    code, _, err = run("segment", tmp_path / "me", "-o", tmp_path / "me_gm.nii.gz", "--tissues", "gm")
    assert code == 0, err
    combined = nib.load(tmp_path / "me.nii.gz")
    expected = np.sqrt((voxels.astype(float) ** 2 + (voxels // 3).astype(float) ** 2) / 2)
    np.testing.assert_allclose(in_dicom_order(combined, affine, voxels.shape), expected, rtol=1e-6)
    assert combined.get_data_dtype() == np.float32
    sidecar = json.loads((tmp_path / "me.json").read_text())
    assert sidecar["EchoTimes"] == [0.003, 0.009]
    assert "EchoTime" not in sidecar
    stored = pydicom.dcmread(tmp_path / "me_gm.dcm")
    referenced = {
        one.ReferencedSOPInstanceUID for one in stored.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced == {image.SOPInstanceUID for image in first}


def test_of_several_series_those_that_fit_are_taken(run, drawn, tmp_path):
    voxels, affine = drawn
    study = {"StudyInstanceUID": generate_uid()}
    for number, changed in (
        (3, {}),
        (4, {"ScanningSequence": "SE", "SeriesDescription": "T2\x1b[2J ax"}),
        (5, {}),
    ):
        save(
            make_images(voxels, affine, SeriesNumber=number, **changed, **study),
            tmp_path / "all" / str(number),
        )
    (tmp_path / "all" / "notes.txt").write_text("hello")
    code, out, err = run("segment", tmp_path / "all", "-o", tmp_path / "out", "--tissues", "gm")
    assert code == 0, err
    assert f"{tmp_path}/all: left out, series 4 (T2\\x1b[2J ax): not a gradient echo\n" in out
    assert "2 segmented, 0 skipped, 0 failed" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"all_t2s_ax_zebrowski_{number}_gmseg.dcm" for number in (3, 5)} <= names
    assert not [name for name in names if "_4" in name]


def bad(kind, folder):
    """A folder of DICOM images that cannot be segmented."""
    voxels = np.zeros((20, 20, 4), np.uint16)
    images = make_images(voxels, affine_of())
    if kind == "gap":
        del images[2]
    elif kind == "repeated":
        images += make_images(voxels, affine_of(), SeriesInstanceUID=images[0].SeriesInstanceUID)
        for image in images:
            image.StudyInstanceUID, image.FrameOfReferenceUID = "1.2", "1.3"
    elif kind == "computed tomography":
        images = make_images(voxels, SOPClassUID=pydicom.uid.CTImageStorage, Modality="CT")
    elif kind == "two patients":
        images[-1].PatientID = "other"
    elif kind == "last slice of another kind":
        images[-1].ImageType = ["DERIVED", "SECONDARY", "MPR"]
    elif kind == "last slice without orientation":
        del images[-1].ImageOrientationPatient
    elif kind == "number that is none":
        images = make_images(voxels, SeriesNumber=271828)
    elif kind == "localizer":
        images = make_images(voxels, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    elif kind == "two, none axial":
        sagittal = [0, 1, 0, 0, 0, -1]
        images = [
            *make_images(voxels, ImageOrientationPatient=sagittal, SeriesNumber=1, SeriesDescription="sag"),
            *make_images(voxels, ScanningSequence="SE", SeriesNumber=2, SeriesDescription="tse"),
        ]
    for k, image in enumerate(images):
        folder.mkdir(exist_ok=True)
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
        if kind == "number that is none":
            path = folder / f"{k}.dcm"
            path.write_bytes(path.read_bytes().replace(b"271828", b"number"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gap", "slices 4.00 to 8.00 mm apart; an image is missing, or they are not one volume"),
        ("repeated", "several images at one position (perhaps repetitions; average them first)"),
        ("computed tomography", "no series to segment in it (not an MR image); check the folder"),
        ("two patients", "images of several patients; a series must be one volume"),
        (
            "last slice of another kind",
            "its slice in 3.dcm cannot be used (a localizer, a phase image or a projection); convert the series by "
            "hand",
        ),
        (
            "last slice without orientation",
            "its slice in 3.dcm cannot be used (no orientation in the header); convert the series by hand",
        ),
        (
            "localizer",
            "no series to segment in it (a localizer, a phase image or a projection); check the folder",
        ),
        (
            "number that is none",
            "no series to segment in it (0.dcm: cannot be read, 1.dcm: cannot be read, 2.dcm: cannot be read, ...); "
            "check the folder",
        ),
        (
            "two, none axial",
            "none of its 2 series is axial and T2*-weighted (series 1 (sag): not axial, series 2 (tse): not a gradient "
            "echo); give the folder of one series to segment it anyway",
        ),
    ],
)
def test_what_cannot_be_segmented_is_one_line(run, tmp_path, kind, message):
    bad(kind, tmp_path / "in")
    code, out, err = run("segment", tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out, err) == (2, "", f"error: {tmp_path}/in: {message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("n_bytes", [0, 100, 700])
def test_a_damaged_file_is_not_passed_over(run, drawn, tmp_path, n_bytes):
    """At the end of the stack no gap tells of it."""
    save(make_images(*drawn), tmp_path / "in")
    last = max((tmp_path / "in").iterdir(), key=lambda path: pydicom.dcmread(path).InstanceNumber)
    last.write_bytes(last.read_bytes()[:n_bytes])
    code, out, err = run("segment", tmp_path / "in", "-o", tmp_path / "out")
    message = "cannot be read, and may be an image of a series; copy it again, or move it elsewhere"
    assert (code, out, err) == (2, "", f"error: {last}: {message}\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_in_a_folder_is_passed_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    # With a writer, a program that opens it does not wait forever.
    with open(os.open(tmp_path / "pipe", os.O_RDWR), "wb", buffering=0) as pipe:
        pipe.write(bytes(128) + b"DICM")
        assert not holds_dicom(tmp_path)
        with pytest.raises(InputError, match=r"no series to segment in it \(no DICOM image\)"):
            find_series(tmp_path)


def test_a_damaged_number_is_an_error_that_names_the_file(run, drawn, tmp_path):
    images = make_images(*drawn)
    images[1].EchoTime = 27182.8
    save(images, tmp_path / "in")
    (damaged,) = (path for path in (tmp_path / "in").iterdir() if b"27182.8" in path.read_bytes())
    damaged.write_bytes(damaged.read_bytes().replace(b"27182.8", b"number."))
    code, out, err = run("segment", tmp_path / "in", "-o", tmp_path / "out")
    message = "cannot be read, and may be an image of a series; copy it again, or move it elsewhere"
    assert (code, out, err) == (2, "", f"error: {damaged}: {message}\n")


def test_phase_images_and_copies_of_images_are_left_out(run, drawn, tmp_path):
    voxels, affine = drawn
    images = make_images(voxels, affine)
    phase = make_images(
        voxels // 2, affine, uid=images[0].SeriesInstanceUID, ImageType=["ORIGINAL", "PRIMARY", "P"]
    )
    for name, some in (("in", images), ("in/phase", phase), ("in/copies", images[:2])):
        save(some, tmp_path / name)
    code, out, err = run("segment", tmp_path / "in", "-o", tmp_path / "out", "--tissues", "gm")
    assert code == 0, err
    assert f"{voxels.shape[2]} of {voxels.shape[2]} slices" in out


def test_a_place_for_the_images_is_needed(run, drawn, tmp_path):
    save(make_images(*drawn), tmp_path / "t2s")
    code, _, err = run("segment", tmp_path / "t2s")
    assert (code, err) == (
        2,
        f"error: {tmp_path}/t2s: holds DICOM images; give a folder for the converted images and the masks with "
        "--output\n",
    )
    code, _, err = run("segment", tmp_path / "t2s", "-o", tmp_path / "t2s.nii.gz")
    assert (code, err) == (
        2,
        f"error: {tmp_path}/t2s.nii.gz: the converted image has this name; give the mask another one\n",
    )
    save(make_images(*drawn), tmp_path / "other" / "t2s")
    code, _, err = run("segment", tmp_path / "t2s", tmp_path / "other" / "t2s", "-o", tmp_path / "out")
    assert code == 2
    assert err.startswith(f"error: {tmp_path}/t2s and {tmp_path}/other/t2s would both become t2s.nii.gz; ")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "t2s.nii.gz").write_bytes(b"mine")
    code, _, err = run("segment", tmp_path / "t2s", "-o", tmp_path / "out")
    assert (code, err) == (
        2,
        f"error: {tmp_path}/out/t2s.nii.gz: exists and is not this series; replace it with --force\n",
    )
    taken = tmp_path / "out" / "t2s.nii.gz"
    code, _, err = run("segment", tmp_path / "t2s", taken, "-o", tmp_path / "out", "--force")
    assert (code, err) == (
        2,
        f"error: {taken}: the result would take the place of this input; give the output another name\n",
    )
    assert taken.read_bytes() == b"mine"


def test_no_room_for_temporary_files_is_said_so(run, drawn, tmp_path, monkeypatch, no_space):
    save(make_images(*drawn), tmp_path / "t2s")
    monkeypatch.setattr("keras_scgm.dicom.conversion.shutil.copyfile", no_space)
    code, out, err = run("segment", tmp_path / "t2s", "-o", tmp_path / "out")
    message = "no room for a temporary file (No space left on device); free space, or set TMPDIR to a folder with more"
    assert (code, out, err) == (2, "", f"error: {message}\n")


def test_without_the_extra_a_line_says_so(run, drawn, tmp_path, monkeypatch):
    save(make_images(*drawn), tmp_path / "t2s")
    monkeypatch.setitem(__import__("sys").modules, "keras_scgm.dicom.conversion", None)
    monkeypatch.setattr("keras_scgm_cli.dicom_inputs.EXTRA", ("keras_scgm.dicom.conversion",))
    code, _, err = run("segment", tmp_path / "t2s", "-o", tmp_path / "out")
    assert code == 2
    assert "is not installed; pip install 'keras-scgm[dicom]', or convert them with dcm2niix -z y" in err
    assert err.count("\n") == 1


def test_a_real_image(run, tmp_path):
    """A slice of a head, which pydicom ships: no cord, but a grid and voxels of a scanner."""
    source = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small.dcm"))
    (tmp_path / "head").mkdir()
    source.save_as(tmp_path / "head" / "IM0001")
    code, _, err = run("segment", tmp_path / "head", "-o", tmp_path / "out", "--tissues", "gm")
    assert code == 0, err
    series = read_series([tmp_path / "head" / "IM0001"])
    image = nib.load(tmp_path / "out" / "head.nii.gz")
    stored = in_dicom_order(image, series.volume.affine, (64, 64, 1))
    np.testing.assert_array_equal(stored[..., 0].T, source.pixel_array)
    segmentation = pydicom.dcmread(tmp_path / "out" / "head_gmseg.dcm")
    mask = in_dicom_order(nib.load(tmp_path / "out" / "head_gmseg.nii.gz"), series.volume.affine, (64, 64, 1))
    np.testing.assert_array_equal(np.atleast_3d(segmentation.pixel_array.squeeze())[..., 0].T, mask[..., 0])


def test_a_real_multi_frame_image(tmp_path):
    """Philips, geometry in every frame; nibabel ships it with the voxels set to 0."""
    name = "philips_mprage.dcm.gz"
    source = Path(nib.__file__).parent / "nicom" / "tests" / "data" / name
    if not source.is_file():
        pytest.skip(f"this nibabel has no {name}")
    (tmp_path / "brain").mkdir()
    (tmp_path / "brain" / "IM0001").write_bytes(gzip.decompress(source.read_bytes()))
    found, notes = find_series(tmp_path / "brain")
    assert (len(found), notes) == (1, [])
    converted = convert(found[0], tmp_path / "out")
    image = nib.load(converted.image)
    mask = np.zeros(image.shape, np.uint8)
    mask[20:50, 30:90, 100:120] = 1
    with quiet():
        series = read_series(converted.files)
        in_order = on_grid_of(series, mask, image.affine)
        result = SegmentedSeries([in_order], "review", 0.7, (), "1", {})
        stored = hd.seg.segread(io.BytesIO(make_segmentation(series, result)))
        volume = stored.get_volume(combine_segments=True).match_geometry(series.volume)
    np.testing.assert_array_equal(volume.array, in_order)
    centres_mm = [
        nib.affines.apply_affine(affine, np.argwhere(voxels).mean(axis=0))
        for voxels, affine in ((mask, image.affine), (in_order, series.volume.get_affine("RAS")))
    ]
    np.testing.assert_allclose(*centres_mm, atol=1e-3)
