"""The DICOM gateway: series, results and spool alone, and the whole of it over real sockets, killed at any point."""

import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent import futures
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import highdicom as hd
import keras_scgm_devserver as dev_server
import nibabel as nib
import numpy as np
import pydicom
import pytest
import trustme
import urllib3
from highdicom.frame import encode_frame
from keras_scgm_client.cli import main
from keras_scgm_client.dicom.peers import (
    Peer,
    PeerRefuses,
    PeerUnavailable,
    Sender,
    is_ae_title,
    readable_syntaxes,
)
from keras_scgm_client.dicom.results import PICTURE, SEGMENTATION, Finding, make_results
from keras_scgm_client.dicom.series import SeriesError, read_series, why_ignored, write_nifti
from keras_scgm_client.dicom.spool import STATES, Spool, SpoolFull
from keras_scgm_client.errors import ClientError
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import (
    AE,
    AllStoragePresentationContexts,
    VerificationPresentationContexts,
    build_context,
    evt,
)
from pynetdicom.transport import AssociationSocket
from tiny_serving import THRESHOLD, save_tiny_models

PATIENT, PATIENT_ID, BIRTH = "Zebrowski-Ünal^Quentin", "PID77531", "19670501"
PROTOCOL = "t2s_ax_zebrowski"
SHAPE = (12, 10, 5)
SPACING_MM = (0.6, 0.8, 4.0)


