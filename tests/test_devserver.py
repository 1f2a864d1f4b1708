"""The server's interfaces, on the development stand-in or on a real TensorFlow Serving.

The stand-in serves the small models of `tiny_serving`. If the binary `tensorflow_model_server` is installed it
serves them instead; with `TF_SERVING_URL` (and `TF_SERVING_GRPC`, host:port) the requests go to a server that
already has models of keras-scgm.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from keras_scgm_devserver import server as dev_server
from keras_scgm_devserver.rest_format import FormatError, format_outputs, parse_document, parse_inputs
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tiny_serving import THRESHOLD, nifti_bytes, random_voxels, save_tiny_models

from keras_scgm.errors import InputError
from keras_scgm.export.warmup import WARMUP_FILE, WarmupRequest, read_warmup, write_warmup

REAL_SERVER = shutil.which("tensorflow_model_server")
NIFTI = "/v1/models/gm_nifti"
SLICES = "/v1/models/gm_slices"
NO_SIGNATURE = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
)
"""The server's code for an unknown signature has changed over its versions."""


@dataclass
class Server:
    rest_url: str
    grpc_address: str
    is_tiny: bool = True


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models):
    """Whatever answers: a server named in the environment, the real binary, or the stand-in."""
    if os.environ.get("TF_SERVING_URL"):
        yield Server(os.environ["TF_SERVING_URL"], os.environ.get("TF_SERVING_GRPC", "localhost:8500"), False)
    elif REAL_SERVER:
        with real_server(models) as started:
            yield started
    else:
        with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as address:
            yield Server(address.rest_url, address.grpc)


@contextmanager
def real_server(models):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    config = models / "models.config"
    entries = (
        f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "tensorflow" }}'
        for name in ("gm_nifti", "gm_slices")
    )
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    command = [
        REAL_SERVER,
        f"--rest_api_port={ports[0]}",
        f"--port={ports[1]}",
        f"--model_config_file={config}",
    ]
    process = subprocess.Popen([*command, "--enable_grpc_healthcheck_service=true"])
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}{NIFTI}").close()
                break
            except OSError:
                time.sleep(0.2)
        yield Server(f"http://127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def rest(server):
    """Sends a request: (status, JSON)."""

    def send(path, document=None):
        body = document if document is None or isinstance(document, bytes) else json.dumps(document).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(server.rest_url + path, body)) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return send


@pytest.fixture(scope="module")
def channel(server):
    unlimited = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, unlimited) as opened:
        yield opened


