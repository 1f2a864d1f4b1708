"""NIfTI files that the graph reads as the package does, or refuses in its words."""

import gzip
import itertools
import struct

import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from header_forms import FORMS
from served_model import GOOD, patched, reoriented, stored

from keras_scgm import InputError, messages, segment
from keras_scgm.export.graph.nifti import read_nifti, reading, unpacking
from keras_scgm.export.graph.nifti.unpacking import BGZIP_END
from keras_scgm.nifti import read_volume

ORIENTATIONS = [
    codes for order in itertools.permutations(["LR", "AP", "SI"]) for codes in itertools.product(*order)
]

VOXEL_TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_every_storage_order(same_as_segment, small, codes):
    assert same_as_segment(reoriented(small, codes)).mask_voxels.any()


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("dtype", VOXEL_TYPES)
def test_every_voxel_type(same_as_segment, small, dtype, byte_order):
    scaled = nib.Nifti1Image(np.rint(np.asarray(small.dataobj) / 3), small.affine)
    data = stored(scaled, dtype, byte_order)
    expected = same_as_segment(scaled, gzip.compress(data) if byte_order == ">" else data)
    assert expected.mask_voxels.any()


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((97, 120, 7), (0.5, 0.5, 2.0)),
        ((301, 40, 2), (0.18, 0.9, 5.0)),
        ((250, 230, 1), (0.125, 0.125, 0.1)),
        ((41, 43, 2), (1.3, 1.3, 5.0)),
        ((61, 63, 2), (0.375, 0.625, 9.0)),
        ((1, 30, 2), (4.0, 0.5, 5.0)),
        ((30, 1, 3), (0.5, 4.0, 5.0)),
        ((97, 120, 3), (0.5, 0.5, 250.0)),
        ((97, 120, 3), (0.5, 0.5, 0.025)),
    ],
)
def test_sizes_and_spacings(same_as_segment, blob_image, shape, spacing_mm):
    same_as_segment(blob_image(shape=shape, spacing_mm=spacing_mm))


@pytest.mark.parametrize("degrees", [-38, 12, 50])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_oblique_headers(same_as_segment, blob_image, degrees, form):
    angle = np.deg2rad(degrees)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]]
    image = blob_image(shape=(44, 39, 3), spacing_mm=(0.375, 0.625, 3.3), radius_mm=1.5)
    affine = tilt @ rotation @ image.affine
    affine[:3, 3] = 10, -20, 30
    image = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    other = "qform" if form == "sform" else "sform"
    getattr(image, f"set_{form}")(affine, code=1)
    getattr(image, f"set_{other}")(None, code=0)
    same_as_segment(image)


def test_slope_intercept_and_header_extension(same_as_segment, small):
    negative = nib.Nifti1Image(-np.asarray(small.dataobj), small.affine)
    data = stored(negative, "i2", ">", slope=-0.25, intercept=7.5, extension=bytes([0, 0, 0, 16]) + bytes(12))
    assert same_as_segment(negative, data).mask_voxels.any()
    assert same_as_segment(small, stored(small, "i2", slope=0.0, intercept=3.0)).mask_voxels.any()


@pytest.mark.parametrize("shape", [(44, 39), (44, 39, 3, 1), (44, 39, 1, 1, 1)])
def test_other_numbers_of_dimensions(same_as_segment, blob_image, shape):
    image = blob_image(shape=(44, 39, 3 if 3 in shape else 1), radius_mm=1.5)
    reshaped = nib.Nifti1Image(np.asarray(image.dataobj).reshape(shape), image.affine)
    assert same_as_segment(reshaped).mask_voxels.any()


def test_gzip_of_several_members(served, small):
    data = small.to_bytes()
    members = gzip.compress(data[:5000]) + gzip.compress(data[5000:])
    for packed in (members, members + BGZIP_END):
        assert served(packed)["mask_bytes"] == served(data)["mask_bytes"]


@pytest.mark.parametrize("name", FORMS)
def test_qform_and_sform_that_disagree(same_as_segment, small, name):
    build, warnings = FORMS[name]
    data = build(np.asarray(small.dataobj))
    assert list(same_as_segment(small, data).warnings[: len(warnings)]) == warnings


@pytest.mark.parametrize(("n_bytes", "n_warnings"), [(4 * 44 - 1, 0), (4 * 44, 1)])
def test_voxels_that_the_header_does_not_claim(same_as_segment, small, n_bytes, n_warnings):
    expected = same_as_segment(small, small.to_bytes() + bytes(n_bytes))
    assert expected.warnings.count(messages.SURPLUS) == n_warnings