def turned(degrees, axis):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.eye(3)
    i, j = (k for k in range(3) if k != axis)
    turn[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return turn


OBLIQUE = turned(12, 0) @ turned(-7, 2)
"""Directions of columns, rows and slices in DICOM's patient coordinates."""


def voxels_of(seed=0, shape=SHAPE):
    """uint8 [column, row, slice], some of it over the tiny model's threshold."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def affine_of(directions=OBLIQUE, spacing_mm=SPACING_MM, origin_mm=(-20.5, -31.25, 104.0)):
    """Voxel (column, row, slice) to DICOM's patient coordinates, mm."""
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing_mm
    affine[:3, 3] = origin_mm
    return affine


def make_images(voxels, affine=None, uid=None, **changed):
    """One MR image per slice, of a gradient echo with an echo time of 14 ms."""
    affine = affine_of() if affine is None else affine
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    series_uid, study_uid, frame_uid = uid or generate_uid(), generate_uid(), generate_uid()
    images = []
    for k in range(voxels.shape[2]):
        image = pydicom.Dataset()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SpecificCharacterSet = "ISO_IR 100"
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
        image.FrameOfReferenceUID = frame_uid
        image.PatientName, image.PatientID, image.PatientBirthDate = PATIENT, PATIENT_ID, BIRTH
        image.PatientSex, image.StudyID, image.AccessionNumber = "O", "1", "A1"
        image.StudyDate, image.StudyTime, image.ReferringPhysicianName = "20240229", "101500", "Doe^Jane"
        image.Manufacturer, image.Modality, image.SeriesNumber, image.InstanceNumber = "Maker", "MR", 7, k + 1
        image.ProtocolName = image.SeriesDescription = PROTOCOL
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        image.ScanningSequence, image.SequenceVariant, image.EchoTime = "GR", "SP", 14.0
        image.ImagePositionPatient = [f"{x:.8g}" for x in (affine @ [0, 0, k, 1])[:3]]
        image.ImageOrientationPatient = [
            f"{x:.10g}" for axis in (0, 1) for x in affine[:3, axis] / spacing_mm[axis]
        ]
        image.PixelSpacing, image.SliceThickness = (
            [str(spacing_mm[1]), str(spacing_mm[0])],
            str(spacing_mm[2]),
        )
        image.Rows, image.Columns = voxels.shape[1], voxels.shape[0]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 8 * voxels.dtype.itemsize
        image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0
        image.PixelData = voxels[:, :, k].T.tobytes()
        for keyword, value in changed.items():
            setattr(image, keyword, value)
        images.append(image)
    return images


def save(images, folder):
    """Files in an order that is not that of the slices."""
    folder.mkdir(exist_ok=True, parents=True)
    for k, image in enumerate(images):
        image.save_as(folder / f"{k * 7 % len(images)}.dcm", enforce_file_format=True)
    return list(folder.glob("*.dcm"))


def png(shape=(40, 30)):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def finding(mask, **changed):
    settings = {
        "mask": mask,
        "picture": png(),
        "verdict": "review",
        "predicted_dsc": 0.8123,
        "texts": ("gray matter near an edge", "an area of 25 mm²"),
        "version": "keras_scgm 0.1.0, weights tiny",
        "request_id": "0" * 32,
        "origin": {"weights": [{"name": "tiny", "sha256": "0" * 64}]},
    }
    return Finding(**{**settings, **changed})


def read(content):
    return pydicom.dcmread(io.BytesIO(content))


# A series as a NIfTI file


def test_an_oblique_series_in_any_order(tmp_path):
    voxels, affine = voxels_of(), affine_of()
    series = read_series(save(make_images(voxels, affine), tmp_path / "in"))
    write_nifti(series, tmp_path / "a.nii.gz")
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.uint8
    stored = np.asarray(image.dataobj)
    # The slices may be stacked either way; each voxel must be where it was.
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    world = nib.affines.apply_affine(np.diag([-1, -1, 1, 1]) @ affine, places)
    found = nib.affines.apply_affine(np.linalg.inv(image.affine), world)
    np.testing.assert_allclose(found, np.rint(found), atol=1e-4)
    np.testing.assert_array_equal(stored[tuple(np.rint(found).astype(int).T)], voxels.reshape(-1))
    assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(image.header.get_qform(), image.affine, atol=1e-4)


def test_rescaled_values_are_kept(tmp_path):
    voxels = voxels_of().astype(np.uint16) * 101
    for slope, kind in ((2, np.uint16), (0.5, np.float32)):
        images = make_images(voxels, RescaleSlope=slope, RescaleIntercept=-3, RescaleType="US")
        series = read_series(save(images, tmp_path / str(slope)))
        write_nifti(series, tmp_path / "a.nii")
        image = nib.load(tmp_path / "a.nii")
        assert image.get_data_dtype() == (np.int32 if kind == np.uint16 else kind)
        np.testing.assert_array_equal(np.unique(image.dataobj), np.unique(voxels * slope - 3.0))


def test_one_slice_has_its_thickness(tmp_path):
    series = read_series(save(make_images(voxels_of(shape=(9, 8, 1))), tmp_path / "in"))
    np.testing.assert_allclose(series.volume.spacing, SPACING_MM, rtol=1e-5)


def converted(images):
    return hd.legacy.LegacyConvertedEnhancedMRImage(images, generate_uid(), 8, generate_uid(), 1)


def test_a_multi_frame_image(tmp_path):
    images = make_images(voxels_of())
    frames = converted(images)
    assert why_ignored(frames) == ""
    one = read_series(save([frames], tmp_path / "in"))
    many = read_series(save(images, tmp_path / "single"))
    np.testing.assert_array_equal(one.volume.array, many.volume.array)
    np.testing.assert_allclose(one.volume.affine, many.volume.affine, atol=1e-5)
    mask = one.volume.array > 100
    result = hd.seg.segread(io.BytesIO(make_results(one, finding(mask))[SEGMENTATION]))
    np.testing.assert_array_equal(result.get_volume(combine_segments=True).array.T, mask)


def without(images, keyword):
    for image in images[1:2]:
        delattr(image, keyword)


def moved(images):
    images[2].ImagePositionPatient = images[1].ImagePositionPatient


def other_echo(images):
    moved(images)
    images[2].EchoTime = 20.0


def turned_image(images):
    images[2].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def huge(images):
    for image in images:
        image.Rows = image.Columns = 16384


def other_size(images):
    images[2].PixelSpacing = [1, 1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda images: images.pop(2), r"slices 4.00 to 8.00 mm apart; an image is missing"),
        (moved, r"several images at one position \(repetitions, perhaps; average them before\)"),
        (other_echo, r"several images at one position \(2 echo times; combine them before\)"),
        (turned_image, "images of several orientations"),
        (other_size, "images of several spacings"),
        (lambda images: without(images, "FrameOfReferenceUID"), "an image without FrameOfReferenceUID"),
        (lambda images: without(images, "PixelData"), "an image without PixelData"),
        (lambda images: setattr(images[0], "SamplesPerPixel", 3), "colour images"),
        (
            lambda images: setattr(images[0], "PixelData", b"short"),
            r"not one volume that can be read \(ValueError",
        ),
        (lambda images: images.clear(), "it has no images"),
        (huge, "1342 million voxels, which is no axial series of a cord"),
    ],
)
def test_series_that_are_refused(damage, message, tmp_path):
    images = make_images(voxels_of())
    damage(images)
    with pytest.raises(SeriesError, match=message):
        read_series(save(images, tmp_path / "in"))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_images(syntax, tmp_path):
    voxels = voxels_of(shape=(64, 64, 3))
    plain = read_series(save(make_images(voxels), tmp_path / "plain"))
    images = make_images(voxels)
    for image in images:
        image.PixelData = encapsulate([encode_frame(image.pixel_array, syntax, 8, 8, "MONOCHROME2")])
        image.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read_series(save(images, tmp_path / "in")).volume.array, plain.volume.array)


def test_several_multi_frame_images_are_refused(tmp_path):
    frames = [converted(make_images(voxels_of())) for _ in range(2)]
    with pytest.raises(SeriesError, match="2 multi-frame images"):
        read_series(save(frames, tmp_path / "in"))


