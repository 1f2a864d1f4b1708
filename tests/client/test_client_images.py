"""Which files are images, and which of them are sent."""

import gzip
import os

import nibabel as nib
import numpy as np
import pytest
from client_checks import NOTHING_LISTENS
from keras_scgm_client import Client, ImageError
from keras_scgm_client.grid import parse_grid
from keras_scgm_client.images import LABEL_NAME, as_sent, find_images
from keras_scgm_client.limits import FREE_SLICES
from keras_scgm_client.outputs import OutputPaths
from tiny_serving import nifti_bytes, random_voxels

import keras_scgm.images


def header_with(offset, content):
    data = bytearray(nifti_bytes(random_voxels(0)))
    data[offset : offset + len(content)] = content
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.nii", None, "cannot be read"),
        ("a.txt", b"x", "not a .nii or .nii.gz file"),
        ("a.nii", b"", "too short"),
        ("a.nii", b"x" * 400, "not a single-file NIfTI-1 image"),
        ("a.nii", header_with(344, b"ni1\0"), "header of a .hdr/.img pair"),
        ("a.nii", header_with(40, b"\1\0"), r"dim \[1, 8, 9, 3, 1, 1, 1, 1\] in its header"),
        ("a.nii", header_with(70, b"\x80\0"), "voxel type code 128"),
        ("a.nii", header_with(4, b"n+2\0"), "NIfTI-2"),
        ("a.nii", header_with(40, b"\4\0\2\0\2\0\2\0\5\0"), "not a 3-D image"),
        ("a.nii", header_with(42, b"\0\0"), r"dim \[3, 0, 9, "),
        ("a.nii", header_with(42, b"\xff\x7f\xff\x7f\xff\x7f"), r"claims \d+\.\d GB"),
        ("a.nii", nifti_bytes(random_voxels(0))[:-1], "cut off"),
        ("a.nii.gz", gzip.compress(nifti_bytes(random_voxels(0)), mtime=0)[:-40], "cut off|too short"),
        ("a.nii.gz", gzip.compress(nifti_bytes(random_voxels(0))[:-1], mtime=0), "cut off"),
        ("a.nii.gz", b"\x1f\x8bnonsense", "convert it again"),
        ("a.nii", b"x" * 3_000_000, "over the limit of 2 MB"),
    ],
)
def test_images_that_are_not_sent(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    client = Client(f"http://{NOTHING_LISTENS}", max_upload_bytes=2_000_000)
    with client, pytest.raises(ImageError, match=message):
        client.segment(tmp_path / name)


def test_a_device_is_not_read(tmp_path):
    (tmp_path / "a.nii").symlink_to(os.devnull)
    with Client(f"http://{NOTHING_LISTENS}") as client, pytest.raises(ImageError, match=r"a.nii: not a file"):
        client.segment(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("shape", "max_bytes", "is_unpacked"),
    [
        ((2000, 2000, 2), 10**9, False),
        ((2000, 2000, 3), 10**9, True),
        ((2000, 2000, 3), 10**6, False),
        ((100, 82, FREE_SLICES), 10**9, False),
        ((100, 82, FREE_SLICES + 1), 10**9, True),
    ],
)
def test_files_that_the_server_refuses_packed_are_sent_unpacked(shape, max_bytes, is_unpacked):
    """A server's work is bounded by what it is sent; the same zeros, unpacked, are many bytes."""
    plain = nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([-0.1, 0.1, 4.0, 1.0])).to_bytes()
    packed = gzip.compress(plain, 1)
    grid = parse_grid(plain)
    assert as_sent(packed, grid, max_bytes) == (plain if is_unpacked else packed)
    assert as_sent(plain, grid, max_bytes) == plain


def test_folders_are_searched_as_by_the_command_itself(images):
    assert LABEL_NAME == keras_scgm.images.LABEL_NAME
    for name in (
        "levels-label.nii",
        "deep/b_seg.nii.gz",
        ".git/a.nii",
        "derivatives/a.nii",
        "deep/a_gmseg.nii.gz",
        "deep/a_wmseg.nii.gz",
        "deep/a_gmseg_uncertainty.nii.gz",
        "a_seg.nii",
        ".a.nii",
        "notes.txt",
    ):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).touch()
    (images / "0.nii.gz").rename(images / "0.NII.GZ")
    (images / "deep" / "circle").symlink_to(images)
    found, notes = find_images(images)
    by_command = keras_scgm.images.find_images([images])
    assert found == [image.path for image in by_command.images]
    assert len(found) == 4
    assert notes == by_command.notes
    assert notes[0].startswith(f"{images}: 3 files left out, named like labels: a_seg.nii, ")
    assert OutputPaths.for_input(found[0]).mask == images / "0_gmseg.nii.gz"