@pytest.fixture(scope="module")
def predict(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def call(model, signature="", version=None, outputs=(), **inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        request.output_filter.extend(outputs)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return stub.Predict(request, timeout=60)

    return call


def encoded(data):
    return {"b64": base64.b64encode(data).decode()}


VOXELS = random_voxels(0)
IMAGE = nifti_bytes(VOXELS, compress=True)


def test_nifti_by_column_and_by_row_and_over_grpc_are_the_same(server, rest, predict):
    status, by_column = rest(f"{NIFTI}:predict", {"inputs": {"nifti_bytes": [encoded(IMAGE)]}})
    assert status == 200
    mask = base64.b64decode(by_column["outputs"]["mask_bytes"][0]["b64"])
    status, by_row = rest(f"{NIFTI}:predict", {"instances": [encoded(IMAGE)]})
    assert status == 200
    assert base64.b64decode(by_row["predictions"][0]["mask_bytes"]["b64"]) == mask
    status, by_name = rest(f"{NIFTI}:predict", {"instances": [{"nifti_bytes": encoded(IMAGE)}]})
    assert (status, by_name) == (200, by_row)
    response = predict("gm_nifti", nifti_bytes=[IMAGE])
    assert response.outputs["mask_bytes"].string_val[0] == mask
    np.testing.assert_allclose(
        tf.make_ndarray(response.outputs["area_mm2"]).ravel(),
        np.ravel(by_column["outputs"]["area_mm2"]),
        rtol=1e-6,
    )
    assert mask[40:48] == nifti_bytes(VOXELS)[40:48]
    if server.is_tiny:
        stored = np.frombuffer(mask[352:], np.uint8).reshape(VOXELS.shape, order="F")
        np.testing.assert_array_equal(stored, VOXELS > THRESHOLD)
        np.testing.assert_array_equal(tf.make_ndarray(response.outputs["area_mm2"])[0], stored.sum((0, 1)))


def test_answers_say_which_version_gave_them(predict):
    config = predict("gm_nifti", nifti_bytes=[IMAGE]).model_spec
    assert (config.name, config.version.value >= 1, config.signature_name) == (
        "gm_nifti",
        True,
        "serving_default",
    )


def test_status(rest, channel):
    status, answer = rest(NIFTI)
    assert status == 200
    (version,) = answer["model_version_status"]
    assert (version["state"], version["status"]["error_code"]) == ("AVAILABLE", "OK")
    assert rest(f"{NIFTI}/versions/{version['version']}") == (200, answer)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "gm_nifti"
    (over_grpc,) = (
        model_service_pb2_grpc.ModelServiceStub(channel)
        .GetModelStatus(request, timeout=10)
        .model_version_status
    )
    assert (str(over_grpc.version), over_grpc.state) == (version["version"], 30)


def test_metadata(rest, channel):
    status, answer = rest(f"{NIFTI}/metadata")
    assert status == 200
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["nifti_bytes"]["dtype"] == "DT_STRING"
    assert {"mask_bytes", "area_mm2", "warnings"} <= set(signature["outputs"])
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "gm_nifti"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    packed = stub.GetModelMetadata(request, timeout=10).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    assert set(signatures.signature_def["serving_default"].inputs) == {"nifti_bytes"}


def test_health(channel):
    checks = health_pb2_grpc.HealthStub(channel)
    answer = checks.Check(health_pb2.HealthCheckRequest(service="PredictionService"), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (f"{NIFTI}:predict", b"", 400, "JSON Parse error"),
        (f"{NIFTI}:predict", b"no json", 400, "JSON Parse error"),
        (f"{NIFTI}:predict", {"inputs": {"image": ["x"]}}, 400, "Missing named input: nifti_bytes"),
        (f"{NIFTI}:predict", b'{"inputs": ["\\ud800"]}', 400, "JSON Parse error"),
        (f"{NIFTI}:predict", {"other": 1}, 400, "'inputs' or 'instances'"),
        (f"{NIFTI}:predict", {"inputs": [{"b64": "%"}]}, 400, "Unable to base64 decode"),
        (f"{NIFTI}:predict", {"inputs": [1.5]}, 400, "not of expected type: string"),
        (f"{NIFTI}:predict", {"inputs": [encoded(b"text")]}, 400, ""),
        (f"{NIFTI}:predict", {"inputs": [encoded(nifti_bytes(VOXELS)[:-1])]}, 400, ""),
        (f"{NIFTI}:predict", {"inputs": [encoded(IMAGE)], "signature_name": "no"}, 400, '"no" not found'),
        (f"{SLICES}:predict", {"instances": [[1.0, 2.0]]}, 400, ""),
        (f"{SLICES}:predict", {"instances": [["a"]]}, 400, "not of expected type: float"),
        ("/v1/models/none:predict", {"inputs": [encoded(IMAGE)]}, 404, "Servable not found for request: Latest(none)"),
        (f"{NIFTI}/versions/99:predict", {"inputs": [encoded(IMAGE)]}, 404, "Specific(gm_nifti, 99)"),
        (f"{NIFTI}/labels/none:predict", {"inputs": [encoded(IMAGE)]}, 400, "version label: none"),
        ("/v1/models/none", None, 404, "Could not find any versions of model none"),
        (f"{NIFTI}/versions/99", None, 404, "Could not find version 99 of model gm_nifti"),
        ("/v1/nothing", None, 400, "Malformed request: GET /v1/nothing"),
    ],
)  # fmt: skip
def test_errors_over_rest_and_the_next_request_works(rest, path, body, status, message):
    got, answer = rest(path, body)
    assert got == status
    assert message in answer["error"]
    assert rest(f"{NIFTI}:predict", {"inputs": [encoded(IMAGE)]})[0] == 200


def test_a_fault_of_the_server_is_answered_and_logged(models, monkeypatch, capfd):
    def broken(*_):
        raise RuntimeError("a fault\nof ours")

    catalogue = dev_server.Catalogue.load(models)
    monkeypatch.setattr(dev_server.ModelVersion, "predict", broken)
    body = json.dumps({"instances": [{"b64": base64.b64encode(b"x").decode()}]}).encode()
    with dev_server.serve(catalogue, rest_port=0, grpc_port=0) as address:
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(urllib.request.Request(f"{address.rest_url}{NIFTI}:predict", body))
        message = json.load(raised.value)["error"]
        with grpc.insecure_channel(address.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "gm_nifti"
            with pytest.raises(grpc.RpcError) as over_grpc:
                stub.Predict(request, timeout=20)
        with socket.create_connection(tuple(address.rest_url.removeprefix("http://").split(":"))) as gone:
            gone.send(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
    assert raised.value.code == 500
    assert over_grpc.value.code() == grpc.StatusCode.INTERNAL
    assert over_grpc.value.details() == message
    start, log = message.split("; please report it with ")
    assert start == "stand-in server: RuntimeError: a fault of ours"
    assert Path(log).read_text().count("in broken") >= 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith(("I0", "E0", "W0"))]
    assert lines == [f"error: {message}"] * 2


def place_of(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def test_slow_callers_hold_no_threads_and_are_dropped(models):
    """Some send half a request line, some half a body, some nothing; the others are answered nevertheless."""
    catalogue = dev_server.Catalogue.load(models)
    starts = (b"", b"GET /v1/mod", b"POST /v1/models/gm_nifti:predict HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
    limits = dev_server.Limits(connections=60, idle_seconds=2)
    with dev_server.serve(catalogue, rest_port=0, grpc_port=0, limits=limits) as address, ExitStack() as held:
        before = threading.active_count()
        slow = []
        for k in range(200):
            one = held.enter_context(socket.create_connection(place_of(address.rest_url), timeout=30))
            one.sendall(starts[k % 3])
            slow.append(one)
        for _ in range(200):
            held.enter_context(socket.create_connection(place_of(f"http://{address.grpc}"), timeout=30))
        assert threading.active_count() < before + 40
        started = time.monotonic()
        with urllib.request.urlopen(address.rest_url + NIFTI, timeout=50) as reply:
            assert reply.status == 200
        assert time.monotonic() - started < 40
        with grpc.insecure_channel(address.grpc) as channel:
            checks = health_pb2_grpc.HealthStub(channel)
            assert checks.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        assert slow[0].recv(1) == b"", "closed by the server"


def test_bodies_over_the_limit_are_refused_before_they_are_read(models):
    catalogue = dev_server.Catalogue.load(models)
    limits = dev_server.Limits(body_bytes=3000)
    with dev_server.serve(catalogue, rest_port=0, grpc_port=0, limits=limits) as address:
        with socket.create_connection(place_of(address.rest_url), timeout=30) as one:
            one.sendall(b"POST /v1/models/gm_nifti:predict HTTP/1.1\r\nContent-Length: 3001\r\n\r\n")
            assert one.recv(12) == b"HTTP/1.1 413"
        body = json.dumps({"inputs": [encoded(IMAGE)]}).encode().ljust(3000)
        with urllib.request.urlopen(f"{address.rest_url}{NIFTI}:predict", body) as reply:
            assert reply.status == 200
        with grpc.insecure_channel(address.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "gm_nifti"
            request.inputs["nifti_bytes"].CopyFrom(tf.make_tensor_proto([bytes(4000)]))
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request, timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("layout", ["inputs", "instances"])
def test_an_only_output_has_no_name(tmp_path, layout):
    """As in TensorFlow Serving's json_tensor.cc; clients of the `soft` signature of old exports met that."""
    catalogue = dev_server.Catalogue.load(save_tiny_models(tmp_path, is_old=True))
    body = json.dumps({"signature_name": "soft", layout: [encoded(IMAGE)]}).encode()
    with (
        dev_server.serve(catalogue, rest_port=0, grpc_port=0) as address,
        urllib.request.urlopen(f"{address.rest_url}{NIFTI}:predict", body) as reply,
    ):
        answer = json.load(reply)
    (file,) = answer["outputs" if layout == "inputs" else "predictions"]
    assert base64.b64decode(file["b64"])[344:347] == b"n+1"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"model": "none", "nifti_bytes": [IMAGE]}, grpc.StatusCode.NOT_FOUND),
        ({"model": "gm_nifti", "version": 99, "nifti_bytes": [IMAGE]}, grpc.StatusCode.NOT_FOUND),
        ({"model": "gm_nifti", "signature": "no", "nifti_bytes": [IMAGE]}, None),
        ({"model": "gm_nifti", "image": [IMAGE]}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "gm_nifti", "nifti_bytes": np.zeros(3, np.float32)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "gm_nifti", "nifti_bytes": [b""]}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "gm_nifti", "nifti_bytes": [IMAGE], "outputs": ["no"]}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "gm_slices", "slices": np.zeros((4, 4, 1), np.float32)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "gm_slices", "slices": np.zeros((1, 4, 4, 1))}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_errors_over_grpc_and_the_next_request_works(predict, request_, code):
    with pytest.raises(grpc.RpcError) as caught:
        predict(**request_)
    assert caught.value.code() in ((code,) if code else NO_SIGNATURE)
    assert predict("gm_nifti", nifti_bytes=[IMAGE]).outputs["mask_bytes"].string_val


def test_outputs_can_be_chosen(predict):
    assert set(predict("gm_nifti", nifti_bytes=[IMAGE], outputs=["area_mm2"]).outputs) == {"area_mm2"}


def test_batches_of_slices(server, rest, predict):
    if not server.is_tiny:
        pytest.skip("sizes of the tiny model")
    slices = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    status, answer = rest(f"{SLICES}:predict", {"instances": slices.tolist()})
    assert status == 200
    response = predict("gm_slices", slices=slices)
    by_row = np.array([row["probabilities"] for row in answer["predictions"]], np.float32)
    np.testing.assert_array_equal(by_row.ravel(), response.outputs["probabilities"].float_val)
    np.testing.assert_allclose(by_row, 1 / (1 + np.exp(-slices)), rtol=1e-5)
    np.testing.assert_array_equal(response.outputs["mask"].int_val, by_row.ravel() > 0.5)


def test_answers_over_the_clients_default_limit(server):
    """What every gRPC user meets: 4 MiB is the limit of the client, not of the server."""
    if not server.is_tiny:
        pytest.skip("sizes of the tiny model")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "gm_nifti"
    image = nifti_bytes(np.zeros((2000, 2200, 1), np.uint8), compress=True)
    request.inputs["nifti_bytes"].CopyFrom(tf.make_tensor_proto([image]))
    with grpc.insecure_channel(server.grpc_address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in caught.value.details()


# --- the stand-in itself ----------------------------------------------------------------------------------


def test_versions_policies_and_labels(tmp_path):
    save_tiny_models(tmp_path, 1, threshold=100)
    save_tiny_models(tmp_path, 2, threshold=200)
    assert set(dev_server.Catalogue.load(tmp_path).models["gm_nifti"].versions) == {2}
    assert set(dev_server.Catalogue.load(tmp_path / "gm_nifti").models) == {"gm_nifti"}
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "gm" base_path: "/models/gm_nifti" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 1 versions: 2 } } "
        'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } } }'
    )
    catalogue = dev_server.Catalogue.load(tmp_path, config)
    image = {"nifti_bytes": np.array([IMAGE], object)}
    for label, threshold in (("stable", 100), ("canary", 200), ("", 200)):
        areas = catalogue.version("gm", label=label).predict("", image)["area_mm2"]
        np.testing.assert_array_equal(areas[0], (threshold < VOXELS).sum((0, 1)))
    assert [status.version for status in catalogue.status("gm").model_version_status] == [2, 1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("model_config_list {", "no models.config of TensorFlow Serving"),
        ("", "names no model"),
        (
            'model_config_list { config { name: "gm" base_path: "/models/none" } }',
            "holds no numbered version of gm",
        ),
        (
            'model_config_list { config { name: "gm" base_path: "/models/gm_nifti" '
            "model_version_policy { specific { versions: 7 } } } }",
            "version 7 of gm is not there",
        ),
    ],
)
def test_configurations_that_cannot_be_served(models, tmp_path, config, message):
    (tmp_path / "models.config").write_text(config)
    with pytest.raises(InputError, match=message):
        dev_server.Catalogue.load(models, tmp_path / "models.config")


