"""Augmentation: image and mask move alike, everything follows from seeds, and known moves arrive."""

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_scgm.augmentation import (
    PRESETS,
    AugmentationConfig,
    AugmentationLayer,
    Parameters,
    apply_geometric,
    apply_intensity,
    augment,
    preview,
    sample_parameters,
)
from keras_scgm.augmentation.counters import normal, sample_keys, uniform
from keras_scgm.augmentation.transforms import smooth_field

SIZE = (40, 48)
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


def slices_of(*size, count=3, channels=1):
    return np.random.default_rng(0).normal(size=(count, *size, channels)).astype("float32")


def hard_masks(*size, count=3):
    return (slices_of(*size, count=count) > 0.5).astype("float32")


def disk(*size, center, radius=2.5):
    rows, columns = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(rows - center[0], columns - center[1])
    return (distance <= radius).astype("float32")[None, :, :, None]


def center_of(mask):
    return np.argwhere(ops.convert_to_numpy(mask)[0, ..., 0] > 0.5).mean(axis=0)


def moved(images, masks, parameters, *interpolations):
    return [
        ops.convert_to_numpy(each) for each in apply_geometric(images, masks, parameters, *interpolations)
    ]


def matrix(values):
    return ops.convert_to_tensor(np.array([values], "float32"))


def parameters_of(config, images, seed=1, step=0):
    return sample_parameters(config, images.shape, seed, step)


# Image and mask


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


# Known moves


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


# Elastic deformation


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


# Intensity


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


def test_magnitudes_stay_within_the_spec():
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


# Seeds


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


def test_random_numbers_are_uniform_normal_and_uncorrelated():
    keys = sample_keys(0, 0, 64)
    flat = ops.convert_to_numpy(uniform(keys, "a", (4096,)))
    counts, _ = np.histogram(flat, bins=256, range=(0, 1))
    expected = flat.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 5 * math.sqrt(2 * 255)
    assert flat.min() >= 0
    assert flat.max() < 1
    bell = ops.convert_to_numpy(normal(keys, "b", (4095,)))
    assert bell.shape == (64, 4095)
    assert np.mean(bell) == pytest.approx(0, abs=0.01)
    assert np.var(bell) == pytest.approx(1, abs=0.02)
    assert np.mean(bell**4) == pytest.approx(3, abs=0.1)
    for lag in (1, 2, 64):
        assert abs(np.corrcoef(bell[:, lag:].ravel(), bell[:, :-lag].ravel())[0, 1]) < 0.01
    between = np.corrcoef(bell) - np.eye(64)
    assert np.abs(between).max() < 5 / math.sqrt(4095)


