"""Which series are segmented, and their voxels as a NIfTI file."""

import io
import re

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_images import (
    SHAPE,
    SPACING_MM,
    affine_of,
    converted,
    in_dicom_order,
    make_images,
    save,
    segmented,
    voxels_of,
)
from highdicom.frame import encode_frame
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless, JPEGLSNearLossless, RLELossless

from keras_scgm.dicom.objects import make_segmentation
from keras_scgm.dicom.series import SeriesError, read_series, why_ignored, write_nifti


def test_an_oblique_series_in_any_order(tmp_path):
    voxels, affine = voxels_of(), affine_of()
    series = read_series(save(make_images(voxels, affine), tmp_path / "in"))
    write_nifti(series, tmp_path / "a.nii.gz")
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.uint8
    # The slices may be stacked either way; each voxel must be where it was.
    np.testing.assert_array_equal(in_dicom_order(image, affine, SHAPE, atol=1e-4), voxels)
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


def test_a_multi_frame_image(tmp_path):
    images = make_images(voxels_of())
    frames = converted(images)
    assert why_ignored(frames) == ""
    one = read_series(save([frames], tmp_path / "in"))
    many = read_series(save(images, tmp_path / "single"))
    np.testing.assert_array_equal(one.volume.array, many.volume.array)
    np.testing.assert_allclose(one.volume.affine, many.volume.affine, atol=1e-5)
    mask = one.volume.array > 100
    result = hd.seg.segread(io.BytesIO(make_segmentation(one, segmented(mask))))
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
        (moved, r"several images at one position \(perhaps repetitions; average them first\)"),
        (other_echo, r"several images at one position \(2 echo times; combine them first\)"),
        (turned_image, "images of several orientations"),
        (other_size, "images of several spacings"),
        (lambda images: without(images, "FrameOfReferenceUID"), r"image \d\.dcm lacks FrameOfReferenceUID"),
        (lambda images: without(images, "PixelData"), r"image \d\.dcm lacks PixelData"),
        (lambda images: setattr(images[0], "SamplesPerPixel", 3), "color images"),
        (
            lambda images: setattr(images[0], "PixelData", b"short"),
            r"the pixels of image 0\.dcm cannot be read; copy it again",
        ),
        (lambda images: setattr(images[3], "PatientID", "other"), "images of several patients"),
        (lambda images: setattr(images[3], "PatientName", "other"), "images of several patients"),
        (
            lambda images: setattr(images[3], "LossyImageCompression", "01"),
            "images that were compressed with loss",
        ),
        (lambda images: images.clear(), "it has no images"),
        (
            lambda images: setattr(images[1], "NumberOfFrames", -1),
            r"image \d\.dcm has 10 x 12 voxels in -1 frames",
        ),
        (lambda images: setattr(images[1], "Rows", 0), r"image \d\.dcm has 0 x 12 voxels in 1 frames"),
        (huge, "1342 million voxels, too many for an axial series of the cord"),
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


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLSNearLossless])
@pytest.mark.parametrize("change", [(b"\x00\x40\x00\x40", b"\xff\xff\xff\xff"), (b"\xff\xf7", b"\x00\x00")])
def test_compressed_images_of_another_size_than_their_header(change, syntax, tmp_path):
    """A decoder would take memory for as many voxels as they claim."""
    images = make_images(voxels_of(shape=(64, 64, 3)))
    for image in images:
        frame = encode_frame(image.pixel_array, JPEGLSLossless, 8, 8, "MONOCHROME2")
        assert change[0] in frame[:20]
        image.PixelData = encapsulate([frame.replace(*change, 1)])
        image.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(SeriesError, match=r"image 0\.dcm are damaged, or not of the size in its header"):
        read_series(save(images, tmp_path / "in"))


def test_images_without_a_transfer_syntax_are_refused(tmp_path):
    files = save(make_images(voxels_of()), tmp_path / "in")
    for path in files:
        image = pydicom.dcmread(path)
        del image.file_meta.TransferSyntaxUID
        image.save_as(path, enforce_file_format=False)
    with pytest.raises(SeriesError, match=r"the pixels of image 0\.dcm cannot be read; copy it again"):
        read_series(files)


def test_a_multi_frame_image_of_several_echoes_is_refused(tmp_path):
    frames = converted(make_images(voxels_of()))
    for echo_ms, frame in enumerate(frames.PerFrameFunctionalGroupsSequence):
        echo = pydicom.Dataset()
        echo.EffectiveEchoTime = 5.0 + echo_ms % 2
        frame.MREchoSequence = [echo]
    with pytest.raises(SeriesError, match=r"\(2 echo times; combine them first\)"):
        read_series(save([frames], tmp_path / "in"))


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
