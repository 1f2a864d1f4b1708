"""Reads DICOM series: which are segmented, their images as one volume, and its voxels as a NIfTI file."""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.multival import MultiValue
from pydicom.uid import (
    EnhancedMRImageStorage,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from keras_scgm.errors import InputError

MULTI_FRAME = (EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
MR_CLASSES = (MRImageStorage, *MULTI_FRAME)
SHORTEST_ECHO_MS = 4.0
"""Gradient echoes with shorter echo times are T1- or proton density-weighted."""
MAX_VOXELS = 2**27
"""Voxels of the largest series that is read; usual series have about 2**21."""
ORIENTATION_TOLERANCE = 1e-3
"""Tolerance of direction cosines, which scanners round differently from image to image."""

PER_FRAME = "PerFrameFunctionalGroupsSequence"

_WITH_START_OF_FRAME = (JPEGLSLossless, JPEGLSNearLossless, JPEGLossless, JPEGLosslessSV1)
_STARTS_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second bytes of the markers, of JPEG and of JPEG-LS."""

OTHER_KIND = "a localizer, a phase image or a projection"
"""Reason against images that may lie at the places of others in their series."""
_OTHER_KINDS = {"LOCALIZER", "PROJECTION IMAGE", "P", "PHASE", "PHASE MAP", "MIP", "MPR"}
_REQUIRED = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelData",
)
_REQUIRED_OF_FRAMES = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_COMMON = {
    "StudyInstanceUID": "studies",
    "PatientID": "patients",
    "PatientName": "patients",
    "FrameOfReferenceUID": "frames of reference",
    "Rows": "sizes",
    "Columns": "sizes",
    "PixelSpacing": "spacings",
}


class SeriesError(InputError):
    """The series cannot be segmented; the message is one line without patient data."""


@dataclass(frozen=True)
class Series:
    """Images of a series and their volume.

    Args:
        images: Single-frame images, or one multi-frame image.
        volume: Voxels along columns, rows and slices, in DICOM's patient coordinates.
    """

    images: Sequence[Dataset]
    volume: hd.Volume


def quiet() -> warnings.catch_warnings:
    """Context in which DICOM packages do not warn; their warnings quote headers."""
    return warnings.catch_warnings(action="ignore")


def why_unusable(image: Dataset) -> str:
    """Reason why an image cannot be part of a volume to segment, whatever its contrast; empty if it can.

    Args:
        image: Header of any DICOM object.
    """
    if image.get("SOPClassUID") not in MR_CLASSES or image.get("Modality", "MR") != "MR":
        return "not an MR image"
    if _OTHER_KINDS.intersection(values_of(image, "ImageType")):
        return OTHER_KIND
    if len(values_of(image, "ImageOrientationPatient")) != 6:
        return "no orientation in the header"
    return ""


def why_ignored(image: Dataset, match: re.Pattern[str] | None = None) -> str:
    """Reason why an image does not belong to a T2*-weighted axial series; empty if it does.

    Args:
        image: Header of any DICOM object.
        match: Pattern for protocol, series description or sequence name; replaces the rule for sequence and echo
            time.
    """
    if reason := why_unusable(image):
        return reason
    orientation = values_of(image, "ImageOrientationPatient")
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    if normal.argmax() != 2:
        return "not axial"
    if match is not None:
        names = (str(image.get(name, "")) for name in ("ProtocolName", "SeriesDescription", "SequenceName"))
        return "" if any(match.search(name) for name in names) else "its names do not match --match"
    kinds = {str(kind) for kind in values_of(image, "ScanningSequence")}
    is_gradient = ("GR" in kinds and not kinds & {"IR", "SE"}) or "GRADIENT" in values_of(
        image, "EchoPulseSequence"
    )
    if not is_gradient or "YES" in values_of(image, "InversionRecovery"):
        return "not a gradient echo"
    echo_ms = values_of(image, "EchoTime") or values_of(image, "EffectiveEchoTime")
    if not echo_ms or float(echo_ms[0]) < SHORTEST_ECHO_MS:
        return f"an echo time under {SHORTEST_ECHO_MS:g} ms, or none in the header"
    return ""


def read_series(files: Sequence[Path]) -> Series:
    """Read all images of a series.

    Raises:
        SeriesError: The images are not one volume of evenly spaced slices.
    """
    images = [dcmread(file) for file in sorted(files)]
    _check(images)
    try:
        if images[0].SOPClassUID in MULTI_FRAME:
            volume = hd.Image.from_dataset(images[0], copy=False).get_volume(
                apply_real_world_transform=False, rtol=0.01
            )
        else:
            if len(images) == 1:
                spacing = images[0].get("SpacingBetweenSlices") or images[0].get("SliceThickness")
                images[0].SpacingBetweenSlices = spacing or 1.0
            volume = hd.get_volume_from_series(
                images, apply_real_world_transform=False, orientation_tol=ORIENTATION_TOLERANCE
            )
    except Exception as error:
        for image in images:
            if not _has_pixels(image):
                raise SeriesError(
                    f"the pixels of image {_file_name(image)} cannot be read; copy it again"
                ) from error
        # Error messages of other packages may contain patient data from the header.
        raise SeriesError(
            f"its images are not one volume that can be read ({type(error).__name__})"
        ) from error
    return Series(images, volume.permute_spatial_axes([2, 1, 0]))


def write_nifti(series: Series, path: Path) -> None:
    """Write the volume, as whole numbers if its values are whole."""
    values = series.volume.array
    is_whole = np.array_equal(values, np.rint(values)) and np.abs(values).max() < 2**31
    image = nib.Nifti1Image(
        values.astype(np.int64 if is_whole else np.float32),
        series.volume.get_affine("RAS"),
        dtype="smallest" if is_whole else np.float32,
    )
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    nib.save(image, path)


def _check(images: Sequence[Dataset]) -> None:
    """Name the usual faults, for which highdicom has a single message."""
    if not images:
        raise SeriesError("it has no images")
    is_multi_frame = images[0].SOPClassUID in MULTI_FRAME
    if is_multi_frame and len(images) > 1:
        raise SeriesError(f"it has {len(images)} multi-frame images, which are not one volume")
    for keyword in (*_REQUIRED, *(() if is_multi_frame else _REQUIRED_OF_FRAMES)):
        for image in images:
            if image.get(keyword) is None:
                raise SeriesError(f"image {_file_name(image)} lacks {keyword}")
    if any(image.SamplesPerPixel != 1 for image in images):
        raise SeriesError("color images")
    if any(image.get("LossyImageCompression") == "01" for image in images):
        raise SeriesError("images that were compressed with loss; take those of the scanner")
    sizes = [(image.Rows, image.Columns, int(image.get("NumberOfFrames", 1) or 1)) for image in images]
    for image, size in zip(images, sizes, strict=True):
        # A negative number would hide the voxels of other images in the sum.
        if min(size) < 1:
            raise SeriesError(
                f"image {_file_name(image)} has {size[0]} x {size[1]} voxels in {size[2]} frames"
            )
    n_voxels = sum(map(math.prod, sizes))
    if n_voxels > MAX_VOXELS:
        raise SeriesError(f"{n_voxels / 1e6:.0f} million voxels, too many for an axial series of the cord")
    for image, size in zip(images, sizes, strict=True):
        _check_coded_size(image, *size)
    if is_multi_frame:
        _check_echoes({str(echo) for frame in images[0].get(PER_FRAME, []) for echo in _echo_times(frame)})
        return
    for keyword, plural in _COMMON.items():
        if len({str(image.get(keyword, "")) for image in images}) > 1:
            raise SeriesError(f"images of several {plural}; a series must be one volume")
    directions = np.array([image.ImageOrientationPatient for image in images], float)
    if np.ptp(directions, axis=0).max() > ORIENTATION_TOLERANCE:
        raise SeriesError("images of several orientations; a series must be one volume")
    places = Counter(tuple(map(float, image.ImagePositionPatient)) for image in images)
    if max(places.values()) > 1:
        _check_echoes({str(image.get("EchoTime")) for image in images})
        raise SeriesError("several images at one position (perhaps repetitions; average them first)")
    normal = np.cross(directions[0][:3], directions[0][3:])
    steps = np.diff(np.sort(np.array(list(places)) @ normal))
    if len(steps) and np.ptp(steps) > 0.02 * steps.mean():
        raise SeriesError(
            f"slices {steps.min():.2f} to {steps.max():.2f} mm apart; an image is missing, or they are not one volume"
        )


def _check_coded_size(image: Dataset, n_rows: int, n_columns: int, n_frames: int) -> None:
    """Check that compressed frames have the size of the header: decoders take memory for what the frames claim.

    Pillow bounds the size of JPEG 2000 images, and RLE expands a file at most 64 times.
    """
    if image.file_meta.get("TransferSyntaxUID") not in _WITH_START_OF_FRAME:
        return
    try:
        for frame in generate_frames(image.PixelData, number_of_frames=n_frames):
            if _coded_size(frame) != (n_rows, n_columns):
                raise ValueError("another size")
    # What damaged pixels raise can be of any type.
    except Exception as error:
        raise SeriesError(
            f"the pixels of image {_file_name(image)} are damaged, or not of the size in its header; copy it again"
        ) from error


def _coded_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns in the start of frame of a JPEG or JPEG-LS image (ISO/IEC 10918-1, B.2.2)."""
    place = 2
    while frame[place + 1] not in _STARTS_OF_FRAME:
        if frame[place] != 0xFF:
            raise ValueError("no marker")
        (n_bytes,) = struct.unpack_from(">H", frame, place + 2)
        place += 2 + n_bytes
    n_rows, n_columns = struct.unpack_from(">2H", frame, place + 5)
    return n_rows, n_columns


def _check_echoes(times_ms: Collection[str]) -> None:
    if len(times_ms) > 1:
        raise SeriesError(f"several images at one position ({len(times_ms)} echo times; combine them first)")


def _echo_times(frame: Dataset) -> list[Any]:
    return [echo.get("EffectiveEchoTime") for echo in frame.get("MREchoSequence", [])]


def _has_pixels(image: Dataset) -> bool:
    try:
        return image.pixel_array.size > 0
    # What damaged pixels raise can be of any type.
    except Exception:
        return False


def _file_name(image: Dataset) -> str:
    return Path(getattr(image, "filename", None) or "").name


def place_of(image: Dataset) -> tuple[int, ...]:
    """Place of an image in tenths of a millimetre; empty if the header has none."""
    return tuple(round(10 * float(value)) for value in values_of(image, "ImagePositionPatient"))


def values_of(image: Dataset, keyword: str) -> list[Any]:
    """Values of an attribute, in a multi-frame image those of the first frame; empty if none."""
    for place in _places(image):
        value = place.get(keyword)
        if value is not None and value != "":
            return list(value) if isinstance(value, MultiValue) else [value]
    return []


def _places(image: Dataset) -> Iterator[Dataset]:
    yield image
    for groups in ("SharedFunctionalGroupsSequence", PER_FRAME):
        for group in image.get(groups, [])[:1]:
            for element in group:
                if element.VR == "SQ":
                    yield from element.value[:1]
