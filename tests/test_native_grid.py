"""Gray matter, white matter and cord on the image's grid: one contains the others, in every voxel."""

from dataclasses import replace

import keras
import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from tissues import check_tissues, voxels

import keras_scgm.volume
from keras_scgm import DilatedGMNet, InputError, SegmentationConfig, Segmenter, segment
from keras_scgm.datasets.phantom import SITES, draw_subject
from keras_scgm.nifti import volume_from_image
from keras_scgm.slices import SliceConfig, SliceGeometry


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 4.0), (0.3, 0.7, 4.0)])
def test_two_discs(nested_discs, cord_network, spacing_mm):
    image, gray, cord = nested_discs(spacing_mm=spacing_mm)
    result = segment(image, cord_network)
    np.testing.assert_array_equal(voxels(result.mask) > 0, gray)
    np.testing.assert_array_equal(voxels(result.cord) > 0, cord)
    np.testing.assert_array_equal(voxels(result.white_matter) > 0, cord & ~gray)
    assert result.record["tissues"] == ["gray_matter", "cord"]
    assert result.record["cord_threshold"] == 0.5
    check_tissues(result)


def noisy_network(seed, classes=2):
    """Untrained: its gray matter and cord have nothing to do with each other."""
    keras.utils.set_random_seed(seed)
    model = DilatedGMNet(filters=4, dilation_rates=(3,), classes=classes)
    probe = np.random.default_rng(seed).normal(size=(1, 64, 64, 1)).astype(np.float32)
    found = keras.ops.convert_to_numpy(model(probe))
    logits = np.log(found / (1 - found))
    kernel, bias = model.get_layer("predictions").get_weights()
    std, mean = logits.std(axis=(0, 1, 2)), logits.mean(axis=(0, 1, 2))
    model.get_layer("predictions").set_weights([3 * kernel / std, 3 * (bias - mean) / std])
    return model


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("binarize", ["native", "paper"])
@pytest.mark.parametrize("window", ["auto", "center", (20.0, 31.0)])
def test_random_networks(seed, binarize, window):
    site = replace(list(SITES.values())[seed], n_slices=2)
    image = draw_subject(site, seed=seed).image
    threshold = {0: None, 1: 0.2, 2: 0.9}[seed] if binarize == "native" else 0.5
    result = segment(image, noisy_network(seed), binarize=binarize, window=window, threshold=threshold)
    assert voxels(result.cord).any()
    check_tissues(result)


@pytest.mark.parametrize("binarize", ["native", "paper"])
def test_images_that_have_faults(reference, binarize):
    """Whatever is wrong with an image, the tissues agree with each other."""
    segmenter = Segmenter(noisy_network(0), SegmentationConfig(binarize=binarize, threshold=0.5))
    names = ("9418_s7-9", "ap_flipped_header", "inplane_x1.4", "qsform_lrflip", "sform_scaled")
    for name in names:
        result = segmenter.segment(reference / "failing" / f"{name}.nii.gz")
        assert voxels(result.cord).any()
        check_tissues(result)


@pytest.mark.parametrize("name", ["10063_scan", "9709_rescan"])
def test_real_images(reference, name, tmp_path):
    """With the default weights and each choice of the cord."""
    path, given = tmp_path / "image.nii.gz", tmp_path / "cord.nii.gz"
    rng = np.random.default_rng(0)
    image = nib.load(reference / "multisite" / f"{name}.nii.gz").slicer[..., 5:8]
    image.to_filename(path)
    cord = rng.random(image.shape) < 0.3
    nib.Nifti1Image(cord.astype(np.uint8), image.affine).to_filename(given)
    for choice in ("auto", given):
        segmenter = Segmenter(config=SegmentationConfig(cord=choice))
        result = segmenter.segment(path)
        assert voxels(result.mask).any()
        if segmenter.has_cord:
            check_tissues(result)
    np.testing.assert_array_equal(voxels(result.cord) > 0, cord)