def test_spacings_are_rounded_as_in_the_package(tmp_path):
    read = tf.function(
        lambda data: read_nifti(data, tf.constant("file")).in_plane_spacing_mm,
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )
    for spacing_mm in np.random.default_rng(0).uniform(0.2, 1.2, (30, 2)):
        image = nib.Nifti1Image(
            np.ones((4, 5, 3), np.float32), np.diag([-spacing_mm[0], spacing_mm[1], 5, 1])
        )
        image.to_filename(tmp_path / "v.nii")
        expected = read_volume(tmp_path / "v.nii").in_plane_spacing_mm
        assert tuple(read((tmp_path / "v.nii").read_bytes()).numpy()) == expected


@pytest.mark.parametrize("name", ["base", "sform_scaled", "qsform_lrflip", "inplane_x1.4"])
def test_real_headers_that_disagree(same_as_segment, reference, name):
    data = gzip.decompress((reference / f"failing/{name}.nii.gz").read_bytes())
    expected = same_as_segment(None, data)
    disagreements = [text for text in expected.warnings if "the sform counts" in text]
    assert len(disagreements) == (name in ("sform_scaled", "qsform_lrflip"))
    assert disagreements == list(expected.volume.warnings)


PACKED = gzip.compress(np.random.default_rng(0).bytes(5000) + GOOD)
BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello", "not a NIfTI file"),
    "short": (GOOD[:300], "not a NIfTI file"),
    "header only": (GOOD[:348], "cut short or its header is damaged"),
    "cut short": (GOOD[:-1], "claims 592 bytes of data, the file holds 591"),
    "cut gzip": (PACKED[: len(PACKED) // 2], "gzip data damaged or cut short"),
    "gzip without its end": (gzip.compress(GOOD)[:-8], "gzip data damaged or cut short"),
    "gzip without its last byte": (gzip.compress(GOOD)[:-1], "gzip data damaged or cut short"),
    "damaged gzip": (PACKED[:600] + b"\0\0\0\0" + PACKED[604:], "gzip data damaged or cut short"),
    "junk after gzip": (gzip.compress(GOOD) + b"junk", "gzip data damaged or cut short"),
    "gzip of nothing": (gzip.compress(b""), "gzip data damaged"),
    "gzip magic": (b"\x1f\x8b", "gzip data damaged or cut short"),
    "pair": (patched(GOOD, 344, "4s", b"ni1\0"), "hdr/.img pair"),
    "NIfTI-2": (nib.Nifti2Image(np.ones((4, 5, 3)), np.eye(4)).to_bytes(), "NIfTI-2"),
    "DICOM": (bytes(128) + b"DICM" + bytes(400), "a DICOM file"),
    "no dimensions": (patched(GOOD, 40, "h", 0), "dimensions \\(\\) hold no slice"),
    "one dimension": (patched(GOOD, 40, "2h", 1, 60), "hold no slice"),
    "one voxel": (nib.Nifti1Image(np.ones((1, 1, 1), np.float32), np.eye(4)).to_bytes(), "hold no slice"),
    "negative size": (patched(GOOD, 42, "h", -4), "hold no slice"),
    "frames": (patched(GOOD, 40, "5h", 4, 2, 5, 3, 2), "2 frames of 2 x 5 x 3 voxels; send one of them"),
    "zero spacing": (patched(GOOD, 80, "f", 0), "voxel spacing 0 x 0.5 x 5 mm is not positive"),
    "NaN spacing": (patched(GOOD, 80, "f", np.nan), "voxel spacing nan x 0.5 x 5 mm is not positive"),
    "colour": (patched(GOOD, 70, "h", 128), "colour"),
    "complex": (patched(GOOD, 70, "h", 32), "complex"),
    "unknown type": (patched(GOOD, 70, "h", 77), "voxel type code 77"),
    "no orientation": (patched(GOOD, 252, "2h", 0, 0), "codes are both 0"),
    "flat affine": (patched(GOOD, 280, "12f", *[0.0] * 12), "onto a plane"),
    "NaN affine": (patched(GOOD, 292, "f", np.nan), "onto a plane"),
    "bad quaternion": (patched(GOOD, 252, "2h3f", 1, 0, 2, 2, 2), "no usable affine"),
    "bad qfac": (patched(patched(GOOD, 252, "2h", 1, 0), 76, "f", 0.5), "no usable affine"),
    "coarse": (
        patched(GOOD, 280, "12f", 9, 0, 0, 0, 0, 9, 0, 0, 0, 0, 5, 0),
        "axial voxels of 9 x 9 mm, outside 0.01 to 5 mm",
    ),
    "intercept": (patched(GOOD, 112, "2f", 1, np.inf), "scl_inter is not finite"),
    "overflow": (
        GOOD[:-4] + struct.pack("<f", -1e30),
        r"intensities of up to 1e\+30 exceed the limit of 1e\+18",
    ),
    "overflow by the slope": (patched(GOOD, 112, "2f", 1e30, 0), r"exceed the limit of 1e\+18"),
    "offset": (patched(GOOD, 108, "f", -1), "vox_offset -1 is unusable"),
    "huge offset": (patched(GOOD, 108, "f", 1e12), "more than 1024 MiB"),
    "huge": (patched(GOOD, 40, "8h", 7, *[32767] * 7), "more than 1024 MiB"),
    "large": (patched(GOOD, 40, "4h", 3, 500, 500, 100), "cut short or its header is damaged"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(served, name):
    data, message = BAD_FILES[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match="nifti_bytes\\[1\\]: .*" + message):
        served(GOOD, data)
    assert served(GOOD)["warnings"][0]


@pytest.mark.parametrize(
    "name",
    ["cut short", "one voxel", "no orientation", "flat affine", "colour", "bad quaternion"],
)
def test_the_package_refuses_the_same(name, bright_network, tmp_path):
    (tmp_path / "bad.nii").write_bytes(BAD_FILES[name][0])
    with pytest.raises(ValueError, match=r"bad\.nii"):
        segment(tmp_path / "bad.nii", bright_network)


def test_what_a_request_may_hold(monkeypatch):
    """Bounds of the unpacked bytes and of the slices grow with what is sent, and are shared by the files."""
    for name, value in {
        "FREE_UNPACKED_BYTES": 2**20,
        "UNPACKED_RATIO": 2,
        "FREE_SLICES": 4,
        "BYTES_PER_SLICE": 1000,
    }.items():
        monkeypatch.setattr(reading, name, value)
    read = tf.function(
        lambda data, n_files: read_nifti(data, tf.constant("file"), n_files).shape,
        input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )

    def refused(data, message, n_files=1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            read(data, n_files)

    assert list(read(gzip.compress(GOOD + bytes(2**19)), 1)) == [4, 5, 3]
    refused(gzip.compress(GOOD + bytes(2**19)), "unpacks to more than 0 MiB", n_files=4)
    noise = np.random.default_rng(0).bytes(2_000_000)
    assert list(read(gzip.compress(GOOD + noise), 1)) == [4, 5, 3]
    for tail in (bytes(2**21), bytes(2**24), noise[:100_000] + bytes(2**24)):
        refused(gzip.compress(GOOD + tail), "unpacks to more than 1 MiB")
    refused(GOOD, "3 axial slices, and a file of this size may have 2", n_files=2)
    assert list(read(GOOD + bytes(1000), 2)) == [4, 5, 3]


@pytest.mark.parametrize("n_before", [0, 20_000])
def test_how_much_a_bomb_is_decompressed(monkeypatch, n_before):
    """A stream that expands 1000-fold from some place on is refused before more than the headroom is in memory."""
    most_bytes, headroom = 2**20, 2**22
    monkeypatch.setattr(unpacking, "HEADROOM_BYTES", headroom)
    inflate, sizes = unpacking._inflate, []

    def watched(data):
        is_whole, content = inflate(data)
        sizes.append(tf.strings.length(content))
        return is_whole, content

    monkeypatch.setattr(unpacking, "_inflate", watched)
    bomb = gzip.compress(np.random.default_rng(0).bytes(n_before) + bytes(2**24))
    with pytest.raises(tf.errors.InvalidArgumentError, match="unpacks to more than 1 MiB"):
        unpacking.unpacked(tf.constant(bomb), tf.constant("file"), tf.constant(most_bytes))
    assert most_bytes < max(sizes) <= most_bytes + headroom


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "message"),
    [
        ((4097, 4097, 1), 0.02, "4097 x 4097 voxels, more than 16.8 million"),
        ((151, 151, 1), 4.0, "604 x 604 mm, more than 0.36 m2"),
    ],
)
def test_slices_that_no_scanner_makes_are_refused_everywhere(
    served, bright_network, tmp_path, shape, spacing_mm, message
):
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([-spacing_mm, spacing_mm, 5, 1]))
    image.to_filename(tmp_path / "image.nii")
    for given in (image, tmp_path / "image.nii"):
        with pytest.raises(InputError, match=message):
            segment(given, bright_network)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        served((tmp_path / "image.nii").read_bytes())
