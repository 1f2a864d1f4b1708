"""Runtimes: the same probabilities as Keras, and refusals."""

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from missing import missing

from keras_scgm import DilatedGMNet, InputError, Segmenter, segment
from keras_scgm.dice import dice
from keras_scgm.files import sha256_of
from keras_scgm.predict import in_cord
from keras_scgm.prediction import Ensemble
from keras_scgm.pretrained import WeightsCard, card_path
from keras_scgm.runtimes import ON_PROCESSORS_ALONE, WITH_BFLOAT16, LoadedNetwork, open_runtime
from keras_scgm.runtimes.folding import fold_model
from keras_scgm.runtimes.tensorflow_network import build

INSTALLED = ["onnxruntime", "tensorflow", *(["openvino"] if importlib.util.find_spec("openvino") else [])]


@pytest.fixture(scope="module")
def slices():
    return np.random.default_rng(1).normal(size=(3, 60, 46, 1)).astype("float32")


@pytest.fixture(scope="module", params=[((6, 12, 18, 24), 1), ((3,), 2)], ids=str)
def network(request, slices):
    """A small network whose normalisations do all that trained ones may: scales of both signs, and zero."""
    random = np.random.default_rng(5)
    keras.utils.set_random_seed(0)
    rates, classes = request.param
    model = DilatedGMNet(filters=4, dilation_rates=rates, classes=classes)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (random.normal(size=w.shape) for w in layer.get_weights())
            gamma[0] = 0.0
            layer.set_weights([gamma, beta, mean, 0.5 + variance**2])
    # Probabilities of all sizes, not near one value or saturated.
    probabilities = np.asarray(keras.ops.convert_to_numpy(model(slices)), np.float64)
    logits = np.log(probabilities / (1 - probabilities))
    kernel, bias = model.get_layer("predictions").get_weights()
    model.get_layer("predictions").set_weights([kernel / logits.std(), (bias - logits.mean()) / logits.std()])
    return model


def loaded(model):
    return LoadedNetwork(fold_model(model), lambda: model, model.name)


def opened(model, name, precision="float32"):
    """The function of whole slices, or of regions of them."""
    thresholds = (0.5,) * model.output_shape[-1]
    return open_runtime([loaded(model)], name, precision, thresholds=thresholds).predict.compute


@pytest.mark.parametrize("name", ["keras", *INSTALLED])
def test_probabilities_are_those_of_keras(name, network, slices):
    expected = keras.ops.convert_to_numpy(network(slices))
    assert expected.std() > 0.05
    predict = opened(network, name)
    for part in (slices, slices[:1], slices[:, ::-1, :33]):
        expected = keras.ops.convert_to_numpy(network(np.ascontiguousarray(part)))
        np.testing.assert_allclose(predict(part), expected, atol=1e-4)


@pytest.mark.parametrize("name", INSTALLED)
def test_parts_of_slices(name, network):
    slices = np.random.default_rng(2).normal(size=(2, 150, 140, 1)).astype("float32")
    slices[:, :8] += 50
    predict = opened(network, name)
    np.testing.assert_allclose(predict(slices, slices), predict(slices), atol=1e-6)
    parts = slices[:, 10:140, 8:138]
    found, alone, whole = predict(slices, parts), predict(parts), predict(slices)[:, 10:140, 8:138]
    assert found.shape == (*parts.shape[:3], network.output_shape[-1])
    # So far from the ends of the part only the pooled features can differ.
    middle = np.s_[:, 60:70, 60:70]
    np.testing.assert_allclose(found[middle], whole[middle], atol=2e-5)
    assert np.abs(alone[middle] - whole[middle]).max() > 1e-3