@pytest.mark.parametrize(
    ("changed", "match", "reason"),
    [
        ({}, None, ""),
        ({"ScanningSequence": ["GR", "EP"]}, None, ""),
        ({"Modality": "CT"}, None, "not an MR image"),
        ({"SOPClassUID": pydicom.uid.CTImageStorage}, None, "not an MR image"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            None,
            "a localizer, a phase image or a projection",
        ),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, None, "a localizer, a phase image or a projection"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, None, "not axial"),
        ({"ImageOrientationPatient": None}, None, "no orientation in the header"),
        ({"ScanningSequence": "SE"}, None, "not a gradient echo"),
        ({"ScanningSequence": ["GR", "IR"]}, None, "not a gradient echo"),
        ({"EchoTime": 2.5}, None, "an echo time under 4 ms, or none in the header"),
        ({"EchoTime": None}, None, "an echo time under 4 ms, or none in the header"),
        ({"ScanningSequence": "RM"}, "^t2s", ""),
        ({}, "medic", "its names do not match --match"),
    ],
)
def test_which_images_are_wanted(changed, match, reason):
    (image,) = make_images(voxels_of(shape=(4, 4, 1)), **changed)
    assert why_ignored(image, match and re.compile(match)) == reason


def enhanced(echo_pulse="GRADIENT", echo_ms=13.2, orientation=(1, 0, 0, 0, 1, 0), inversion="NO"):
    """The header of an Enhanced MR image, whose attributes are in functional groups."""
    image, shared, frame, timing, echo, plane = (pydicom.Dataset() for _ in range(6))
    image.SOPClassUID, image.Modality = pydicom.uid.EnhancedMRImageStorage, "MR"
    image.ImageType, image.EchoPulseSequence = ["ORIGINAL", "PRIMARY", "M", "NONE"], echo_pulse
    timing.InversionRecovery, echo.EffectiveEchoTime = inversion, echo_ms
    plane.ImageOrientationPatient = list(orientation)
    shared.MRModifierSequence, frame.MREchoSequence, frame.PlaneOrientationSequence = (
        [timing],
        [echo],
        [plane],
    )
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], [frame]
    return image


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"echo_pulse": "SPIN"}, "not a gradient echo"),
        ({"inversion": "YES"}, "not a gradient echo"),
        ({"echo_ms": 2.1}, "an echo time under 4 ms, or none in the header"),
        ({"orientation": (0, 1, 0, 0, 0, -1)}, "not axial"),
    ],
)
def test_which_multi_frame_images_are_wanted(changed, reason):
    assert why_ignored(enhanced(**changed)) == reason


# A mask as DICOM objects


def test_the_segmentation_is_the_mask_in_its_place(tmp_path):
    series = read_series(save(make_images(voxels_of()), tmp_path / "in"))
    mask = series.volume.array > 100
    stored = hd.seg.segread(io.BytesIO(make_results(series, finding(mask))[SEGMENTATION]))
    volume = stored.get_volume(combine_segments=True).match_geometry(series.volume)
    np.testing.assert_array_equal(volume.array, mask)
    (segment,) = stored.segment_numbers
    described = stored.get_segment_description(segment)
    assert described.segmented_property_type == pydicom.sr.coding.Code(
        "12958003", "SCT", "Spinal cord gray matter"
    )
    assert described.algorithm_type == hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    assert {str(uid) for _, _, uid in stored.get_source_image_uids()} == {
        image.SOPInstanceUID for image in series.images
    }


def test_an_empty_mask_is_a_segmentation_too(tmp_path):
    series = read_series(save(make_images(voxels_of()), tmp_path / "in"))
    nothing = finding(np.zeros(SHAPE, np.uint8), predicted_dsc=float("nan"), verdict="fail")
    stored = hd.seg.segread(io.BytesIO(make_results(series, nothing)[SEGMENTATION]))
    assert stored.get_volume(combine_segments=True).array.shape == SHAPE[::-1]
    assert stored.SeriesDescription == "Gray matter, research only: fail"


