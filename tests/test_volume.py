"""Volumes: voxel types, storage orders, frames, and results on the grid of the input."""

import gzip
import itertools
import re
import shutil
import struct

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from nifti_files import SHAPE, las_data, patched, save

import keras_scgm.volume
from keras_scgm.errors import InputError
from keras_scgm.nifti import axis_codes, read_volume, volume_from_image
from keras_scgm.volume import DiskArray, bounding_box

ALL_ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(["LR", "AP", "SI"])
    for codes in itertools.product(*order)
]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_every_voxel_type_reads_the_same(tmp_path, dtype, image_class, byte_order, suffix):
    data = las_data().astype(dtype)
    volume = read_volume(save(tmp_path / f"v{suffix}", data, None, image_class, byte_order))
    slices, replaced = volume.read_slices(0, 3)
    np.testing.assert_array_equal(slices, np.moveaxis(las_data(), 2, 0))
    assert replaced == 0


@pytest.mark.parametrize("slope", [1.0, 2.0])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float32"])
def test_a_view_holds_what_is_read(tmp_path, dtype, slope):
    image = nib.Nifti1Image(las_data().astype(dtype), np.diag([-1.0, 1, 1, 1]))
    image.header.set_slope_inter(slope, 0)
    path = tmp_path / "v.nii"
    nib.save(image, path)
    volume = read_volume(path)
    view, _ = volume.view_slices(1, 3)
    read, _ = volume.read_slices(1, 3)
    np.testing.assert_array_equal(view, read)
    assert read.dtype == np.float64
    assert view.dtype.itemsize == (volume.voxels.dtype.itemsize if slope == 1 else 8)


def test_slope_and_intercept_are_applied(tmp_path):
    path = save(tmp_path / "v.nii", las_data().astype("int16"))
    raw = bytearray(path.read_bytes())
    raw[112:120] = struct.pack("<ff", 2.0, -7.0)
    path.write_bytes(raw)
    slices, _ = read_volume(path).read_slices(1, 2)
    np.testing.assert_allclose(slices[0], las_data()[:, :, 1] * 2.0 - 7.0)


