"""Image and mask move alike, parameters follow from seeds, and known changes give known results."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from augmented_slices import SIZE, hard_masks, moved, parameters_of, slices_of
from keras import ops

from keras_scgm.augmentation import (
    PRESETS,
    AugmentationConfig,
    Parameters,
    apply_geometric,
    apply_intensity,
    sample_parameters,
)
from keras_scgm.augmentation.counters import sample_keys
from keras_scgm.augmentation.transforms import smooth_field

GEOMETRIC = {
    "rotation": AugmentationConfig(rotation_degrees=180.0),
    "shift": AugmentationConfig(shift_px=30.0),
    "scaling": AugmentationConfig(scaling=1.0),
    "flip left right": AugmentationConfig(flip_left_right=1.0),
    "flip front back": AugmentationConfig(flip_front_back=1.0),
    "elastic": AugmentationConfig(elastic_px=3.0),
    "all": replace(PRESETS["strong"], flip_front_back=0.5),
}
INTENSITY = {
    "channel shift": AugmentationConfig(channel_shift=0.5),
    "noise": AugmentationConfig(noise=0.5),
    "bias field": AugmentationConfig(bias_field=0.5),
    "gamma": AugmentationConfig(gamma=1.0),
    "contrast": AugmentationConfig(contrast=1.0),
    "blur": AugmentationConfig(blur_px=2.0),
    "low resolution": AugmentationConfig(low_resolution=4.0),
    "inversion": AugmentationConfig(inversion_probability=1.0),
}


def disk(*size, center, radius=2.5):
    rows, columns = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(rows - center[0], columns - center[1])
    return (distance <= radius).astype("float32")[None, :, :, None]


def center_of(mask):
    return np.argwhere(ops.convert_to_numpy(mask)[0, ..., 0] > 0.5).mean(axis=0)


def matrix(values):
    return ops.convert_to_tensor(np.array([values], "float32"))


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("config", GEOMETRIC.values(), ids=GEOMETRIC)
def test_mask_passed_as_image_comes_back_identical(config, interpolation):
    masks = hard_masks(*SIZE)
    image, mask = moved(masks, masks, parameters_of(config, masks), interpolation, interpolation)
    np.testing.assert_array_equal(image, mask)
    assert not np.array_equal(mask, masks)


@pytest.mark.parametrize("config", GEOMETRIC.values(), ids=GEOMETRIC)
def test_masks_stay_in_range_and_hard_ones_hard(config):
    masks = hard_masks(*SIZE)
    parameters = parameters_of(config, masks)
    _, nearest = moved(masks, masks, parameters)
    assert set(np.unique(nearest)) == {0, 1}
    _, linear = moved(masks, masks, parameters, "linear", "linear")
    assert linear.min() >= 0
    assert linear.max() <= 1


def test_dtypes():
    images, masks = slices_of(*SIZE).astype("float16"), hard_masks(*SIZE).astype("uint8")
    parameters = parameters_of(GEOMETRIC["all"], images)
    image, mask = moved(images, masks, parameters)
    assert (image.dtype, mask.dtype) == ("float16", "uint8")
    assert moved(images, masks, parameters, "linear", "linear")[1].dtype == "float32"
    assert ops.convert_to_numpy(apply_intensity(ops.convert_to_tensor(images), parameters)).dtype == "float16"


def test_rotation_turns_axis_0_towards_axis_1():
    turn = math.radians(30)
    rotation = matrix([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    mask = disk(61, 61, center=(50, 30))
    _, turned = moved(mask, mask, Parameters(matrix=rotation))
    expected = 30 + 20 * np.array([math.cos(turn), math.sin(turn)])
    np.testing.assert_allclose(center_of(turned), expected, atol=0.3)


@pytest.mark.parametrize("flips", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_drawn_rotation_has_the_drawn_angle_and_scale(flips):
    config = AugmentationConfig(90.0, scaling=0.5, flip_left_right=flips[0], flip_front_back=flips[1])
    matrices = ops.convert_to_numpy(sample_parameters(config, (200, 8, 8, 1), seed=3).matrix)
    inverse = np.linalg.inv(matrices) * np.where(flips, -1, 1)
    scale = np.sqrt(np.linalg.det(inverse))
    angle = np.degrees(np.arctan2(inverse[:, 1, 0], inverse[:, 0, 0]))
    np.testing.assert_allclose(inverse[:, 0, 0], inverse[:, 1, 1], atol=1e-5)
    np.testing.assert_allclose(inverse[:, 0, 1], -inverse[:, 1, 0], atol=1e-5)
    for values, limit in ((angle, 90), (np.log(scale), math.log(1.5))):
        assert -limit <= values.min() < -0.9 * limit
        assert 0.9 * limit < values.max() <= limit


def test_shift_moves_content_to_higher_indices():
    mask = disk(41, 51, center=(20, 25))
    _, shifted = moved(mask, mask, Parameters(shift_px=matrix([4.0, -7.0])))
    np.testing.assert_allclose(center_of(shifted), (24, 18))


def test_content_is_magnified_then_shifted():
    mask = disk(61, 61, center=(36, 30))
    parameters = Parameters(matrix=matrix([[0.6, 0.0], [0.0, 0.6]]), shift_px=matrix([0.0, 5.0]))
    _, magnified = moved(mask, mask, parameters)
    np.testing.assert_allclose(center_of(magnified), (40, 35), atol=0.3)
    assert magnified.sum() == pytest.approx(mask.sum() / 0.36, rel=0.2)


@pytest.mark.parametrize(("axis", "name"), [(1, "flip_left_right"), (2, "flip_front_back")])
def test_flips_are_exact(axis, name):
    images, masks = slices_of(*SIZE), hard_masks(*SIZE)
    image, mask = moved(images, masks, parameters_of(AugmentationConfig(**{name: 1.0}), images))
    np.testing.assert_array_equal(image, np.flip(images, axis))
    np.testing.assert_array_equal(mask, np.flip(masks, axis))


def test_border_is_mirrored_about_its_pixels():
    images = slices_of(7, 9, count=1)
    image, _ = moved(images, images, Parameters(shift_px=matrix([3.0, -4.0])))
    expected = np.pad(images, ((0, 0), (3, 0), (0, 4), (0, 0)), mode="reflect")[:, :7, 4:]
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3)])
def test_smallest_slices(size):
    images = slices_of(*size)
    image, mask = moved(images, np.ones_like(images), parameters_of(GEOMETRIC["all"], images))
    assert np.isfinite(image).all()
    assert mask.min() == 1


def test_linear_interpolation_of_a_ramp_is_exact():
    ramp = np.broadcast_to(np.arange(20, dtype="float32")[None, :, None, None], (1, 20, 20, 1))
    image, _ = moved(ramp, ramp, Parameters(shift_px=matrix([-0.25, 0.5])))
    np.testing.assert_allclose(image[0, :19, :, 0], ramp[0, :19, :, 0] + 0.25, atol=1e-5)


def test_elastic_components_are_independent_and_have_the_deviation_asked_for():
    config = AugmentationConfig(elastic_px=2.0, elastic_smoothness_px=5.0)
    field = ops.convert_to_numpy(sample_parameters(config, (40, 100, 80, 1), seed=5).elastic)
    rows, columns = field[..., 0], field[..., 1]
    assert rows.std() == pytest.approx(2, rel=0.05)
    assert columns.std() == pytest.approx(2, rel=0.05)
    assert abs(np.corrcoef(rows.ravel(), columns.ravel())[0, 1]) < 0.05
    at_border = np.concatenate([field[:, 0], field[:, -1]])
    assert at_border.std() == pytest.approx(2, rel=0.1)


def test_field_is_as_smooth_as_white_noise_under_the_gaussian():
    field = ops.convert_to_numpy(smooth_field(sample_keys(0, 0, 60), "field", (90, 90), 6.0))
    for distance in (3, 6, 12):
        correlation = np.corrcoef(field[:, distance:].ravel(), field[:, :-distance].ravel())[0, 1]
        assert correlation == pytest.approx(math.exp(-((distance / 6) ** 2) / 4), abs=0.04)


def test_elastic_probability():
    config = AugmentationConfig(elastic_px=2.0, elastic_probability=0.3)
    field = ops.convert_to_numpy(sample_parameters(config, (400, 4, 4, 1), seed=2).elastic)
    assert np.any(field, axis=(1, 2, 3)).mean() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("config", INTENSITY.values(), ids=INTENSITY)
def test_intensity_changes_are_finite_and_leave_masks_alone(config):
    images, masks = slices_of(*SIZE), hard_masks(*SIZE)
    parameters = parameters_of(config, images)
    unmoved, mask = apply_geometric(images, masks, parameters)
    assert unmoved is images
    assert mask is masks
    changed = ops.convert_to_numpy(apply_intensity(ops.convert_to_tensor(images), parameters))
    assert np.isfinite(changed).all()
    assert all(not np.allclose(*pair, atol=1e-3) for pair in zip(images, changed, strict=True))


@pytest.mark.parametrize("config", INTENSITY.values(), ids=INTENSITY)
def test_constant_slices_stay_finite(config):
    images = ops.zeros((2, *SIZE, 1))
    changed = ops.convert_to_numpy(apply_intensity(images, parameters_of(config, images)))
    assert np.isfinite(changed).all()
    if not (config.noise or config.channel_shift):
        np.testing.assert_allclose(changed, 0, atol=1e-6)


def intensity(images, **values):
    tensors = {name: ops.convert_to_tensor(np.array(value, "float32")) for name, value in values.items()}
    return ops.convert_to_numpy(apply_intensity(ops.convert_to_tensor(images), Parameters(**tensors)))


def test_gamma_keeps_mean_deviation_and_order():
    images = slices_of(*SIZE)
    changed = intensity(images, gamma=np.full((3, 1, 1, 1), 2.0))
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(changed.std(axis=(1, 2)), images.std(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(np.argsort(changed[0].ravel()), np.argsort(images[0].ravel()))


def test_contrast_and_inversion_are_about_the_mean():
    images = slices_of(*SIZE)
    mean = images.mean(axis=(1, 2), keepdims=True)
    for factor in (1.5, -1.0):
        changed = intensity(images, contrast=np.full((3, 1, 1, 1), factor))
        np.testing.assert_allclose(changed, mean + factor * (images - mean), atol=1e-5)
    config = AugmentationConfig(inversion_probability=1.0)
    np.testing.assert_array_equal(parameters_of(config, images).contrast, -np.ones((3, 1, 1, 1)))


def test_bias_field_is_a_factor_above_the_darkest_pixel():
    images = slices_of(*SIZE)
    darkest = images.min(axis=(1, 2), keepdims=True)
    changed = intensity(images, log_bias=np.full((3, *SIZE, 1), math.log(2)))
    np.testing.assert_allclose(changed - darkest, 2 * (images - darkest), rtol=1e-5, atol=1e-6)


def test_blur_of_a_point_is_the_gaussian():
    point = np.zeros((1, 31, 25, 1), "float32")
    point[0, 15, 12] = 1
    changed = intensity(point, blur_px=[[[2.0]]], low_resolution=[[[1.0]]])[0, ..., 0]
    assert changed.sum() == pytest.approx(1, abs=1e-4)
    rows, columns = np.ogrid[-15:16, -12:13]
    expected = np.exp(-(rows**2 + columns**2) / 8)
    np.testing.assert_allclose(changed, expected / expected.sum(), atol=1e-5)


def test_low_resolution_keeps_flat_parts_and_loses_detail():
    stripes = np.zeros((1, 60, 64, 1), "float32")
    stripes[:, ::2] = 1
    nothing = intensity(stripes, blur_px=[[[0.0]]], low_resolution=[[[1.0]]])
    np.testing.assert_array_equal(nothing, stripes)
    for factor in (1.001, 1.5, 4.0):
        changed = intensity(stripes + 1, blur_px=[[[0.0]]], low_resolution=[[[factor]]])
        assert np.isfinite(changed).all()
        np.testing.assert_allclose(changed.mean(), 1.5, atol=0.03)
    assert changed[:, 8:-8].std() < 0.05


def test_magnitudes_stay_within_the_settings():
    config = replace(PRESETS["strong"], intensity_probability=1.0, inversion_probability=0.0)
    parameters = sample_parameters(config, (300, 6, 6, 2), seed=0)
    for name, low, high in (
        ("shift_px", -12, 12),
        ("gamma", 1 / 1.5, 1.5),
        ("contrast", 1 / 1.3, 1.3),
        ("blur_px", 0, 1.5),
        ("low_resolution", 1, 3),
        ("channel_shift", -0.3, 0.3),
    ):
        values = ops.convert_to_numpy(getattr(parameters, name))
        assert low <= values.min() < low + 0.1 * (high - low), name
        assert high - 0.1 * (high - low) < values.max() <= high + 1e-6, name
    assert np.std(parameters.noise, axis=(1, 2, 3)).max() == pytest.approx(0.2, rel=0.35)


def test_intensity_probability():
    config = AugmentationConfig(channel_shift=1.0, noise=1.0, intensity_probability=0.25)
    parameters = sample_parameters(config, (800, 2, 2, 1), seed=4)
    shifted = np.any(parameters.channel_shift, axis=(1, 2, 3))
    noisy = np.any(parameters.noise, axis=(1, 2, 3))
    assert shifted.mean() == pytest.approx(0.25, abs=0.05)
    assert noisy.mean() == pytest.approx(0.25, abs=0.05)
    assert (shifted & noisy).mean() == pytest.approx(0.0625, abs=0.03)


def everything(config, seed, step=0, count=4):
    parameters = sample_parameters(config, (count, *SIZE, 1), seed, step)
    return [ops.convert_to_numpy(value) for value in parameters if value is not None]


def test_same_seed_same_parameters_and_anything_else_differs():
    config = replace(PRESETS["strong"], intensity_probability=1.0, elastic_probability=1.0)
    original = everything(config, seed=1)
    assert len(original) == len(Parameters._fields)
    for again, value in zip(everything(config, seed=1), original, strict=True):
        np.testing.assert_array_equal(again, value)
    for other in (everything(config, seed=2), everything(config, seed=1, step=1)):
        assert all(not np.array_equal(*pair) for pair in zip(other, original, strict=True))
    for value in original:
        for first, second in itertools.combinations(value, 2):
            assert not np.array_equal(first, second)


def test_parameters_of_a_sample_do_not_depend_on_the_rest_of_the_batch():
    for few, many in zip(
        everything(PRESETS["strong"], 1, count=2), everything(PRESETS["strong"], 1, count=5), strict=True
    ):
        np.testing.assert_allclose(many[:2], few, atol=1e-5)
