import gzip
import itertools
import json
import struct
from operator import attrgetter

import keras
import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from header_forms import FORMS
from tensorflow.core.protobuf import saved_model_pb2
from typer.testing import CliRunner

from keras_scgm import DilatedGMNet, InputError, UNet, segment
from keras_scgm.export import formats, saved_model
from keras_scgm.export.graph import answer
from keras_scgm.export.graph import nifti as nifti_graph
from keras_scgm.export.graph.network import SLICES_ON_GPU, GraphNetwork, _chunks
from keras_scgm.export.warmup import read_warmup
from keras_scgm.localization import MIN_PROBES
from keras_scgm.nifti import read_volume
from keras_scgm_cli.main import app

ORIENTATIONS = [
    codes for order in itertools.permutations(["LR", "AP", "SI"]) for codes in itertools.product(*order)
]
VOXEL_TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
OFF_CENTRE = {"shape": (216, 184, 5), "spacing_mm": (0.5, 0.5, 4.0), "center_mm": (25, 70)}


class Served:
    """An exported `gm_nifti` as a server has it, without the objects it was made from."""

    def __init__(self, models):
        self.models = models
        self._loaded = tf.saved_model.load(str(models.nifti))

    def __call__(self, *files, signature="serving_default"):
        outputs = self._loaded.signatures[signature](nifti_bytes=tf.constant(list(files), tf.string))
        return {name: output.numpy() for name, output in outputs.items()}


@pytest.fixture(scope="module")
def served(tmp_path_factory, bright_network):
    return Served(saved_model.export_saved_model(bright_network, tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def two_networks(tmp_path_factory, bright_network):
    """An export of a network that becomes a plain graph, averaged with one whose graph is Keras's.

    The second answers to dark voxels.
    """
    keras.utils.set_random_seed(1)
    dark_network = keras.models.clone_model(bright_network)
    dark_network.set_weights([np.full((1, 1, 1, 1), -20.0), np.full(1, -100.0)])
    networks = [DilatedGMNet(filters=2, dilation_rates=(6,)), dark_network]
    models = saved_model.export_saved_model(
        networks, tmp_path_factory.mktemp("models"), threshold=0.6, window="center"
    )
    return networks, Served(models)


@pytest.fixture
def same_as_segment(served, bright_network, tmp_path):
    """Checks that the server's file is the very file that `segment` writes."""

    def check(image, data=None, orientation=None):
        path = tmp_path / "image.nii"
        if data is None:
            image.to_filename(path)
            data = path.read_bytes()
        path.write_bytes(data)
        expected = segment(path, bright_network)
        expected.volume.write_result(tmp_path / "mask.nii", expected.mask_voxels)
        got = served(data)
        assert got["mask_bytes"][0] == (tmp_path / "mask.nii").read_bytes()
        check_answer(got, expected)
        return expected

    return check


OF_SLICES = {
    "position_mm": "position_mm",
    "area_mm2": "area_mm2",
    "soft_area_mm2": "soft_area_mm2",
    "mean_probability": "mean_probability",
    "n_voxels": "n_voxels",
    "slice_contrast": "contrast",
    "slice_noise": "noise",
    "slice_predicted_dsc": "predicted_dsc",
    "slice_verdict": "verdict",
    "slice_reason": "warning",
}
"""Output of the server -> field of `SliceArea`."""


def check_answer(got, expected, file=0):
    """The numbers and texts of one file are those of `segment`."""
    quality, record = expected.quality, expected.record
    assert got["warnings"][file].decode().splitlines() == list(expected.warnings)
    assert [got[name][file].decode() for name in ("verdict", "reason")] == [quality.verdict, quality.reason]
    numbers = {
        "predicted_dsc": quality.predicted_dsc,
        "contrast": quality.contrast,
        "noise": quality.noise,
        "intensity_mean": record["intensity_mean"],
        "intensity_std": record["intensity_std"],
        "removed_away_from_cord_mm3": record["removed_away_from_cord_mm3"],
        "window_moved": record["window_moved"],
        "n_slices": len(expected.areas),
    }
    for name, number in numbers.items():
        np.testing.assert_allclose(got[name][file], number, rtol=1e-6, atol=1e-9, err_msg=name)
    for name, field in OF_SLICES.items():
        values = [getattr(area, field) for area in expected.areas]
        if isinstance(values[0], str):
            assert [text.decode() for text in got[name][file][: len(values)]] == values, name
        else:
            np.testing.assert_allclose(
                got[name][file][: len(values)], values, rtol=1e-6, atol=1e-6, err_msg=name
            )


@pytest.fixture
def small(blob_image):
    """A volume quick to segment: 22 x 20 mm, 3 slices."""
    return blob_image(shape=(44, 39, 3), center_mm=(12, 6), radius_mm=1.5)


def stored(image, dtype=np.float32, byte_order="<", slope=None, intercept=0.0, extension=None):
    """A single NIfTI-1 file of the image's data in another type and byte order."""
    header = nib.Nifti1Header(endianness=byte_order)
    header.set_data_shape(image.shape)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(byte_order))
    header.set_zooms(image.header.get_zooms())
    header.set_sform(image.affine, code=1)
    header.set_qform(image.affine, code=1)
    header["descrip"] = b"kept"
    block = bytearray(header.binaryblock)
    offset = 352 + (len(extension) if extension else 0)
    block[108:112] = struct.pack(byte_order + "f", offset)
    if slope is not None:
        block[112:120] = struct.pack(byte_order + "2f", slope, intercept)
    marks = b"\1\0\0\0" + extension if extension else bytes(4)
    data = np.asarray(image.dataobj).astype(np.dtype(dtype).newbyteorder(byte_order))
    return bytes(block) + marks + data.tobytes(order="F")


def reoriented(image, codes):
    start = nib.io_orientation(image.affine)
    return image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))