@pytest.mark.parametrize("name", sorted(set(INSTALLED) & set(ON_PROCESSORS_ALONE)))
@pytest.mark.parametrize("in_regions", [False, True])
def test_slices_are_computed_one_by_one(name, in_regions, monkeypatch, network, slices):
    """The feature maps of one take 5 MB a layer, of eight 40 MB."""
    from keras_scgm import runtimes

    shown = []

    def opened_and_watched(*arguments):
        compute = runtimes_open(*arguments)

        def watched(slices, regions=None):
            shown.append([None if array is None else len(array) for array in (slices, regions)])
            return compute(slices, regions)

        return watched

    runtimes_open = runtimes._open
    monkeypatch.setattr(runtimes, "_open", opened_and_watched)
    regions = slices[:, 5:45] if in_regions else None
    together = opened(network, name)(slices, regions)
    assert shown == [[1, 1 if in_regions else None]] * len(slices)
    monkeypatch.undo()
    alone = [
        opened(network, name)(slices[k : k + 1], regions[k : k + 1] if in_regions else None)
        for k in range(len(slices))
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(INSTALLED) & set(WITH_BFLOAT16)))
def test_bfloat16_is_close(name, network, slices):
    expected = opened(network, "keras")(slices)
    reduced = opened(network, name, "bfloat16")(slices)
    assert reduced.dtype == np.float32
    assert np.corrcoef(reduced.ravel(), expected.ravel())[0, 1] > 0.98


