"""Uncertainty by test-time augmentation: its changes and their inverse, what it adds up, and what it costs."""

import csv
import json
from dataclasses import replace

import keras
import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from keras_scgm import InputError, SegmentationConfig, Segmenter, segment
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.localization import Windows
from keras_scgm.models import UNet
from keras_scgm.nifti import volume_from_image
from keras_scgm.runtimes.region_of_interest import Predictor, mean_of
from keras_scgm.slices import SliceConfig, SliceGeometry
from keras_scgm.uncertainty import GAIN, OFFSET, SCALING, SHIFT_PX, Variation, measure_uncertainty


def voxels(image):
    return np.asarray(image.dataobj)


@pytest.fixture(scope="module")
def cord():
    """A synthetic cord of 4 slices on which the bundled network finds all gray matter around the cord."""
    config = PhantomConfig(spacing_mm=0.5, matrix_size=104, n_slices=4, contrast_to_noise=(6.0, 6.0))
    return draw_subject(config, seed=7).image


@pytest.fixture(scope="module")
def gentle_network(bright_network):
    """Probabilities that rise slowly with the normalised intensity."""
    model = keras.models.clone_model(bright_network)
    model.set_weights([np.full((1, 1, 1, 1), 0.5), np.full(1, -2.0)])
    return model


def windows_of(image, size=200):
    volume = volume_from_image(image)
    windows = Windows.of(volume, SliceGeometry.centered(volume, SliceConfig(window_px=size)))
    slices, _ = volume.view_slices(0, volume.n_slices)
    return windows, slices


def asked(network, seen, windows):
    assert windows.cord is None
    return network(seen)


# --- the changes, and their inverse ----------------------------------------------------------------------


@pytest.mark.parametrize("magnification", [0.92, 1.0, 1.09])
@pytest.mark.parametrize(("shape", "spacing_mm"), [((80, 91), (0.5, 0.5)), ((61, 140), (0.7, 0.4))])
@pytest.mark.parametrize("size", [120, 121])
def test_probabilities_return_to_where_the_image_had_them(shape, spacing_mm, size, magnification):
    smooth = gaussian_filter(np.random.default_rng(3).normal(size=(*shape, 2)), (4, 4, 0))
    image = nib.Nifti1Image(smooth.astype(np.float32), np.diag([-spacing_mm[0], spacing_mm[1], 5, 1]))
    windows, slices = windows_of(image, size)
    changed = Variation(magnification=magnification, shift_px=(-2.3, 3.6)).windows(windows)
    seen = changed.geometry.to_windows(slices, 0)
    assert np.abs(seen - windows.geometry.to_windows(slices, 0)).max() > 0.3 * slices.std()
    returned = list(changed.geometry.to_native(seen, 0))
    assert len(returned) == len(slices)
    for one, (region, values) in zip(slices, returned, strict=True):
        assert values.size > 0.8 * min(one.size, size**2 * 0.25**2 / np.prod(spacing_mm))
        error = np.abs(values - one[region])[1:-1, 1:-1].max()
        assert error < 0.12 * one.std()


def test_the_cord_is_followed_into_the_changed_windows(blob_image):
    windows, slices = windows_of(blob_image(center_mm=(44.0, 31.0)))
    grid = np.array([44.0, 31.0]) / 0.25
    windows = replace(windows, cord=grid - windows.geometry.starts, probabilities={0: np.zeros((200, 200))})
    for variation in (Variation.draw(1, number) for number in range(6)):
        changed = variation.windows(windows)
        assert not changed.probabilities
        seen = changed.statistics.normalize(changed.geometry.to_windows(slices, 0))
        for window, center in zip(seen > 2, changed.cord, strict=True):
            assert np.argwhere(window).mean(axis=0) == pytest.approx(center, abs=0.6)


def whole(compute):
    return Predictor(compute, takes_regions=False, spacing_mm=0.25, thresholds=(0.5,))


def test_a_mirrored_pass_shows_the_network_the_mirror_image():
    slices = np.random.default_rng(0).normal(size=(2, 6, 5, 1)).astype(np.float32)
    shown = []

    def at_the_first_row(slices, _=None):
        shown.append(slices)
        return np.concatenate([slices[:, :1], np.zeros((2, 5, 5, 1), np.float32)], axis=1)

    plain, other = (
        Variation(is_mirrored=is_mirrored).network(whole(at_the_first_row))(slices)
        for is_mirrored in (False, True)
    )
    np.testing.assert_array_equal(shown[1], slices[:, ::-1])
    np.testing.assert_array_equal(plain[:, 0], slices[:, 0])
    np.testing.assert_array_equal(other[:, -1], slices[:, -1])
    assert not other[:, :-1].any()


