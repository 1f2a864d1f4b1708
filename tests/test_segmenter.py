"""Segmentation with a simple network whose answer is known: settings, files, windows, warnings."""

import inspect
import itertools
import json
import os
import shutil
import time

import keras
import nibabel as nib
import numpy as np
import pytest

import keras_scgm.volume
from keras_scgm import InputError, SegmentationConfig, segment
from keras_scgm.volume import DiskArray


def voxels(image):
    return np.asarray(image.dataobj)


def test_mask_probabilities_and_areas_agree(blob_image, bright_network):
    image = blob_image(spacing_mm=(0.5, 0.4, 4.0))
    result = segment(image, bright_network)
    mask, probabilities = voxels(result.mask), voxels(result.probabilities)
    assert (mask.dtype, probabilities.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(mask, probabilities > 0.5)
    np.testing.assert_array_equal(mask, voxels(image) > 200)
    for k, area in enumerate(result.areas):
        assert area.slice == k
        assert area.position_mm == pytest.approx(4.0 * k)
        assert area.n_voxels == mask[..., k].sum()
        assert area.area_mm2 == pytest.approx(0.2 * mask[..., k].sum())
        assert area.soft_area_mm2 == pytest.approx(0.2 * probabilities[..., k].sum(dtype=float), rel=1e-4)
        assert area.mean_probability == pytest.approx(
            probabilities[..., k][mask[..., k] > 0].mean(), rel=1e-4
        )
        assert np.pi / 4 * area.equivalent_diameter_mm**2 == pytest.approx(area.area_mm2)
    assert result.record["gray_matter_volume_mm3"] == pytest.approx(mask.sum() * 0.2 * 4)
    json.dumps(result.record)


def test_areas_are_listed_in_the_order_of_the_file(blob_image, bright_network):
    image = blob_image()
    data = voxels(image).copy()
    data[..., 0] = 100
    flipped = nib.Nifti1Image(data, image.affine).as_reoriented(np.array([[0, 1], [1, 1], [2, -1]]))
    areas = segment(flipped, bright_network).areas
    assert [area.slice for area in areas] == [0, 1, 2, 3, 4]
    assert [area.n_voxels == 0 for area in areas] == [False] * 4 + [True]
    assert [area.position_mm for area in areas] == pytest.approx([16, 12, 8, 4, 0])
    assert areas[4].warning == "no gray matter"
    assert np.isnan(areas[4].mean_probability)


def test_streaming_from_and_to_disk_changes_nothing(tmp_path, blob_image, bright_network, monkeypatch):
    path = tmp_path / "image.nii.gz"
    blob_image().to_filename(path)
    in_memory = segment(path, bright_network, uncertainty_passes=2)
    monkeypatch.setattr(keras_scgm.volume, "IN_MEMORY_BYTES", 0)
    on_disk = segment(path, bright_network, uncertainty_passes=2)
    assert isinstance(on_disk.mask_voxels, DiskArray)
    for name in ("mask", "probabilities", "uncertainty"):
        np.testing.assert_array_equal(voxels(getattr(on_disk, name)), voxels(getattr(in_memory, name)))


def _overwrite(path):
    with path.open("r+b") as file:
        file.seek(352)
        file.write(bytes(1000))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("at_slice", [1, 5])
@pytest.mark.parametrize(
    "change",
    [
        _overwrite,
        lambda path: os.truncate(path, 100),
        lambda path: shutil.copy(shutil.move(path, path.with_name("other")), path),
        lambda path: path.unlink(),
    ],
    ids=["overwritten", "truncated", "replaced", "removed"],
)
@pytest.mark.parametrize("which", ["image", "cord"])
def test_a_file_that_changes_while_it_is_read_gives_no_result(
    tmp_path, nested_discs, bright_network, monkeypatch, which, change, at_slice, ending
):
    monkeypatch.setattr("keras_scgm.slices.CHUNK_SLICES", 1)
    image, _, cord = nested_discs()
    paths = {"image": tmp_path / f"image{ending}", "cord": tmp_path / f"cord{ending}"}
    image.to_filename(paths["image"])
    nib.Nifti1Image(cord.astype(np.uint8), image.affine).to_filename(paths["cord"])

    def progress(done, _):
        if done == at_slice:
            change(paths[which])

    with pytest.raises(InputError, match=rf"{which}{ending}: changed while it was read; start again once"):
        segment(paths["image"], bright_network, cord=paths["cord"], progress=progress)


def test_chunks_do_not_matter(blob_image, bright_network, monkeypatch):
    image = blob_image(shape=(120, 120, 11))
    done = []
    expected = segment(image, bright_network)
    monkeypatch.setattr("keras_scgm.slices.CHUNK_SLICES", 3)
    result = segment(image, bright_network, progress=lambda *state: done.append(state))
    np.testing.assert_array_equal(voxels(result.probabilities), voxels(expected.probabilities))
    assert done == [(3, 11), (6, 11), (9, 11), (11, 11)]


def test_binarize_paper_cuts_before_resampling(blob_image, bright_network):
    image = blob_image(spacing_mm=(0.6, 0.6, 4.0), radius_mm=3.0)
    gentle = keras.models.clone_model(bright_network)
    gentle.set_weights([np.full((1, 1, 1, 1), 2.0), np.full(1, -10.0)])
    native = segment(image, gentle, window="center")
    paper = segment(image, gentle, window="center", binarize="paper")
    assert (native.record["threshold"], paper.record["threshold"]) == (0.5, 0.999)
    assert 0 < voxels(paper.mask).sum() < voxels(native.mask).sum()
    np.testing.assert_array_equal(voxels(paper.probabilities), voxels(native.probabilities))
    strict = segment(image, gentle, window="center", threshold=0.999)
    assert voxels(strict.mask).sum() < voxels(native.mask).sum()


def test_mirroring_averages_both_ways(blob_image):
    class Half(keras.layers.Layer):
        """1 on the right half of the window, 0 on the left."""

        def call(self, x):
            rows = keras.ops.arange(200.0)[None, :, None, None]
            return keras.ops.cast(rows < 100, "float32") + 0 * x

    slices = keras.Input((200, 200, 1), name="slices")
    model = keras.Model(slices, Half(name="half")(slices))
    image = blob_image()
    assert set(np.unique(voxels(segment(image, model, window="center").probabilities))) == {0, 1}
    mirrored = voxels(segment(image, model, window="center", mirror=True).probabilities)
    assert mirrored[70:90, 50:90].mean() == pytest.approx(0.5)


def test_ensemble_is_the_mean(blob_image, bright_network):
    other = keras.models.clone_model(bright_network)
    other.set_weights([np.zeros((1, 1, 1, 1)), np.full(1, -1.0)])
    image = blob_image()
    results = [
        voxels(segment(image, weights, window="center").probabilities)
        for weights in (bright_network, other, [bright_network, other])
    ]
    np.testing.assert_allclose(results[2], (results[0] + results[1]) / 2, atol=1e-6)


def test_window_can_be_given_in_mm(blob_image, bright_network):
    image = blob_image(shape=(240, 240, 3), center_mm=(20.0, 100.0))
    disc = voxels(image) > 200
    assert not voxels(segment(image, bright_network, window="center").mask)[disc].any()
    result = segment(image, bright_network, window=(22.0, 98.0))
    np.testing.assert_array_equal(voxels(result.mask), disc)
    with pytest.raises(
        InputError, match="window centre 500,10 mm is outside the field of view of 120 x 120 mm"
    ):
        segment(image, bright_network, window=(500.0, 10.0))


def test_gray_matter_at_the_edge_warns(blob_image, bright_network):
    image = blob_image(shape=(240, 240, 3), center_mm=(20.0, 60.0))
    result = segment(image, bright_network, window=(44.0, 60.0))
    assert any("within 2 mm of the edge" in text and "slices 0, 1, 2" in text for text in result.warnings)


def test_darker_gray_matter_warns(blob_image, bright_network):
    image = blob_image()
    x, y = np.meshgrid(np.arange(160) * 0.5, np.arange(140) * 0.5, indexing="ij")
    ring = np.abs(np.hypot(x - 39.75, y - 34.75) - 3.4) < 0.5
    data = voxels(image) + 900.0 * ring[..., None]

    class Band(keras.layers.Layer):
        """Gray matter is what has the disc's brightness, not the ring's."""

        def call(self, x):
            return keras.ops.cast((x > 1.0) & (x < 4.0), "float32")

    slices = keras.Input((None, None, 1), name="slices")
    model = keras.Model(slices, Band(name="band")(slices))
    result = segment(nib.Nifti1Image(data, image.affine), model)
    assert voxels(result.mask).any()
    assert any("darker than its surroundings" in text for text in result.warnings)


def test_coarse_axial_voxels_warn(blob_image, bright_network):
    sagittal = blob_image(shape=(30, 160, 5), spacing_mm=(3.3, 0.5, 0.5))
    assert any(
        "axial voxels of 3.3 x 0.5 mm are too coarse" in w for w in segment(sagittal, bright_network).warnings
    )
    fine = blob_image(spacing_mm=(1.0, 1.0, 5.0), radius_mm=2.5)
    assert not any("coarse" in warning for warning in segment(fine, bright_network).warnings)


@pytest.mark.parametrize(
    ("distance_mm", "n_slices", "is_doubted"),
    [(0.5, 3, False), (40.0, 3, False), (250.0, 3, True), (0.05, 3, True), (250.0, 1, False)],
)
def test_an_implausible_distance_of_slices_is_doubted(
    blob_image, bright_network, distance_mm, n_slices, is_doubted
):
    result = segment(
        blob_image(shape=(160, 140, n_slices), spacing_mm=(0.5, 0.5, distance_mm)), bright_network
    )
    assert any(f"slices {distance_mm:g} mm apart" in warning for warning in result.warnings) == is_doubted
    assert not is_doubted or result.quality.verdict != "pass"


def test_an_orientation_that_contradicts_the_header_is_doubted(blob_image, bright_network):
    image = blob_image()
    plain, same, other = (
        segment(image, bright_network, orientation=orientation) for orientation in (None, "las", "RAS")
    )
    assert plain.warnings == same.warnings == ()
    assert other.warnings[0].startswith("orientation RAS was given, but the header says LAS, which counts")
    np.testing.assert_array_equal(other.mask_voxels, plain.mask_voxels)


def test_missing_slices_between_others_are_named(blob_image, bright_network):
    image = blob_image(shape=(120, 120, 7))
    data = voxels(image).copy()
    data[..., 3] = 100
    result = segment(nib.Nifti1Image(data, image.affine), bright_network)
    assert any("no gray matter between slices that have some: slice 3" in text for text in result.warnings)


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_constant_volume_gives_an_empty_mask_and_says_so(bright_network, value):
    result = segment(nib.Nifti1Image(np.full((80, 80, 2), value), np.diag([-0.5, 0.5, 5, 1])), bright_network)
    assert not voxels(result.mask).any()
    assert not voxels(result.probabilities).any()
    assert any(
        "the image is constant inside the window; the mask is empty" in text for text in result.warnings
    )


def test_empty_mask_warns(blob_image, bright_network):
    blind = keras.models.clone_model(bright_network)
    blind.set_weights([np.zeros((1, 1, 1, 1)), np.full(1, -5.0)])
    result = segment(blob_image(), blind)
    assert any("no gray matter was found; the mask is empty" in text for text in result.warnings)


def test_voxels_that_are_not_finite_are_counted(blob_image, bright_network):
    image = blob_image()
    data = voxels(image).copy()
    data[2, 3, 1], data[4, 4, 2] = np.nan, np.inf
    result = segment(nib.Nifti1Image(data, image.affine), bright_network)
    np.testing.assert_array_equal(voxels(result.mask), voxels(image) > 200)
    assert any(text.startswith("2 voxels are NaN or infinite") for text in result.warnings)


def test_one_slice_two_dimensions_and_four(bright_network, blob_image):
    image = blob_image(shape=(120, 120, 1))
    expected = voxels(image) > 200
    flat = nib.Nifti1Image(voxels(image)[..., 0], image.affine)
    np.testing.assert_array_equal(voxels(segment(flat, bright_network).mask), expected[..., 0])
    four = nib.Nifti1Image(voxels(image)[..., None], image.affine)
    assert segment(four, bright_network).mask.shape == (120, 120, 1, 1)
    frames = nib.Nifti1Image(np.stack([voxels(image) * 0, voxels(image)], axis=3), image.affine)
    np.testing.assert_array_equal(voxels(segment(frames, bright_network, frame=1).mask), expected)


def test_the_image_is_not_changed(blob_image, bright_network):
    image = blob_image()
    before = voxels(image).copy()
    segment(image, bright_network)
    np.testing.assert_array_equal(voxels(image), before)


def test_models_that_do_not_fit_are_refused(blob_image):
    slices = keras.Input((None, None, 2), name="slices")
    model = keras.Model(slices, keras.layers.Conv2D(3, 1)(slices), name="wrong")
    with pytest.raises(InputError, match="weights wrong: 2 input channels and 3 classes"):
        segment(blob_image(), model)
    with pytest.raises(ValueError, match="at least one network"):
        segment(blob_image(), [])


def test_arrays_are_refused_with_advice(bright_network):
    with pytest.raises(InputError, match="received ndarray; wrap an array with its affine"):
        segment(np.zeros((3, 3, 3)), bright_network)


def test_a_clock_that_is_set_back_makes_no_negative_time(blob_image, bright_network, monkeypatch):
    times = itertools.count(1e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(times))
    assert 0 <= segment(blob_image(), bright_network).record["seconds"] < 3600


def test_what_was_not_asked_for_is_not_there(blob_image, bright_network):
    result = segment(blob_image(), bright_network, keep_probabilities=False)
    with pytest.raises(ValueError, match="keep_probabilities=True"):
        _ = result.probabilities
    with pytest.raises(ValueError, match="uncertainty_passes=10"):
        _ = result.uncertainty


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"binarize": "both"}, "binarize must be one of native, paper, received 'both'"),
        ({"threshold": 1.0}, r"threshold must be a number above 0 and below 1, received 1\.0"),
        ({"window": "left"}, "window must be 'auto', 'center' or two numbers in mm, received 'left'"),
        ({"window": (1.0, float("nan"))}, "window must be .* two numbers in mm"),
        ({"orientation": "LAX"}, "orientation 'LAX' is not three axis codes"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        SegmentationConfig(**settings)


def test_unknown_settings_are_refused(blob_image, bright_network):
    with pytest.raises(TypeError, match="treshold"):
        segment(blob_image(), bright_network, treshold=0.5)


def test_keywords_of_segment_are_the_fields_of_its_settings(monkeypatch):
    """Names, order, types and defaults, and that each arrives."""
    settings = inspect.signature(SegmentationConfig).parameters
    keywords = {
        name: one
        for name, one in inspect.signature(segment).parameters.items()
        if one.kind is inspect.Parameter.KEYWORD_ONLY and name != "progress"
    }
    assert list(keywords) == list(settings)
    for name, one in keywords.items():
        assert (one.default, one.annotation) == (settings[name].default, settings[name].annotation), name

    class Given:
        def __init__(self, weights, settings):
            self.settings = settings

        def segment(self, image, progress):
            return self.settings

    monkeypatch.setattr("keras_scgm.segmentation.segmenter.Segmenter", Given)
    others = {
        "binarize": "paper",
        "threshold": 0.25,
        "window": (3.0, 4.0),
        "cord": "none",
        "mirror": True,
        "uncertainty_passes": 3,
        "seed": 5,
        "frame": 2,
        "orientation": "LAS",
        "keep_probabilities": False,
        "runtime": "keras",
        "precision": "float32",
    }
    assert list(others) == list(settings)
    assert segment("image.nii", **others) == SegmentationConfig(**others)
    with_precision = segment("image.nii", precision="bfloat16")
    assert with_precision == SegmentationConfig(precision="bfloat16")
