"""The augmentation in tf.data and as a layer."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from augmented_slices import SIZE, hard_masks, moved, parameters_of, slices_of
from keras import ops

from keras_scgm.augmentation import (
    PRESETS,
    AugmentationConfig,
    AugmentationLayer,
    Parameters,
    apply_geometric,
    apply_intensity,
    augment,
    augment_batch,
    sample_parameters,
)


def dataset_of(images, masks, batch=2):
    return tf.data.Dataset.from_tensor_slices((images, masks)).batch(batch)


def assert_same(batches, expected):
    for one, other in zip(batches, expected, strict=True):
        for array, wanted in zip(one, other, strict=True):
            np.testing.assert_allclose(array, wanted, atol=1e-5)


def test_pipeline_is_deterministic_and_can_start_anywhere():
    images, masks = slices_of(*SIZE, count=5), hard_masks(*SIZE, count=5)
    dataset = augment(
        dataset_of(images, masks).repeat(2), PRESETS["strong"], seed=3, rerandomize_each_iteration=False
    )
    first, second = list(dataset.as_numpy_iterator()), list(dataset.as_numpy_iterator())
    assert [len(batch[0]) for batch in first] == [2, 2, 1, 2, 2, 1]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(first[0][0], first[3][0])
    resumed = augment(dataset_of(images, masks), PRESETS["strong"], seed=3, first_step=3)
    for one, other in zip(first[3:], resumed.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_every_epoch_of_fit_is_augmented_anew():
    images, masks = slices_of(*SIZE, count=5), hard_masks(*SIZE, count=5)
    config = AugmentationConfig(channel_shift=1.0)
    dataset = augment(dataset_of(images, masks), config, seed=3)
    assert int(dataset.cardinality()) == 3
    model = keras.Sequential([keras.Input((*SIZE, 1)), keras.layers.Rescaling(1.0)])
    model.compile(loss=lambda y_true, y_pred: ops.mean(y_pred, axis=(1, 2, 3)))
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        means = model.fit(dataset, epochs=3, shuffle=False, verbose=0).history["loss"]
    repeated = augment(dataset_of(images, masks).repeat(3), config, seed=3)
    shown = [image.mean(axis=(1, 2, 3)) for image, _ in repeated.as_numpy_iterator()]
    expected = [np.concatenate(shown[3 * epoch : 3 * epoch + 3]).mean() for epoch in range(3)]
    np.testing.assert_allclose(means, expected, rtol=1e-4, atol=1e-5)
    assert len({round(mean, 4) for mean in means}) == 3


# Coordinates of flipped slices are whole numbers, which no rounding moves to another pixel.
CHANGES = AugmentationConfig(flip_left_right=0.5, flip_front_back=0.5, channel_shift=1.0, noise=0.5)


def test_iterations_count_on_whatever_the_length_of_the_data_set():
    images, masks = slices_of(*SIZE, count=4), hard_masks(*SIZE, count=4)
    plain = dataset_of(images, masks)
    dataset = augment(plain, CHANGES, seed=3)
    first, second = list(dataset.as_numpy_iterator()), list(dataset.as_numpy_iterator())
    assert_same([*first, *second], augment(plain.repeat(2), CHANGES, seed=3).as_numpy_iterator())
    assert_same(second, augment(plain, CHANGES, seed=3, first_step=2).as_numpy_iterator())
    unknown = augment(plain.filter(lambda *pair: True), CHANGES, seed=3)
    assert_same(first, unknown.as_numpy_iterator())
    assert not np.array_equal(first[0][0], next(iter(unknown.as_numpy_iterator()))[0])
    infinite = augment(plain.repeat(), CHANGES, seed=3)
    assert int(infinite.cardinality()) == tf.data.INFINITE_CARDINALITY
    assert_same([*first, *second], infinite.take(4).as_numpy_iterator())


def test_single_slices_weights_and_images_alone():
    images, masks = slices_of(*SIZE, count=3), hard_masks(*SIZE, count=3)
    config = CHANGES
    one_by_one = list(augment(dataset_of(images, masks, batch=1), config, seed=3).as_numpy_iterator())
    unbatched = tf.data.Dataset.from_tensor_slices((images, masks))
    single = list(augment(unbatched, config, seed=3).as_numpy_iterator())
    assert single[0][0].shape == (*SIZE, 1)
    assert_same([(image[None], mask[None]) for image, mask in single], one_by_one)

    weights = np.array([1.0, 2.0, 3.0], "float32")
    for batched in (True, False):
        weighed = tf.data.Dataset.from_tensor_slices((images, masks, weights))
        weighed, pairs = (weighed.batch(1), one_by_one) if batched else (weighed, single)
        found = list(augment(weighed, config, seed=3).as_numpy_iterator())
        assert_same([triple[:2] for triple in found], pairs)
        np.testing.assert_array_equal([float(triple[2].item()) for triple in found], weights)
        maps = tf.data.Dataset.from_tensor_slices((images, masks, masks[..., 0]))
        with pytest.raises(ValueError, match=r"sample weights must be one number per slice, .*; let them be"):
            augment(maps.batch(1) if batched else maps, config, seed=3)

    alone = augment(tf.data.Dataset.from_tensor_slices(images).batch(1), config, seed=3)
    assert_same([(image,) for image in alone.as_numpy_iterator()], [(image,) for image, _ in one_by_one])


def test_layer_in_a_sequential_model_changes_intensities_only():
    images = slices_of(*SIZE, count=2)
    config = AugmentationConfig(noise=0.5)
    model = keras.Sequential([keras.Input((*SIZE, 1)), AugmentationLayer(config, seed=3)])
    np.testing.assert_array_equal(model(images), images)
    expected, _ = AugmentationLayer(config, seed=3)((images, images), training=True)
    np.testing.assert_array_equal(model(images, training=True), expected)
    with pytest.raises(
        ValueError, match=r"received images alone, but its settings move them, .*: call it with"
    ):
        keras.Sequential([keras.Input((*SIZE, 1)), AugmentationLayer(PRESETS["strong"])])


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


def test_settings_without_changes_is_the_identity():
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


def test_model_that_augments_images_alone_is_saved_and_loaded(tmp_path):
    layer = AugmentationLayer(AugmentationConfig(noise=0.3))
    model = keras.Sequential([keras.Input((8, 8, 1)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = slices_of(8, 8)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), images)


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
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("mine")
    assert (loaded.config, loaded.seed, int(loaded.step)) == (layer.config, 9, 1)


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
    with pytest.raises(
        ValueError, match=r"dataset must be .* or \(images, masks, sample weights\), received \{"
    ):
        augment(dataset.map(lambda image, mask: {"image": image, "mask": mask}), config, 0)
    for wrong in (dataset.batch(2), dataset_of(images, masks[:, 1:])):
        with pytest.raises(ValueError, match=r"must be .* of one known height and width, received"):
            augment(wrong, config, 0)
    with pytest.raises(ValueError, match=r"received \(3, 40, 48, 1\) and \(3, 39, 48, 1\)"):
        AugmentationLayer(config)((images, masks[:, 1:]))
    with pytest.raises(
        ValueError, match="image_interpolation must be one of nearest, linear, received 'cubic'"
    ):
        apply_geometric(images, masks, Parameters(), "cubic")
    integers = (100 * images).astype("int16")
    for call in (
        lambda: augment(dataset_of(integers, masks), config, 0),
        lambda: augment_batch(integers, masks, config, 0),
        lambda: AugmentationLayer(config)((integers, masks), training=True),
    ):
        with pytest.raises(ValueError, match=r"images must be floats .*, received int16"):
            call()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="TensorFlow backend, received 'jax'; use augment_batch or"):
        augment(dataset, config, 0)