def test_both_results_belong_to_the_patient_and_study(tmp_path):
    images = make_images(voxels_of())
    series = read_series(save(images, tmp_path / "in"))
    long = finding(series.volume.array > 100, texts=("reason " * 500,), version="v" * 99)
    made = {name: read(content) for name, content in make_results(series, long).items()}
    for result in made.values():
        assert str(result.PatientName) == PATIENT
        assert (result.PatientID, result.PatientBirthDate) == (PATIENT_ID, BIRTH)
        assert result.StudyInstanceUID == images[0].StudyInstanceUID
        assert result.StudyDate == "20240229"
        assert result.SeriesInstanceUID != images[0].SeriesInstanceUID
        assert result.SeriesDescription == "Gray matter, research only: review, predicted DSC 0.81"
        for element in result.iterall():
            most = {"LO": 64, "SH": 16, "ST": 1024, "CS": 16}.get(element.VR)
            assert most is None or all(
                len(str(text)) <= most for text in np.atleast_1d(element.value or "")
            ), element
    capture = made[PICTURE]
    with Image.open(io.BytesIO(long.picture)) as picture:
        np.testing.assert_array_equal(capture.pixel_array, np.asarray(picture))
    assert capture.BurnedInAnnotation == "NO"
    assert "Verdict: review, predicted DSC 0.81" in capture.DerivationDescription
    assert {reference.ReferencedSOPInstanceUID for reference in capture.SourceImageSequence} == {
        image.SOPInstanceUID for image in images
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_headers_that_are_not_in_order(tmp_path):
    """Who the patient is stays as it was sent; the rest need not keep a series from its result."""
    sent = {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "PatientSex": "U",
        "PatientBirthDate": "19670230",
        "StudyTime": "25:99",
        "SeriesNumber": None,
    }
    images = make_images(voxels_of(), **sent)
    for image in images:
        weight = pydicom.datadict.tag_for_keyword("PatientWeight")
        image[weight] = RawDataElement(pydicom.tag.Tag(weight), "DS", 6, b"heavy ", 0, False, True)
        for keyword in ("AccessionNumber", "StudyID", "SliceThickness", "Manufacturer", "InstanceNumber"):
            del image[keyword]
    series = read_series(save(images, tmp_path / "in"))
    mask = series.volume.array > 100
    made = make_results(series, finding(mask))
    for result in map(read, made.values()):
        assert [result[keyword].value for keyword in list(sent)[1:5]] == list(sent.values())[1:5]
        assert result.SpecificCharacterSet == "ISO_IR 192"
        assert result.SeriesNumber in (9001, 9002)
    stored = hd.seg.segread(io.BytesIO(made[SEGMENTATION])).get_volume(combine_segments=True)
    np.testing.assert_array_equal(stored.match_geometry(series.volume).array, mask)


def test_identifiers_depend_on_images_and_origin_alone(tmp_path):
    images = make_images(voxels_of())
    series = read_series(save(images, tmp_path / "in"))
    mask = series.volume.array > 100

    def identifiers(series, given):
        made = [read(content) for content in make_results(series, given).values()]
        return {uid for result in made for uid in (result.SOPInstanceUID, result.SeriesInstanceUID)}

    first = identifiers(series, finding(mask))
    assert len(first) == 4
    assert all(pydicom.uid.UID(uid).is_valid for uid in first)
    assert identifiers(series, finding(mask)) == first
    assert not identifiers(series, finding(mask, origin={"weights": "others"})) & first
    fewer = read_series(save(images[:4], tmp_path / "fewer"))
    assert not identifiers(fewer, finding(mask[..., :4])) & first


# What is on the disk


@pytest.fixture
def spool(tmp_path):
    with closing(Spool(tmp_path / "store", 10_000)) as opened:
        yield opened


def again(spool):
    """The same folder, as a new process finds it."""
    spool.close()
    return closing(Spool(spool.folder, spool.max_bytes))


def sent(spool, name):
    images = spool.images("incoming", name)
    spool.write_results(name, images, {"1.dcm": b"a", "2.dcm": b"b"})
    assert spool.advance(name, images, "incoming", "outgoing")
    for file in spool.unsent(name):
        spool.mark_sent(file)
    assert spool.advance(name, images, "outgoing", "sent")


def states(spool):
    return {state: names for state in STATES if (names := spool.names(state))}


def test_an_image_is_kept_once(spool):
    assert spool.store("1.2", "1.2.1", b"image")
    assert not spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    (file,) = spool.images("incoming", name)
    assert file.read_bytes() == b"image"
    sent(spool, name)
    assert not spool.store("1.2", "1.2.1", b"image")
    assert states(spool) == {"sent": [name]}
    with again(spool) as later:
        assert later.name("1.2") == name
        assert not later.store("1.2", "1.2.1", b"image")


def test_a_late_image_brings_a_series_back(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    sent(spool, name)
    assert spool.store("1.2", "1.2.2", b"late")
    assert states(spool) == {"incoming": [name]}
    assert not spool.has_results(name, spool.images("incoming", name))
    assert len(spool.images("incoming", name)) == 2


def test_an_image_that_comes_during_the_work_holds_it_back(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    images = spool.images("incoming", name)
    spool.store("1.2", "1.2.2", b"late")
    assert not spool.advance(name, images, "incoming", "outgoing")
    assert not spool.advance(name, images, "incoming", "failed", "a reason")
    assert not spool.advance(name, [], "outgoing", "sent")
    assert states(spool) == {"incoming": [name]}
    assert not list(spool.folder.rglob("reason.txt"))


def test_results_are_made_once_for_the_same_images(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    images = spool.images("incoming", name)
    assert not spool.has_results(name, images)
    spool.write_results(name, images, {"1.dcm": b"a"})
    with again(spool) as later:
        assert later.has_results(name, later.images("incoming", name))


def test_when_a_series_is_complete(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    assert spool.complete(60) == []
    assert spool.complete(0) == [name]
    assert spool.complete(0, busy={name}) == []
    images = spool.path("incoming", name) / "images"
    os.utime(images, (0, time.time() - 100))
    assert spool.complete(60) == []
    spool.released(name)
    assert spool.complete(60) == [name]
    spool.store("1.2", "1.2.2", b"of a sender that is cut off")
    os.utime(images, (0, time.time() - 100))
    assert spool.complete(60) == []
    os.utime(images, (0, time.time() - 700))
    assert spool.complete(60) == [name]
    with again(spool) as later:
        # The sender has the whole time again.
        assert later.complete(60) == []


def test_one_gateway_per_folder(spool):
    with pytest.raises(ClientError, match="another gateway uses it"):
        Spool(spool.folder, 1)
    (spool.folder / "file").touch()
    with pytest.raises(ClientError, match=r"cannot be used \(File exists\); check --store"):
        Spool(spool.folder / "file", 1)


def test_no_more_than_the_bound(spool):
    spool.store("1.2", "1.2.1", b"x" * 6000)
    with pytest.raises(SpoolFull):
        spool.store("1.2", "1.2.2", b"x" * 6000)
    with again(spool) as later:
        with pytest.raises(SpoolFull):
            later.store("1.2", "1.2.2", b"x" * 6000)
        sent(later, later.name("1.2"))
        later.prune(-1)
        assert later.store("1.2", "1.2.2", b"x" * 6000)


def test_what_is_deleted_and_what_stays(spool):
    for uid in ("1.2", "1.3", "1.4"):
        spool.store(uid, f"{uid}.1", b"image")
    sent(spool, spool.name("1.2"))
    failed = spool.name("1.3")
    spool.advance(failed, spool.images("incoming", failed), "incoming", "failed", "a reason")
    assert (spool.path("failed", failed) / "reason.txt").read_text() == "a reason\n"
    assert spool.ignore("1.5", "not axial") == spool.name("1.5")
    assert spool.ignore("1.5", "not axial") is None
    assert spool.prune(60) == []
    assert spool.prune(-1) == [spool.name("1.2"), spool.name("1.5")]
    assert states(spool) == {"incoming": [spool.name("1.4")], "failed": [failed]}
    assert spool.retry_failed() == [failed]
    assert spool.names("incoming") == sorted([failed, spool.name("1.4")])
    assert not list(spool.folder.rglob("reason.txt"))


def test_leftovers_of_a_kill_are_removed(spool):
    (spool.path("incoming", "0123456789abcdef") / "images").mkdir(parents=True)
    (spool.folder / "tmp" / "half").write_bytes(b"half an image")
    with again(spool) as later:
        assert states(later) == {}
        assert not list((later.folder / "tmp").iterdir())


# Settings


@pytest.mark.parametrize("text", ["PACS@127.0.0.1:11112", "P A@[::1]:104"])
def test_addresses(text):
    peer = Peer.parse(text)
    assert peer in (Peer("PACS", "127.0.0.1", 11112), Peer("P A", "::1", 104))


@pytest.mark.parametrize(
    "text", ["127.0.0.1:104", "PACS@:104", "PACS@h", "PACS@h:0", "PACS@h:70000", "@h:1", "P\\@h:1"]
)
def test_addresses_that_are_none(text):
    with pytest.raises(ValueError, match=r"give for example PACS@pacs\.example\.org:104"):
        Peer.parse(text)


def test_titles():
    assert all(map(is_ae_title, ("A", "SCGM", "A B", "X" * 16)))
    assert not any(map(is_ae_title, ("", " ", " A", "A ", "X" * 17, "A\\B", "Ä", "A\n")))


def test_only_what_can_be_read_without_loss_is_taken():
    syntaxes = readable_syntaxes()
    assert {ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless} <= set(syntaxes)
    assert not {pydicom.uid.JPEGBaseline8Bit, pydicom.uid.JPEG2000, pydicom.uid.MPEG2MPML} & set(syntaxes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ae-title", "X" * 17], "X{17}: not an AE title; give 1 to 16 ASCII characters"),
        (["--calling", "A\\B"], "not an AE title"),
        (["--send-to", "PACS"], "PACS: not a DICOM address"),
        (["--match", "("], r"--match \(: not a regular expression"),
        (["--settle", "0"], "--settle must be over 0, received 0"),
        (["--deadline", "nan"], "--deadline must be over 0, received nan"),
        (["--max-gb", "-1"], "--max-gb must be over 0, received -1"),
        (["--port", "70000"], "--port must be 0 to 65535, received 70000"),
        (["--dicom-cert", "a.pem"], "go together; give all three"),
    ],
)
def test_settings_that_are_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            ["dicom-gateway", "--store", str(tmp_path / "store"), "--send-to", "PACS@127.0.0.1:104", *options]
        )
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


# Sending


class Receiver:
    """An archive that remembers what it has stored, and can end and come back at the same address."""

    def __init__(self):
        self.stored = []
        self.before_storing = self.before_answering = lambda uid: None
        self.port = 0
        self.tls = None
        self.status = 0x0000
        self.contexts = AllStoragePresentationContexts

    def start(self):
        self.entity = AE("ARCHIVE")
        self.entity.require_called_aet = True
        self.entity.supported_contexts = self.contexts
        handlers = [(evt.EVT_C_STORE, self.store)]
        server = self.entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls
        )
        self.port = server.server_address[1]

    def stop(self):
        self.entity.shutdown()

    def store(self, event):
        uid = event.request.AffectedSOPInstanceUID
        self.before_storing(uid)
        if self.status >> 12 in (0x0, 0xB):
            self.stored.append((str(uid), event.encoded_dataset()))
        self.before_answering(uid)
        return self.status

    def read(self):
        """What is stored, by modality; each object once."""
        found = {}
        for _, content in self.stored:
            dataset = pydicom.dcmread(io.BytesIO(content))
            assert dataset.Modality not in found
            found[dataset.Modality] = dataset
        return found


@pytest.fixture
def receiver():
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def result(tmp_path):
    """A segmentation as a file."""
    series = read_series(save(make_images(voxels_of()), tmp_path / "in"))
    path = tmp_path / SEGMENTATION
    path.write_bytes(make_results(series, finding(series.volume.array > 100))[SEGMENTATION])
    return path


def sender_to(receiver, title="ARCHIVE"):
    return Sender(Peer(title, "127.0.0.1", receiver.port), "SCGM", None)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB007])
