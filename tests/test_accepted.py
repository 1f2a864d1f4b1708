"""Files that the command, the graph and the client read or refuse alike."""

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import keras_scgm_client.limits
import keras_scgm_devserver as dev_server
import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from keras_scgm_client import Client, ImageError

import keras_scgm.limits
from keras_scgm.errors import InputError
from keras_scgm.export.graph.images import require_image
from keras_scgm.export.graph.nifti import read_nifti
from keras_scgm.images import check_is_image
from keras_scgm.nifti import read_volume

SHAPE = (6, 5, 3)


def voxels(dtype=np.int16, shape=SHAPE):
    values = np.random.default_rng(0).integers(0, 100, shape)
    return values.astype(dtype)


def nifti(data=None, order="<", image_class=nib.Nifti1Image, extension=None):
    data = voxels() if data is None else data
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(data.dtype.newbyteorder(order))
    header.set_qform(np.diag([-0.5, 0.5, 4.0, 1.0]), 1)
    image = image_class(data, np.diag([-0.5, 0.5, 4.0, 1.0]), header, dtype=data.dtype)
    image.set_sform(image.affine, 1)
    if extension is not None:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, extension))
    return image.to_bytes()


def with_field(offset, form, *numbers, data=None):
    file = bytearray(nifti() if data is None else data)
    struct.pack_into(form, file, offset, *numbers)
    return bytes(file)


def bgzip(data):
    """Blocks with an extra field each, and the empty block that ends such a file."""
    blocks = b""
    for part in (data[:200], data[200:], b""):
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = packer.compress(part) + packer.flush()
        size = len(body) + 25
        blocks += b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", size)
        blocks += body + struct.pack("<2I", zlib.crc32(part), len(part))
    return blocks


def scaled(slope, intercept, data=None):
    return with_field(112, "<2f", slope, intercept, data=data)


def vast(shape, spacing_mm):
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([-spacing_mm, spacing_mm, 4.0, 1.0]))
    return image.to_bytes()


def two_dimensional():
    return nifti(voxels(shape=SHAPE[:2]))


def without_orientation():
    return with_field(252, "<2h", 0, 0)


def with_sform(affine):
    return with_field(280, "<12f", *affine[:3].ravel())


def qform_only(*quaternion):
    return with_field(256, "<3f", *quaternion, data=with_field(254, "<h", 0))


@dataclass(frozen=True)
class Case:
    """A file and what becomes of it.

    Args:
        file: what it holds.
        refused: part of each refusal, None if the file is read.
        is_served: False if the command reads it and the server, by its documentation, does not.
        is_sent_unpacked: whether the client unpacks it, since the server refuses it packed.
    """

    file: Callable[[], bytes] | bytes
    refused: str | None = None
    is_served: bool = True
    is_sent_unpacked: bool = False

    def content(self):
        return self.file if isinstance(self.file, bytes) else self.file()


