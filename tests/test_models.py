"""Both networks through one contract, their size and reach, and the published outputs."""

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_scgm.errors import InputError
from keras_scgm.models import BUILDERS, DilatedGMNet, UNet, load_model, load_network
from keras_scgm.pretrained import WeightsCard, sha256_of

ARCHITECTURES = sorted(BUILDERS)
SIZES = [(40, 56), (24, 8)]
PUBLISHED = {"challenge": 32, "large": 64}


def randomize(model, seed=0):
    """Random weights and moving statistics, so that no normalization is the identity."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


def slices_of(*size, channels=1, batch=2):
    return np.random.default_rng(1).normal(size=(batch, *size, channels)).astype("float32")


def convolution_parameters(model):
    return sum(layer.count_params() for layer in model.layers if isinstance(layer, keras.layers.Conv2D))


def test_parameters_are_the_papers():
    model = DilatedGMNet()
    assert convolution_parameters(model) == 124_769
    assert model.count_params() == 127_585
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 126_177
    assert DilatedGMNet(filters=64).count_params() == 478_017
    assert convolution_parameters(UNet()) == 776_321


def test_layers_have_the_published_names(reference):
    with h5py.File(reference / "weights/challenge_model.hdf5") as file:
        published = {
            name.decode() for name in file.attrs["layer_names"] if file[name].attrs["weight_names"].size
        }
    assert {layer.name for layer in DilatedGMNet().layers if layer.weights} == published


def test_unet_has_fourteen_layers_and_an_output():
    convolutions = [layer for layer in UNet().layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 15
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_outputs(name, reference, monkeypatch):
    expected = np.load(reference / "expected/network_outputs.npz")
    by_path = DilatedGMNet(weights=reference / f"weights/{name}_model.hdf5", filters=PUBLISHED[name])
    # Outputs of `large` differ by 3e-5 between AVX2, AVX-512 and AMX.
    np.testing.assert_allclose(by_path.predict(expected["slices"], verbose=0), expected[name], atol=1e-4)

    monkeypatch.setenv("KERAS_SCGM_HOME", str(reference / "weights"))
    by_name = DilatedGMNet(weights=name, filters=PUBLISHED[name])
    loaded, card = load_network(name)
    assert card.name == name
    for model in (by_name, loaded):
        for weight, other in zip(model.get_weights(), by_path.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, other)


@pytest.mark.parametrize("dilation_rates", [(6, 12, 18, 24), (1, 5)])
def test_receptive_field(dilation_rates):
    reach = 13 + 4 * max(dilation_rates)
    model = DilatedGMNet(filters=2, dilation_rates=dilation_rates, include_top=False)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            kernel[:] = 1 / kernel[..., 0].size
            if layer.name == "amort":
                # The pooled features come before those of the last rate: they see the whole slice.
                kernel[:, :, -4:-2] = 0
            layer.set_weights([kernel, bias])
    impulse = np.zeros((1, reach + 10, reach + 10, 1), "float32")
    impulse[0, reach // 2 + 5, reach // 2 + 5] = 1
    reached = np.argwhere(model.predict(impulse, verbose=0)[0].any(axis=-1))
    np.testing.assert_array_equal(reached.min(axis=0), [5, 5])
    np.testing.assert_array_equal(reached.max(axis=0), [reach + 4, reach + 4])


def test_receptive_field_of_the_papers_rates_is_the_documented_one():
    assert "109 pixels, or 27.25 mm at 0.25 mm" in " ".join(DilatedGMNet.__doc__.split())
    assert 13 + 4 * 24 == 109 == 27.25 / 0.25


def test_pooled_features_are_the_mean_of_the_first_layers_at_every_position():
    model = randomize(DilatedGMNet(filters=4))
    parts = keras.Model(
        model.input, [model.get_layer("dropout_2").output, model.get_layer("concatenate_1").output]
    )
    local, branches = parts.predict(slices_of(24, 40), verbose=0)
    mean = np.broadcast_to(local.mean(axis=(1, 2), keepdims=True), local.shape)
    np.testing.assert_allclose(branches[..., 16:20], mean, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestContract:
    def test_every_layer_is_named(self, architecture):
        first, second = BUILDERS[architecture](), BUILDERS[architecture]()
        assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
        assert first.layers[0].name == "slices"
        assert first.layers[-1].name == "predictions"

    @pytest.mark.parametrize("size", SIZES)
    def test_any_size_gives_probabilities(self, architecture, size):
        probabilities = BUILDERS[architecture](filters=4).predict(slices_of(*size), verbose=0)
        assert probabilities.shape == (2, *size, 1)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()

    def test_odd_channels_and_batch(self, architecture):
        model = BUILDERS[architecture](input_shape=(32, 24, 3), filters=4)
        assert model.predict(slices_of(32, 24, channels=3, batch=1), verbose=0).shape == (1, 32, 24, 1)

    def test_without_top(self, architecture, tmp_path):
        features = {"DilatedGMNet": 64, "UNet": 4}[architecture]
        whole = randomize(BUILDERS[architecture](filters=4))
        whole.save_weights(tmp_path / "whole.weights.h5")
        model = BUILDERS[architecture](filters=4, include_top=False, weights=tmp_path / "whole.weights.h5")
        assert model.output_shape == (None, None, None, features)
        expected = keras.Model(whole.input, whole.get_layer("predictions").input)
        x = slices_of(16, 24)
        np.testing.assert_allclose(
            model.predict(x, verbose=0), expected.predict(x, verbose=0), rtol=1e-5, atol=1e-5
        )

    def test_softmax_classes_sum_to_one(self, architecture):
        model = BUILDERS[architecture](filters=4, classes=3, classifier_activation="softmax")
        probabilities = model.predict(slices_of(16, 24), verbose=0)
        assert probabilities.shape == (2, 16, 24, 3)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)

    def test_other_activations_are_kept(self, architecture):
        build = BUILDERS[architecture]
        logits = build(filters=4, classifier_activation=None).get_layer("predictions")
        independent = build(filters=4, classes=2, classifier_activation=keras.activations.sigmoid)
        assert logits.activation is keras.activations.linear
        assert independent.get_layer("predictions").activation is keras.activations.sigmoid

    def test_training_step_changes_weights(self, architecture):
        keras.utils.set_random_seed(0)
        model = BUILDERS[architecture](filters=4)
        before = [weight.copy() for weight in model.get_weights()]
        model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
        loss = model.train_on_batch(slices_of(16, 16), np.ones((2, 16, 16, 1), "float32"))
        assert np.isfinite(loss)
        changed = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
        assert all(changed)

    @pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
    def test_load_network_reads_a_file_without_card(self, architecture, suffix, tmp_path):
        model = randomize(
            BUILDERS[architecture](
                input_shape=(None, None, 2), filters=3, classes=2, classifier_activation="softmax"
            )
        )
        path = tmp_path / f"mine{suffix}"
        model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
        loaded, card = load_network(path)
        x = slices_of(16, 24, channels=2)
        np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
        assert (card.name, card.file, card.sha256) == ("mine", path.name, sha256_of(path))

    def test_load_network_follows_a_card(self, architecture, tmp_path):
        path = tmp_path / "mine.weights.h5"
        model = randomize(BUILDERS[architecture](filters=3))
        model.save_weights(path)
        card = WeightsCard("mine", architecture, {"filters": 3}, path.name, sha256_of(path), threshold=0.25)
        (tmp_path / "mine.json").write_text(card.to_json())
        loaded, found = load_network(str(path))
        assert found == card
        for weight, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, other)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"input_shape": (200, 200)},
                r"input_shape must be \(height, width, channels\) .*, received \(200, 200\)",
            ),
            (
                {"input_shape": (None, None, None)},
                r"input_shape must be .*, received \(None, None, None\)",
            ),
            (
                {"input_shape": (-8, 8, 1)},
                r"input_shape must be .*, received \(-8, 8, 1\)",
            ),
            ({"filters": 0}, "filters must be an integer of at least 1, received 0"),
            ({"filters": 32.0}, r"filters must be an integer of at least 1, received 32\.0"),
            ({"classes": True}, "classes must be an integer of at least 1, received True"),
            ({"dropout": 1}, "dropout must be a number of at least 0 and below 1, received 1"),
            ({"dropout": "0.4"}, "dropout must be a number of at least 0 and below 1, received '0.4'"),
            (
                {"batch_norm_momentum": -0.1},
                r"batch_norm_momentum must be a number of at least 0 and below 1, received -0\.1",
            ),
            ({"classifier_activation": "sigmund"}, "classifier_activation must be .* received 'sigmund'"),
            ({"weights": 3}, "weights must be a known name or a path, received 3"),
            ({"weights": "chalenge"}, "unknown weights 'chalenge'.*challenge, large.*mean 'challenge'"),
            ({"weights": "missing.weights.h5"}, "missing.weights.h5: no such weights file"),
        ],
    )
    def test_wrong_arguments(self, architecture, arguments, message):
        with pytest.raises(ValueError, match=message):
            BUILDERS[architecture](**arguments)

    def test_channels_first_is_refused(self, architecture, monkeypatch):
        monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
        with pytest.raises(ValueError, match="must be 'channels_last', received 'channels_first'"):
            BUILDERS[architecture]()


@pytest.mark.parametrize(
    ("dilation_rates", "message"),
    [
        ((), r"dilation_rates must be distinct positive integers other than 2, at least one, received \(\)"),
        (6, "dilation_rates must be .*, received 6"),
        ((6, 0), r"dilation_rates must be .*, received \(6, 0\)"),
        ((6, 6), r"dilation_rates must be .*, received \(6, 6\)"),
        ((2, 6), r"dilation_rates must be .*, received \(2, 6\)"),
    ],
)
def test_wrong_dilation_rates(dilation_rates, message):
    with pytest.raises(ValueError, match=message):
        DilatedGMNet(dilation_rates=dilation_rates)


def test_unet_size_divisor():
    with pytest.raises(ValueError, match=r"multiples of 8, received \(200, 100, 1\)"):
        UNet(input_shape=(200, 100, 1))


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (DilatedGMNet, {"weights": "large"}, "weights='large' needs filters=64, received 32"),
        (DilatedGMNet, {"weights": "challenge", "filters": 64}, "needs filters=32, received 64"),
        (DilatedGMNet, {"weights": "challenge", "classes": 2}, "needs classes=1, received 2"),
        (
            DilatedGMNet,
            {"weights": "challenge", "dilation_rates": (6, 12)},
            r"needs dilation_rates=\(6, 12, 18, 24\), received \(6, 12\)",
        ),
        (UNet, {"weights": "challenge"}, "needs the architecture DilatedGMNet, received UNet"),
    ],
)
def test_arguments_that_contradict_named_weights(build, arguments, message, monkeypatch, tmp_path):
    # A cold cache: the contradiction is told before anything is fetched.
    monkeypatch.setenv("KERAS_SCGM_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        build(**arguments)
    assert not list(tmp_path.iterdir())


def test_named_weights_without_top_ignore_classes(reference, monkeypatch):
    monkeypatch.setenv("KERAS_SCGM_HOME", str(reference / "weights"))
    model = DilatedGMNet(weights="challenge", classes=4, include_top=False)
    whole = DilatedGMNet(weights="challenge")
    np.testing.assert_array_equal(
        model.get_layer("amort").get_weights()[0], whole.get_layer("amort").get_weights()[0]
    )


@pytest.mark.parametrize("build", [DilatedGMNet, UNet])
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
def test_several_classes_stay_independent_and_warn(build):
    with pytest.warns(FutureWarning, match="classes=2 .* gave 'softmax' before") as caught:
        model = build(filters=2, classes=2)
    assert caught[0].filename == __file__
    assert model.get_layer("predictions").activation is keras.activations.sigmoid
    quiet = build(filters=2, classes=2, classifier_activation=keras.activations.sigmoid)
    assert quiet.get_layer("predictions").activation is keras.activations.sigmoid


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            {"input_shape": (None, None, 3)},
            r"needs channels=1, received 3; use weights=None, or input_tensor=.*",
        ),
        ({"classes": 3}, "needs classes=1, received 3; use include_top=False and an output layer .*"),
    ],
)
@pytest.mark.parametrize(("build", "name"), [(DilatedGMNet, "synthetic"), (UNet, "synthetic_unet")])
def test_pretrained_weights_say_what_to_do_about_other_channels_and_classes(build, name, argument, message):
    with pytest.raises(InputError, match=f"weights='{name}' {message}"):
        build(weights=name, **argument)


@pytest.mark.parametrize("build", [DilatedGMNet, UNet])
def test_files_without_a_card_say_it_too(build, tmp_path):
    whole, features = tmp_path / "whole.weights.h5", tmp_path / "features.weights.h5"
    build(filters=2).save_weights(whole)
    build(filters=2, include_top=False).save_weights(features)
    with pytest.raises(InputError, match=r"has shapes .*; use weights=None, or input_tensor="):
        build(filters=2, weights=whole, input_shape=(None, None, 3))
    with pytest.raises(InputError, match=r"'predictions' has shapes .*; use include_top=False and an output"):
        build(filters=2, weights=whole, classes=3, classifier_activation="softmax")
    with pytest.raises(InputError, match=r"needs \(3, 3, 1, 4\) \(4,\)$"):
        build(filters=4, weights=whole)
    with pytest.raises(InputError, match=r"has no layer 'predictions', .*; use include_top=False"):
        build(filters=2, weights=features)


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
    assert model.output_shape == (None, 16, 24, 1)
    weights = np.array([0.5, 0.25, 0.25], "float32").reshape(1, 1, 3, 1)
    model.get_layer("gray").set_weights([weights])
    x = slices_of(16, 24, channels=3)
    expected = build(weights=name).predict(x @ weights[0, 0], verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_an_input_tensor_whose_layers_have_our_names_is_refused():
    images = keras.layers.Conv2D(1, 1, name="conv2d_1")(keras.Input((16, 16, 3)))
    with pytest.raises(InputError, match=r"input_tensor: the layers before it do not fit: .*conv2d_1"):
        DilatedGMNet(filters=2, input_tensor=images)


@pytest.mark.parametrize("name", ["synthetic", "synthetic_unet"])
def test_load_model_gives_the_network_of_a_name(name):
    model = load_model(name)
    expected, _ = load_network(name)
    assert model.name == expected.name
    for weight, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".hdf5"])
def test_load_network_refuses_a_damaged_file(suffix, tmp_path):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"not weights")
    with pytest.raises(InputError, match=f"bad{suffix}: not a Keras"):
        load_network(path)


def test_load_network_refuses_other_networks(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save_weights(tmp_path / "dense.weights.h5")
    model.save(tmp_path / "dense.keras")
    with pytest.raises(InputError, match="holds none of the known networks"):
        load_network(tmp_path / "dense.weights.h5")
    with pytest.raises(InputError, match="not a network from"):
        load_network(tmp_path / "dense.keras")
    DilatedGMNet(filters=2, include_top=False).save_weights(tmp_path / "features.weights.h5")
    with pytest.raises(InputError, match="has no convolution 'predictions'"):
        load_network(tmp_path / "features.weights.h5")


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("VNet", {}, "unknown architecture 'VNet'; known: DilatedGMNet, UNet"),
        ("UNet", {"depth": 3}, "its card does not describe a UNet: .*depth"),
    ],
)
def test_load_network_refuses_a_wrong_card(architecture, arguments, message, tmp_path):
    path = tmp_path / "mine.weights.h5"
    UNet(filters=2).save_weights(path)
    card = WeightsCard("mine", architecture, arguments, path.name, sha256_of(path))
    (tmp_path / "mine.json").write_text(card.to_json())
    with pytest.raises(InputError, match=message):
        load_network(path)


PLAIN_KERAS = """
import os, sys, keras, numpy as np
assert keras.backend.backend() == os.environ["KERAS_BACKEND"]
folder, *architectures = sys.argv[1:]
inputs = [np.load(f"{folder}/x{index}.npy") for index in range(2)]
for architecture in architectures:
    model = keras.saving.load_model(f"{folder}/{architecture}.keras")
    for index, x in enumerate(inputs):
        np.save(f"{folder}/{architecture}{index}.npy", model.predict(x, verbose=0))
assert "keras_scgm" not in sys.modules
from keras_scgm.models import BUILDERS
for architecture in architectures:
    model = BUILDERS[architecture](filters=4, weights=f"{folder}/{architecture}.weights.h5")
    np.save(f"{folder}/{architecture}_weights.npy", model.predict(inputs[0], verbose=0))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_fresh_process_on_each_backend_gives_the_same(backend, tmp_path):
    """Plain Keras loads the saved model, and the builder the weights, with equal outputs."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    expected = {}
    for index, size in enumerate(SIZES):
        np.save(tmp_path / f"x{index}.npy", slices_of(*size))
    for architecture in ARCHITECTURES:
        model = randomize(BUILDERS[architecture](filters=4))
        model.save(tmp_path / f"{architecture}.keras")
        model.save_weights(tmp_path / f"{architecture}.weights.h5")
        outputs = [model.predict(slices_of(*size), verbose=0) for size in SIZES]
        expected |= {f"{architecture}{index}": output for index, output in enumerate(outputs)}
        expected[f"{architecture}_weights"] = outputs[0]
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(
        [sys.executable, "-c", PLAIN_KERAS, str(tmp_path), *ARCHITECTURES],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    for name, output in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), output, atol=1e-4, err_msg=name)