BACKEND = """
import sys

import keras, numpy
from keras_scgm.augmentation import PRESETS, AugmentationLayer, sample_parameters

images = keras.ops.convert_to_tensor(numpy.load(sys.argv[1]))
layer = AugmentationLayer(PRESETS["strong"], seed=7)
layer((images, images), training=True)
changed, masks = layer((images, images), training=True)
numpy.savez(
    sys.argv[2], changed=keras.ops.convert_to_numpy(changed), masks=keras.ops.convert_to_numpy(masks)
)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_do_the_same(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    images = slices_of(*SIZE)
    np.save(tmp_path / "images.npy", images)
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(
        [sys.executable, "-c", BACKEND, str(tmp_path / "images.npy"), str(tmp_path / "changed.npz")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    layer = AugmentationLayer(PRESETS["strong"], seed=7)
    layer((images, images), training=True)
    expected = layer((images, images), training=True)
    changed = np.load(tmp_path / "changed.npz")
    np.testing.assert_allclose(changed["changed"], expected[0], atol=2e-3)
    # A source coordinate half way between pixels may round to either of them.
    assert np.mean(changed["masks"] != ops.convert_to_numpy(expected[1])) < 0.005


# Pipeline and layer


def dataset_of(images, masks, batch=2):
    return tf.data.Dataset.from_tensor_slices((images, masks)).batch(batch)


def test_pipeline_is_deterministic_and_can_start_anywhere():
    images, masks = slices_of(*SIZE, count=5), hard_masks(*SIZE, count=5)
    dataset = augment(dataset_of(images, masks).repeat(2), PRESETS["strong"], seed=3)
    first, second = list(dataset.as_numpy_iterator()), list(dataset.as_numpy_iterator())
    assert [len(batch[0]) for batch in first] == [2, 2, 1, 2, 2, 1]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(first[0][0], first[3][0])
    resumed = augment(dataset_of(images, masks), PRESETS["strong"], seed=3, first_step=3)
    for one, other in zip(first[3:], resumed.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_pipeline_keeps_shapes_and_does_what_the_functions_do():
    images, masks = slices_of(*SIZE, count=2), hard_masks(*SIZE, count=2)
    plain = dataset_of(images, masks)
    dataset = augment(plain, PRESETS["strong"], seed=3, first_step=5)
    assert [each.shape for each in dataset.element_spec] == [each.shape for each in plain.element_spec]
    (batch,) = dataset.as_numpy_iterator()
    parameters = sample_parameters(PRESETS["strong"], images.shape, 3, 5)
    image, mask = apply_geometric(images, masks, parameters)
    np.testing.assert_allclose(batch[0], apply_intensity(image, parameters), atol=1e-4)
    np.testing.assert_array_equal(batch[1], mask)


def test_spec_without_changes_is_the_identity():
    images, masks = slices_of(*SIZE), hard_masks(*SIZE)
    dataset = dataset_of(images, masks)
    assert augment(dataset, PRESETS["none"], seed=0) is dataset
    never = AugmentationConfig(
        elastic_px=1.0, elastic_probability=0.0, channel_shift=1.0, noise=1.0, intensity_probability=0.0
    )
    for config in (PRESETS["none"], never):
        assert parameters_of(config, images) == Parameters()
        image, mask = AugmentationLayer(config)((images, masks), training=True)
        np.testing.assert_array_equal(image, images)
        np.testing.assert_array_equal(mask, masks)
    unlikely = replace(PRESETS["strong"], intensity_probability=1e-12, inversion_probability=0.0)
    changed = apply_intensity(
        ops.convert_to_tensor(images), parameters_of(unlikely, images)._replace(gamma=None)
    )
    np.testing.assert_allclose(changed, images, atol=1e-6)
    still = Parameters(
        matrix=ops.tile(ops.eye(2)[None], (3, 1, 1)),
        shift_px=ops.zeros((3, 2)),
        elastic=ops.zeros((3, *SIZE, 2)),
    )
    image, mask = moved(images, masks, still)
    np.testing.assert_array_equal(image, images)
    np.testing.assert_array_equal(mask, masks)


def test_layer_counts_its_calls_in_training_and_agrees_with_the_pipeline():
    images, masks = slices_of(*SIZE, count=2), hard_masks(*SIZE, count=2)
    layer = AugmentationLayer(PRESETS["paper_challenge"], seed=3)
    untouched = layer((images, masks))
    np.testing.assert_array_equal(untouched[0], images)
    batches = list(
        augment(dataset_of(images, masks).repeat(2), PRESETS["paper_challenge"], seed=3).as_numpy_iterator()
    )
    for image, mask in batches:
        changed = layer((images, masks), training=True)
        np.testing.assert_allclose(changed[0], image, atol=1e-4)
        np.testing.assert_array_equal(changed[1], mask)
    assert int(layer.step) == 2


def test_layer_compiles_inside_a_model():
    inputs = keras.Input((*SIZE, 1), name="images"), keras.Input((*SIZE, 1), name="masks")
    layer = AugmentationLayer(PRESETS["strong"], seed=3)
    image, mask = layer(inputs)
    assert image.shape == mask.shape == (None, *SIZE, 1)
    model = keras.Model(inputs, [image, mask])
    images, masks = slices_of(*SIZE), hard_masks(*SIZE)
    run = tf.function(lambda pair: model(pair, training=True), jit_compile=True)
    first, second = run((images, masks)), run((images, masks))
    assert np.isfinite(first[0]).all()
    assert not np.array_equal(first[0], second[0])
    assert set(np.unique(first[1])) == {0, 1}


def test_layer_round_trip(tmp_path):
    layer = AugmentationLayer(PRESETS["strong"], seed=9, name="mine")
    json.dumps(layer.get_config())
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (copy.config, copy.seed, copy.name) == (layer.config, 9, "mine")

    inputs = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    model = keras.Model(inputs, layer(inputs))
    images = slices_of(8, 8)
    model([images, images], training=True)
    model.save(tmp_path / "model.keras")
    code = (
        "import sys, keras_scgm.augmentation, keras; "
        "layer = keras.saving.load_model(sys.argv[1]).get_layer('mine'); "
        "print(layer.seed, int(layer.step), layer.config.gamma)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.keras")], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["9", "1", "0.5"]


# Spec


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    assert AugmentationConfig.from_json(PRESETS[name].to_json()) == PRESETS[name]
    assert set(json.loads(PRESETS[name].to_json())) == {field.name for field in fields(AugmentationConfig)}


def test_presets_hold_the_papers_list():
    listed = {"rotation_degrees", "shift_px", "scaling", "flip_left_right", "elastic_px", "channel_shift"}
    shape = {"elastic_smoothness_px", "elastic_probability"}
    for name in ("paper_challenge", "paper_exvivo", "unet_aggressive"):
        changed = {
            key for key, value in asdict(PRESETS[name]).items() if value != getattr(AugmentationConfig(), key)
        }
        assert changed - shape == listed
    assert PRESETS["unet_aggressive"].shift_px > 2 * PRESETS["paper_challenge"].shift_px
    assert PRESETS["none"] == AugmentationConfig()


def test_elastic_of_the_challenge_preset_is_simards_formula():
    alpha, smoothness = 29.0, 3.75
    config = PRESETS["paper_challenge"]
    assert config.elastic_smoothness_px == smoothness
    assert config.elastic_px == pytest.approx(alpha / (2 * smoothness * math.sqrt(3 * math.pi)), abs=0.005)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rotation_degrees": 181.0}, "rotation_degrees must be a number from 0 to 180, received 181.0"),
        ({"shift_px": -1}, "shift_px must be a number of at least 0, received -1"),
        ({"noise": math.nan}, "noise must be a number of at least 0, received nan"),
        ({"gamma": "1"}, "gamma must be a number of at least 0, received '1'"),
        ({"blur_px": True}, "blur_px must be a number of at least 0, received True"),
        ({"low_resolution": 0.5}, "low_resolution must be a number of at least 1, received 0.5"),
        ({"flip_left_right": 1.5}, "flip_left_right must be a number from 0 to 1, received 1.5"),
        (
            {"elastic_px": 4.1},
            "elastic_px must be at most half of elastic_smoothness_px, .* received 4.1 and 8.0",
        ),
        (
            {"mask_interpolation": "cubic"},
            "mask_interpolation must be one of nearest, linear, received 'cubic'",
        ),
    ],
)
def test_spec_errors(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentationConfig(**values)
    if not any(value != value for value in values.values()):
        with pytest.raises(ValueError, match=message):
            AugmentationConfig.from_json(json.dumps(values))


def test_json_errors():
    with pytest.raises(ValueError, match="unknown fields of AugmentationConfig: turn; known: rotation"):
        AugmentationConfig.from_json('{"turn": 3}')
    with pytest.raises(ValueError, match="must be a JSON object, received list"):
        AugmentationConfig.from_json("[]")
    with pytest.raises(ValueError, match="JSON of AugmentationConfig must be a text, received ''"):
        AugmentationConfig.from_json("")


def test_call_errors(monkeypatch):
    images, masks, config = slices_of(*SIZE), hard_masks(*SIZE), PRESETS["strong"]
    dataset = dataset_of(images, masks)
    for seed in (-1, 2**32):
        with pytest.raises(
            ValueError, match=rf"seed must be an integer from 0 to 4294967295, received {seed}"
        ):
            augment(dataset, config, seed)
        with pytest.raises(ValueError, match="seed must be an integer from 0"):
            AugmentationLayer(config, seed)
    with pytest.raises(ValueError, match="first_step must be an integer of at least 0, received -1"):
        augment(dataset, config, 0, first_step=-1)
    with pytest.raises(ValueError, match=r"dataset must be .* pairs \(images, masks\), received TensorSpec"):
        augment(dataset.map(lambda image, mask: image), config, 0)
    for wrong in (dataset.unbatch(), dataset_of(images, masks[:, 1:])):
        with pytest.raises(ValueError, match=r"must be .* of one known height and width, received"):
            augment(wrong, config, 0)
    with pytest.raises(ValueError, match=r"received \(3, 40, 48, 1\) and \(3, 39, 48, 1\)"):
        AugmentationLayer(config)((images, masks[:, 1:]))
    with pytest.raises(
        ValueError, match="image_interpolation must be one of nearest, linear, received 'cubic'"
    ):
        apply_geometric(images, masks, Parameters(), "cubic")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="TensorFlow backend, received 'jax'; use augment_batch or"):
        augment(dataset, config, 0)


# Preview


def test_preview_writes_the_same_picture_again(tmp_path):
    images, masks = slices_of(*SIZE, count=6), hard_masks(*SIZE, count=6)
    masks[0] = 0
    for name in ("a.png", "b.png"):
        preview(images, masks, PRESETS["strong"], 1, tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "b.png").read_bytes()
    with pytest.raises(
        ValueError, match=r"at least one slice, received \(6, 40, 48, 1\) and \(5, 40, 48, 1\)"
    ):
        preview(images, masks[:5], PRESETS["strong"], 1, tmp_path / "c.png")
