"""Predictions, status, metadata and health over REST and gRPC."""

import base64
import json
import urllib.error
import urllib.request

import grpc
import keras_scgm_devserver as dev_server
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from requests_to_server import IMAGE, NIFTI, SLICES, VOXELS, encoded
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tiny_serving import THRESHOLD, nifti_bytes, save_tiny_models


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
