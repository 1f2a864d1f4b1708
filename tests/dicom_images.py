"""DICOM images and findings for tests."""

import io

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from keras_scgm.dicom.objects import SegmentedSeries

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


def segmented(*masks, **changed):
    settings = {
        "masks": masks,
        "verdict": "review",
        "predicted_dsc": 0.8123,
        "texts": ("gray matter near an edge", "an area of 25 mm²"),
        "version": "keras_scgm 0.1.0, weights tiny",
        "origin": {"weights": [{"name": "tiny", "sha256": "0" * 64}]},
    }
    return SegmentedSeries(**{**settings, **changed})


def read(content):
    return pydicom.dcmread(io.BytesIO(content))


def converted(images):
    return hd.legacy.LegacyConvertedEnhancedMRImage(images, generate_uid(), 8, generate_uid(), 1)


def in_dicom_order(image, affine, shape, atol=1e-2):
    """Voxels of a NIfTI image at the places of a DICOM grid."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    world = nib.affines.apply_affine(np.diag([-1, -1, 1, 1]) @ affine, places)
    found = nib.affines.apply_affine(np.linalg.inv(image.affine), world)
    np.testing.assert_allclose(found, np.rint(found), atol=atol)
    return np.asarray(image.dataobj)[tuple(np.rint(found).astype(int).T)].reshape(shape)
