"""Exports of networks of stacks: neighbours, ends and empty slices as `segment` has them.

The card of the network has another spacing and a small window, as trainings on other images have.
"""

import json

import keras
import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from served_model import Served, check_answer
from unchecked_export import export_unchecked

from keras_scgm import DilatedGMNet3D, InputError, segment
from keras_scgm.export import saved_model
from keras_scgm.export.graph.network import STACK_SLICES, GraphNetwork, compute_stacks
from keras_scgm.export.warmup import read_warmup
from keras_scgm.files import sha256_of
from keras_scgm.pretrained import WeightsCard, card_path
from keras_scgm.slices import SliceConfig


@pytest.fixture(scope="module")
def network():
    """`dilated_cord_network` of stacks: what is bright in a slice, or in both of its neighbours."""
    model = DilatedGMNet3D(filters=2, dilation_rates=(6,), classes=2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv3D):
            kernel, bias = (np.zeros_like(array) for array in layer.get_weights())
            kernel[:, kernel.shape[1] // 2, kernel.shape[2] // 2, 0] = 0.3
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, kernel.shape[2] // 2, 0] = 1
            layer.set_weights([kernel, bias])
    kernel, _ = model.get_layer("predictions").get_weights()
    model.get_layer("predictions").set_weights([20 * kernel, np.array([-140.0, -30.0])])
    return model


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "coarse.keras"
    network.save(path)
    card = WeightsCard(
        "coarse",
        "DilatedGMNet3D",
        {},
        path.name,
        sha256_of(path),
        tissues=("gray_matter", "cord"),
        slices=SliceConfig(0.4, 60),
        threshold=0.7,
    )
    card_path(path).write_text(card.to_json())
    return path


@pytest.fixture(scope="module")
def models(weights, tmp_path_factory):
    return export_unchecked(weights, tmp_path_factory.mktemp("models"))


def test_parts_of_a_stack_are_seen_with_their_neighbours(network):
    n_slices = 2 * STACK_SLICES + 9
    slices = np.random.default_rng(0).normal(8, 3, size=(n_slices, 20, 16, 1)).astype(np.float32)
    is_shown = np.ones(n_slices, bool)
    is_shown[[0, 3, 5, 6, n_slices - 1]] = False
    found = compute_stacks(GraphNetwork([network]), tf.constant(slices), tf.constant(is_shown)).numpy()
    assert not found[~is_shown].any()
    for first, stop in ((1, 3), (4, 5), (7, n_slices - 1)):
        expected = np.array(network(slices[np.newaxis, first:stop]))[0]
        np.testing.assert_allclose(found[first:stop], np.minimum(expected, expected[..., -1:]), atol=1e-5)
    nothing = compute_stacks(GraphNetwork([network]), tf.constant(slices), tf.zeros(n_slices, tf.bool))
    assert not nothing.numpy().any()


def test_a_volume(weights, models, cord_image):
    """Searched for in a large field; an empty slice ends a stack, one without a cord does not."""
    image = cord_image(shape=(80, 76, 9), center_mm=(10, 9))
    data = np.asarray(image.dataobj).copy()
    data[..., 3] = 0
    data[..., 6] = np.minimum(data[..., 6], 103)
    image = nib.Nifti1Image(data, image.affine)
    expected = segment(image, weights)
    got = Served(models)(image.to_bytes(), signature="soft")
    tissues = [expected.mask_voxels, expected.cord_voxels]
    for name, voxels in zip(("mask_bytes", "cord_bytes"), tissues, strict=True):
        found = np.asarray(nib.Nifti1Image.from_bytes(got[name][0]).dataobj)
        np.testing.assert_array_equal(found, voxels)
        # The slice without a cord has one between its neighbours; the empty one has not.
        assert found.any(axis=(0, 1)).tolist() == [k != 3 for k in range(9)], name
    assert expected.record["window_moved"]
    for record in (expected.record, json.loads(got["provenance"][0])):
        assert (record["slices"]["window_px"], record["threshold"]) == (60, 0.7)
    check_answer(got, expected)


def test_the_network_alone(network, models):
    stacks = np.random.default_rng(0).normal(8, 3, size=(2, 3, 60, 60, 1)).astype(np.float32)
    signatures = tf.saved_model.load(str(models.slices)).signatures
    expected = np.array(network(stacks))
    found = signatures["serving_default"](slices=tf.constant(stacks))
    np.testing.assert_allclose(found["probabilities"], np.minimum(expected, expected[..., -1:]), atol=1e-5)
    scale = np.array([2.0, 5.0], np.float32).reshape(2, 1, 1, 1, 1)
    scaled, plain = (signatures["raw"](slices=tf.constant(each)) for each in (scale * stacks, stacks))
    np.testing.assert_allclose(scaled["probabilities"], plain["probabilities"], atol=1e-4)
    assert not (models.slices / saved_model.BATCHING_FILE).exists()
    assert {request.inputs["slices"].shape for request in read_warmup(models.slices)} == {(1, 5, 60, 60, 1)}


def test_reduced_precision_is_refused(network, tmp_path):
    with pytest.raises(InputError, match="exported in float32 only"):
        saved_model.export_saved_model(network, tmp_path, precision="bfloat16")