def test_a_variation_depends_on_seed_and_number_alone():
    assert Variation.draw(5, 3) == Variation.draw(5, 3)
    drawn = [Variation.draw(seed, number) for seed in range(3) for number in range(8)]
    assert len(set(drawn)) == len(drawn)
    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        assert one.is_mirrored != other.is_mirrored
        assert one.magnification * other.magnification == pytest.approx(1)
        assert one.gain * other.gain == pytest.approx(1)
        assert one.offset + other.offset == pytest.approx(0)
        assert np.add(one.shift_px, other.shift_px) == pytest.approx([0, 0])
    assert max(one.magnification for one in drawn) <= 1 + SCALING
    assert np.abs([one.shift_px for one in drawn]).max() <= SHIFT_PX


# --- what is added up ------------------------------------------------------------------------------------


def test_spreads_are_those_over_passes_and_networks(blob_image):
    windows, slices = windows_of(blob_image(shape=(160, 140, 2)))
    answers = iter([0.1, 0.9, 0.3, 0.5, 0.2, 0.7])

    def constant(seen, _=None):
        return np.full(seen.shape[:3], next(answers), np.float32)

    found = measure_uncertainty([whole(constant)] * 2, asked, slices, windows, 0, passes=3, seed=0)
    expected = np.std([0.1, 0.9, 0.3, 0.5, 0.2, 0.7], ddof=1)
    inside = found.std[:, 50:-50, 50:-50]
    np.testing.assert_allclose(inside, expected, rtol=1e-6)
    assert not found.std[:, 0, 0].any()


def test_the_spread_of_the_area_is_that_of_the_sum(blob_image, monkeypatch):
    monkeypatch.setattr(Variation, "draw", lambda seed, number: Variation())
    windows, slices = windows_of(blob_image(shape=(100, 100, 1)))

    def spot(row, probability):
        def predict(seen, _=None):
            maps = np.zeros(seen.shape[:3], np.float32)
            maps[:, row : row + 20, 40:60] = probability
            return maps

        return whole(predict)

    elsewhere = measure_uncertainty(
        [spot(60, 0.5), spot(120, 0.5)], asked, slices, windows, 0, passes=2, seed=0
    )
    assert elsewhere.std.max() == pytest.approx(np.std([0, 0.5] * 2, ddof=1))
    assert elsewhere.area_std[0] == pytest.approx(0, abs=1e-6)
    weaker = measure_uncertainty([spot(60, 0.5), spot(60, 0.3)], asked, slices, windows, 0, passes=2, seed=0)
    assert weaker.area_std[0] == pytest.approx(np.std([0.5, 0.3] * 2, ddof=1) * 100, rel=0.03)


def test_area_sd_is_at_most_the_sum_of_the_map(blob_image, gentle_network):
    result = segment(blob_image(), gentle_network, uncertainty_passes=4)
    bound = voxels(result.uncertainty).sum(axis=(0, 1), dtype=float) * 0.25
    for area, limit in zip(result.areas, bound, strict=True):
        assert 0 < area.area_sd_mm2 < limit


# --- through the whole flow ------------------------------------------------------------------------------


def test_uncertainty_lies_on_the_contour(cord):
    result = segment(cord, uncertainty_passes=4, seed=1)
    again = segment(cord, uncertainty_passes=4, seed=1)
    other = segment(cord, uncertainty_passes=4, seed=2)
    std = voxels(result.uncertainty)
    np.testing.assert_array_equal(std, voxels(again.uncertainty))
    assert result.areas == again.areas
    assert not np.array_equal(std, voxels(other.uncertainty))
    mask = voxels(result.mask) > 0
    structure = np.ones((3, 3, 1), bool)
    contour = binary_dilation(mask, structure) & ~binary_erosion(mask, structure)
    assert std[contour].mean() > 5 * std[~contour & ~mask].mean()
    assert 0 <= std.min() < std.max() <= np.sqrt(0.5)


@pytest.mark.parametrize("settings", [{}, {"window": "center"}, {"mirror": True}])
def test_the_mask_stays_what_it_is_without(cord, settings):
    plain = segment(cord, **settings)
    result = segment(cord, uncertainty_passes=2, **settings)
    np.testing.assert_array_equal(voxels(result.mask), voxels(plain.mask))
    np.testing.assert_array_equal(voxels(result.probabilities), voxels(plain.probabilities))
    assert result.quality == plain.quality
    assert result.warnings == plain.warnings
    assert voxels(result.uncertainty).max() > 0.05


def test_chunks_and_earlier_images_do_not_matter(cord, blob_image, monkeypatch):
    expected = segment(cord, uncertainty_passes=2)
    segmenter = Segmenter(config=SegmentationConfig(uncertainty_passes=2))
    segmenter.segment(blob_image(shape=(80, 80, 2)))
    monkeypatch.setattr("keras_scgm.slices.CHUNK_SLICES", 3)
    result = segmenter.segment(cord)
    np.testing.assert_array_equal(voxels(result.uncertainty), voxels(expected.uncertainty))
    assert [area.area_sd_mm2 for area in result.areas] == [area.area_sd_mm2 for area in expected.areas]


