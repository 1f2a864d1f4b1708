"""Which images are sent, their geometry, and answers that do not fit them."""

import gzip
import json
import struct

import nibabel as nib
import numpy as np
import pytest
from client_checks import NOTHING_LISTENS, answer_of, names, rest_answers, tiny_answer
from keras_scgm_client import Client, ImageError, ServerError
from keras_scgm_client.limits import FREE_SLICES
from keras_scgm_client.nifti import as_sent, check_answer, parse_grid, read_image
from tiny_serving import THRESHOLD, nifti_bytes, random_voxels

from keras_scgm.nifti import read_volume


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
        ("a.nii", header_with(40, b"\1\0"), "claims 1 dimensions"),
        ("a.nii", header_with(70, b"\x80\0"), "voxel type code 128"),
        ("a.nii", header_with(4, b"n+2\0"), "NIfTI-2"),
        ("a.nii", header_with(40, b"\4\0\2\0\2\0\2\0\5\0"), "not a 3-D image"),
        ("a.nii", header_with(42, b"\0\0"), "claims"),
        ("a.nii", header_with(42, b"\xff\x7f\xff\x7f\xff\x7f"), r"claims \d+\.\d GB"),
        ("a.nii", nifti_bytes(random_voxels(0))[:-1], "cut off"),
        ("a.nii.gz", gzip.compress(nifti_bytes(random_voxels(0)))[:-40], "cut off|too short"),
        ("a.nii.gz", gzip.compress(nifti_bytes(random_voxels(0))[:-1]), "cut off"),
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


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("seed", range(12))
def test_geometry_is_that_of_the_command(tmp_path, order, seed):
    """Orientation, areas and distances of any grid, from a sform or a qform, as nibabel has them."""
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] * random.uniform(0.3, 3, 3)
    if seed % 3 == 0:
        affine[:3, :3] += random.normal(0, 0.1, (3, 3))
    affine[:3, 3] = random.normal(0, 50, 3)
    header = nib.Nifti1Header(endianness=order)
    image = nib.Nifti1Image(np.zeros((3, 4, 5, 1), f"{order}i2"), affine, header, dtype="int16")
    if seed % 3 == 1:
        image.set_sform(None, 0)
        image.set_qform(affine, 1)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    grid = read_image(tmp_path / "a.nii", 10_000)[1]
    volume = read_volume(tmp_path / "a.nii")
    assert (grid.order, grid.shape, grid.n_bytes) == (order, (3, 4, 5, 1), 352 + 120)
    assert grid.orientation == "".join(nib.aff2axcodes(volume.affine))
    assert (grid.axial_axis, grid.n_slices) == (volume.axial_axis, volume.n_slices)
    assert grid.slice_spacing_mm == pytest.approx(volume.slice_spacing_mm, abs=1e-6)
    assert grid.voxel_area_mm2 == pytest.approx(volume.voxel_area_mm2, rel=1e-12)
    np.testing.assert_allclose(grid.spacing_mm, np.linalg.norm(volume.affine[:3, :3], axis=0), rtol=1e-12)


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


def changed(offset, form, *values, file=None):
    data = bytearray(nifti_bytes((random_voxels(0) > THRESHOLD).astype(np.uint8)) if file is None else file)
    struct.pack_into(form, data, offset, *values)
    return bytes(data)


def as_float(values):
    image = nib.Nifti1Image(np.full((8, 9, 3), 0.25, np.float32), np.diag([-1.0, 1, 1, 1]))
    data = bytearray(image.to_bytes())
    data[352 : 352 + 4 * len(values)] = np.array(values, np.float32).tobytes()
    return bytes(data)


WRONG_ANSWERS = {
    "origin": (changed(292, "<f", 3.0), "not on the grid"),
    "flipped axis": (changed(280, "<f", 1.0), "not on the grid"),
    "qform": (changed(256, "<f", 0.5), "not on the grid"),
    "qform code": (changed(252, "<h", 2), "not on the grid"),
    "spacing": (changed(80, "<f", 2.0), "not on the grid"),
    "shape": (changed(42, "<2h", 9, 8), "not on the grid"),
    "type": (changed(70, "<h", 256), "type 256"),
    "scaled": (changed(112, "<f", 2.0), "scaled by 2"),
    "intercept": (changed(112, "<2f", 1.0, 1.0), "scaled by 1"),
    "values": (changed(360, "<B", 2), "other than 0 and 1"),
    "cut off": (changed(0, "<i", 348)[:-1], "bytes; check the connection"),
    "too long": (changed(0, "<i", 348) + b"\0", "bytes; check the connection"),
    "text": (b"no image", "no image"),
    "a mask for probabilities": (changed(0, "<i", 348), "type 2"),
    "over 1": (as_float([0.5, 1.01]), "other than 0 to 1"),
    "negative": (as_float([-0.01]), "other than 0 to 1"),
    "NaN": (as_float([np.nan]), "other than 0 to 1"),
    "infinite": (as_float([np.inf]), "other than 0 to 1"),
}


@pytest.mark.parametrize("what", WRONG_ANSWERS)
def test_answers_that_do_not_fit_the_image_are_not_written(image, what):
    file, message = WRONG_ANSWERS[what]
    soft = "for probabilities" in what or "0 to 1" in message
    name = "probability_bytes" if soft else "mask_bytes"
    before = names(image.parent)
    with (
        rest_answers(answer_of(**{name: file})) as (url, _),
        Client(url, soft=soft) as client,
        pytest.raises(ServerError, match=message),
    ):
        client.segment(image)
    assert names(image.parent) == before


@pytest.mark.parametrize("values", [[0.0, 1.0], [-0.0], [1 + 2**-23]])
@pytest.mark.parametrize("order", "<>")
def test_probabilities_that_are_accepted(values, order):
    data = nib.Nifti1Image.from_bytes(as_float(values))
    image = nib.Nifti1Image(
        np.asarray(data.dataobj), data.affine, data.header.as_byteswapped(order), dtype=np.float32
    )
    file = image.to_bytes()
    check_answer(file, parse_grid(file), "probabilities")


def test_areas_of_other_slices_are_not_written(image):
    """Of an answer that has verdicts; a server that cuts rows off would shift every area after it."""
    answer = tiny_answer(image)
    for name in ("area_mm2", "n_voxels"):
        short = {**answer, name: [answer[name][0][:2]]}
        with (
            rest_answers((200, json.dumps({"outputs": short}).encode(), {})) as (url, _),
            Client(url) as client,
            pytest.raises(ServerError, match="contradicts itself"),
        ):
            client.segment(image)
    short = {**answer, "n_slices": [2]}
    with (
        rest_answers((200, json.dumps({"outputs": short}).encode(), {})) as (url, _),
        Client(url) as client,
        pytest.raises(ServerError, match="areas of 2 slices for an image of 3"),
    ):
        client.segment(image)
    wrong = {**answer, "verdict": ["perhaps"]}
    with (
        rest_answers((200, json.dumps({"outputs": wrong}).encode(), {})) as (url, _),
        Client(url) as client,
        pytest.raises(ServerError, match="verdict perhaps"),
    ):
        client.segment(image)