@pytest.mark.parametrize("binarize", ["native", "paper"])
def test_the_cord_is_sampled_as_gray_matter_is(binarize):
    """Against scipy's interpolation of what the network gives."""
    image = draw_subject(replace(next(iter(SITES.values())), n_slices=1), seed=5).image
    segmenter = Segmenter(noisy_network(4))
    volume = volume_from_image(image)
    geometry = SliceGeometry.centered(volume, SliceConfig())
    result = segment(image, noisy_network(4), binarize=binarize, window="center", threshold=0.5)
    windows = geometry.to_windows(volume.view_slices(0, volume.n_slices)[0], 0)
    seen = ((windows - windows.mean()) / windows.std())[:1, ..., np.newaxis].astype(np.float32)
    probabilities = segmenter.networks.predict(seen)[0].astype(float)
    region = geometry.covered(0)
    places = [
        np.arange(part.start, part.stop) * volume.in_plane_spacing_mm[axis] / 0.25 - geometry.starts[0][axis]
        for axis, part in enumerate(region)
    ]
    inner = [(place >= 0) & (place <= 199) for place in places]
    grid = np.meshgrid(*(place[keep] for place, keep in zip(places, inner, strict=True)), indexing="ij")
    cord_windows = probabilities[..., 1] if binarize == "native" else (probabilities[..., 1] > 0.5) * 1.0
    expected = map_coordinates(cord_windows, grid, order=1)
    found = volume.axial_view(result.cord_voxels)[(*region, 0)][np.ix_(*inner)]
    near_threshold = np.abs(expected - 0.5) < 1e-4
    kept = found > 0
    assert kept.any()
    # Pieces away from the cord are removed; what stays is where the interpolated probability says.
    assert (expected[kept & ~near_threshold] > 0.5).all()


def test_tissues_from_and_to_disk(nested_discs, cord_network, monkeypatch):
    image, _, _ = nested_discs()
    in_memory = segment(image, cord_network)
    monkeypatch.setattr(keras_scgm.volume, "IN_MEMORY_BYTES", 0)
    on_disk = segment(image, cord_network)
    for name in ("cord", "white_matter", "cord_probabilities", "white_matter_probabilities"):
        np.testing.assert_array_equal(voxels(getattr(on_disk, name)), voxels(getattr(in_memory, name)))


def test_without_a_cord_there_is_no_white_matter(blob_image, bright_network):
    result = segment(blob_image(), bright_network)
    assert result.cord_voxels is None
    assert result.cord_probability_voxels is None
    assert all(
        np.isnan([row.cord_area_mm2, row.wm_area_mm2, row.gm_cord_ratio]).all() for row in result.areas
    )
    assert "cord_volume_mm3" not in result.record
    for name in ("cord", "white_matter", "cord_probabilities", "white_matter_probabilities"):
        with pytest.raises(InputError, match="the cord was not segmented; segment with weights that know it"):
            getattr(result, name)


def test_probabilities_of_the_cord_that_were_not_kept(nested_discs, cord_network):
    result = segment(nested_discs()[0], cord_network, keep_probabilities=False)
    for name in ("cord_probabilities", "white_matter_probabilities"):
        with pytest.raises(InputError, match="keep_probabilities=True"):
            getattr(result, name)


def test_a_piece_of_cord_away_from_the_cord_goes_with_its_gray_matter(nested_discs, cord_network):
    image, gray, cord = nested_discs()
    data = voxels(image).copy()
    x, y = np.indices(data.shape[:2]) * 0.5
    island = np.hypot(x - 58, y - 35) < 3
    data[island] = data.max()
    result = segment(nib.Nifti1Image(data, image.affine), cord_network)
    np.testing.assert_array_equal(voxels(result.mask) > 0, gray & ~island[..., None])
    np.testing.assert_array_equal(voxels(result.cord) > 0, cord)
    island_mm3 = np.pi * 9 * 4 * data.shape[2]
    assert result.record["removed_away_from_cord_mm3"] == pytest.approx(island_mm3, rel=0.2)
    kept = segment(nib.Nifti1Image(data, image.affine), cord_network, binarize="paper", threshold=0.5)
    assert voxels(kept.mask)[island].all()
    assert kept.record["removed_away_from_cord_mm3"] == 0
    check_tissues(kept)