PACKED = gzip.compress(nifti())
NO_SLICE = "hold no slice"
CUT = "cut short"
CASES = {
    "plain": Case(nifti()),
    "gzip": Case(PACKED),
    "big-endian": Case(nifti(order=">")),
    "extension": Case(nifti(extension=b"x" * 100)),
    **{
        f"type {code}": Case(nifti(voxels(code)))
        for code in ("u1", "i1", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    },
    # --- packing
    "several gzip members": Case(gzip.compress(nifti()[:300]) + gzip.compress(nifti()[300:])),
    "bgzip": Case(bgzip(nifti())),
    "an empty gzip member at the end": Case(
        PACKED + gzip.compress(b""), "gzip data damaged", is_served=False
    ),
    "zeros after gzip": Case(PACKED + bytes(512), "gzip data damaged", is_sent_unpacked=True),
    "zeros after bgzip": Case(bgzip(nifti()) + bytes(512), "gzip data damaged", is_sent_unpacked=True),
    "bytes after gzip": Case(PACKED + b"junk", "gzip data damaged"),
    "many bytes after gzip": Case(PACKED + b"junk" * 5000, "gzip data damaged"),
    "gzip cut off": Case(PACKED[:-20], ""),
    "gzip cut off in its trailer": Case(PACKED[:-4], "gzip data damaged"),
    "gzip cut off in its header": Case(PACKED[:5], ""),
    "wrong gzip checksum": Case(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "gzip data damaged"),
    "wrong gzip length": Case(PACKED[:-4] + b"\1\0\0\0", "gzip data damaged"),
    "gzip in gzip": Case(gzip.compress(PACKED), "not a NIfTI file"),
    "gzip of nothing": Case(gzip.compress(b""), ""),
    "gzip magic alone": Case(b"\x1f\x8b", ""),
    # --- length
    "bytes after the voxels": Case(nifti() + bytes(5000)),
    "bytes after the voxels, gzip": Case(gzip.compress(nifti() + b"junk" * 2000)),
    "cut off": Case(nifti()[:-1], CUT),
    "cut off in the header": Case(nifti()[:300], "not a NIfTI file"),
    "header alone": Case(nifti()[:348], CUT),
    "cut off before gzip": Case(gzip.compress(nifti()[:-1]), CUT),
    "empty": Case(b"", "the file is empty"),
    "offset 0": Case(with_field(108, "<f", 0)),
    "offset 100": Case(with_field(108, "<f", 100)),
    "offset with a fraction": Case(with_field(108, "<f", 352.5)),
    "offset 400": Case(with_field(108, "<f", 400, data=nifti()[:352] + bytes(48) + nifti()[352:])),
    "offset beyond the end": Case(with_field(108, "<f", 1e6), CUT),
    "offset -1": Case(with_field(108, "<f", -1), "vox_offset"),
    "offset NaN": Case(with_field(108, "<f", np.nan), "vox_offset"),
    "offset infinite": Case(with_field(108, "<f", np.inf), "vox_offset"),
    "offset 1e30": Case(with_field(108, "<f", 1e30), "vox_offset"),
    # --- fields that nothing depends on
    "sizeof_hdr 0": Case(with_field(0, "<i", 0)),
    "sizeof_hdr 540": Case(with_field(0, "<i", 540)),
    "sizeof_hdr 540, as long as a NIfTI-2 header": Case(with_field(0, "<i", 540, data=nifti() + bytes(300))),
    "sizeof_hdr of the other byte order": Case(with_field(0, ">i", 348)),
    "bitpix 0": Case(with_field(72, "<h", 0)),
    "bitpix 64": Case(with_field(72, "<h", 64)),
    "cal_max NaN": Case(with_field(124, "<f", np.nan)),
    # --- dimensions
    "two dimensions": Case(two_dimensional()),
    "two dimensions, a third that is not used": Case(with_field(46, "<h", 7, data=two_dimensional())),
    "one frame": Case(nifti(voxels(shape=(*SHAPE, 1)))),
    "seven dimensions": Case(nifti(voxels(shape=(*SHAPE, 1, 1, 1, 1)))),
    "frames": Case(nifti(voxels(shape=(*SHAPE, 2))), "frame"),
    "fifth dimension": Case(nifti(voxels(shape=(*SHAPE, 1, 3))), "frame"),
    "one slice": Case(nifti(voxels(shape=(6, 5, 1)))),
    "one voxel": Case(nifti(voxels(shape=(1, 1, 1))), NO_SLICE),
    "dim[0] 0": Case(with_field(40, "<h", 0), NO_SLICE),
    "dim[0] 1": Case(with_field(40, "<h", 1), NO_SLICE),
    "dim[0] 8": Case(with_field(40, "<h", 8), ""),
    "dim[0] -1": Case(with_field(40, "<h", -1), ""),
    "negative dimension": Case(with_field(42, "<h", -6), NO_SLICE),
    "no voxels": Case(with_field(44, "<h", 0), NO_SLICE),
    "huge dimensions": Case(with_field(42, "<3h", 32767, 32767, 32767), ""),
    # --- types
    "colour": Case(with_field(70, "<h", 128), "colour"),
    "colour with alpha": Case(with_field(70, "<h", 2304), "colour"),
    "complex": Case(nifti(voxels(np.complex64)), "complex"),
    "complex of doubles": Case(nifti(voxels(np.complex128)), "complex"),
    "bits": Case(with_field(70, "<h", 1), "voxel type"),
    "no type": Case(with_field(70, "<h", 0), "voxel type"),
    "quadruple precision": Case(with_field(70, "<h", 1536), "voxel type"),
    "unknown type": Case(with_field(70, "<h", 9999), "voxel type"),
    # --- intensities
    "constant": Case(nifti(np.full(SHAPE, 7, np.int16))),
    "zeros": Case(nifti(np.zeros(SHAPE, np.int16))),
    "NaN and infinite voxels": Case(nifti(np.where(voxels() > 50, np.nan, np.inf).astype(np.float32))),
    "scaled": Case(scaled(0.5, -3.0)),
    "scale 0": Case(scaled(0.0, 5.0)),
    "scale NaN": Case(scaled(np.nan, 5.0)),
    "scale infinite": Case(scaled(np.inf, 0.0)),
    "negative scale": Case(scaled(-2.0, 0.0)),
    "intercept NaN": Case(scaled(1.0, np.nan), "scl_inter"),
    "intercept infinite": Case(scaled(1.0, np.inf), "scl_inter"),
    "intercept NaN, scale 0": Case(scaled(0.0, np.nan)),
    "intensities of 1e160": Case(nifti(voxels(np.float64) * 1e160), "intensities"),
    "intensities of 1e160, scaled down": Case(scaled(1e-37, 0.0, nifti(voxels(np.float64) * 1e50))),
    "scale below the range of single precision": Case(scaled(1e-39, 0.0), "scl_slope"),
    "intensities of 1e300": Case(nifti(voxels(np.float64) * 1e300), "intensities"),
    "intensities of 1e17": Case(nifti(voxels(np.float64) * 1e15)),
    "intensities of 1e19": Case(nifti(voxels(np.float64) * 1e17), "intensities"),
    "intensities scaled to 1e19": Case(scaled(1e17, 0.0), "intensities"),
    "largest uint64": Case(nifti(np.full(SHAPE, 2**64 - 1, np.uint64)), "intensities"),
    "a mask": Case(nifti((voxels() > 50).astype(np.uint8)), "labels, not an image, it holds 2 values"),
    "labels": Case(
        nifti(voxels(np.float32) // 20), "labels, not an image, it holds 5 values (0, 1, 2, 3, ...)"
    ),
    "halves of labels": Case(nifti(voxels(np.float32) // 20 / 2)),
    "two values in few voxels": Case(nifti(voxels(np.uint8, (3, 2, 1)) // 50)),
    # --- geometry
    "spacing NaN": Case(with_field(80, "<f", np.nan), "spacing"),
    "spacing 0": Case(with_field(80, "<f", 0.0), "spacing"),
    "spacing below the range of single precision": Case(with_field(80, "<f", 1e-40), "spacing"),
    "qfac below the range of single precision": Case(with_field(76, "<f", -1e-40)),
    "qform with qfac below the range of single precision": Case(
        with_field(76, "<f", -1e-40, data=qform_only(0, 1, 0)), ""
    ),
    "tiny numbers in the geometry": Case(
        with_field(
            284, "<2f", 1e-40, -1e-42, data=with_field(100, "<f", 1e-42, data=with_field(256, "<f", -1e-42))
        )
    ),
    "tiny numbers, big-endian": Case(with_field(284, ">2f", 1e-40, -1e-42, data=nifti(order=">"))),
    "-0 in the geometry": Case(with_field(284, "<2f", -0.0, -0.0)),
    "spacing negative": Case(with_field(84, "<f", -0.5), "spacing"),
    "spacing of micrometres": Case(with_sform(np.diag([-500.0, 500, 4000, 1])), "axial voxels"),
    "no orientation": Case(without_orientation(), "no usable affine"),
    "qform only": Case(qform_only(0, 1, 0)),
    "qform of a quaternion that is too long": Case(qform_only(0, 1.5, 0), "no usable affine"),
    "qform with qfac 0": Case(with_field(76, "<f", 0, data=qform_only(0, 1, 0)), ""),
    "flat sform": Case(with_field(312, "<4f", 0, 0, 0, 0), "no usable affine"),
    "NaN in the sform": Case(with_field(280, "<f", np.nan), "no usable affine"),
    "NaN in the origin": Case(with_field(292, "<f", np.nan), "no usable affine"),
    # --- size
    "a slice of 4096 x 4096": Case(lambda: vast((4096, 4096), 0.1)),
    "a slice of 4096 x 4097": Case(lambda: vast((4096, 4097), 0.1), "more than 16.8 million"),
    "a slice of 600 x 600 mm": Case(lambda: vast((120, 120), 5.0)),
    "a slice of 605 x 600 mm": Case(
        lambda: vast((121, 120), 5.0), "field of view of 605 x 600 mm, more than 0.36 m2"
    ),
    "16 slices in a small file": Case(lambda: gzip.compress(nifti(voxels(np.float32, (6, 5, 16)) / 3))),
    "17 slices in a small file": Case(
        lambda: nifti(voxels(np.float32, (6, 5, 17)) / 3), "slices", is_served=False
    ),
    "packed slices that the client sends unpacked": Case(
        lambda: gzip.compress(nifti(np.zeros((130, 82, 65), np.uint8))), "slices", is_sent_unpacked=True
    ),
    "gigabytes": Case(with_field(42, "<3h", 4000, 4000, 100), ""),
    # --- other formats
    "pair": Case(with_field(344, "<4s", b"ni1\0"), "pair"),
    "magic with a space": Case(with_field(344, "<4s", b"n+1 "), "not a NIfTI file"),
    "Analyze": Case(with_field(344, "<4s", b"\0\0\0\0"), "not a NIfTI file"),
    "text": Case(b"no image\n" * 100, "not a NIfTI file"),
    "DICOM": Case(bytes(128) + b"DICM" + bytes(1000), "DICOM"),
    "NIfTI-2": Case(nifti(image_class=nib.Nifti2Image), "NIfTI-2", is_served=False),
}

WORDED_APART = {"gzip of nothing", "offset beyond the end", "huge dimensions", "gigabytes"}
"""Files whose fault the command and the graph word otherwise: the graph counts in bytes and has a bound of its own."""


class Reader(tf.Module):
    """Reads a file as the served graph does."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def read(self, data):
        """Intensities (slice, right-left, posterior-anterior), and a mask of what is over their mean."""
        image = read_nifti(data, tf.constant("file 1"))
        require_image(image)
        slices = tf.map_fn(
            lambda k: image.read_slice(k)[0], tf.range(image.shape[2]), fn_output_signature=tf.float64
        )
        return slices, image.write(tf.cast(slices > tf.reduce_mean(slices), tf.uint8))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "nifti_bytes")])
    def serve(self, nifti_bytes):
        slices, mask = self.read(nifti_bytes[0])
        return {"mask_bytes": mask[tf.newaxis], "area_mm2": tf.zeros([1, tf.shape(slices)[0]], tf.float64)}


@pytest.fixture(scope="module")
def reader():
    return Reader()


@pytest.fixture(scope="module")
def client(tmp_path_factory, reader):
    folder = tmp_path_factory.mktemp("models")
    tf.saved_model.save(reader, str(folder / "gm_nifti" / "1"), {"serving_default": reader.serve})
    catalogue = dev_server.Catalogue.load(folder)
    with (
        dev_server.serve(catalogue, rest_port=0, grpc_port=0) as address,
        Client(f"grpc://{address.grpc}") as made,
    ):
        yield made


@pytest.mark.parametrize("name", CASES)
def test_command_graph_and_client_read_and_refuse_alike(tmp_path, reader, client, name):
    case = CASES[name]
    data = case.content()
    path = tmp_path / ("a.nii.gz" if data[:2] == b"\x1f\x8b" else "a.nii")
    path.write_bytes(data)

    read = None
    refusals = {}
    try:
        volume = read_volume(path)
        check_is_image(volume)
        read, _ = volume.read_slices(0, volume.n_slices)
    except InputError as error:
        refusals["command"] = str(error)
    try:
        slices, expected_mask = reader.read(tf.constant(data))
    except tf.errors.InvalidArgumentError as error:
        refusals["graph"] = error.message.split("assertion failed: [")[1].splitlines()[0]
    try:
        mask = client.segment(path)
    except ImageError as error:
        refusals["client"] = str(error)
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    expected = ["command"] if case.is_served and not case.is_sent_unpacked else []
    expected += ["graph"] if case.is_sent_unpacked else ["graph", "client"]
    assert sorted(refusals) == (sorted(expected) if case.refused is not None else []), refusals
    for refusal in refusals.values():
        assert "\n" not in refusal
    for who in ("command", "graph"):
        assert case.refused is None or case.refused in refusals.get(who, case.refused), refusals
    if {"command", "graph"} <= set(refusals):
        command, graph = (refusals[who].split(": ", 1)[1].split("; ")[0] for who in ("command", "graph"))
        assert command == graph or name in WORDED_APART
    if case.is_sent_unpacked:
        slices, expected_mask = reader.read(tf.constant(gzip.decompress(data)))
    if case.refused is None or case.is_sent_unpacked:
        np.testing.assert_array_equal(slices, read)
        assert gzip.decompress(mask.read_bytes()) == expected_mask.numpy()


def test_the_clients_limits_are_the_packages():
    mine, theirs = (
        {name: value for name, value in vars(module).items() if name.isupper()}
        for module in (keras_scgm_client.limits, keras_scgm.limits)
    )
    assert mine == {name: theirs[name] for name in mine}
    assert set(theirs) - set(mine) == {"MAX_REQUEST_FILES"}, "the client sends one file"
