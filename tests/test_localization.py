"""Search of the cord and placement of the windows."""

import nibabel as nib
import numpy as np
import pytest

import keras_scgm.localization
from keras_scgm.localization import (
    MIN_SEARCH_PX,
    SEARCH_SHARE,
    CordTrack,
    fixed_windows,
    track_cord,
    windows_on_cord,
)
from keras_scgm.nifti import volume_from_image
from keras_scgm.segmentation import Segmenter
from keras_scgm.slices import SliceConfig, SliceGeometry, measure_intensities, read_windows


def predict(slices):
    return (slices > 5).astype(np.float32)


def center_px(geometry, k=0):
    return geometry.starts[k] + (np.array(geometry.window_shape) - 1) / 2


def test_a_cord_in_the_inner_half_leaves_the_windows_in_the_middle(blob_image):
    volume = volume_from_image(blob_image(center_mm=(45.0, 30.0)))
    windows = windows_on_cord(volume, SliceConfig(), predict)
    assert windows.cord is not None
    np.testing.assert_array_equal(
        windows.geometry.starts, SliceGeometry.centered(volume, SliceConfig()).starts
    )


@pytest.mark.parametrize("center_mm", [(10.0, 12.0), (70.0, 60.0), (60.0, 35.0)])
def test_windows_move_onto_a_cord_off_the_middle(blob_image, center_mm):
    volume = volume_from_image(blob_image(center_mm=center_mm))
    windows = windows_on_cord(volume, SliceConfig(), predict)
    assert windows.cord is not None
    np.testing.assert_allclose(center_px(windows.geometry) * 0.25, center_mm, atol=0.5)


def cord_alone(slices):
    """A network that sees the cord, and no gray matter."""
    return np.concatenate([np.zeros_like(slices), slices > 2], axis=-1).astype(np.float32)


def recorded(network):
    """The sizes of the slices that a network is shown, and the network that notes them."""
    sizes = []

    def recording(slices):
        sizes.append(slices.shape[1:3])
        return network(slices)

    return sizes, recording


@pytest.mark.parametrize("center_mm", [(45.0, 30.0), (30.0, 42.0)])
def test_a_cord_without_gray_matter_is_enough(blob_image, center_mm):
    sizes, recording = recorded(cord_alone)
    volume = volume_from_image(blob_image(center_mm=center_mm, radius_mm=5))
    windows = windows_on_cord(volume, SliceConfig(), recording)
    np.testing.assert_allclose(
        (windows.cord + windows.geometry.starts) * 0.25, np.tile(center_mm, (5, 1)), atol=0.5
    )
    assert set(sizes) == {(200, 200)}
    assert {found.shape for found in windows.probabilities.values()} == {(200, 200, 2)}


def test_what_is_too_small_for_a_cord_is_none(blob_image):
    for radius_mm, is_found in ((1.7, False), (3.6, True)):
        volume = volume_from_image(blob_image(radius_mm=radius_mm))
        assert (windows_on_cord(volume, SliceConfig(), cord_alone).cord is not None) == is_found


def test_windows_follow_an_oblique_cord():
    data = np.random.default_rng(0).normal(0, 1, (300, 120, 40))
    x = np.arange(300) * 0.5
    path_mm = np.linspace(20, 130, 40)
    for k, center in enumerate(path_mm):
        disc = np.hypot(x[:, None] - center, x[:120] - 30) < 3
        data[..., k] += 30 * disc
    volume = volume_from_image(nib.Nifti1Image(data, np.diag([-0.5, 0.5, 4, 1])))
    windows = windows_on_cord(volume, SliceConfig(), predict)
    assert windows.cord is not None
    cord_mm = (windows.geometry.starts + windows.cord)[:, 0] * 0.25
    assert np.abs(cord_mm - path_mm).max() < 0.5
    centers_mm = (windows.geometry.starts[:, 0] + 99.5) * 0.25
    assert np.abs(centers_mm - path_mm).max() < 2


def test_an_image_without_cord_says_so(blob_image):
    volume = volume_from_image(blob_image(radius_mm=0))
    windows = windows_on_cord(volume, SliceConfig(), lambda slices: np.zeros(slices.shape))
    assert windows.cord is None
    np.testing.assert_array_equal(
        windows.geometry.starts, SliceGeometry.centered(volume, SliceConfig()).starts
    )


