"""Common arguments of both networks, in the manner of `keras.applications`."""

import inspect

import keras
import numpy as np
import pytest
from random_networks import randomize, slices_of

from keras_scgm.errors import InputError
from keras_scgm.files import sha256_of
from keras_scgm.models import BUILDERS, DilatedGMNet, DilatedGMNet3D, UNet
from keras_scgm.pretrained import WeightsCard, card_path, weights_card

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.mark.parametrize("build", [DilatedGMNet, DilatedGMNet3D, UNet])
def test_arguments_are_those_of_keras_applications(build):
    ours = list(inspect.signature(build).parameters.values())
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    assert [one.name for one in ours[:8]] == list(theirs)
    assert {one.kind for one in ours[8:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert ours[0].default is True
    assert {ours[index].default for index in (1, 2, 3, 4)} == {None}


@pytest.mark.parametrize("build", [DilatedGMNet, UNet])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("challenge",), "include_top must be True or False, received 'challenge'; .* weights='challenge'"),
        (((64, 64, 1),), r"include_top must be True or False, .*: input_shape=\(64, 64, 1\)"),
        ((True, None, None, None, "avg"), "pooling='avg' needs include_top=False"),
        ((False, None, None, None, "mean"), "pooling must be one of avg, max, received 'mean'"),
        ((True, None, None, None, None, 1, "softmax"), "of one class is 1 everywhere"),
        (
            (True, None, keras.Input((8, 8))),
            r"input_tensor must be of floats, \(batch, height, width, channels\)",
        ),
        ((True, None, np.zeros((1, 8, 8, 1))), r"input_tensor must be a Keras tensor, such as keras\.Input"),
        (
            (True, None, keras.Input((8, 8, 1)), (16, 16, 1)),
            r"input_shape must be that of input_tensor, \(8, 8, 1\), .* received \(16, 16, 1\)",
        ),
    ],
)
def test_mistakes_in_the_manner_of_keras_applications(build, arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments)


def test_unet_size_divisor_of_a_tensor():
    with pytest.raises(
        InputError, match=r"shape of input_tensor must be .* multiples of 8, received \(12, 8, 1\)"
    ):
        UNet(input_tensor=keras.Input((12, 8, 1)))


@pytest.mark.parametrize("build", [DilatedGMNet, UNet])
def test_several_classes_are_independent(build):
    model = build(filters=2, classes=2)
    assert model.get_layer("predictions").activation is keras.activations.sigmoid
    assert model.output_shape[-1] == 2


@pytest.mark.parametrize("build", [DilatedGMNet, DilatedGMNet3D, UNet])
@pytest.mark.parametrize("classes", [1, 2])
def test_weights_tell_the_number_of_classes(build, classes, tmp_path):
    path = tmp_path / "some.weights.h5"
    expected = build(filters=2, classes=classes)
    expected.save_weights(path)
    model = build(filters=2, weights=path)
    assert model.output_shape[-1] == classes
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    card = WeightsCard("some", build.__name__, {"filters": 2, "classes": classes}, path.name, sha256_of(path))
    card_path(path).write_text(card.to_json())
    assert build(filters=2, weights=path).output_shape[-1] == classes
    assert build(filters=2, weights=path, include_top=False).count_params() < expected.count_params()


@pytest.mark.parametrize("name", ["synthetic", "synthetic_unet"])
def test_named_weights_tell_the_number_of_classes(name):
    card = weights_card(name)
    build = BUILDERS[card.architecture]
    assert build(weights=name).output_shape[-1] == len(card.tissues)


@pytest.mark.parametrize(("build", "name"), [(DilatedGMNet, "synthetic"), (UNet, "synthetic_unet")])
def test_other_classes_replace_the_head_alone(build, name):
    known = build(weights=name)
    model = build(weights=name, classes=3, classifier_activation="softmax")
    for layer, expected in zip(model.layers, known.layers, strict=True):
        if layer.name != "predictions":
            for array, wanted in zip(layer.get_weights(), expected.get_weights(), strict=True):
                np.testing.assert_array_equal(array, wanted)
    kernel, bias = model.get_layer("predictions").get_weights()
    assert kernel.shape[-1] == len(bias) == 3
    assert kernel.any()
    assert model(slices_of(16, 16)).shape == (2, 16, 16, 3)


