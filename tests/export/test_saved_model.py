"""The files and the signatures of an export."""

import gzip
import itertools
import json
import os
from operator import attrgetter
from types import SimpleNamespace

import keras
import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from served_model import GOOD, check_answer, stored
from tensorflow.core.protobuf import saved_model_pb2

from keras_scgm import InputError, UNet, segment
from keras_scgm.export import saved_model
from keras_scgm.export.graph import answer
from keras_scgm.export.graph.network import SLICES_ON_GPU
from keras_scgm.export.warmup import WarmupRequest, read_warmup, write_warmup
from keras_scgm.localization import MIN_PROBES


def test_files_of_different_shapes_in_one_request(served, blob_image):
    images = [
        blob_image(shape=shape, center_mm=(10, 10), radius_mm=1.5) for shape in ((44, 39, 3), (50, 60, 5))
    ]
    both = served(*(image.to_bytes() for image in images))
    alone = [served(image.to_bytes()) for image in images]
    assert both["mask_bytes"].tolist() == [one["mask_bytes"][0] for one in alone]
    assert both["area_mm2"].shape == (2, 5)
    np.testing.assert_array_equal(both["area_mm2"][0], [*alone[0]["area_mm2"][0], 0, 0])
    assert both["n_slices"].tolist() == [3, 5]
    assert both["slice_reason"].shape == (2, 5)
    assert both["slice_verdict"][0, 3:].tolist() == [b"", b""]