def test_a_result_that_is_accepted(status, receiver, result):
    receiver.status = status
    accepted = []
    sender_to(receiver).send([result], accepted.append)
    assert accepted == [result]
    ((uid, _),) = receiver.stored
    assert uid == pydicom.dcmread(result).SOPInstanceUID


@pytest.mark.parametrize(
    ("status", "error"),
    [(0xA700, PeerUnavailable), (0x0110, PeerUnavailable), (0xA900, PeerRefuses), (0xC123, PeerRefuses)],
)
def test_a_result_that_is_not_accepted(status, error, receiver, result):
    receiver.status = status
    accepted = []
    with pytest.raises(error, match=f"the receiver answers 1_segmentation with status {status:04X}"):
        sender_to(receiver).send([result], accepted.append)
    assert accepted == []


def test_receivers_that_are_not_there_or_take_something_else(receiver, result):
    with pytest.raises(PeerUnavailable, match="the receiver rejects the association; check the AE titles"):
        sender_to(receiver, "OTHER").send([result], print)
    receiver.stop()
    with pytest.raises(PeerUnavailable, match="no association"):
        sender_to(receiver).send([result], print)
    for contexts, message in (
        (
            [build_context(SecondaryCaptureImageStorage)],
            "the receiver takes no objects such as 1_segmentation",
        ),
        (VerificationPresentationContexts, "the receiver takes neither segmentations nor secondary captures"),
    ):
        receiver.contexts = contexts
        receiver.start()
        with pytest.raises(PeerRefuses, match=message):
            sender_to(receiver).send([result], print)
        receiver.stop()


