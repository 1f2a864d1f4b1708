"""NIfTI files that cannot be used: one line each, that says what is wrong."""

import gzip
import os

import nibabel as nib
import numpy as np
import pytest
from nifti_files import SHAPE, good_bytes, las_data, patched, save

from keras_scgm.errors import InputError
from keras_scgm.nifti import read_layout, read_volume, reading, volume_from_image


def rgb(tmp_path):
    data = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    return save(tmp_path / "rgb.nii", data).read_bytes()


def dicom(tmp_path):
    return b"\0" * 128 + b"DICM" + b"\0" * 600


BAD_FILES = {
    "empty": (lambda p: b"", "the file is empty"),
    "truncated": (lambda p: bytes(good_bytes(p)[:-7]), "it is cut short or its header is damaged"),
    "header only": (lambda p: bytes(good_bytes(p)[:200]), "not a NIfTI file"),
    "text": (lambda p: b"hello " * 200, "not a NIfTI file"),
    "dicom": (dicom, "a DICOM file, not NIfTI; convert it, for example with dcm2niix"),
    "pair": (patched(344, "4s", b"ni1\0"), r"\.hdr/\.img pair"),
    "damaged gzip": (
        lambda p: (lambda z: z[:60] + bytes(b ^ 0x55 for b in z[60:75]) + z[75:])(
            gzip.compress(good_bytes(p))
        ),
        "gzip data damaged or cut short",
    ),
    "truncated gzip": (lambda p: gzip.compress(good_bytes(p))[:-20], "gzip data damaged or cut short"),
    "wrong checksum": (
        lambda p: (lambda z: z[:-8] + b"\1\2\3\4" + z[-4:])(gzip.compress(good_bytes(p))),
        "gzip data damaged or cut short",
    ),
    "gzip of a truncated file": (lambda p: gzip.compress(good_bytes(p)[:-7]), "it is cut short"),
    "rgb": (rgb, "colour .RGB. voxels"),
    "complex": (
        lambda p: save(p / "c.nii", las_data().astype("complex64")).read_bytes(),
        "complex voxels; save the magnitude",
    ),
    "unknown type": (patched(70, "<h", 999), "voxel type code 999 is not supported"),
    "one bit": (patched(70, "<h", 1), "voxel type code 1 is not supported"),
    "zero spacing": (patched(80, "<f", 0.0), "voxel spacing 0 x 0.5 x 5 mm is not positive"),
    "negative spacing": (patched(84, "<f", -0.5), "voxel spacing 0.5 x -0.5 x 5 mm is not positive"),
    "nan spacing": (patched(84, "<f", float("nan")), "is not positive"),
    "zero slices": (patched(40, "<8h", 3, 5, 4, 0, 1, 1, 1, 1), "hold no slice"),
    "negative size": (patched(40, "<8h", 3, 5, -4, 3, 1, 1, 1, 1), "hold no slice"),
    "one dimension": (patched(40, "<8h", 1, 60, 1, 1, 1, 1, 1, 1), "hold no slice"),
    "gigabytes": (
        patched(40, "<8h", 3, 1000, 1000, 32767, 1, 1, 1, 1),
        r"the header claims 65.5 GB of data, the file holds",
    ),
    "gigabytes in gzip": (
        lambda p: gzip.compress(patched(40, "<8h", 3, 1000, 1000, 32767, 1, 1, 1, 1)(p)),
        r"the header claims 65.5 GB of data, the file holds",
    ),
    "singular sform": (patched(280, "<12f", *[0.0] * 12), "no usable affine"),
    "flat sform": (
        patched(280, "<12f", -0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0),
        "no usable affine, it maps the voxels onto a plane",
    ),
    # Codes 1 and 0 at byte 252, then the quaternion (1, 1, 1).
    "long quaternion": (patched(252, "<2h3f", 1, 0, 1.0, 1.0, 1.0), "no usable affine"),
    "nan sform": (patched(280, "<f", float("nan")), "no usable affine"),
    "bad offset": (patched(108, "<f", float("nan")), "vox_offset nan is unusable"),
    "bad scaling": (patched(112, "<2f", 2.0, float("nan")), "scl_inter is not finite"),
    "metres": (
        patched(280, "<12f", -50, 0, 0, 0, 0, 50, 0, 0, 0, 0, 50, 0),
        "axial voxels of 50 x 50 mm, outside 0.01 to 5 mm; check the units",
    ),
    "one coarse axis": (
        patched(280, "<12f", -0.5, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0.5, 0),
        "axial voxels of 0.5 x 6 mm, outside 0.01 to 5 mm",
    ),
    "one fine axis": (
        patched(280, "<12f", -0.5, 0, 0, 0, 0, 0.005, 0, 0, 0, 0, 0.5, 0),
        "axial voxels of 0.5 x 0.005 mm, outside 0.01 to 5 mm",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_in_one_line(tmp_path, name):
    build, message = BAD_FILES[name]
    path = tmp_path / "bad.nii"
    path.write_bytes(build(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        read_volume(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_random_damage_to_a_header_is_refused_or_harmless(tmp_path):
    rng = np.random.default_rng(0)
    good = good_bytes(tmp_path)
    path = tmp_path / "bad.nii"
    messages = []
    for _ in range(400):
        raw = good.copy()
        for position in rng.integers(0, 348, rng.integers(1, 5)):
            raw[position] = rng.integers(0, 256)
        path.write_bytes(raw)
        try:
            read_volume(path).read_slices(0, 1)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 40
    assert all(message.startswith(str(path)) and "\n" not in message for message in messages)


def test_layout_is_read_without_the_voxels(tmp_path):
    path = tmp_path / "v.nii.gz"
    noise = np.random.default_rng(0).bytes(100_000)
    path.write_bytes(gzip.compress(bytes(good_bytes(tmp_path)) + noise)[:-20])
    layout = read_layout(path)
    assert layout.grid_shape == SHAPE
    np.testing.assert_allclose(layout.affine, np.diag([-0.5, 0.5, 5, 1]))
    with pytest.raises(InputError, match="cut short"):
        read_volume(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_volume(tmp_path / "none.nii.gz")
    with pytest.raises(InputError, match="is a folder"):
        read_volume(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_not_read(tmp_path):
    path = tmp_path / "pipe.nii"
    os.mkfifo(path)
    # With a writer, a program that opens it does not wait forever.
    with open(os.open(path, os.O_RDWR), "wb"), pytest.raises(InputError, match="a pipe, not a file"):
        read_volume(path)


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(reading, "open", refuse, raising=False)
    with pytest.raises(InputError, match="not readable; check its permissions"):
        read_volume(tmp_path / "v.nii")


def test_images_in_memory_are_checked_too():
    with pytest.raises(InputError, match="complex voxels"):
        volume_from_image(nib.Nifti1Image(las_data().astype("complex64"), np.eye(4)))
    with pytest.raises(InputError, match="no usable affine"):
        volume_from_image(nib.Nifti1Image(las_data().astype("int16"), None))
    with pytest.raises(InputError, match="3 frames"):
        volume_from_image(nib.Nifti1Image(np.zeros((4, 4, 4, 3), "int16"), np.eye(4)))


def test_other_image_formats_become_nifti():
    image = nib.MGHImage(las_data().astype("float32"), np.diag([-0.5, 0.5, 5, 1]))
    volume = volume_from_image(image)
    result = volume.result_image(np.ones(SHAPE, np.uint8))
    assert isinstance(result, nib.Nifti1Image)
    np.testing.assert_allclose(result.affine, image.affine)