@pytest.mark.parametrize(
    ("dtype", "largest", "slope", "refused"),
    [
        ("float64", 1e300, 1.0, "1e+300"),
        ("float64", 1e160, 1.0, "1e+160"),
        ("float64", -1e160, 1.0, "1e+160"),
        ("float32", 3e38, 1.0, "3e+38"),
        ("float32", 1e30, 1e30, "1e+60"),
        ("int16", 100, 1e30, "1e+32"),
        ("uint64", 2**64 - 1, 1.0, "1.84e+19"),
        ("float64", 1e18, 1.0, None),
        ("int64", 2**59, 1.0, None),
        ("int64", -100, 1e15, None),
    ],
)
@pytest.mark.parametrize("with_nan", [False, True])
def test_intensities_whose_squares_overflow_are_refused(tmp_path, dtype, largest, slope, refused, with_nan):
    data = las_data().astype(dtype)
    data[1, 2, 1] = largest
    if with_nan and data.dtype.kind == "f":
        data[0, 0, 1] = np.nan
        data[0, 1, 1] = np.inf
    raw = bytearray(save(tmp_path / "v.nii", data, np.eye(4)).read_bytes())
    raw[112:120] = struct.pack("<ff", slope, 0.0)
    (tmp_path / "v.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "v.nii")
    if refused:
        with pytest.raises(
            InputError, match=rf"v.nii: intensities of up to {re.escape(refused)} exceed the limit of 1e\+18"
        ):
            volume.read_slices(0, 3)
    else:
        assert np.abs(volume.read_slices(0, 3)[0]).max() == pytest.approx(abs(float(largest)) * slope)


def test_an_image_of_overflowing_values_is_one_line(run, reference, tmp_path):
    shutil.copy(reference / "failing" / "float64_1e300.nii.gz", tmp_path)
    code, out, err = run("segment", tmp_path / "float64_1e300.nii.gz")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "float64_1e300.nii.gz: intensities of up to 1.39e+303 exceed the limit of 1e+18" in err
    assert len(list(tmp_path.iterdir())) == 1


def reoriented(image: nib.Nifti1Image, codes: str) -> nib.Nifti1Image:
    transform = nib.orientations.ornt_transform(nib.io_orientation(image.affine), axcodes2ornt(codes))
    return image.as_reoriented(transform)


@pytest.mark.parametrize("codes", ALL_ORIENTATIONS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_slices_do_not_depend_on_storage_order(tmp_path, codes, on_disk, monkeypatch):
    monkeypatch.setattr(keras_scgm.volume, "BLOCK_BYTES", 64)
    image = reoriented(nib.Nifti1Image(las_data().astype("int16"), np.diag([-0.5, 0.6, 5, 1])), codes)
    if on_disk:
        image.to_filename(tmp_path / "v.nii")
        volume = read_volume(tmp_path / "v.nii")
        assert isinstance(volume.voxels, DiskArray)
    else:
        volume = volume_from_image(image)
    assert volume.n_slices == 3
    assert volume.in_plane_shape == (5, 4)
    assert volume.in_plane_spacing_mm == pytest.approx((0.5, 0.6))
    assert volume.slice_spacing_mm == pytest.approx(5)
    assert volume.voxel_area_mm2 == pytest.approx(0.3)
    slices, _ = volume.read_slices(1, 3)
    np.testing.assert_array_equal(slices, np.moveaxis(las_data(), 2, 0)[1:])
    k = volume.stored_slice_index(0)
    stored = np.take(np.asarray(image.dataobj), k, axis=volume.axial_axis)
    assert sorted(stored.ravel()) == sorted(las_data()[:, :, 0].ravel())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("codes", ["LAS", "RPI", "SLA", "PSR"])
def test_result_has_the_exact_grid_of_the_input(tmp_path, codes, byte_order, suffix):
    affine = inv_ornt_aff(axcodes2ornt(codes), SHAPE) @ np.diag([0.5, 0.6, 5, 1.0])
    affine[:3, 3] = [3.1, -80.7, 12.9]
    header = nib.Nifti1Header(endianness=byte_order)
    image = nib.Nifti1Image(las_data().astype("int16"), affine, header)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=4)
    image.header["descrip"] = b"scanner 7"
    image.to_filename(tmp_path / "v.nii")
    volume = read_volume(tmp_path / "v.nii")
    mask = (las_data() % 3 == 0).astype(np.uint8)
    volume.write_result(tmp_path / f"mask{suffix}", mask)
    written = nib.load(tmp_path / f"mask{suffix}")
    source = nib.load(tmp_path / "v.nii")
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    np.testing.assert_array_equal(written.affine, source.affine)
    for field in (
        "dim",
        "pixdim",
        "qform_code",
        "sform_code",
        "xyzt_units",
        "descrip",
        "quatern_b",
        "srow_x",
    ):
        np.testing.assert_array_equal(written.header[field], source.header[field])
    assert written.get_data_dtype() == np.uint8
    in_memory = volume.result_image(mask)
    np.testing.assert_array_equal(in_memory.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(in_memory.dataobj), mask)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    volume = read_volume(save(tmp_path / "v.nii", las_data().astype("int16")))
    for name in ("a.nii.gz", "b.nii.gz"):
        volume.write_result(tmp_path / name, np.ones(SHAPE, np.uint8))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 1), (5, 4, 3, 1, 1)])
def test_results_keep_two_and_four_dimensions(tmp_path, shape):
    data = np.arange(np.prod(shape)).reshape(shape).astype("float32")
    path = save(tmp_path / "v.nii.gz", data)
    for volume in (read_volume(path), volume_from_image(nib.load(path))):
        assert volume.voxels.shape == (*shape[:2], shape[2] if len(shape) > 2 else 1)
        slices, _ = volume.read_slices(0, 1)
        np.testing.assert_array_equal(slices[0], data.reshape(5, 4, -1)[:, :, 0])
        assert volume.result_image(np.zeros(volume.voxels.shape, np.uint8)).shape == shape


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_frame_of_many(tmp_path, suffix):
    data = np.random.default_rng(0).normal(size=(*SHAPE, 6)).astype("float32")
    path = save(tmp_path / f"v{suffix}", data)
    for volume in (read_volume(path, frame=4), volume_from_image(nib.load(path), frame=4)):
        slices, _ = volume.read_slices(0, 3)
        np.testing.assert_array_equal(slices, np.moveaxis(data[..., 4].astype(float), 2, 0))
        assert volume.result_image(np.zeros(SHAPE, np.uint8)).shape == SHAPE
    with pytest.raises(
        InputError,
        match=r"6 frames of 5 x 4 x 3 voxels; save one of them, .* segment and study take --frame 0 to --frame 5",
    ):
        read_volume(path)
    with pytest.raises(InputError, match="frame 6 does not exist; the file has frames 0 to 5"):
        read_volume(path, frame=6)