# The whole of it


class Relay:
    """Passes requests on to a server; can hold them, end and come back."""

    def __init__(self, url):
        self.url = url
        self.free = threading.Event()
        self.free.set()
        self.n_requests = 0
        self.port = 0

    def start(self):
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                relay.n_requests += 1
                assert relay.free.wait(30)
                headers = {"connection": "close"}
                reply = urllib3.request("POST", relay.url + self.path, body=body, headers=headers)
                with suppress(OSError):
                    self.send_response(reply.status)
                    self.send_header("content-length", str(len(reply.data)))
                    self.end_headers()
                    self.wfile.write(reply.data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Process:
    """A gateway as a program of its own, and its log."""

    def __init__(self, folder, relay, receiver, *options):
        self.folder, self.port = folder, free_port()
        self.log_file = folder / "log"
        self.arguments = [
            *(sys.executable, "-c", "from keras_scgm_client.cli import main; main()", "dicom-gateway"),
            *("--server", f"http://127.0.0.1:{relay.port}", "--timeout", "30", "--settle", "1"),
            *("--log-format", "json"),
            *("--store", str(folder / "store"), "--port", str(self.port)),
            *("--send-to", f"ARCHIVE@127.0.0.1:{receiver.port}", *options),
        ]

    def start(self):
        n_before = len(self.events("started"))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.arguments, stdout=log, stderr=log)
        self.wait_for("started", n_before + 1)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()

    def events(self, kind):
        lines = self.log_file.read_text().splitlines() if self.log_file.exists() else []
        return [line for line in map(json.loads, lines) if line.get("event") == kind]

    def wait_for(self, kind, n=1, seconds=30):
        until(lambda: len(self.events(kind)) >= n, seconds, lambda: self.log_file.read_text())
        return self.events(kind)[-1]

    def states(self):
        return {state: len(names) for state in STATES if (names := os.listdir(self.folder / "store" / state))}


def until(is_so, seconds=30, told=lambda: ""):
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, told()
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def send(images, port, title="SCGM", calling="SCANNER", tls=None):
    """The images that were acknowledged."""
    entity = AE(calling)
    entity.dimse_timeout = entity.network_timeout = 5
    for image in images:
        with suppress(ValueError):
            entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    link = entity.associate("127.0.0.1", port, ae_title=title, tls_args=tls and (tls, "127.0.0.1"))
    if not link.is_established:
        return []
    acknowledged = []
    for image in images:
        if not link.is_established:
            break
        with suppress(RuntimeError):
            if link.send_c_store(image).get("Status") == 0:
                acknowledged.append(image)
    if link.is_established:
        link.release()
    link.join(10)
    return acknowledged


@pytest.fixture(scope="module", autouse=True)
def closed_sockets():
    """pynetdicom leaves the socket of a connection that was cut off to the garbage collector."""
    leave = AssociationSocket._shutdown_socket

    def close(connection):
        leave(connection)
        if connection.socket is not None:
            connection.socket.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", close)
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    models = save_tiny_models(tmp_path_factory.mktemp("models"))
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as address:
        yield address.rest_url


