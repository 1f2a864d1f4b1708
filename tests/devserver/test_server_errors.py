"""Answers to wrong requests, over REST and gRPC."""

import base64
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import keras_scgm_devserver as dev_server
import numpy as np
import pytest
from requests_to_server import IMAGE, NIFTI, SLICES, VOXELS, encoded
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tiny_serving import nifti_bytes

NO_SIGNATURE = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
)
"""The server's code for an unknown signature has changed over its versions."""


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
    assert start == "development server: RuntimeError: a fault of ours"
    assert Path(log).read_text().count("in broken") >= 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith(("I0", "E0", "W0"))]
    assert lines == [f"error: {message}"] * 2


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