def test_a_constant_image_has_no_cord():
    volume = volume_from_image(nib.Nifti1Image(np.ones((150, 150, 3)), np.diag([-0.5, 0.5, 5, 1])))
    assert windows_on_cord(volume, SliceConfig(), predict).cord is None


def test_continuity_beats_a_bright_spot_in_one_slice(blob_image):
    image = blob_image(shape=(160, 140, 9), center_mm=(20.0, 20.0))
    data = np.asarray(image.dataobj).copy()
    x, y = np.meshgrid(np.arange(160) * 0.5, np.arange(140) * 0.5, indexing="ij")
    data[..., 4] += 200 * (np.hypot(x - 65, y - 55) < 3.5)
    volume = volume_from_image(nib.Nifti1Image(data, image.affine))
    geometry = SliceGeometry.centered(volume, SliceConfig(window_px=280))
    statistics = measure_intensities(volume, geometry)
    slices = read_windows(volume, geometry, statistics, 0, 9)
    track = track_cord(geometry, enumerate(predict(slices)))
    np.testing.assert_allclose(track.centers * 0.25, np.tile([20.0, 20.0], (9, 1)), atol=0.5)
    assert track.areas_mm2 == pytest.approx(np.pi * 2.5**2, rel=0.35)


def test_large_fields_are_searched_in_tiles(blob_image, monkeypatch):
    monkeypatch.setattr(keras_scgm.localization, "MAX_TILE", 160)
    monkeypatch.setattr(keras_scgm.localization, "TILE_OVERLAP", 64)
    sizes, recording = recorded(predict)
    volume = volume_from_image(blob_image(shape=(300, 260, 3), center_mm=(130.0, 20.0)))
    windows = windows_on_cord(volume, SliceConfig(), recording)
    assert windows.cord is not None
    np.testing.assert_allclose(center_px(windows.geometry) * 0.25, (130.0, 20.0), atol=0.5)
    searched = [size for size in sizes if size != (200, 200)]
    assert searched
    assert max(max(size) for size in searched) <= 160


def test_searched_fields_fit_networks_that_halve_three_times(blob_image):
    sizes, recording = recorded(predict)
    windows_on_cord(
        volume_from_image(blob_image(shape=(163, 141, 2), center_mm=(5.0, 5.0))), SliceConfig(), recording
    )
    assert all(length % 8 == 0 for size in sizes for length in size)


@pytest.mark.parametrize(("center_mm", "n_looks"), [((40.0, 35.0), 5), ((10.0, 12.0), 3 + 3 + 5)])
def test_windows_in_the_middle_are_looked_at_once(
    blob_image, bright_network, monkeypatch, center_mm, n_looks
):
    segmenter = Segmenter(bright_network)
    looks = []
    predict = segmenter.networks.predict

    def counted(slices, centers=None):
        looks.append(len(slices))
        return predict(slices, centers)

    monkeypatch.setattr(segmenter.networks, "predict", counted)
    image = blob_image(center_mm=center_mm)
    found = segmenter.segment(image)
    assert sum(looks) == n_looks
    assert 2 * np.count_nonzero(found.mask.dataobj) > np.count_nonzero(image.get_fdata() > 200)


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((320, 320, 20), 0.5),
        ((300, 40, 3), 0.9),
        ((120, 120, 1), 4.9),
        ((90, 90, 60), 1.0),
        ((700, 650, 2), 0.3),
    ],
)
def test_the_search_is_bounded_where_there_is_no_cord(shape, spacing_mm):
    shown = []

    def nothing(slices):
        shown.append(slices.shape[:3])
        return np.zeros(slices.shape, np.float32)

    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    volume = volume_from_image(nib.Nifti1Image(data, np.diag([-spacing_mm, spacing_mm, 4, 1])))
    assert windows_on_cord(volume, SliceConfig(), nothing).cord is None
    in_the_middle = (200, 200)
    searched = sum(int(np.prod(size)) for size in shown if size[1:] != in_the_middle)
    budget = max(SEARCH_SHARE * shape[2] * 200**2, MIN_SEARCH_PX)
    # Tiles overlap, by less than half of what they show.
    assert 0 < searched <= 1.5 * budget
    assert sum(size[0] for size in shown if size[1:] == in_the_middle) <= 33