@pytest.fixture
def relay(server):
    relay = Relay(server)
    relay.start()
    yield relay
    relay.free.set()
    relay.stop()


@pytest.fixture
def gateway(tmp_path, relay, receiver):
    with Process(tmp_path, relay, receiver) as gateway:
        yield gateway


def check_results(receiver, images):
    """One segmentation and one picture, of what the tiny model takes for gray matter, in its place."""
    made = receiver.read()
    assert set(made) == {"SEG", "OT"}
    stored = hd.seg.Segmentation.from_dataset(made["SEG"])
    of_source = hd.get_volume_from_series(images)
    volume = stored.get_volume(combine_segments=True).match_geometry(of_source)
    np.testing.assert_array_equal(volume.array, of_source.array > THRESHOLD)
    assert made["OT"].SeriesDescription.startswith("Gray matter, research only: ")
    assert made["OT"].pixel_array.max() > 0
    for result in made.values():
        assert result.StudyInstanceUID == images[0].StudyInstanceUID
        assert str(result.PatientName) == PATIENT


def test_an_echo(gateway):
    entity = AE("SCANNER")
    entity.requested_contexts = VerificationPresentationContexts
    link = entity.associate("127.0.0.1", gateway.port, ae_title="SCGM")
    assert link.send_c_echo().Status == 0x0000
    link.release()


def test_a_round_trip(gateway, receiver, relay):
    images = make_images(voxels_of())
    shuffled = [images[k] for k in (3, 0, 4, 2, 1)]
    ct = make_images(voxels_of(), SOPClassUID=pydicom.uid.CTImageStorage, Modality="CT")
    localizer = make_images(voxels_of(), affine_of(turned(90, 0)))
    assert len(send([*localizer, *shuffled, *ct], gateway.port)) == 15
    gateway.wait_for("sent")
    check_results(receiver, images)
    assert gateway.states() == {"sent": 1, "ignored": 2}
    reasons = {line["reason"] for line in gateway.events("ignored")}
    assert reasons == {"not an MR image", "not axial"}

    # Again: nothing new.
    assert len(send(images, gateway.port)) == 5
    gateway.wait_for("received before")
    time.sleep(2)
    assert len(receiver.stored) == 2
    assert relay.n_requests == 1
    assert gateway.states() == {"sent": 1, "ignored": 2}


