"""The server under test: the development server, or TensorFlow Serving itself.

The development server serves the small models of `tiny_serving`. If the program `tensorflow_model_server` is
installed, it serves them instead. With `TF_SERVING_URL` (and `TF_SERVING_GRPC`, host:port) the requests go to a
running server with models of keras-scgm.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import keras_scgm_devserver as dev_server
import pytest
import tensorflow as tf
from requests_to_server import NIFTI
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tiny_serving import save_tiny_models

REAL_SERVER = shutil.which("tensorflow_model_server")


@dataclass
class Server:
    rest_url: str
    grpc_address: str
    is_tiny: bool = True


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(models):
    """Whatever answers: a server named in the environment, TensorFlow Serving, or the development server."""
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


@pytest.fixture(scope="session")
def channel(server):
    unlimited = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, unlimited) as opened:
        yield opened


@pytest.fixture(scope="session")
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