def test_the_fast_graph_can_be_part_of_another_and_be_saved(network, slices, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.network = build(network)
    module.half = tf.function(
        lambda slices: 0.5 * module.network(slices),
        input_signature=[tf.TensorSpec((None, None, None, 1), tf.float32)],
    )
    tf.saved_model.save(module, tmp_path / "saved")
    loaded = tf.saved_model.load(tmp_path / "saved")
    expected = 0.5 * keras.ops.convert_to_numpy(network(slices))
    np.testing.assert_allclose(loaded.half(tf.constant(slices)).numpy(), expected, atol=1e-4)
    graph = module.network.__call__.get_concrete_function().graph
    assert "SpaceToBatchND" not in {operation.type for operation in graph.get_operations()}


def rewired(model):
    """The same layers and weights with one branch left out of what it reads."""

    def call(layer, *args, **kwargs):
        if layer.name == "rate3_1":
            return layer(shortcut[0])
        result = layer(*args, **kwargs)
        if layer.name == "dropout_2":
            shortcut.append(result)
        return result

    shortcut = []
    copy = keras.models.clone_model(model, call_function=call)
    copy.set_weights(model.get_weights())
    return copy


def test_a_network_with_the_same_layers_wired_otherwise_is_left_to_keras(slices):
    model = DilatedGMNet(filters=2, dilation_rates=(3,))
    other = rewired(model)
    assert fold_model(model)
    assert fold_model(other) is None
    assert fold_model(DilatedGMNet(filters=2, classifier_activation="tanh")) is None
    assert fold_model(DilatedGMNet(filters=2, classes=2, classifier_activation="softmax")) is None
    expected = keras.ops.convert_to_numpy(other(slices))
    np.testing.assert_allclose(opened(other, "tensorflow")(slices), expected, atol=1e-6)


@pytest.mark.skipif("openvino" not in INSTALLED, reason="the extra openvino is not installed")
def test_openvino_runs_any_network(bright_network, slices):
    expected = keras.ops.convert_to_numpy(bright_network(slices + 5))
    np.testing.assert_allclose(opened(bright_network, "openvino")(slices + 5), expected, atol=1e-5)


IN_TURKISH = """
import locale, sys
import numpy as np
from keras_scgm.export.formats import export_network
from keras_scgm.prediction import Ensemble
letters = locale.setlocale(locale.LC_CTYPE)
assert letters.startswith("tr_TR"), letters
folder, *files = sys.argv[1:]
slices = np.load(f"{folder}/slices.npy")
for file in files:
    compute = Ensemble(file, runtime="openvino").predict.compute
    compute(slices[:, :32])
    np.save(f"{file}.npy", compute(slices))
export_network(files[0], f"{folder}/exported", "openvino")
assert locale.setlocale(locale.LC_CTYPE) == letters
"""


@pytest.mark.skipif("openvino" not in INSTALLED, reason="the extra openvino is not installed")
def test_openvino_computes_in_a_locale_with_another_small_i(tmp_path, bright_network, slices):
    """Of Turkish; the locale is that of a process, which imports TensorFlow once more: 6 s."""
    if not (localedef := shutil.which("localedef")) or not Path("/usr/share/i18n/locales/tr_TR").exists():
        missing("localedef with the locales of Debian's locales")
    subprocess.run([localedef, "-i", "tr_TR", "-f", "UTF-8", tmp_path / "tr_TR.UTF-8"], check=True)
    networks = {"layers": DilatedGMNet(filters=2, dilation_rates=(3,)), "any": bright_network}
    files = [tmp_path / f"{name}.keras" for name in networks]
    for file, model in zip(files, networks.values(), strict=True):
        model.save(file)
    np.save(tmp_path / "slices.npy", slices + 5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    subprocess.run(
        [sys.executable, "-c", IN_TURKISH, tmp_path, *files],
        env={**environment, "LOCPATH": str(tmp_path), "LC_ALL": "tr_TR.UTF-8"},
        check=True,
    )
    for file, model in zip(files, networks.values(), strict=True):
        expected = keras.ops.convert_to_numpy(model(slices + 5))
        np.testing.assert_allclose(np.load(f"{file}.npy"), expected, atol=1e-4)


@pytest.mark.parametrize("weights", ["challenge", "large"])
@pytest.mark.parametrize("name", INSTALLED)
def test_published_weights_give_the_reference_mask(name, weights, published_weights, reference):
    expected = np.load(reference / "expected" / "network_outputs.npz")
    probabilities = Ensemble(weights, runtime=name).predict(expected["slices"])
    mask = expected[weights] > 0.5
    assert dice(probabilities > 0.5, mask) >= 0.9995
    if name == "tensorflow":
        np.testing.assert_array_equal(probabilities > 0.5, mask)
        reduced = Ensemble(weights, runtime=name, precision="bfloat16").predict(expected["slices"])
        assert dice(reduced > 0.5, mask) >= 0.995


def test_weights_files_need_no_keras_model(monkeypatch, published_weights, slices):
    monkeypatch.setattr("keras_scgm.models.load_network", None)
    assert Ensemble("challenge").predict(slices).shape == slices.shape


def test_weights_of_a_training_need_no_keras_model_either(monkeypatch, tmp_path, slices):
    """Their card has the arguments that the training was given, not those that it left out."""
    model = DilatedGMNet(classes=2)
    path = tmp_path / "last.weights.h5"
    model.save_weights(path)
    card = WeightsCard(
        "own", "DilatedGMNet", {"classes": 2}, path.name, sha256_of(path), tissues=("gray_matter", "cord")
    )
    card_path(path).write_text(card.to_json())
    expected = in_cord(keras.ops.convert_to_numpy(model(slices)))
    monkeypatch.setattr("keras_scgm.models.load_network", None)
    network = Ensemble(path)
    assert (network.tissues, network.thresholds) == (("gray_matter", "cord"), (0.5, 0.5))
    np.testing.assert_allclose(network.predict(slices), expected, atol=1e-5)


def two_outputs(activation):
    slices = keras.Input((None, None, 1))
    found = keras.layers.Conv2D(2, 1, activation=activation)(slices)
    return keras.Model(slices, found, name="two")


def test_a_model_of_two_sigmoids_is_gray_matter_and_cord(bright_network):
    assert Ensemble(two_outputs("sigmoid")).tissues == ("gray_matter", "cord")
    assert Ensemble(bright_network).tissues == ("gray_matter",)


def test_classes_that_exclude_each_other_are_refused():
    with pytest.raises(
        InputError, match=r"weights two: the classes exclude each other, .* activation sigmoid"
    ):
        Ensemble(two_outputs("softmax"))


@pytest.mark.parametrize("classes", [1, 2])
def test_logits_are_refused_and_a_change_of_type_is_not(classes):
    slices = keras.Input((None, None, 1))
    logits = keras.layers.Conv2D(classes, 1)(slices)
    with pytest.raises(InputError, match=r"weights ends: the network ends in logits"):
        Ensemble(keras.Model(slices, logits, name="ends"))
    if classes == 1:
        probabilities = keras.layers.Conv2D(classes, 1, activation="sigmoid")(slices)
        cast = keras.layers.Activation("linear", dtype="float32")(probabilities)
        assert Ensemble(keras.Model(slices, cast)).tissues == ("gray_matter",)


def test_a_card_names_all_tissues(tmp_path):
    path = tmp_path / "two.weights.h5"
    DilatedGMNet(classes=2).save_weights(path)
    card_path(path).write_text(
        WeightsCard("two", "DilatedGMNet", {"classes": 2}, path.name, sha256_of(path)).to_json()
    )
    with pytest.raises(InputError, match="weights two: 2 classes, of which the card names 1"):
        Ensemble(path)


def test_an_ensemble_has_one_set_of_tissues(bright_network):
    with pytest.raises(
        InputError, match=r"different tissues .* \(bright: gray matter; two: gray matter and cord\)"
    ):
        Ensemble([bright_network, two_outputs("sigmoid")])


def test_the_record_names_the_runtime(phantom):
    model = DilatedGMNet(filters=2)
    record = segment(phantom, model, runtime="tensorflow", precision="bfloat16").record
    assert record["runtime"].startswith("tensorflow 2.")
    assert record["runtime"].endswith(", bfloat16")
    assert Segmenter(model).provenance["runtime"].split()[0] == default_on_a_processor()


def default_on_a_processor():
    return "openvino" if "openvino" in INSTALLED else "onnxruntime"


@pytest.mark.parametrize("name", INSTALLED)
def test_the_version_is_that_of_the_module_whatever_the_distribution_is_called(name, network, monkeypatch):
    def not_found(distribution):
        raise importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(importlib.metadata, "version", not_found)
    monkeypatch.setattr(importlib.metadata, "distribution", not_found)
    runtime = open_runtime([loaded(network)], name)
    assert runtime.version == importlib.import_module(name).__version__.partition("-")[0]


def test_the_default_runtime(monkeypatch, tmp_path, bright_network):
    model = DilatedGMNet(filters=2)

    def default(model, precision="float32"):
        return Ensemble(model, precision=precision).runtime.split()[0]

    assert default(model) == default_on_a_processor()
    assert default(bright_network) == default([model, bright_network]) == "keras"
    monkeypatch.setattr("keras_scgm.runtimes.has_openvino", lambda: False)
    assert default(model) == "onnxruntime"
    assert default(model, "bfloat16") == "tensorflow"
    monkeypatch.setattr("keras_scgm.runtimes.NVIDIA_DRIVER", tmp_path)
    assert default(model) == "tensorflow"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "theano"}, "runtime must be one of auto, onnxruntime, .* received 'theano'"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, received 'int8'"),
        ({"runtime": "keras", "precision": "bfloat16"}, "runtime keras computes in float32 only"),
        ({"runtime": "onnxruntime", "precision": "bfloat16"}, "runtime onnxruntime computes in float32 only"),
    ],
)
def test_refusals(settings, message, phantom):
    with pytest.raises(InputError, match=message):
        segment(phantom, DilatedGMNet(filters=2), **settings)