def test_a_time_between_frames_of_0_is_no_spacing(tmp_path):
    data = np.arange(120, dtype=np.float32).reshape(*SHAPE, 2)
    raw = bytearray(save(tmp_path / "v.nii", data).read_bytes())
    struct.pack_into("<f", raw, 92, 0.0)
    (tmp_path / "v.nii").write_bytes(raw)
    slices, _ = read_volume(tmp_path / "v.nii", frame=1).read_slices(0, 3)
    np.testing.assert_array_equal(slices, np.moveaxis(data[..., 1], 2, 0))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("stated", "gap"), [(0, 0), (352, 0), (400, 48)])
def test_voxels_start_where_the_header_says_but_after_it(tmp_path, suffix, stated, gap):
    """The gap is that of an extension of the header."""
    data = las_data().astype("int16")
    raw = bytearray(save(tmp_path / "v.nii", data).read_bytes())
    struct.pack_into("<f", raw, 108, stated)
    raw[352:352] = bytes(range(gap))
    path = tmp_path / f"v{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix == ".nii.gz" else raw)
    volume = read_volume(path)
    assert volume.warnings == ()
    np.testing.assert_array_equal(volume.read_slices(0, 3)[0], np.moveaxis(data, 2, 0))


def test_large_compressed_files_go_to_disk_and_read_the_same(tmp_path, monkeypatch):
    path = save(tmp_path / "v.nii.gz", las_data().astype("int16"))
    small, _ = read_volume(path).read_slices(0, 3)
    monkeypatch.setattr(keras_scgm.volume, "IN_MEMORY_BYTES", 0)
    volume = read_volume(path)
    assert isinstance(volume.voxels, DiskArray)
    np.testing.assert_array_equal(volume.read_slices(0, 3)[0], small)
    scratch = keras_scgm.volume.zeros(np.dtype(np.uint8), SHAPE)
    assert isinstance(scratch, DiskArray)
    volume.axial_view(scratch)[1, 2, 0] = 1
    assert scratch.map().sum() == 1


def test_voxels_that_are_not_finite_take_the_mean_of_their_slice(tmp_path):
    data = las_data().astype("float32")
    data[0, 0, 1], data[1, 1, 1], data[:, :, 2] = np.nan, -np.inf, np.inf
    slices, replaced = read_volume(save(tmp_path / "v.nii", data)).read_slices(0, 3)
    assert replaced == 2 + 20
    finite = data[:, :, 1][np.isfinite(data[:, :, 1])]
    assert slices[1, 0, 0] == slices[1, 1, 1] == pytest.approx(finite.astype(float).mean())
    assert np.all(slices[2] == 0)


def test_reading_changes_neither_file_nor_array(tmp_path):
    data = las_data().astype("float64")
    data[0, 0, 0] = np.nan
    before = data.copy()
    volume_from_image(nib.Nifti1Image(data, np.eye(4))).read_slices(0, 3)
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize(("tilt", "expected"), [(0, "LAS"), (40, "LAS"), (50, "LSP")])
def test_axial_axis_is_the_closest_to_superior_inferior(tilt, expected):
    angle = np.deg2rad(tilt)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = rotation @ np.diag([-0.5, 0.5, 0.5, 1])
    volume = volume_from_image(nib.Nifti1Image(las_data().astype("int16"), affine))
    assert volume.axial_axis == expected.index("S")


def test_orientation_can_be_declared_for_a_file_without_one(tmp_path):
    path = tmp_path / "v.nii"
    path.write_bytes(patched(252, "<2h", 0, 0)(tmp_path))
    with pytest.raises(
        InputError, match=r"v\.nii: no usable affine, .* codes are both 0.*--orientation, for example LAS"
    ):
        read_volume(path)
    volume = read_volume(path, orientation="SLA")
    assert (volume.axial_axis, volume.n_slices, volume.slice_spacing_mm) == (0, 5, 0.5)
    assert read_volume(path, orientation="las").axial_axis == 2


@pytest.mark.parametrize("codes", ["LA", "LLS", "XAS", "LASR", ""])
def test_orientation_codes_are_checked(codes):
    with pytest.raises(InputError, match="is not three axis codes"):
        axis_codes(codes)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_bounding_box_goes_from_the_first_to_the_last_voxel(order):
    rng = np.random.default_rng(0)
    for shape in ((5, 6), (4, 5, 6)):
        array = np.zeros(shape, order=order)
        assert array[bounding_box(array)].size == 0
        array[tuple(rng.integers(0, shape, (2, len(shape))).T)] = 0.5
        places = np.argwhere(array)
        expected = zip(places.min(axis=0), places.max(axis=0) + 1, strict=True)
        assert bounding_box(array) == tuple(slice(*map(int, ends)) for ends in expected)