def patched(data, offset, code, *values):
    block = bytearray(data)
    struct.pack_into("<" + code, block, offset, *values)
    return bytes(block)


# --- the same mask as `segment` ------------------------------------------------------------------------


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
    ],
)
def test_sizes_and_spacings(same_as_segment, blob_image, shape, spacing_mm):
    same_as_segment(blob_image(shape=shape, spacing_mm=spacing_mm))


@pytest.mark.parametrize("codes", ["LAS", "SRP"])
def test_windows_on_a_cord_off_centre(same_as_segment, blob_image, codes):
    expected = same_as_segment(reoriented(blob_image(**OFF_CENTRE), codes))
    assert expected.record["window_moved"]
    assert expected.mask_voxels.any()


def test_a_cord_that_leaves_the_middle_along_a_long_volume(same_as_segment):
    x, y = np.ogrid[:150, :150]
    data = np.random.default_rng(0).normal(100, 1, (150, 150, 24))
    for k in range(24):
        data[..., k] += 200 * (np.hypot(x - 20 - 4 * k, y - 75) < 7)
    expected = same_as_segment(nib.Nifti1Image(data.astype(np.float32), np.diag([-0.5, 0.5, 5, 1])))
    assert expected.record["window_moved"]


def test_fields_of_view_larger_than_a_tile(same_as_segment, blob_image):
    expected = same_as_segment(
        blob_image(shape=(340, 90, 1), spacing_mm=(0.5, 0.5, 4.0), center_mm=(160, 20))
    )
    assert expected.record["window_moved"]


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
    for packed in (members, members + nifti_graph._BGZIP_END):
        assert served(packed)["mask_bytes"] == served(data)["mask_bytes"]


# --- what may be wrong with an image -------------------------------------------------------------------


def test_voxels_that_are_not_finite(same_as_segment, blob_image):
    image = blob_image(shape=(44, 39, 4), radius_mm=1.5)
    data = np.array(image.dataobj)
    data[3, 4, 0], data[5, 6, 2], data[:, :, 3] = np.nan, np.inf, -np.inf
    expected = same_as_segment(nib.Nifti1Image(data, image.affine))
    assert any("NaN or infinite" in text for text in expected.warnings)


def test_a_constant_image(same_as_segment):
    expected = same_as_segment(nib.Nifti1Image(np.full((44, 39, 2), 7, np.int16), np.diag([1, 1, 5, 1])))
    assert any("constant" in text for text in expected.warnings)


