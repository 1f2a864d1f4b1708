"""Creates the DICOM objects of a result: the segmentation and the picture."""

from __future__ import annotations

import io
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from PIL import Image
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes

from keras_scgm.dicom.series import Series, SeriesError
from keras_scgm.grids import grid_difference
from keras_scgm.messages import verdict_text

MAKER, PRODUCT, SERIAL_NUMBER = "keras_scgm", "keras-scgm", "0"
UTF8 = "ISO_IR 192"
SEGMENTATION, PICTURE = "1_segmentation.dcm", "2_picture.dcm"
"""Names of the files, in the order in which they are sent."""

_IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Attributes by which archives match objects; copied from the images unchanged, even if they are invalid."""
_SEGMENTS = (
    ("gray matter", codes.SCT.SpinalCordGrayMatter),
    ("white matter", codes.SCT.SpinalCordWhiteMatter),
    ("cord", codes.SCT.SpinalCord),
)
"""Short name and code of each segment; the first alone if the model does not segment the cord."""
_ORIGIN = (
    "program",
    "runtime",
    "weights",
    "cord_weights",
    "cord_sha256",
    "settings",
    "threshold",
    "cord_threshold",
    "slices",
    "precision",
)
"""Entries of a record on which a result depends, besides its image."""
_LONG_STRING, _SHORT_TEXT = 64, 1024
_LARGEST_INTEGER_STRING = 2**31 - 1


@dataclass(frozen=True)
class SegmentedSeries:
    """Result for a series.

    Args:
        masks: Masks of gray matter, white matter and cord, or of gray matter alone; voxels along columns, rows and
            slices, 0 or 1.
        verdict: "pass", "review" or "fail".
        predicted_dsc: Expected Dice coefficient with a reference; NaN if unknown.
        texts: Reason of the verdict, and warnings.
        version: Readable version of program and weights.
        origin: Settings on which the result depends besides the images; another origin gives other identifiers.
    """

    masks: Sequence[np.ndarray] = field(repr=False)
    verdict: str
    predicted_dsc: float
    texts: tuple[str, ...]
    version: str
    origin: Mapping[str, Any]

    @classmethod
    def from_record(cls, masks: Sequence[np.ndarray], record: Mapping[str, Any]) -> SegmentedSeries:
        """Result whose findings are in a JSON record, that of `keras-scgm segment` or of the client.

        Args:
            masks: As above.
            record: Content of the record.
        """
        quality = record["quality"]
        weights = " + ".join(entry["name"] for entry in record["weights"])
        return cls(
            masks=masks,
            verdict=quality["verdict"],
            predicted_dsc=math.nan if quality["predicted_dsc"] is None else quality["predicted_dsc"],
            texts=tuple(text for text in (quality["reason"], *record["warnings"]) if text),
            version=f"{record['program']}, weights {weights}",
            origin={key: record[key] for key in _ORIGIN if key in record},
        )

    @property
    def title(self) -> str:
        """Text for the lists of a viewer."""
        content = "Gray matter" if len(self.masks) == 1 else "Gray matter and cord"
        return _cut(
            f"{content}, research only: {verdict_text(self.verdict, self.predicted_dsc)}", _LONG_STRING
        )

    @property
    def description(self) -> str:
        content = (
            "Spinal cord gray matter" if len(self.masks) == 1 else "Spinal cord, its gray and white matter"
        )
        lines = (
            f"{content}. For research, not for diagnosis.",
            f"Verdict: {verdict_text(self.verdict, self.predicted_dsc)}.",
            *self.texts,
        )
        return _cut("\r\n".join(lines), _SHORT_TEXT)


def on_grid_of(series: Series, voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxels of an image in the order of a series on the same grid.

    Args:
        series: Images of the series.
        voxels: Shape (i, j, k), stored in any order.
        affine: 4x4 matrix from voxel indices to millimetres in RAS+ world coordinates.

    Returns:
        The voxels along columns, rows and slices.

    Raises:
        SeriesError: The image lies on another grid.
    """
    of_series = series.volume.get_affine("RAS")
    if difference := grid_difference(voxels.shape, affine, series.volume.spatial_shape, of_series):
        raise SeriesError(f"the image is not on the grid of the series: {difference}")
    to_series = np.linalg.inv(of_series) @ affine
    return nib.orientations.apply_orientation(voxels, nib.orientations.io_orientation(to_series))


def make_segmentation(series: Series, segmented: SegmentedSeries) -> bytes:
    """Create the DICOM segmentation as a file.

    Its identifiers depend only on the images and the origin of the result, so that an archive recognizes a result
    that is created again.

    Args:
        series: Images of the series.
        segmented: Result for the series.
    """
    return _file(_segmentation(series, segmented), series)