def test_a_pass_costs_one_prediction(cord):
    """Pixels computed for the plain mask and for each pass."""
    pixels = []
    for passes in (0, 2, 5):
        segmenter = Segmenter(config=SegmentationConfig(uncertainty_passes=passes))
        (member,), computed = segmenter.networks.members, []

        def counted(slices, regions=None, compute=member.compute, computed=computed):
            computed.append((slices if regions is None else regions).size)
            return compute(slices, regions)

        segmenter.networks.members = (replace(member, compute=counted),)
        segmenter.networks.predict = mean_of(segmenter.networks.members, mirror=False)
        segmenter.segment(cord)
        pixels.append(sum(computed))
    assert pixels[0] < pixels[1]
    assert pixels[1] <= 3 * pixels[0]
    assert pixels[2] <= 6 * pixels[0]


def test_networks_that_disagree_are_uncertain(blob_image, bright_network):
    blind = keras.models.clone_model(bright_network)
    blind.set_weights([np.zeros((1, 1, 1, 1)), np.full(1, -5.0)])
    image = blob_image(shape=(120, 120, 2))
    middle = (voxels(image) > 200) & binary_erosion(voxels(image) > 200, np.ones((3, 3, 1)), iterations=3)
    alone, both = (
        voxels(segment(image, weights, window="center", uncertainty_passes=2).uncertainty)[middle]
        for weights in (bright_network, [bright_network, blind])
    )
    assert alone.max() < 0.01
    np.testing.assert_allclose(both, np.std([0, 1, 0, 1], ddof=1), atol=0.02)


def test_the_command_writes_map_and_table(run, cord, tmp_path):
    """With the bundled weights, which have no dropout."""
    cord.to_filename(tmp_path / "a.nii.gz")
    assert run("segment", tmp_path / "a.nii.gz", "--uncertainty", 2)[0] == 0
    std = nib.load(tmp_path / "a_gmseg_uncertainty.nii.gz")
    assert std.get_data_dtype() == np.float32
    np.testing.assert_allclose(std.affine, cord.affine, atol=1e-4)
    voxel_area_mm2 = np.prod(std.header.get_zooms()[:2])
    with open(tmp_path / "a_gmseg_area.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for k, row in enumerate(rows):
        total = voxels(std)[..., k].sum(dtype=float) * voxel_area_mm2
        assert float(row["uncertainty"]) == pytest.approx(total / float(row["soft_area_mm2"]), abs=1e-3)
        assert 0 < float(row["area_sd_mm2"]) < total
    record = json.loads((tmp_path / "a_gmseg.json").read_text())
    assert (record["settings"]["uncertainty_passes"], record["settings"]["seed"]) == (2, 0)


@pytest.mark.parametrize("runtime", ["tensorflow", "keras", "openvino", "onnxruntime"])
def test_all_runtimes_agree(cord, runtime):
    pytest.importorskip(runtime)
    slab = cord.slicer[:, :, 1:3]
    expected = segment(slab, uncertainty_passes=2, runtime="tensorflow")
    result = segment(slab, uncertainty_passes=2, runtime=runtime)
    # Keras computes whole windows, the others the part around the cord.
    around = binary_dilation(voxels(expected.mask), np.ones((3, 3, 1)), iterations=4)
    differences = (voxels(result.uncertainty) - voxels(expected.uncertainty))[around]
    assert np.abs(differences).max() < 2e-3


def test_networks_of_other_kinds_have_it_too(cord):
    slab = cord.slicer[:, :, 1:3]
    untrained = UNet(dropout=0.0, weights=None)
    assert voxels(segment(slab, untrained, window="center", uncertainty_passes=2).uncertainty).max() > 0
    trained = segment(slab, "synthetic_unet", uncertainty_passes=2)
    assert voxels(trained.mask).any()
    assert voxels(trained.uncertainty).max() > 0.05


def test_nothing_to_see_is_not_uncertain(bright_network):
    flat = nib.Nifti1Image(np.full((80, 80, 2), 7.5), np.diag([-0.5, 0.5, 5, 1]))
    result = segment(flat, bright_network, uncertainty_passes=2)
    assert not voxels(result.uncertainty).any()
    assert all(np.isnan(area.area_sd_mm2) for area in result.areas)


def test_an_image_without_a_cord_has_a_map(blob_image, bright_network):
    blind = keras.models.clone_model(bright_network)
    blind.set_weights([np.zeros((1, 1, 1, 1)), np.full(1, -5.0)])
    result = segment(blob_image(), blind, uncertainty_passes=2)
    assert any("the cord could not be located" in warning for warning in result.warnings)
    assert voxels(result.uncertainty).max() < 0.01


def test_one_pass_has_no_spread():
    with pytest.raises(InputError, match="uncertainty_passes must be 0 or at least 2, received 1"):
        SegmentationConfig(uncertainty_passes=1)


def test_no_variation_exceeds_its_limits():
    drawn = [Variation.draw(seed, number) for seed in range(20) for number in range(8)]
    for name, limit in (("magnification", np.log(1 + SCALING)), ("gain", np.log(1 + GAIN))):
        logs = np.abs(np.log([getattr(one, name) for one in drawn]))
        assert 0.8 * limit < logs.max() <= limit
    offsets = np.abs([one.offset for one in drawn])
    assert 0.8 * OFFSET < offsets.max() <= OFFSET