@pytest.mark.parametrize(("build", "name"), [(DilatedGMNet, "synthetic"), (UNet, "synthetic_unet")])
@pytest.mark.parametrize("channels", [2, 3])
def test_gray_images_in_several_channels_give_what_they_give_in_one(build, name, channels):
    x = slices_of(16, 24)
    model = build(weights=name, input_shape=(None, None, channels))
    expected = build(weights=name).predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(x.repeat(channels, axis=-1), verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("build", [DilatedGMNet, UNet])
def test_files_without_a_card_adapt_too(build, tmp_path):
    whole, features = tmp_path / "whole.weights.h5", tmp_path / "features.weights.h5"
    rgb = randomize(build(filters=2, input_shape=(None, None, 3)))
    rgb.save_weights(whole)
    build(filters=2, include_top=False).save_weights(features)
    x = slices_of(16, 24)
    one = build(filters=2, weights=whole)
    np.testing.assert_allclose(
        one.predict(x, verbose=0), rgb.predict(x.repeat(3, axis=-1), verbose=0), atol=1e-5
    )
    four = build(filters=2, weights=whole, input_shape=(None, None, 4), classes=3)
    kernel, expected = four.layers[1].get_weights()[0], rgb.layers[1].get_weights()[0]
    np.testing.assert_allclose(kernel[:, :, 3], expected.sum(axis=2) / 4, rtol=1e-6)
    with pytest.raises(InputError, match=r"needs \(3, 3, 3, 4\) \(4,\)$"):
        build(filters=4, input_shape=(None, None, 3), weights=whole)
    with pytest.raises(InputError, match=r"has no layer 'predictions', .*; use include_top=False"):
        build(filters=2, weights=features)


@pytest.mark.parametrize("build", [DilatedGMNet, UNet])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float32"])
def test_predictions_are_in_full_precision(build, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = build(filters=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("predictions").compute_dtype == "float32"
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(model(slices_of(8, 8)).dtype) == "float32"


@pytest.mark.parametrize(("build", "features"), [(DilatedGMNet, 64), (UNet, 3)])
def test_pooling_reduces_the_feature_maps(build, features):
    maps = randomize(build(include_top=False, filters=3))
    x = slices_of(16, 24)
    expected = maps.predict(x, verbose=0)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        model = build(include_top=False, pooling=pooling, filters=3)
        model.set_weights(maps.get_weights())
        assert model.output_shape == (None, features)
        assert model.layers[-1].name == f"{pooling}_pool"
        np.testing.assert_allclose(model.predict(x, verbose=0), reduce(expected, axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize(("build", "name"), [(DilatedGMNet, "synthetic"), (UNet, "synthetic_unet")])
def test_weights_are_loaded_behind_an_input_tensor(build, name):
    images = keras.Input((16, 24, 3), name="rgb")
    gray = keras.layers.Conv2D(1, 1, use_bias=False, name="gray")(images)
    model = build(weights=name, input_tensor=gray)
    assert model.input is images
    assert model.output_shape == (None, 16, 24, 2)
    weights = np.array([0.5, 0.25, 0.25], "float32").reshape(1, 1, 3, 1)
    model.get_layer("gray").set_weights([weights])
    x = slices_of(16, 24, channels=3)
    expected = build(weights=name).predict(x @ weights[0, 0], verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_an_input_tensor_whose_layers_have_our_names_is_refused():
    images = keras.layers.Conv2D(1, 1, name="conv2d_1")(keras.Input((16, 16, 3)))
    with pytest.raises(InputError, match=r"input_tensor: the layers before it do not fit: .*conv2d_1"):
        DilatedGMNet(filters=2, input_tensor=images)