def test_addresses_that_are_taken(tmp_path, relay, receiver):
    for options, message in (
        (
            ["--port", str(receiver.port)],
            "cannot listen there (Address already in use); check --host and --port",
        ),
        (["--metrics-port", str(receiver.port)], "Address already in use); check --metrics-port"),
    ):
        arguments = Process(tmp_path, relay, receiver, *options).arguments
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=30)
        assert ended.returncode == 2
        (line,) = (line for line in map(json.loads, ended.stderr.splitlines()) if line["level"] == "error")
        assert message in line["message"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_patient_data_outside_of_dicom_files(tmp_path, relay, receiver):
    """Neither in logs and metrics nor in names, even where highdicom and pydicom would quote them."""
    metrics_port = free_port()
    with Process(tmp_path, relay, receiver, "--metrics-port", str(metrics_port)) as gateway:
        send(make_images(voxels_of(), PatientName="ZEBROWSKI QUENTIN"), gateway.port)
        gateway.wait_for("sent")
        damaged = make_images(voxels_of())
        damaged[1].PatientName = "Zebrowski=" * 30
        damaged[2].PixelData = b"zebrowski"
        send(damaged, gateway.port)
        gateway.wait_for("failed")
        metrics = urllib3.request("GET", f"http://127.0.0.1:{metrics_port}/metrics").data.decode()
    names = "\n".join(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    records = "\n".join(
        path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".json", ".csv", ".txt")
    )
    told = "\n".join((gateway.log_file.read_text(), metrics, names, records)).lower()
    for private in ("zebrowski", "quentin", PATIENT_ID, BIRTH, PROTOCOL, damaged[0].SeriesInstanceUID):
        assert private.lower() not in told
    assert 'scgm_gateway_series_total{outcome="sent"} 1.0' in metrics
    assert 'scgm_gateway_series_total{outcome="failed"} 1.0' in metrics
    for kind in ("client", "gateway"):
        assert sum(float(n) for n in re.findall(rf"scgm_{kind}_verdicts_total\{{.*\}} (.*)", metrics)) == 1
    assert 'scgm_gateway_pending{state="failed"} 1.0' in metrics


def test_a_kill_in_the_middle_of_an_association(tmp_path, relay, receiver):
    images = make_images(voxels_of(shape=(100, 100, 20)))
    with Process(tmp_path, relay, receiver) as gateway, futures.ThreadPoolExecutor() as pool:
        sending = pool.submit(send, images, gateway.port)
        until(lambda: len(list(tmp_path.rglob("images/*.dcm"))) > 3)
        gateway.kill()
        acknowledged = sending.result()
        assert 0 < len(acknowledged) < len(images)
        gateway.start()
        time.sleep(2)
        # A sender repeats what was not acknowledged, and that alone.
        rest = images[len(acknowledged) :]
        assert len(send(rest, gateway.port)) == len(rest)
        gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_kill_while_the_server_works(gateway, receiver, relay):
    images = make_images(voxels_of())
    relay.free.clear()
    send(images, gateway.port)
    until(lambda: relay.n_requests == 1)
    gateway.kill()
    relay.free.set()
    gateway.start()
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_kill_between_two_results(gateway, receiver):
    images = make_images(voxels_of())

    def kill_at_the_second(uid):
        if receiver.stored:
            receiver.before_storing = lambda uid: None
            gateway.kill()
            raise ConnectionError

    receiver.before_storing = kill_at_the_second
    send(images, gateway.port)
    until(lambda: gateway.process.poll() is not None)
    assert len(receiver.stored) == 1
    gateway.start()
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_kill_before_the_answer_repeats_that_result_alone(gateway, receiver):
    images = make_images(voxels_of())

    def kill_at_the_first(uid):
        receiver.before_answering = lambda uid: None
        gateway.kill()

    receiver.before_answering = kill_at_the_first
    send(images, gateway.port)
    until(lambda: gateway.process.poll() is not None)
    gateway.start()
    gateway.wait_for("sent")
    uids = [uid for uid, _ in receiver.stored]
    assert len(uids) == 3
    assert uids[0] == uids[1] != uids[2]
    assert receiver.stored[0][1] == receiver.stored[1][1]


def test_the_server_and_the_receiver_end_and_come_back(gateway, receiver, relay):
    images = make_images(voxels_of())
    relay.stop()

    ended = threading.Event()

    def end_at_the_second(uid):
        if receiver.stored:
            receiver.before_storing = lambda uid: None
            receiver.stop()
            ended.set()
            raise ConnectionError

    receiver.before_storing = end_at_the_second
    send(images, gateway.port)
    time.sleep(2)
    assert gateway.states() == {"incoming": 1}
    relay.start()
    assert ended.wait(30)
    line = gateway.wait_for("waiting")
    assert line["reason"] in ("no association", "no answer from the receiver", "the association was ended")
    assert gateway.states() == {"outgoing": 1}
    receiver.start()
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_series_that_fail_are_tried_again_when_asked(gateway, receiver):
    images = make_images(voxels_of())
    send([images[k] for k in (0, 1, 3, 4)], gateway.port)
    line = gateway.wait_for("failed")
    assert line["reason"] == "slices 4.00 to 8.00 mm apart; an image is missing, or they are not one volume"
    (reason,) = (gateway.folder / "store" / "failed").glob("*/reason.txt")
    assert reason.read_text() == f"{line['reason']}\n"
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(20) == 0
    assert gateway.events("stopped")

    gateway.arguments.append("--retry-failed")
    gateway.start()
    gateway.wait_for("failed", 2)
    # The missing image brings the series back without being asked.
    send(images[2:3], gateway.port)
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_deadline(tmp_path, relay, receiver):
    receiver.stop()
    with Process(tmp_path, relay, receiver, "--deadline", "2") as gateway:
        send(make_images(voxels_of()), gateway.port)
        line = gateway.wait_for("failed")
        assert line["reason"] == "no association; not done within --deadline"
        assert gateway.states() == {"failed": 1}
        (folder,) = (tmp_path / "store" / "failed").iterdir()
        assert {path.name for path in (folder / "results").glob("*.dcm")} == {SEGMENTATION, PICTURE}


def test_who_may_send_and_how_much(tmp_path, relay, receiver):
    image = make_images(voxels_of())[:1]
    with Process(tmp_path, relay, receiver, "--calling", "SCANNER", "--max-gb", "1e-6") as gateway:
        assert send(image, gateway.port, calling="OTHER") == []
        assert send(image, gateway.port, title="OTHER") == []
        assert send(image, gateway.port) == []
        assert gateway.wait_for("refused")["reason"] == "the folder holds --max-gb"
        del image[0].SeriesInstanceUID
        assert send(image, gateway.port) == []
        assert gateway.wait_for("refused", 2)["reason"] == "not understood (AttributeError)"
        assert gateway.states() == {}


def test_dicom_over_tls(tmp_path, relay, receiver):
    """Both sides show certificates; neither a sender without one nor one that says nothing holds others up."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    receiver.stop()
    receiver.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(receiver.tls)
    authority.configure_trust(receiver.tls)
    receiver.tls.verify_mode = ssl.CERT_REQUIRED
    receiver.start()
    files = [f"--dicom-{name}={tmp_path / name}.pem" for name in ("cert", "key", "ca")]
    scanner, stranger = (ssl.create_default_context(cafile=tmp_path / "ca.pem") for _ in range(2))
    authority.issue_cert("scanner").configure_cert(scanner)
    images = make_images(voxels_of())
    with Process(tmp_path, relay, receiver, *files) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)):
            assert send(images, gateway.port, tls=stranger) == []
            assert len(send(images, gateway.port, tls=scanner)) == len(images)
        gateway.wait_for("sent")
    check_results(receiver, images)