def test_slices_of_one_voxel(same_as_segment):
    same_as_segment(nib.Nifti1Image(np.arange(1, 4, dtype=np.float32).reshape(1, 1, 3), np.eye(4)))


def test_noise_without_a_cord(same_as_segment):
    noise = np.random.default_rng(1).normal(size=(44, 39, 2)).astype(np.float32)
    expected = same_as_segment(nib.Nifti1Image(noise, np.diag([-0.5, 0.5, 5, 1])))
    assert any("no cord was found" in text for text in expected.warnings)


def test_gaps_and_edges(same_as_segment, blob_image):
    image = blob_image(shape=(44, 60, 26), center_mm=(2, 15), radius_mm=1.5)
    data = np.array(image.dataobj)
    data[..., [3, 4, 9]] = 100
    expected = same_as_segment(nib.Nifti1Image(data, image.affine).as_reoriented([[0, 1], [1, 1], [2, -1]]))
    for text in ("no gray matter between slices", "edge of the window", ", ..."):
        assert any(text in warning for warning in expected.warnings)


def test_averaged_networks_settings_and_inverted_contrast(two_networks, blob_image):
    networks, served = two_networks
    image = blob_image(shape=(60, 60, 2), radius_mm=1.5)
    dark = nib.Nifti1Image(400 - np.asarray(image.dataobj), image.affine)
    expected = segment(dark, networks, threshold=0.6, window="center")
    assert expected.mask_voxels.any()
    got = served(dark.to_bytes())
    mask = np.asarray(nib.Nifti1Image.from_bytes(got["mask_bytes"][0]).dataobj)
    np.testing.assert_array_equal(mask, expected.mask_voxels)
    check_answer(got, expected)
    assert any("darker than its surroundings" in text for text in expected.warnings)
    soft = served(dark.to_bytes(), signature="soft")["probability_bytes"][0]
    np.testing.assert_allclose(
        np.asarray(nib.Nifti1Image.from_bytes(soft).dataobj), expected.probability_voxels, atol=1e-6
    )


@pytest.mark.parametrize("name", FORMS)
def test_qform_and_sform_that_disagree(same_as_segment, small, name):
    build, warnings = FORMS[name]
    data = build(np.asarray(small.dataobj))
    assert list(same_as_segment(small, data).warnings[: len(warnings)]) == warnings