def test_folders_that_cannot_be_served(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        dev_server.Catalogue.load(tmp_path / "none")
    with pytest.raises(InputError, match="holds no model with a numbered version"):
        dev_server.Catalogue.load(tmp_path)
    (tmp_path / "gm" / "1").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be loaded"):
        dev_server.Catalogue.load(tmp_path)


def test_a_failing_warm_up_request_stops_the_load(tmp_path):
    folder = save_tiny_models(tmp_path) / "gm_nifti" / "1"
    write_warmup(folder, "gm_nifti", [WarmupRequest({"nifti_bytes": np.array([b"no image"], object)})])
    with pytest.raises(InputError, match="a warm-up request fails"):
        dev_server.Catalogue.load(tmp_path)


def test_ports_that_are_taken(models):
    catalogue = dev_server.Catalogue({})
    with dev_server.serve(catalogue, rest_port=0, grpc_port=0) as first:
        port = int(first.rest_url.rsplit(":", 1)[1])
        with (
            pytest.raises(InputError, match="--rest-port"),
            dev_server.serve(catalogue, rest_port=port, grpc_port=0),
        ):
            pass
        port = int(first.grpc.rsplit(":", 1)[1])
        with (
            pytest.raises(InputError, match="--grpc-port"),
            dev_server.serve(catalogue, rest_port=0, grpc_port=port),
        ):
            pass


def test_warm_up_records_are_the_servers(tmp_path):
    requests = [
        WarmupRequest({"slices": np.zeros((8, 200, 200, 1), np.float32)}),
        WarmupRequest({"nifti_bytes": np.array([IMAGE], object)}, "soft"),
        WarmupRequest({"slices": np.arange(6, dtype=np.float32).reshape(2, 3)}),
    ]
    path = write_warmup(tmp_path, "gm_nifti", requests)
    assert path == tmp_path / WARMUP_FILE
    assert [file.name for file in path.parent.iterdir()] == ["tf_serving_warmup_requests"]
    assert path.stat().st_size < 2000, "constant slices are one number"
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    for record, request, again in zip(records, requests, read_warmup(tmp_path), strict=True):
        official = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert official.model_spec.name == "gm_nifti"
        assert official.model_spec.signature_name == request.signature == again.signature
        for name, array in request.inputs.items():
            np.testing.assert_array_equal(tf.make_ndarray(official.inputs[name]), array)
            np.testing.assert_array_equal(again.inputs[name], array)
    assert read_warmup(tmp_path / "none") == []
    with pytest.raises(ValueError, match="requests must be 1 to 1000, received 0"):
        write_warmup(tmp_path, "gm_nifti", [])


def test_the_command_serves_until_it_is_told_to_stop(models):
    script = "from keras_scgm_cli.main import main; main()"
    command = [sys.executable, "-c", script, "serve", str(models), "--rest-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[:2] == ["gm_nifti: version 1\n", "gm_slices: version 1\n"]
        assert lines[2].startswith(
            "keras_scgm development stand-in, not TensorFlow Serving; REST http://127.0.0.1:"
        )
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


# --- JSON -------------------------------------------------------------------------------------------------

FLOATS = {"slices": np.dtype(np.float32)}
STRINGS = {"nifti_bytes": np.dtype(object)}


@pytest.mark.parametrize(
    ("document", "dtypes", "expected"),
    [
        ({"inputs": [[1, 2.5]]}, FLOATS, [[1, 2.5]]),
        ({"inputs": {"slices": 3}}, FLOATS, 3),
        ({"instances": [[1], [2]]}, FLOATS, [[1], [2]]),
        ({"instances": [{"slices": [1]}, {"slices": [2]}]}, FLOATS, [[1], [2]]),
        ({"inputs": "text"}, STRINGS, b"text"),
        ({"inputs": {"b64": "AAE="}}, STRINGS, b"\0\1"),
        ({"instances": [{"b64": "AAE="}, "x"]}, STRINGS, [b"\0\1", b"x"]),
        ({"inputs": []}, STRINGS, []),
    ],
)
def test_requests_to_arrays(document, dtypes, expected):
    arrays, layout = parse_inputs(document, dtypes)
    ((name, array),) = arrays.items()
    assert array.dtype == dtypes[name]
    assert layout == ("row" if "instances" in document else "column")
    np.testing.assert_array_equal(array, np.array(expected, dtypes[name]))


@pytest.mark.parametrize(
    ("document", "dtypes"),
    [
        ({"inputs": [1], "instances": [1]}, FLOATS),
        ({"instances": []}, FLOATS),
        ({"instances": 1}, FLOATS),
        ({"inputs": [[1], [2, 3]]}, FLOATS),
        ({"inputs": [True]}, FLOATS),
        ({"inputs": [1e300]}, FLOATS),
        ({"inputs": [None]}, FLOATS),
        ({"inputs": [1.5]}, {"n": np.dtype(np.int32)}),
        ({"inputs": [1]}, {**FLOATS, **STRINGS}),
        ({"instances": [1]}, {**FLOATS, **STRINGS}),
        ({"instances": [{"slices": 1}, 2]}, FLOATS),
        ({"instances": [{"other": 1}]}, FLOATS),
        ({"inputs": [["a"], "b"]}, STRINGS),
        ({"inputs": ["a", ["b"]]}, STRINGS),
        ({"inputs": [["a"], ["b", "c"]]}, STRINGS),
        ({"inputs": [{"b64": 1}]}, STRINGS),
    ],
)
def test_requests_that_are_refused(document, dtypes):
    with pytest.raises(FormatError):
        parse_inputs(document, dtypes)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"{",
        b'{"signature_name": 1}',
        b"[" * 100_000,
        b'{"inputs": "\\ud800"}',
        b'{"\\udc00": 1}',
    ],
)
def test_bodies_that_are_refused(body):
    with pytest.raises(FormatError):
        parse_document(body)


def test_arrays_to_answers():
    file = np.array([b"\0\1"], object)
    assert json.loads(format_outputs({"mask_bytes": file}, "column")) == {"outputs": [{"b64": "AAE="}]}
    two = {"a": np.array([1.0, np.nan], np.float32), "text": np.array([b"x", b"y"], object)}
    assert (
        format_outputs(two, "row") == b'{"predictions": [{"a": 1.0, "text": "x"}, {"a": NaN, "text": "y"}]}'
    )
    assert json.loads(format_outputs({"a": np.array([1, 2])}, "row")) == {"predictions": [1, 2]}
    with pytest.raises(FormatError, match="inconsistent batch sizes"):
        format_outputs({"a": np.zeros(2), "b": np.zeros(3)}, "row")
    with pytest.raises(FormatError, match="scalar"):
        format_outputs({"a": np.zeros(())}, "row")