def test_more_files_than_a_request_may_hold(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 2 files"):
        served(*[GOOD] * 3)


def test_a_request_without_files_is_refused(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="no file in the request"):
        served()


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_soft_output(served, bright_network, small, tmp_path, byte_order):
    (tmp_path / "image.nii").write_bytes(stored(small, "f4", byte_order))
    expected = segment(tmp_path / "image.nii", bright_network)
    expected.volume.write_result(tmp_path / "soft.nii", expected.probability_voxels)
    soft = served((tmp_path / "image.nii").read_bytes(), signature="soft")
    check_answer(soft, expected)
    expected.volume.write_result(tmp_path / "mask.nii", expected.mask_voxels)
    assert soft["mask_bytes"][0] == (tmp_path / "mask.nii").read_bytes()
    (got,) = soft["probability_bytes"]
    assert got[:352] == (tmp_path / "soft.nii").read_bytes()[:352]
    got = np.asarray(nib.Nifti1Image.from_bytes(got).dataobj)
    np.testing.assert_allclose(got, expected.probability_voxels, atol=1e-6)
    assert got.max() > 0.9


def test_slices(served, bright_network):
    signatures = tf.saved_model.load(str(served.models.slices)).signatures
    slices = np.random.default_rng(0).normal(3, 3, (18, 200, 200, 1)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(bright_network(slices))
    outputs = signatures["serving_default"](slices=tf.constant(slices))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["mask"], expected > 0.5)
    assert outputs["mask"].dtype == tf.uint8

    unit = (slices[:2] - slices[:2].mean((1, 2, 3), keepdims=True)) / slices[:2].std((1, 2, 3), keepdims=True)
    raw = signatures["raw"](slices=tf.constant(1000 * slices[:2] - 7))["probabilities"]
    np.testing.assert_allclose(raw, bright_network(unit), atol=1e-4)
    assert not np.any(signatures["raw"](slices=tf.fill((1, 200, 200, 1), 5.0))["mask"])

    broken = slices[:1].copy()
    broken[0, 5, 5] = np.nan
    mended = np.where(np.isnan(broken), np.nanmean(broken), broken)
    outputs = signatures["serving_default"](slices=tf.constant(broken))
    np.testing.assert_allclose(outputs["probabilities"], bright_network(mended), atol=1e-6)
    assert signatures["serving_default"](slices=tf.zeros((0, 200, 200, 1)))["mask"].shape == (0, 200, 200, 1)


@pytest.mark.parametrize("name", ["gm_slices", "gm_nifti"])
def test_a_session_runs_an_export(two_networks, name):
    """As a server does: from the file alone, without eager execution; so are the others in the tests of a GPU."""
    folder = two_networks[1].models.slices if name == "gm_slices" else two_networks[1].models.nifti
    feeds = {"gm_slices": np.zeros((2, 200, 200, 1), np.float32), "gm_nifti": np.array([GOOD], object)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signatures = {key for key in meta_graph.signature_def if not key.startswith("__")}
        assert signatures == {"serving_default", "raw" if name == "gm_slices" else "soft"}
        signature = meta_graph.signature_def["serving_default"]
        (given,) = signature.inputs.values()
        fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
        for key, value in session.run(fetches, {given.name: feeds[name]}).items():
            assert len(value) == len(feeds[name]), key
        if name == "gm_slices":
            (output, *_) = fetches.values()
            for wrong in (np.zeros((200, 200, 1)), np.zeros((1, 100, 100, 1)), np.zeros((1, 200, 200, 3))):
                with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
                    session.run(output, {given.name: wrong})


def test_names_and_types_of_the_signatures(served):
    nifti = served.loaded.signatures["serving_default"]
    assert nifti.structured_input_signature[1] == {
        "nifti_bytes": tf.TensorSpec([None], tf.string, "nifti_bytes")
    }
    outputs = {name: (config.dtype, len(config.shape)) for name, config in nifti.structured_outputs.items()}
    expected = {
        "mask_bytes": (tf.string, 1),
        "provenance": (tf.string, 1),
        **dict.fromkeys(answer.TEXTS, (tf.string, 1)),
        **{name: (dtype, 1) for name, dtype in answer.NUMBERS.items()},
        **dict.fromkeys(answer.SLICE_TEXTS, (tf.string, 2)),
        **{name: (dtype, 2) for name, dtype in answer.SLICE_NUMBERS.items()},
    }
    assert outputs == expected
    slices = tf.saved_model.load(str(served.models.slices)).signatures["serving_default"]
    assert slices.structured_input_signature[1] == {
        "slices": tf.TensorSpec([None, 200, 200, 1], tf.float32, "slices")
    }
    outputs = {
        name: (config.dtype, config.shape.as_list()) for name, config in slices.structured_outputs.items()
    }
    shape = [None, 200, 200, 1]
    assert outputs == {"probabilities": (tf.float32, shape), "mask": (tf.uint8, shape)}


def test_names_and_types_of_a_cord(served_cord):
    nifti = served_cord.loaded.signatures
    outputs = {name: set(nifti[name].structured_outputs) for name in ("serving_default", "soft")}
    assert {"mask_bytes", "cord_bytes", *answer.CORD_NUMBERS} <= outputs["serving_default"]
    assert outputs["soft"] - outputs["serving_default"] == {"probability_bytes", "cord_probability_bytes"}
    slices = tf.saved_model.load(str(served_cord.models.slices)).signatures["serving_default"]
    outputs = {
        name: (config.dtype, config.shape.as_list()) for name, config in slices.structured_outputs.items()
    }
    shape = [None, 200, 200, 2]
    assert outputs == {"probabilities": (tf.float32, shape), "mask": (tf.uint8, shape)}


def test_slices_of_two_tissues(served_cord, dilated_cord_network):
    signatures = tf.saved_model.load(str(served_cord.models.slices)).signatures
    slices = np.random.default_rng(0).normal(2, 2, (3, 200, 200, 1)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(dilated_cord_network(slices))
    outputs = signatures["serving_default"](slices=tf.constant(slices))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-4)
    np.testing.assert_array_equal(outputs["mask"], outputs["probabilities"].numpy() > 0.5)
    empty = signatures["serving_default"](slices=tf.zeros((0, 200, 200, 1)))
    assert empty["mask"].shape == (0, 200, 200, 2)


def nodes(folder):
    content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    functions = attrgetter("library.function")(content.meta_graphs[0].graph_def)
    return [node for function in functions for node in function.node_def]


def test_graphs_hold_what_any_server_runs(two_networks):
    for folder in (two_networks[1].models.slices, two_networks[1].models.nifti):
        kinds = {node.op for node in nodes(folder)}
        assert "Conv2D" in kinds
        assert not [kind for kind in kinds if "PyFunc" in kind or "SpaceToBatch" in kind or "XLA" in kind]
        assert not [node for node in nodes(folder) if "_XlaMustCompile" in node.attr]
        # Each network once, whatever the number of signatures.
        assert len([node for node in nodes(folder) if node.op == "Conv2D"]) == 12
    dilations = [list(node.attr["dilations"].list.i) for node in nodes(folder) if node.op == "Conv2D"]
    assert dilations.count([1, 6, 6, 1]) == 2


def test_every_export_is_a_new_version(served, bright_network, monkeypatch):
    root = served.models.slices.parents[1]
    assert (served.models.version, served.models.dsc) == (1, 1.0)
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    monkeypatch.setattr(
        saved_model, "_save", lambda folder, *_: (folder / "assets.extra").mkdir(parents=True)
    )
    monkeypatch.setattr(saved_model, "_dsc_with_segment", lambda *_: 0.99)
    with pytest.raises(InputError, match=r"DSC of only 0\.9900, below 0\.999"):
        saved_model.export_saved_model(bright_network, root)
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before
    monkeypatch.setattr(saved_model, "_dsc_with_segment", lambda *_: 1.0)
    (root / "gm_nifti" / "7").mkdir()
    assert saved_model.export_saved_model(bright_network, root).version == 8
    assert sorted(path.name for path in (root / "gm_slices").iterdir()) == ["1", "8"]
    assert not list(root.glob(".*"))


def test_a_number_that_another_export_has_just_taken(tmp_path, monkeypatch):
    staging = tmp_path / "staging"
    for name in ("gm_slices", "gm_nifti"):
        (staging / name).mkdir(parents=True)
    rename = os.rename

    def late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        (target / "variables").mkdir(parents=True)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert saved_model._publish(staging, tmp_path) == 2
    assert sorted(path.name for path in (tmp_path / "gm_slices").iterdir()) == ["1", "2"]
    assert [path.name for path in (tmp_path / "gm_nifti").iterdir()] == ["2"]


def test_full_disk(tmp_path, full_disk):
    network = SimpleNamespace(weights=[tf.Variable(tf.zeros(1000))])
    request = WarmupRequest({"slices": np.arange(1000, dtype=np.float32)})
    with full_disk():
        with pytest.raises(OSError, match=r"^File too large$"):
            saved_model._save(tmp_path / "model", {}, network, "{}")
        with pytest.raises(InputError, match=r"writing failed \(File too large\); free space"):
            write_warmup(tmp_path, "gm_slices", [request])
    assert not list(tmp_path.glob("assets.extra/*"))


def test_card_and_warm_up_are_in_the_folder(two_networks):
    for folder in (two_networks[1].models.slices, two_networks[1].models.nifti):
        card = json.loads((folder / saved_model.CARD_FILE).read_text())
        assert (card["threshold"], card["precision"], len(card["weights"])) == (0.3, "float32", 2)
        of_slices = folder.parent.name == "gm_slices"
        assert (folder / "batching_params.pbtxt").exists() == of_slices
        requests = read_warmup(folder)
        signatures = ["serving_default", "raw" if of_slices else "soft"]
        assert {request.signature for request in requests} == set(signatures)
        if of_slices:
            shown = [(request.signature, len(request.inputs["slices"])) for request in requests]
            assert shown == list(itertools.product(signatures, saved_model.BATCHES))
        else:
            n_slices = [
                nib.Nifti1Image.from_bytes(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).shape[
                    2
                ]
                for data in (request.inputs["nifti_bytes"][0] for request in requests)
            ]
            assert n_slices[-2:] == [MIN_PROBES + sum(SLICES_ON_GPU)] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "precision must be one of"),
        ({"window": (1.0, 2.0)}, "window must be one of auto, center"),
        ({"threshold": 2.0}, "threshold must be a number above 0 and below 1"),
        ({"precision": "float16"}, "exported in float32 only"),
        ({"path": "/dev/null/models"}, "writing failed"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        saved_model.export_saved_model(UNet(filters=2), **{"path": tmp_path, **options})
    assert not list(tmp_path.iterdir())