def test_spacings_are_rounded_as_in_the_package(tmp_path):
    read = tf.function(
        lambda data: nifti_graph.read_nifti(data, tf.constant("file")).in_plane_spacing_mm,
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


def stored_mask(n_labels):
    """A file whose middle slice has every label and whose others have none."""
    voxels = np.zeros((16, 12, 5), np.uint8)
    voxels[:n_labels, 3, 2] = np.arange(n_labels)
    return nib.Nifti1Image(voxels, np.diag([-0.5, 0.5, 5, 1])).to_bytes()


# --- what is refused -------------------------------------------------------------------------------------

GOOD = nib.Nifti1Image(
    np.arange(60, dtype=np.float32).reshape(4, 5, 3), np.diag([-0.5, 0.5, 5, 1])
).to_bytes()
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
    "no dimensions": (patched(GOOD, 40, "h", 0), "hold no slice"),
    "one dimension": (patched(GOOD, 40, "2h", 1, 60), "hold no slice"),
    "one voxel": (nib.Nifti1Image(np.ones((1, 1, 1), np.float32), np.eye(4)).to_bytes(), "hold no slice"),
    "negative size": (patched(GOOD, 42, "h", -4), "hold no slice"),
    "frames": (patched(GOOD, 40, "5h", 4, 2, 5, 3, 2), "more than one frame"),
    "zero spacing": (patched(GOOD, 80, "f", 0), "spacing is not positive"),
    "NaN spacing": (patched(GOOD, 80, "f", np.nan), "spacing is not positive"),
    "colour": (patched(GOOD, 70, "h", 128), "colour"),
    "complex": (patched(GOOD, 70, "h", 32), "complex"),
    "unknown type": (patched(GOOD, 70, "h", 77), "voxel type code 77"),
    "no orientation": (patched(GOOD, 252, "2h", 0, 0), "codes are both 0"),
    "flat affine": (patched(GOOD, 280, "12f", *[0.0] * 12), "onto a plane"),
    "NaN affine": (patched(GOOD, 292, "f", np.nan), "onto a plane"),
    "bad quaternion": (patched(GOOD, 252, "2h3f", 1, 0, 2, 2, 2), "no usable affine"),
    "bad qfac": (patched(patched(GOOD, 252, "2h", 1, 0), 76, "f", 0.5), "no usable affine"),
    "coarse": (patched(GOOD, 280, "12f", 9, 0, 0, 0, 0, 9, 0, 0, 0, 0, 5, 0), "outside 0.01 to 5 mm"),
    "intercept": (patched(GOOD, 112, "2f", 1, np.inf), "scl_inter is not finite"),
    "overflow": (GOOD[:-4] + struct.pack("<f", -1e30), r"intensities beyond 1e\+18 cannot be computed with"),
    "overflow by the slope": (patched(GOOD, 112, "2f", 1e30, 0), r"intensities beyond 1e\+18"),
    "mask": (stored_mask(2), r"labels, not an image, it holds 2 values \(0, 1\)"),
    "labels": (stored_mask(6), r"labels, not an image, it holds 6 values \(0, 1, 2, 3, ...\)"),
    "offset": (patched(GOOD, 108, "f", -1), "vox_offset is unusable"),
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
    ["cut short", "one voxel", "no orientation", "flat affine", "colour", "bad quaternion", "mask", "labels"],
)
def test_the_package_refuses_the_same(name, bright_network, tmp_path):
    (tmp_path / "bad.nii").write_bytes(BAD_FILES[name][0])
    with pytest.raises(ValueError, match=r"bad\.nii|w2 should be positive"):
        segment(tmp_path / "bad.nii", bright_network)


