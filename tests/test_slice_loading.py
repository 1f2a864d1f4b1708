"""Slices and masks as loaded for training."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from annotated_data import SPEC, annotated, blob, labelled, save
from header_forms import FORMS

from keras_scgm.datasets import (
    AnnotatedVolume,
    check_slices,
    check_volumes,
    load_slices,
)
from keras_scgm.datasets.labelled_slices import slices_with_labels
from keras_scgm.datasets.slice_loading import labels_sha256
from keras_scgm.errors import InputError
from keras_scgm.nifti import read_volume
from keras_scgm.slices import SliceConfig, SliceGeometry, measure_intensities, read_windows
from keras_scgm.volume import Volume


def test_mask_stored_in_another_order_gives_the_same_samples(tmp_path):
    volume = annotated(tmp_path, blob())
    plain = load_slices([volume], SliceConfig())
    mask = nib.load(volume.masks[0])
    turned = mask.as_reoriented(nib.orientations.axcodes2ornt(("S", "P", "R")))
    nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine).to_filename(volume.masks[0])
    np.testing.assert_array_equal(load_slices([volume], SliceConfig()).masks, plain.masks)


def test_mask_without_the_label_is_refused(tmp_path):
    volume = annotated(tmp_path, 2 * blob(), label_value=1)
    assert check_volumes([volume]) == ()
    with pytest.raises(
        InputError, match=r"mask-r1.nii.gz: no voxel is 1, it holds 0, 2; .* with --label-value"
    ):
        load_slices([volume], SPEC)
    empty = blob()
    empty[..., 1] = 0
    volume = annotated(tmp_path, empty, labelled_slices=(1,))
    with pytest.raises(InputError, match="no voxel is marked in the labelled slices; mend the mask"):
        load_slices([volume], SPEC)


def test_soft_mask_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: holds fractions, not labels; binarize it at 0.5"):
        load_slices([annotated(tmp_path, blob() * np.float32(0.4))], SPEC)


def test_nan_in_a_mask_is_called_nan(tmp_path):
    mask = blob().astype(np.float32)
    mask[0, :3, 1] = np.nan
    mask[5, 5, 2] = np.inf
    volume = annotated(tmp_path, mask, label_value=1)
    for read in (
        lambda: load_slices([volume], SPEC),
        lambda: volume.read_mask(volume.masks[0], read_volume(volume.image)),
    ):
        with pytest.raises(
            InputError, match=r"mask-r1.nii.gz: 4 voxels are NaN or infinite, not labels; write 0"
        ):
            read()


def test_masks_are_read_with_the_value_that_they_hold(tmp_path):
    volume = annotated(tmp_path, 255 * blob(), label_value=1)
    image = read_volume(volume.image)
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: no voxel is 1, it holds 0, 255; .* --label-value"):
        volume.read_mask(volume.masks[0], image)
    assert replace(volume, label_value=255).read_mask(volume.masks[0], image).sum() == 6 * 6 * 4
    save(volume.masks[0], 0 * blob())
    assert volume.read_mask(volume.masks[0], image).sum() == 0


def test_volumes_that_are_not_loaded_pass_the_same_checks(tmp_path):
    loaded = annotated(tmp_path / "a", blob(), blob())
    fewer = annotated(tmp_path / "b", blob(), label_value=1)
    assert load_slices([loaded], SPEC, also_checked=[fewer]).warnings == (
        "fewer raters than 2: 1 in 2 volumes, image.nii.gz (1)",
    )
    assert len(load_slices([loaded], SPEC, also_checked=[fewer])) == 8
    assert check_slices([fewer], SPEC) == ()
    for spoil, message in (
        (lambda: save(fewer.masks[0], 255 * blob()), "no voxel is 1, it holds 0, 255"),
        (lambda: save(fewer.masks[0], blob((60, 61, 4))), "not on the grid of its image"),
        (lambda: fewer.masks[0].unlink(), "no such file"),
    ):
        spoil()
        for check in (
            lambda: load_slices([loaded], SPEC, also_checked=[fewer]),
            lambda: check_slices([fewer], SPEC),
        ):
            with pytest.raises(InputError, match=rf"b/mask-r1.nii.gz: {message}"):
                check()


def test_slices_are_those_of_inference(written):
    volume = labelled(written)[0]
    loaded = load_slices([volume], SPEC)
    assert (loaded.images.dtype, loaded.masks.dtype) == (np.float32, np.float32)
    assert loaded.images.shape == loaded.masks.shape == (12, 112, 112, 1)
    assert loaded.warnings == ()
    image = read_volume(volume.image)
    geometry = SliceGeometry.centered(image, SPEC)
    expected = read_windows(image, geometry, measure_intensities(image, geometry), 0, 3)
    for rater, path in enumerate(volume.masks):
        of_rater = loaded.rater_indices == rater
        assert loaded.slice_indices[of_rater].tolist() == [0, 1, 2]
        np.testing.assert_array_equal(loaded.images[of_rater], expected)
        label = np.moveaxis(np.asarray(nib.load(path).dataobj) == 1, 2, 0)
        np.testing.assert_allclose(loaded.masks[of_rater, ..., 0], geometry.to_windows(label, 0), atol=1e-6)
    assert loaded.masks.min() == 0
    assert loaded.masks.max() == 1
    assert 0 < loaded.masks.mean() < 0.1


def test_indices_name_volume_rater_and_slice(written):
    volumes = [*labelled(written)[:1], *labelled(written)[-1:]]
    loaded = load_slices(volumes, SPEC)
    assert len(loaded) == 4 * 3 + 4 * 2
    keys = set(zip(loaded.volume_indices, loaded.rater_indices, loaded.slice_indices, strict=True))
    assert keys == {(v, r, s) for v, n in ((0, 3), (1, 2)) for r in range(4) for s in range(n)}
    alone = load_slices(volumes[1:], SPEC)
    np.testing.assert_array_equal(loaded.images[loaded.volume_indices == 1], alone.images)
    np.testing.assert_array_equal(loaded.masks[loaded.volume_indices == 1], alone.masks)


def test_label_value_chooses_what_is_gray_matter(written):
    gray = load_slices(labelled(written)[:1], SPEC)
    white = load_slices(labelled(written, label_value=2)[:1], SPEC)
    assert gray.labels_sha256 == labels_sha256(labelled(written)[:1]) != white.labels_sha256
    assert gray.masks.sum() > 0 < white.masks.sum()
    assert not np.logical_and(gray.masks > 0.99, white.masks > 0.99).any()
    volume = labelled(written, label_value=None)[0]
    message = r"holds 0, 1, 2; name the value of gray matter with --label-value, or give masks of one value"
    for read in (
        lambda: load_slices([volume], SPEC),
        lambda: volume.read_mask(volume.masks[0], read_volume(volume.image)),
        lambda: slices_with_labels(volume),
    ):
        with pytest.raises(InputError, match=message):
            read()


@pytest.mark.parametrize("codes", ["LAS", "RPI", "SAL", "PSR"])
def test_labelled_slices_are_counted_as_stored(tmp_path, codes):
    rng = np.random.default_rng(5)
    image, mask = rng.normal(100, 10, (60, 62, 5)).astype(np.float32), blob((60, 62, 5))
    mask[..., 4] = 0
    transform = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LAS"), nib.orientations.axcodes2ornt(codes)
    )
    canonical = annotated(tmp_path / "canonical", mask, image=image)
    paths = []
    for path in (canonical.image, *canonical.masks):
        paths.append(tmp_path / path.name)
        nib.save(nib.load(path).as_reoriented(transform), paths[-1])
    stored = AnnotatedVolume(paths[0], (paths[1],), "sub-01")
    expected, loaded = load_slices([canonical], SPEC), load_slices([stored], SPEC)
    assert loaded.warnings[0].endswith("image.nii.gz (1)")
    order = np.argsort(loaded.slice_indices) if "S" in codes else np.argsort(-loaded.slice_indices)
    np.testing.assert_allclose(loaded.images[order], expected.images, atol=1e-4)
    np.testing.assert_allclose(loaded.masks[order], expected.masks, atol=1e-4)
    few = load_slices([replace(stored, labelled_slices=(3, 1))], SPEC)
    for index in (1, 3):
        one, of_all = few.slice_indices == index, loaded.slice_indices == index
        np.testing.assert_array_equal(few.images[one], loaded.images[of_all])
        np.testing.assert_array_equal(few.masks[one], loaded.masks[of_all])


def test_only_the_needed_slices_of_a_long_volume_are_read(tmp_path, monkeypatch):
    shape = (30, 30, 1000)
    ramp = np.broadcast_to(np.arange(1000, dtype=np.int16), shape).copy()
    ramp[1::2, 1::2] += 1
    volume = annotated(
        tmp_path, blob(shape, (12, 12)), image=ramp, suffix=".nii", labelled_slices=(10, 500, 901)
    )
    read = []
    view_slices = Volume.view_slices

    def recorded(self, start, stop):
        read.extend((Path(self.source).name, k) for k in range(start, stop))
        return view_slices(self, start, stop)

    monkeypatch.setattr(Volume, "view_slices", recorded)
    loaded = load_slices([volume], SliceConfig(window_px=40))
    assert loaded.slice_indices.tolist() == [10, 500, 901]
    assert sorted(k for name, k in read if name == "mask-r1.nii") == [10, 500, 901]
    assert len(read) == 3 + 3 + 64
    # The z-score is that of the whole volume, from a sample of it.
    np.testing.assert_allclose(
        loaded.images[:, 0, 0, 0], (np.array([10, 500, 901]) - 499.75) / 288.7, atol=0.05
    )


def test_window_moves_only_if_it_would_cut_the_gray_matter(tmp_path):
    config = SliceConfig(spacing_mm=0.5, window_px=32)
    middle = annotated(tmp_path / "middle", blob((100, 100, 4), (47, 47)))
    assert load_slices([middle], config).warnings == ()
    mask = blob((100, 100, 4), (70, 20))
    mask[..., 1] = 0
    mask[..., 2] = np.roll(mask[..., 2], 4, axis=0)
    aside = annotated(tmp_path / "aside", mask, mask)
    loaded = load_slices([aside], config, "majority")
    assert loaded.warnings == (
        "slices without any label, taken as free of gray matter; if not, name the labelled ones in the split "
        "(labelled_slices): 1 in 1 volumes, image.nii.gz (1)",
        "window moved onto the gray matter, which the middle of the image would cut: "
        "1 in 1 volumes, image.nii.gz",
    )
    image = np.asarray(nib.load(aside.image).dataobj)
    assert loaded.masks.sum(axis=(1, 2, 3)).tolist() == [36, 0, 36, 36]
    for index, start in enumerate((57, 59, 61, 57)):
        part = image[start : start + 32, 7:39, index]
        likeness = np.corrcoef(loaded.images[index].ravel(), part.ravel())[0, 1]
        assert likeness == pytest.approx(1, abs=1e-5), index


def test_gray_matter_wider_than_the_window_is_a_warning(tmp_path):
    volume = annotated(tmp_path, blob(width=20))
    loaded = load_slices([volume], SliceConfig(spacing_mm=0.5, window_px=16))
    assert loaded.warnings[-1].startswith(
        "slices with gray matter wider than the window of 16 pixels: 1 in 1"
    )


def test_volumes_whose_header_contradicts_itself_are_named(tmp_path):
    volume = annotated(tmp_path, blob())
    build, (warning,) = FORMS["5 degrees"]
    noise = np.random.default_rng(0).normal(100, 10, (60, 60, 4))
    volume = replace(volume, image=tmp_path / "image.nii")
    volume.image.write_bytes(build(noise))
    assert load_slices([volume], SPEC).warnings == (f"{warning}: 1 in 1 volumes, image.nii",)


def test_bad_intensities_are_counted_warnings(tmp_path):
    image = np.full((60, 60, 4), 7, np.float32)
    constant = annotated(tmp_path / "constant", blob(), image=image)
    holed = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    holed[30, 30, 2] = np.nan
    loaded = load_slices([constant, annotated(tmp_path / "holed", blob(), image=holed)], SPEC)
    assert loaded.warnings == (
        "image constant inside the window: 1 in 2 volumes, image.nii.gz",
        "NaN or infinite voxels, each was given the mean of its slice: 1 in 2 volumes, image.nii.gz",
    )
    assert np.isfinite(loaded.images).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"raters": "best"}, "raters must be one of all, random, majority, staple, mean, received 'best'"),
        (
            {"contour_smoothing_mm": -1.0},
            "contour_smoothing_mm must be a number of at least 0, received -1.0",
        ),
        (
            {"contour_smoothing_mm": float("nan")},
            "contour_smoothing_mm must be a number of at least 0, received nan",
        ),
        ({"seed": -1}, "seed must be an integer from 0 to 4294967295, received -1"),
    ],
)
def test_settings_out_of_range_are_refused_before_any_file(settings, message):
    volume = AnnotatedVolume(Path("nowhere.nii"), (Path("nowhere.nii"),), "sub-01")
    with pytest.raises(ValueError, match=message):
        load_slices([volume], SPEC, **settings)


@pytest.mark.parametrize("mode", ["all", "majority", "mean"])
def test_smoothed_targets_keep_their_area(written, mode):
    volume = labelled(written)[0]
    sharp = load_slices([volume], SPEC, mode).masks
    smooth = load_slices([volume], SPEC, mode, contour_smoothing_mm=1.5).masks
    assert smooth.min() >= 0
    assert smooth.max() <= 1
    assert 0.8 < smooth.sum() / sharp.sum() < 1.25
    between = [np.count_nonzero((masks > 0.01) & (masks < 0.99)) for masks in (sharp, smooth)]
    assert between[1] > 1.3 * between[0]
