"""All networks through one contract, their size and reach, and the published outputs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from random_networks import randomize, slices_of

from keras_scgm.errors import InputError
from keras_scgm.files import sha256_of
from keras_scgm.models import BUILDERS, STACK_BUILDERS, DilatedGMNet, UNet, load_model, load_network
from keras_scgm.pretrained import TISSUES, WeightsCard

pytestmark = pytest.mark.usefixtures("untraced")

ARCHITECTURES = sorted(BUILDERS)
SIZES = [(40, 56), (24, 8)]
PUBLISHED = {"challenge": 32, "large": 64}


def images_of(architecture, *size, channels=1, batch=2):
    """Slices, or stacks of three slices for a network of stacks."""
    size = (3, *size) if architecture in STACK_BUILDERS else size
    return slices_of(*size, channels=channels, batch=batch)


def shape_of(architecture, *shape):
    return (3, *shape) if architecture in STACK_BUILDERS else shape


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
        probabilities = BUILDERS[architecture](filters=4).predict(images_of(architecture, *size), verbose=0)
        assert probabilities.shape == (2, *shape_of(architecture, *size, 1))
        assert ((probabilities >= 0) & (probabilities <= 1)).all()

    def test_odd_channels_and_batch(self, architecture):
        model = BUILDERS[architecture](input_shape=shape_of(architecture, 32, 24, 3), filters=4)
        x = images_of(architecture, 32, 24, channels=3, batch=1)
        assert model.predict(x, verbose=0).shape == (1, *shape_of(architecture, 32, 24, 1))

    def test_without_top(self, architecture, tmp_path):
        features = {"DilatedGMNet": 64, "DilatedGMNet3D": 64, "UNet": 4}[architecture]
        whole = randomize(BUILDERS[architecture](filters=4))
        whole.save_weights(tmp_path / "whole.weights.h5")
        model = BUILDERS[architecture](filters=4, include_top=False, weights=tmp_path / "whole.weights.h5")
        x = images_of(architecture, 16, 24)
        assert model.output_shape == (*[None] * (x.ndim - 1), features)
        expected = keras.Model(whole.input, whole.get_layer("predictions").input)
        np.testing.assert_allclose(
            model.predict(x, verbose=0), expected.predict(x, verbose=0), rtol=1e-5, atol=1e-5
        )

    def test_softmax_classes_sum_to_one(self, architecture):
        model = BUILDERS[architecture](filters=4, classes=3, classifier_activation="softmax")
        probabilities = model.predict(images_of(architecture, 16, 24), verbose=0)
        assert probabilities.shape == (2, *shape_of(architecture, 16, 24, 3))
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)

    def test_output_layers_of_another_kind_stay_random(self, architecture, tmp_path):
        """Two independent classes are not background and object."""
        path = tmp_path / "two.weights.h5"
        arguments = {"filters": 4, "classes": 2}
        known = BUILDERS[architecture](**arguments)
        known.save_weights(path)
        card = WeightsCard("two", architecture, arguments, path.name, sha256_of(path), tissues=TISSUES[1])
        (tmp_path / "two.json").write_text(card.to_json())
        for activation, is_loaded in (("sigmoid", True), (None, True), ("softmax", False)):
            model = BUILDERS[architecture](**arguments, classifier_activation=activation, weights=path)
            for one, other in zip(model.layers, known.layers, strict=True):
                if one.name == "predictions":
                    same = np.array_equal(one.get_weights()[0], other.get_weights()[0])
                    assert same == is_loaded
                else:
                    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
                        np.testing.assert_array_equal(a, b)

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
        model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", run_eagerly=True)
        x = images_of(architecture, 16, 16)
        loss = model.train_on_batch(x, np.ones_like(x))
        assert np.isfinite(loss)
        changed = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
        assert all(changed)

    @pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
    def test_load_network_reads_a_file_without_card(self, architecture, suffix, tmp_path):
        model = randomize(
            BUILDERS[architecture](
                input_shape=(*shape_of(architecture, None, None), 2),
                filters=3,
                classes=2,
                classifier_activation="softmax",
            )
        )
        path = tmp_path / f"mine{suffix}"
        model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
        loaded, card = load_network(path)
        x = images_of(architecture, 16, 24, channels=2)
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
                r"input_shape must be \(.*height, width, channels\) .*, received \(200, 200\)",
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
        ("VNet", {}, "unknown architecture 'VNet'; known: DilatedGMNet, DilatedGMNet3D, UNet"),
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
folder, found, *architectures = sys.argv[1:]
for architecture in architectures:
    inputs = [np.load(f"{folder}/{architecture}_x{index}.npy") for index in range(2)]
    model = keras.saving.load_model(f"{folder}/{architecture}.keras")
    for index, x in enumerate(inputs):
        np.save(f"{found}/{architecture}{index}.npy", model.predict(x, verbose=0))
assert "keras_scgm" not in sys.modules
from keras_scgm.models import BUILDERS
for architecture in architectures:
    inputs = [np.load(f"{folder}/{architecture}_x0.npy")]
    model = BUILDERS[architecture](filters=4, weights=f"{folder}/{architecture}.weights.h5")
    np.save(f"{found}/{architecture}_weights.npy", model.predict(inputs[0], verbose=0))
"""


@pytest.fixture(scope="module")
def saved_networks(tmp_path_factory):
    """A folder of saved networks, their weights and inputs, and the outputs by name."""
    folder, expected = tmp_path_factory.mktemp("saved"), {}
    for architecture in ARCHITECTURES:
        inputs = [images_of(architecture, *size) for size in SIZES]
        if architecture in STACK_BUILDERS:
            # TensorFlow fails on stacks that differ in height and width alone (see `DilatedGMNet3D`).
            inputs[1] = inputs[1][:, 1:]
        for index, x in enumerate(inputs):
            np.save(folder / f"{architecture}_x{index}.npy", x)
        model = randomize(BUILDERS[architecture](filters=4))
        model.save(folder / f"{architecture}.keras")
        model.save_weights(folder / f"{architecture}.weights.h5")
        outputs = [model.predict(x, verbose=0) for x in inputs]
        expected |= {f"{architecture}{index}": output for index, output in enumerate(outputs)}
        expected[f"{architecture}_weights"] = outputs[0]
    return folder, expected


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_fresh_process_on_each_backend_gives_the_same(backend, saved_networks, tmp_path):
    """Plain Keras loads the saved model, and the builder the weights, with equal outputs."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    folder, expected = saved_networks
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(
        [sys.executable, "-c", PLAIN_KERAS, str(folder), str(tmp_path), *ARCHITECTURES],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    for name, output in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), output, atol=1e-4, err_msg=name)