def test_what_a_request_may_hold(monkeypatch):
    """Bounds of the unpacked bytes and of the slices grow with what is sent, and are shared by the files."""
    for name, value in {
        "FREE_UNPACKED_BYTES": 2**20,
        "UNPACKED_RATIO": 2,
        "FREE_SLICES": 4,
        "BYTES_PER_SLICE": 1000,
    }.items():
        monkeypatch.setattr(nifti_graph, name, value)
    read = tf.function(
        lambda data, n_files: nifti_graph.read_nifti(data, tf.constant("file"), n_files).shape,
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


# --- requests of several files, and the other outputs ----------------------------------------------------


def test_files_of_different_shapes_in_one_request(served, blob_image):
    images = [
        blob_image(shape=shape, center_mm=(10, 10), radius_mm=1.5) for shape in ((44, 39, 3), (50, 60, 5))
    ]
    both = served(*(image.to_bytes() for image in images))
    alone = [served(image.to_bytes()) for image in images]
    assert both["mask_bytes"].tolist() == [one["mask_bytes"][0] for one in alone]
    assert both["area_mm2"].shape == (2, 5)
    np.testing.assert_array_equal(both["area_mm2"][0], [*alone[0]["area_mm2"][0], 0, 0])
    assert both["n_slices"].tolist() == [3, 5]
    assert both["slice_reason"].shape == (2, 5)
    assert both["slice_verdict"][0, 3:].tolist() == [b"", b""]


def test_more_files_than_a_request_may_hold(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 2 files"):
        served(*[GOOD] * 3)


def test_a_request_without_files_is_refused(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="no file in the request"):
        served()


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_soft_output(served, bright_network, small, tmp_path, byte_order):
    (tmp_path / "image.nii").write_bytes(stored(small, "f4", byte_order))
    expected = segment(tmp_path / "image.nii", bright_network)
    expected.volume.write_result(tmp_path / "soft.nii", expected.probability_voxels)
    soft = served((tmp_path / "image.nii").read_bytes(), signature="soft")
    check_answer(soft, expected)
    expected.volume.write_result(tmp_path / "mask.nii", expected.mask_voxels)
    assert soft["mask_bytes"][0] == (tmp_path / "mask.nii").read_bytes()
    (got,) = soft["probability_bytes"]
    assert got[:352] == (tmp_path / "soft.nii").read_bytes()[:352]
    got = np.asarray(nib.Nifti1Image.from_bytes(got).dataobj)
    np.testing.assert_allclose(got, expected.probability_voxels, atol=1e-6)
    assert got.max() > 0.9


def test_slices(served, bright_network):
    signatures = tf.saved_model.load(str(served.models.slices)).signatures
    slices = np.random.default_rng(0).normal(3, 3, (18, 200, 200, 1)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(bright_network(slices))
    outputs = signatures["serving_default"](slices=tf.constant(slices))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["mask"], expected > 0.5)
    assert outputs["mask"].dtype == tf.uint8

    unit = (slices[:2] - slices[:2].mean((1, 2, 3), keepdims=True)) / slices[:2].std((1, 2, 3), keepdims=True)
    raw = signatures["raw"](slices=tf.constant(1000 * slices[:2] - 7))["probabilities"]
    np.testing.assert_allclose(raw, bright_network(unit), atol=1e-4)
    assert not np.any(signatures["raw"](slices=tf.fill((1, 200, 200, 1), 5.0))["mask"])

    broken = slices[:1].copy()
    broken[0, 5, 5] = np.nan
    mended = np.where(np.isnan(broken), np.nanmean(broken), broken)
    outputs = signatures["serving_default"](slices=tf.constant(broken))
    np.testing.assert_allclose(outputs["probabilities"], bright_network(mended), atol=1e-6)
    assert signatures["serving_default"](slices=tf.zeros((0, 200, 200, 1)))["mask"].shape == (0, 200, 200, 1)


# --- where it is computed -----------------------------------------------------------------------------


def placements(folder, signature, feed):
    """Operations of one run as a server with a GPU would place them: (label, types of outputs) on its fastest device
    and on the processor.

    There is no GPU here: pins to the processor are changed into pins to a second, virtual processor, and the first
    stands for the GPU.
    """
    meta_graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[
        0
    ]
    functions = meta_graph.graph_def.library.function
    for node in itertools.chain(meta_graph.graph_def.node, *(function.node_def for function in functions)):
        assert node.device in ("", "/device:CPU:0", "/device:CPU:*")
        node.device = node.device.replace("CPU:0", "CPU:1")
    config = tf.compat.v1.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=True)
    metadata = tf.compat.v1.RunMetadata()
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph, config=config) as session:
        tf.import_graph_def(meta_graph.graph_def, name="")
        saver = meta_graph.saver_def
        session.run(saver.restore_op_name, {saver.filename_tensor_name: str(folder / "variables/variables")})
        ends = meta_graph.signature_def[signature]
        (given,) = ends.inputs.values()
        session.run(
            {key: end.name for key, end in ends.outputs.items()},
            {given.name: feed},
            options=tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE),
            run_metadata=metadata,
        )
    placed = {"fastest": [], "processor": []}
    for device in metadata.step_stats.dev_stats:
        where = placed["fastest" if device.device.endswith("CPU:0") else "processor"]
        for node in device.node_stats:
            types = {output.tensor_description.dtype for output in node.output}
            where.append((node.timeline_label or node.node_name, types))
    return placed


@pytest.mark.parametrize(
    ("model", "signature"),
    [("slices", "serving_default"), ("slices", "raw"), ("nifti", "serving_default"), ("nifti", "soft")],
)
def test_a_gpu_computes_the_network_and_nothing_else(two_networks, served, small, model, signature):
    for models in (two_networks[1].models, served.models):
        feed = np.zeros((2, 200, 200, 1), np.float32)
        if model == "nifti":
            feed = np.array([small.to_bytes()], object)
        placed = placements(getattr(models, model), signature, feed)
        convolutions = {
            where: sum("Conv2D" in label for label, _ in nodes) for where, nodes in placed.items()
        }
        assert convolutions["fastest"] > 0
        assert convolutions["processor"] == 0
        # Image work is in float64, and the network never; the answer's numbers are, and there are few.
        types = set().union(*(types for label, types in placed["fastest"] if "IdentityN" not in label))
        assert tf.float64.as_datatype_enum not in types