def make_results(series: Series, segmented: SegmentedSeries, picture: bytes) -> dict[str, bytes]:
    """Create the segmentation and the picture as files.

    Args:
        series: Images of the series.
        segmented: Result for the series.
        picture: Picture for quality control, PNG.

    Returns:
        File name -> content; identifiers as in `make_segmentation`.
    """
    return {
        SEGMENTATION: make_segmentation(series, segmented),
        PICTURE: _file(_picture(series, segmented, picture), series),
    }


def _file(made: Dataset, series: Series) -> bytes:
    """An object with the identity of the images, as a file."""
    image, buffer = series.images[0], io.BytesIO()
    for keyword in _IDENTITY:
        if keyword in image:
            made.add(image[keyword] if "SpecificCharacterSet" in image else _as_utf8(image[keyword]))
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _as_utf8(element: DataElement) -> DataElement:
    """Text of a header that does not name its characters, which pydicom reads as Latin 1, but is often UTF-8."""
    if element.VR not in ("PN", "LO", "SH") or element.VM != 1:
        return element
    with suppress(UnicodeError):
        return DataElement(element.tag, element.VR, str(element.value).encode("latin-1").decode("utf-8"))
    return element


def _sources(series: Series) -> list[Dataset]:
    return [_without_identity(image, series) for image in series.images]


def _without_identity(image: Dataset, series: Series) -> Dataset:
    """Copy of a header without identifying values, because highdicom refuses invalid ones."""
    header = Dataset()
    for element in image:
        if element.keyword not in (*_IDENTITY, "PixelData"):
            header.add(element)
    for keyword in _IDENTITY:
        setattr(header, keyword, "")
    shared = header.get("SharedFunctionalGroupsSequence")
    if shared:
        # highdicom looks for the geometry there alone; Philips has it in every frame.
        groups = Dataset(shared[0])
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if keyword not in groups:
                groups[keyword] = image.PerFrameFunctionalGroupsSequence[0][keyword]
        header.SharedFunctionalGroupsSequence = [groups]
    if not header.get("SliceThickness"):
        header.SliceThickness = f"{series.volume.spacing_between_slices:.6g}"
    return header


def _segmentation(series: Series, segmented: SegmentedSeries) -> Dataset:
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MAKER, family=codes.DCM.ArtificialIntelligence, version=_cut(segmented.version, _LONG_STRING)
    )
    segments = []
    for number, (name, code) in enumerate(_SEGMENTS[: len(segmented.masks)], 1):
        segment = hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=code.meaning,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=code,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=_uid(series, segmented, f"segment {name}"),
            tracking_id=f"{MAKER} {name}",
        )
        segment.SegmentDescription = segmented.description
        segments.append(segment)
    masks = series.volume.with_array(
        np.stack(segmented.masks, axis=-1).astype(np.uint8),
        channels={"SegmentNumber": [segment.segment_number for segment in segments]},
    )
    return hd.seg.Segmentation(
        source_images=_sources(series),
        pixel_array=masks.permute_spatial_axes([2, 1, 0]),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        omit_empty_frames=False,
        content_label="GRAY_MATTER" if len(segments) == 1 else "SPINAL_CORD",
        content_description=segmented.title,
        content_qualification=hd.ContentQualificationValues.RESEARCH,
        device_serial_number=SERIAL_NUMBER,
        **_common(series, segmented, "segmentation", 1),
    )


def _picture(series: Series, segmented: SegmentedSeries, png: bytes) -> Dataset:
    sources = _sources(series)
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    capture = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=sources[0],
        pixel_array=pixels,
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        **_common(series, segmented, "picture", 2),
    )
    capture.DerivationDescription = segmented.description
    # "YES" would mean that the picture contains identifying text; its text describes the mask.
    capture.BurnedInAnnotation = "NO"
    capture.SourceImageSequence = [_reference(image) for image in sources]
    return capture


def _common(series: Series, segmented: SegmentedSeries, kind: str, number: int) -> dict[str, Any]:
    series_number = 100 * int(series.images[0].get("SeriesNumber") or 90) + number
    return {
        "series_instance_uid": _uid(series, segmented, f"series of {kind}"),
        "sop_instance_uid": _uid(series, segmented, kind),
        "series_number": series_number if 0 < series_number <= _LARGEST_INTEGER_STRING else 9000 + number,
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": PRODUCT,
        "software_versions": _cut(segmented.version, _LONG_STRING),
        "series_description": segmented.title,
        "specific_character_set": UTF8,
    }


def _uid(series: Series, segmented: SegmentedSeries, kind: str) -> str:
    identity = [sorted(str(image.SOPInstanceUID) for image in series.images), dict(segmented.origin), kind]
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(identity, sort_keys=True)).int}"


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return reference


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
