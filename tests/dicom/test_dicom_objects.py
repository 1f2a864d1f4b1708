"""Results as DICOM objects."""

import io

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_images import BIRTH, PATIENT, PATIENT_ID, SHAPE, make_images, png, read, save, segmented, voxels_of
from PIL import Image
from pydicom.dataelem import RawDataElement

from keras_scgm.dicom.objects import PICTURE, SEGMENTATION, make_results, make_segmentation
from keras_scgm.dicom.series import read_series


def test_the_segmentation_is_the_mask_in_its_place(tmp_path):
    series = read_series(save(make_images(voxels_of()), tmp_path / "in"))
    mask = series.volume.array > 100
    stored = hd.seg.segread(io.BytesIO(make_segmentation(series, segmented(mask))))
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


def test_gray_matter_white_matter_and_cord_are_segments(tmp_path):
    series = read_series(save(make_images(voxels_of()), tmp_path / "in"))
    gray_matter, cord = series.volume.array > 100, series.volume.array > 50
    masks = (gray_matter, cord & ~gray_matter, cord)
    made = segmented(*masks)
    stored = hd.seg.segread(io.BytesIO(make_segmentation(series, made)))
    volume = stored.get_volume().match_geometry(series.volume)
    np.testing.assert_array_equal(volume.array, np.stack(masks, axis=-1))
    kinds = [stored.get_segment_description(number).segmented_property_type for number in (1, 2, 3)]
    assert kinds == [
        pydicom.sr.coding.Code("12958003", "SCT", "Spinal cord gray matter"),
        pydicom.sr.coding.Code("27088001", "SCT", "Spinal cord white matter"),
        pydicom.sr.coding.Code("2748008", "SCT", "Spinal cord"),
    ]
    assert stored.SeriesDescription == "Gray matter and cord, research only: review, predicted DSC 0.81"
    assert len(set(stored.get_tracking_ids())) == 3


def test_an_empty_mask_is_a_segmentation_too(tmp_path):
    series = read_series(save(make_images(voxels_of()), tmp_path / "in"))
    nothing = segmented(np.zeros(SHAPE, np.uint8), predicted_dsc=float("nan"), verdict="fail")
    stored = hd.seg.segread(io.BytesIO(make_segmentation(series, nothing)))
    assert stored.get_volume(combine_segments=True).array.shape == SHAPE[::-1]
    assert stored.SeriesDescription == "Gray matter, research only: fail"


def test_both_results_belong_to_the_patient_and_study(tmp_path):
    images = make_images(voxels_of())
    series = read_series(save(images, tmp_path / "in"))
    long = segmented(series.volume.array > 100, texts=("reason " * 500,), version="v" * 99)
    made = {name: read(content) for name, content in make_results(series, long, png()).items()}
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
    with Image.open(io.BytesIO(png())) as picture:
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
    made = make_results(series, segmented(mask), png())
    for result in map(read, made.values()):
        assert [result[keyword].value for keyword in list(sent)[1:5]] == list(sent.values())[1:5]
        assert result.SpecificCharacterSet == "ISO_IR 192"
        assert result.SeriesNumber in (9001, 9002)
    stored = hd.seg.segread(io.BytesIO(made[SEGMENTATION])).get_volume(combine_segments=True)
    np.testing.assert_array_equal(stored.match_geometry(series.volume).array, mask)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_name_in_characters_that_the_header_does_not_tell(tmp_path, encoding):
    images = make_images(voxels_of())
    for image in images:
        del image.SpecificCharacterSet
        name = "Müller^Jürgen".encode(encoding)
        image[0x00100010] = RawDataElement(pydicom.tag.Tag(0x00100010), "PN", len(name), name, 0, False, True)
    series = read_series(save(images, tmp_path / "in"))
    for result in map(read, make_results(series, segmented(series.volume.array > 100), png()).values()):
        assert str(result.PatientName) == "Müller^Jürgen"


def test_identifiers_depend_on_images_and_origin_alone(tmp_path):
    images = make_images(voxels_of())
    series = read_series(save(images, tmp_path / "in"))
    mask = series.volume.array > 100

    def identifiers(series, given):
        made = [read(content) for content in make_results(series, given, png()).values()]
        return {uid for result in made for uid in (result.SOPInstanceUID, result.SeriesInstanceUID)}

    first = identifiers(series, segmented(mask))
    assert len(first) == 4
    assert all(pydicom.uid.UID(uid).is_valid for uid in first)
    assert identifiers(series, segmented(mask)) == first
    assert not identifiers(series, segmented(mask, origin={"weights": "others"})) & first
    fewer = read_series(save(images[:4], tmp_path / "fewer"))
    assert not identifiers(fewer, segmented(mask[..., :4])) & first