def test_empty_slices_are_no_reason_to_search(blob_image):
    image = blob_image()
    padded = np.concatenate([np.asarray(image.dataobj), np.zeros((160, 140, 12), np.float32)], axis=2)
    sizes, recording = recorded(predict)
    windows = windows_on_cord(
        volume_from_image(nib.Nifti1Image(padded, image.affine)), SliceConfig(), recording
    )
    assert windows.cord is not None
    assert set(sizes) == {(200, 200)}


def test_fixed_windows_know_the_cord_in_them(blob_image):
    volume = volume_from_image(blob_image(center_mm=(45.0, 30.0)))
    geometry = SliceGeometry.centered(volume, SliceConfig())
    windows = fixed_windows(volume, geometry, predict)
    assert windows.geometry is geometry
    np.testing.assert_allclose(
        (windows.cord + geometry.starts) * 0.25, np.tile([45.0, 30.0], (5, 1)), atol=0.5
    )
    assert fixed_windows(volume, geometry, lambda slices: np.zeros(slices.shape)).cord is None


def test_mirror_images_past_the_field_are_no_cord(blob_image):
    volume = volume_from_image(blob_image(center_mm=(6.0, 35.0)))
    geometry = SliceGeometry.centered(volume, SliceConfig()).recentered(np.tile((4.0, 140.0), (5, 1)))
    windows = fixed_windows(volume, geometry, lambda slices: (slices > 3).astype(np.float32))
    np.testing.assert_allclose(
        (windows.cord + geometry.starts) * 0.25, np.tile([6.0, 35.0], (5, 1)), atol=0.5
    )


def geometry_of(n_slices, size_px=400):
    return SliceGeometry(
        (size_px, size_px), (0.25, 0.25), 0.25, (size_px, size_px), np.zeros((n_slices, 2), int)
    )


def discs(*places, size_px=400, spacing_mm=0.25):
    """Probabilities (rows, columns, 1) of 1 in discs, each of a centre in mm and a radius."""
    at = np.arange(size_px) * spacing_mm
    probabilities = np.zeros((size_px, size_px, 1), np.float32)
    for (row_mm, column_mm), radius_mm in places:
        probabilities[np.hypot(at[:, None] - row_mm, at - column_mm) < radius_mm] = 1
    return probabilities


def test_the_strongest_of_many_peaks_is_the_cord():
    small = [((x, y), 0.9) for x in (20, 50, 80) for y in (20, 80)]
    track = track_cord(geometry_of(3), enumerate([discs(*small, ((50, 50), 2.5))] * 3))
    np.testing.assert_allclose(track.centers * 0.25, np.tile([50.0, 50.0], (3, 1)), atol=0.5)


def test_a_slice_that_shows_nothing_does_not_draw_the_cord_to_the_corner():
    both = discs(((10, 10), 2.4), ((90, 90), 2.6))
    track = track_cord(geometry_of(3), enumerate([both, discs(), both]))
    assert track.slices.tolist() == [0, 2]
    np.testing.assert_allclose(track.centers * 0.25, np.tile([90.0, 90.0], (2, 1)), atol=0.5)


@pytest.mark.parametrize(
    ("slices", "centers", "expected"),
    [
        ([3], [[8.0, 6.0]], [8.0] * 5),
        ([1, 3], [[8.0, 6.0], [12.0, 6.0]], [6.0, 8.0, 10.0, 12.0, 14.0]),
        ([0, 2, 4], [[8.0, 6.0], [10.0, 6.0], [16.0, 6.0]], [8.0, 9.0, 10.0, 13.0, 16.0]),
    ],
)
def test_centres_of_all_slices_from_a_few_probes(slices, centers, expected):
    track = CordTrack(np.array(slices), np.array(centers), np.full(len(slices), 12.0), len(slices))
    of_all = track.centers_of_all(5)
    assert of_all.tolist() == [[row, 6.0] for row in expected]