def test_a_runtime_that_is_not_installed_says_how_to_install_it(monkeypatch, phantom):
    monkeypatch.setattr("keras_scgm.runtimes.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'keras-scgm\[openvino\]'"):
        segment(phantom, DilatedGMNet(filters=2), runtime="openvino")


def test_other_networks_are_refused_where_they_cannot_run(bright_network):
    with pytest.raises(InputError, match="bright runs in float32 only with TensorFlow"):
        Ensemble(bright_network, runtime="tensorflow", precision="bfloat16")
    with pytest.raises(InputError, match="runtime onnxruntime cannot run the network bright"):
        Ensemble(bright_network, runtime="onnxruntime")


@pytest.mark.skipif("openvino" not in INSTALLED, reason="the extra openvino is not installed")
def test_openvino_sends_no_usage_data():
    """Neither now nor at a conversion, and a user who has asked for the telemetry can import it."""
    program = (
        "import sys, keras_scgm.runtimes; assert 'openvino_telemetry' not in sys.modules;"
        "import keras_scgm.runtimes.openvino_network, openvino.tools.ovc.convert_impl as convert;"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')];"
        "assert convert.tm is sys.modules['openvino.tools.ovc.utils'].tm;"
        "print(type(sys.modules['openvino.tools.ovc'].telemetry).__module__, convert.tm.__name__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["openvino.tools.ovc.telemetry_stub"] * 2), (
        done.stderr
    )
