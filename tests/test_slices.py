"""From a volume to windows and back: geometry and z-score."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from keras_scgm.nifti import volume_from_image
from keras_scgm.slices import (
    IntensityStatistics,
    SliceConfig,
    SliceGeometry,
    chunks,
    is_varied,
    measure_intensities,
    read_windows,
)


def volume_of(data, spacing_mm=(0.5, 0.5, 5.0)):
    return volume_from_image(nib.Nifti1Image(data, np.diag([-spacing_mm[0], *spacing_mm[1:], 1.0])))


def smooth(shape, seed=0):
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    a, b, c = rng.uniform(1, 3, 3)
    return 100 + 50 * np.sin(a * 3 * x) * np.cos(b * 3 * y) + 10 * c * z


def to_native(geometry, windows, shape):
    result = np.zeros((len(windows), *shape))
    for one, (region, values) in zip(result, geometry.to_native(windows, 0), strict=True):
        one[region] = values
    return result


def test_at_the_network_spacing_the_window_is_a_crop():
    data = np.random.default_rng(0).normal(size=(231, 260, 3))
    volume = volume_of(data, (0.25, 0.25, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    windows = geometry.to_windows(volume.read_slices(0, 3)[0], 0)
    np.testing.assert_array_equal(windows, np.moveaxis(data[15:215, 30:230], 2, 0))


@pytest.mark.parametrize("spacing", [0.1, 0.3, 0.5, 0.9])
def test_resampling_equals_scipy_on_the_voxel_centred_grid(spacing):
    n = round(70 / spacing)
    data = np.random.default_rng(1).normal(size=(n, n + 3, 1))
    volume = volume_of(data, (spacing, spacing, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    window = geometry.to_windows(volume.read_slices(0, 1)[0], 0)[0]
    axes = [(geometry.starts[0, axis] + np.arange(200)) * 0.25 / spacing for axis in (0, 1)]
    expected = map_coordinates(data[..., 0], np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")
    # The affine is stored in float32, which moves the far end by some 1e-5 voxels.
    np.testing.assert_allclose(window, expected, atol=1e-4)


@pytest.mark.parametrize("spacing", [(0.25, 0.25), (0.5, 0.5), (0.35, 0.6), (1.0, 1.0)])
@pytest.mark.parametrize("shape", [(30, 31), (47, 22)])
def test_round_trip_inside_the_window(spacing, shape):
    data = smooth((*shape, 3))
    volume = volume_of(data, (*spacing, 4))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    slices, _ = volume.read_slices(0, 3)
    back = to_native(geometry, geometry.to_windows(slices, 0), shape)
    inside = back != 0
    # The last voxels may lie past the last pixel, by less than one pixel.
    inside[:, -1], inside[:, :, -1] = False, False
    assert inside.any()
    np.testing.assert_allclose(back[inside], slices[inside], atol=0.6)


def test_round_trip_is_exact_when_the_spacings_divide():
    data = np.random.default_rng(2).normal(size=(90, 90, 2)) + 10
    volume = volume_of(data, (0.5, 0.5, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    slices, _ = volume.read_slices(0, 2)
    np.testing.assert_allclose(
        to_native(geometry, geometry.to_windows(slices, 0), (90, 90)), slices, atol=1e-9
    )


def test_outside_the_window_nothing_comes_back():
    volume = volume_of(np.ones((300, 300, 1)), (0.5, 0.5, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    back = to_native(geometry, np.ones((1, 200, 200)), (300, 300))[0]
    assert set(np.unique(back)) == {0, 1}
    rows = np.flatnonzero(back.any(axis=1))
    assert (rows[0], rows[-1]) == (100, 199)


def test_zeros_around_the_gray_matter_are_left_out():
    geometry = SliceGeometry.centered(volume_of(np.ones((300, 300, 1)), (0.3, 0.4, 5)), SliceConfig())
    windows = np.zeros((1, 200, 200))
    windows[0, 80:110, 70:95] = np.random.default_rng(4).random((30, 25))
    ((region, _),) = geometry.to_native(windows, 0)
    extent_mm = [(r.stop - r.start) * mm for r, mm in zip(region, (0.3, 0.4), strict=True)]
    assert extent_mm == pytest.approx([30 * 0.25, 25 * 0.25], abs=0.8)
    covered = geometry.covered(0)
    expected = np.zeros((300, 300))
    expected[covered] = to_native(geometry, windows + 1, (300, 300))[0][covered] - 1
    np.testing.assert_allclose(to_native(geometry, windows, (300, 300))[0], expected, atol=1e-12)
    ((region, values),) = geometry.to_native(np.zeros((1, 200, 200)), 0)
    assert values.size == 0
    assert np.ones((300, 300))[region].size == 0


@pytest.mark.parametrize("size", [3, 40, 99])
def test_small_fields_are_mirrored(size):
    data = np.random.default_rng(3).normal(size=(size, size, 1))
    volume = volume_of(data, (0.25, 0.25, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    window = geometry.to_windows(volume.read_slices(0, 1)[0], 0)[0]
    before = (200 - size) // 2 + (200 - size) % 2
    pad = (before, 200 - size - before)
    np.testing.assert_array_equal(window, np.pad(data[..., 0], pad, mode="reflect"))


def test_mirror_image_does_not_leak_back():
    volume = volume_of(np.ones((41, 41, 1)), (0.3, 0.3, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    windows = np.zeros((1, 200, 200))
    start, (rows, _) = -geometry.starts[0, 0], geometry.resampled_shape
    windows[:, start : start + rows, start : start + rows] = 1
    np.testing.assert_array_equal(to_native(geometry, windows, (41, 41)), 1)


def test_every_slice_may_have_its_own_window():
    data = np.zeros((400, 400, 3))
    centers = np.array([[100, 120], [200, 180], [300, 250]])
    for k, (i, j) in enumerate(centers):
        data[i, j, k] = 1
    volume = volume_of(data, (0.25, 0.25, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig()).recentered(centers.astype(float))
    windows = geometry.to_windows(volume.read_slices(0, 3)[0], 0)
    for window in windows:
        assert np.abs(np.argwhere(window == 1)[0] - 99.5).max() <= 0.5
    back = to_native(geometry, windows, (400, 400))
    np.testing.assert_array_equal(np.argwhere(back == 1)[:, 1:], centers)
    part = geometry.to_windows(volume.read_slices(1, 3)[0], 1)
    np.testing.assert_array_equal(part, windows[1:])


def test_statistics_equal_numpy_over_chunks():
    data = np.random.default_rng(4).normal(7, 3, size=(250, 250, 21))
    volume = volume_of(data, (0.25, 0.25, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    statistics = measure_intensities(volume, geometry)
    windows = data[25:225, 25:225]
    assert statistics.mean == pytest.approx(windows.mean(), rel=1e-12)
    assert statistics.std == pytest.approx(windows.std(), rel=1e-12)
    normalised = np.concatenate(
        [read_windows(volume, geometry, statistics, *chunk) for chunk in chunks(volume.n_slices)]
    )
    assert normalised.dtype == np.float32
    assert normalised.shape == (21, 200, 200, 1)
    assert normalised.mean() == pytest.approx(0, abs=1e-6)
    assert normalised.std() == pytest.approx(1, rel=1e-6)


def test_statistics_survive_a_large_offset():
    data = np.random.default_rng(5).normal(0, 1, size=(210, 210, 4)) + 1e9
    statistics = measure_intensities(
        volume_of(data, (0.25, 0.25, 5)),
        SliceGeometry.centered(volume_of(data, (0.25, 0.25, 5)), SliceConfig()),
    )
    assert statistics.std == pytest.approx(1, rel=0.02)
    assert not statistics.is_constant


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9])
def test_constant_volumes_are_recognised(value):
    volume = volume_of(np.full((60, 60, 2), value), (0.7, 0.7, 5))
    statistics = measure_intensities(volume, SliceGeometry.centered(volume, SliceConfig()))
    assert statistics.is_constant
    assert not np.any(statistics.normalize(np.full((1, 2, 2), value)))


@pytest.mark.parametrize("scale", [1e-317, 1e-150])
def test_slices_of_tiny_numbers_leave_the_statistics_of_the_others(scale):
    data = np.random.default_rng(5).normal(100, 10, size=(60, 60, 4))
    tiny = np.array(data)
    tiny[..., 2:] *= scale
    expected, statistics = (
        measure_intensities(volume, SliceGeometry.centered(volume, SliceConfig()))
        for volume in (volume_of(part, (0.7, 0.7, 5)) for part in (data[..., :2], tiny))
    )
    assert (statistics.mean, statistics.std) == pytest.approx((expected.mean, expected.std), rel=1e-12)


def test_statistics_of_chosen_slices_only():
    ramp = np.indices((210, 210)).sum(axis=0) - 209.0
    data = np.stack([k + ramp for k in range(5)], axis=2)
    volume = volume_of(data, (0.25, 0.25, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    assert measure_intensities(volume, geometry, np.array([1, 4])).mean == pytest.approx(2.5)


@pytest.mark.parametrize("fill", [0.0, 0.1, 700.0])
def test_empty_slices_do_not_change_what_the_network_sees_of_the_others(fill):
    rng = np.random.default_rng(0)
    data = rng.normal(100, 10, (90, 90, 12))
    padded = np.concatenate([np.full((90, 90, 5), fill), data, np.full((90, 90, 6), fill)], axis=2)
    alone, among = (volume_of(each, (0.7, 0.7, 5)) for each in (data, padded))
    windows = []
    for volume, start in ((alone, 0), (among, 5)):
        geometry = SliceGeometry.centered(volume, SliceConfig())
        statistics = measure_intensities(volume, geometry)
        windows.append(read_windows(volume, geometry, statistics, start, start + 12))
        assert is_varied(windows[-1]).all()
    np.testing.assert_allclose(*windows, rtol=1e-5, atol=1e-6)
    assert not is_varied(read_windows(volume, geometry, statistics, 0, 5)).any()


def test_normalising_keeps_its_argument():
    windows = np.ones((1, 4, 4))
    IntensityStatistics(0.5, 2.0, 0).normalize(windows)
    assert np.all(windows == 1)


def test_resampled_shape_rounds():
    geometry = SliceGeometry((101, 1), (0.33, 0.1), 0.25, (200, 200), np.zeros((1, 2), int))
    assert geometry.resampled_shape == (133, 1)
    assert replace(geometry, native_shape=(320, 320), native_spacing_mm=(0.5, 0.5)).resampled_shape == (
        640,
        640,
    )


@pytest.mark.parametrize(
    ("arguments", "message"), [({"spacing_mm": 0}, "spacing_mm"), ({"window_px": 0}, "window_px")]
)
def test_spec_is_checked(arguments, message):
    with pytest.raises(ValueError, match=f"{message} must be .*received 0"):
        SliceConfig(**arguments)


def test_what_lies_past_the_field_of_view_is_cleared():
    volume = volume_of(np.ones((30, 20, 2)), (0.5, 0.5, 5))
    geometry = SliceGeometry.centered(volume, SliceConfig(window_px=80)).recentered(
        np.array([[5.0, 20.0], [29.5, 19.5]])
    )
    windows = np.ones((2, 80, 80), np.float32)
    geometry.clear_past_field(windows, 0)
    for window, (row, column) in zip(windows, geometry.starts, strict=True):
        rows, columns = np.nonzero(window)
        assert (rows.min() + row, rows.max() + row) == (max(0, row), min(59, row + 79))
        assert (columns.min() + column, columns.max() + column) == (max(0, column), min(39, column + 79))
    one = np.ones((1, 80, 80), np.float32)
    geometry.clear_past_field(one, 1)
    np.testing.assert_array_equal(one[0], windows[1])