# --- the files of an export --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gm_slices", "gm_nifti"])
def test_a_session_runs_every_signature(two_networks, name):
    """As a server does: from the file alone, without eager execution."""
    folder = two_networks[1].models.slices if name == "gm_slices" else two_networks[1].models.nifti
    feeds = {"gm_slices": np.zeros((2, 200, 200, 1), np.float32), "gm_nifti": np.array([GOOD], object)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signatures = {
            key: value for key, value in meta_graph.signature_def.items() if not key.startswith("__")
        }
        assert set(signatures) == {"serving_default", "raw" if name == "gm_slices" else "soft"}
        for signature in signatures.values():
            (given,) = signature.inputs.values()
            fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
            for key, value in session.run(fetches, {given.name: feeds[name]}).items():
                assert len(value) == len(feeds[name]), key
        (given,) = signatures["serving_default"].inputs.values()
        for wrong in (np.zeros((200, 200, 1)), np.zeros((1, 100, 100, 1)), np.zeros((1, 200, 200, 3))):
            if name == "gm_slices":
                (output, *_) = signatures["serving_default"].outputs.values()
                with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
                    session.run(output.name, {given.name: wrong})


def test_names_and_types_of_the_signatures(served):
    nifti = tf.saved_model.load(str(served.models.nifti)).signatures["serving_default"]
    assert nifti.structured_input_signature[1] == {
        "nifti_bytes": tf.TensorSpec([None], tf.string, "nifti_bytes")
    }
    outputs = {name: (config.dtype, len(config.shape)) for name, config in nifti.structured_outputs.items()}
    expected = {
        "mask_bytes": (tf.string, 1),
        "provenance": (tf.string, 1),
        **dict.fromkeys(answer.TEXTS, (tf.string, 1)),
        **{name: (dtype, 1) for name, dtype in answer.NUMBERS.items()},
        **dict.fromkeys(answer.SLICE_TEXTS, (tf.string, 2)),
        **{name: (dtype, 2) for name, dtype in answer.SLICE_NUMBERS.items()},
    }
    assert outputs == expected
    slices = tf.saved_model.load(str(served.models.slices)).signatures["serving_default"]
    assert slices.structured_input_signature[1] == {
        "slices": tf.TensorSpec([None, 200, 200, 1], tf.float32, "slices")
    }
    outputs = {
        name: (config.dtype, config.shape.as_list()) for name, config in slices.structured_outputs.items()
    }
    shape = [None, 200, 200, 1]
    assert outputs == {"probabilities": (tf.float32, shape), "mask": (tf.uint8, shape)}


def nodes(folder):
    content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    functions = attrgetter("library.function")(content.meta_graphs[0].graph_def)
    return [node for function in functions for node in function.node_def]


def test_graphs_hold_what_any_server_runs(two_networks):
    for folder in (two_networks[1].models.slices, two_networks[1].models.nifti):
        kinds = {node.op for node in nodes(folder)}
        assert "Conv2D" in kinds
        assert not [kind for kind in kinds if "PyFunc" in kind or "SpaceToBatch" in kind or "XLA" in kind]
        assert not [node for node in nodes(folder) if "_XlaMustCompile" in node.attr]
        # Each network once, whatever the number of signatures.
        assert len([node for node in nodes(folder) if node.op == "Conv2D"]) == 12
    dilations = [list(node.attr["dilations"].list.i) for node in nodes(folder) if node.op == "Conv2D"]
    assert dilations.count([1, 6, 6, 1]) == 2


def test_every_export_is_a_new_version(served, bright_network, monkeypatch):
    root = served.models.slices.parents[1]
    assert (served.models.version, served.models.dsc) == (1, 1.0)
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    monkeypatch.setattr(
        saved_model, "_save", lambda folder, *_: (folder / "assets.extra").mkdir(parents=True)
    )
    monkeypatch.setattr(saved_model, "_agreement", lambda *_: 0.99)
    with pytest.raises(InputError, match=r"DSC of only 0\.9900, below 0\.999"):
        saved_model.export_saved_model(bright_network, root)
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before
    monkeypatch.setattr(saved_model, "_agreement", lambda *_: 1.0)
    (root / "gm_nifti" / "7").mkdir()
    assert saved_model.export_saved_model(bright_network, root).version == 8
    assert sorted(path.name for path in (root / "gm_slices").iterdir()) == ["1", "8"]
    assert not list(root.glob(".*"))


def test_card_and_warm_up_are_in_the_folder(two_networks):
    for folder in (two_networks[1].models.slices, two_networks[1].models.nifti):
        card = json.loads((folder / saved_model.CARD_FILE).read_text())
        assert (card["threshold"], card["precision"], len(card["weights"])) == (0.6, "float32", 2)
        of_slices = folder.parent.name == "gm_slices"
        assert (folder / "batching_params.pbtxt").exists() == of_slices
        requests = read_warmup(folder)
        signatures = ["serving_default", "raw" if of_slices else "soft"]
        assert {request.signature for request in requests} == set(signatures)
        if of_slices:
            shown = [(request.signature, len(request.inputs["slices"])) for request in requests]
            assert shown == list(itertools.product(signatures, saved_model.BATCHES))
        else:
            n_slices = [
                nib.Nifti1Image.from_bytes(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).shape[
                    2
                ]
                for data in (request.inputs["nifti_bytes"][0] for request in requests)
            ]
            assert n_slices[-2:] == [MIN_PROBES + sum(SLICES_ON_GPU)] * 2


def test_a_gpu_sees_few_numbers_of_slices_at_a_time():
    for n_slices in range(70):
        starts, sizes = (values.numpy().tolist() for values in _chunks(tf.constant(n_slices), False))
        assert starts == [sum(sizes[:k]) for k in range(len(sizes))]
        assert sum(sizes) == n_slices
        assert set(sizes) <= set(SLICES_ON_GPU)
        assert len(sizes) <= n_slices // max(SLICES_ON_GPU) + 4
        assert _chunks(tf.constant(n_slices), True)[1].numpy().tolist() == [1] * n_slices


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "precision must be one of"),
        ({"window": (1.0, 2.0)}, "window must be one of auto, center"),
        ({"threshold": 2.0}, "threshold must be a number above 0 and below 1"),
        ({"precision": "float16"}, "exported in float32 only"),
        ({"path": "/dev/null/models"}, "writing failed"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        saved_model.export_saved_model(UNet(filters=2), **{"path": tmp_path, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_computes_in_it(precision):
    network = DilatedGMNet(filters=2, dilation_rates=(6,))
    slices = np.random.default_rng(0).normal(size=(1, 40, 40, 1)).astype(np.float32)
    full, reduced = (GraphNetwork([network], name)(slices).numpy() for name in ("float32", precision))
    np.testing.assert_allclose(reduced, full, atol=0.02)
    assert np.any(reduced != full)
    assert reduced.dtype == np.float32


def test_the_command(tmp_path, monkeypatch, two_networks):
    calls = []

    def exported(*arguments, **options):
        calls.append((arguments, options))
        return two_networks[1].models

    monkeypatch.setattr(saved_model, "export_saved_model", exported)
    monkeypatch.setattr(formats, "export_network", lambda *arguments: arguments)
    run = CliRunner().invoke
    folder = str(tmp_path)
    result = run(app, ["export", folder, "-w", "a", "-w", "b", "--threshold", "0.4", "--window", "center"])
    assert result.exit_code == 0
    assert calls == [((["a", "b"], tmp_path), {"threshold": 0.4, "window": "center", "precision": "float32"})]
    assert "gm_nifti/1: DSC 1.0000 with keras-scgm segment" in result.output
    assert "'synthetic'" in run(app, ["export", folder, "--format", "onnx"]).output
    for options in (["--threshold", "0.4"], ["-w", "a", "-w", "b"]):
        result = run(app, ["export", folder, "--format", "onnx", *options])
        assert isinstance(result.exception, InputError)
