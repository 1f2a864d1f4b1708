"""Limits and ports of the development server, and its command."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import grpc
import keras_scgm_devserver as dev_server
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from requests_to_server import IMAGE, NIFTI, encoded, place_of
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_scgm.errors import InputError


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


def test_the_command_serves_until_it_is_told_to_stop(models):
    script = "from keras_scgm_cli.main import main; main()"
    command = [sys.executable, "-c", script, "serve", str(models), "--rest-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[:2] == ["gm_nifti: version 1\n", "gm_slices: version 1\n"]
        assert lines[2].startswith(
            "keras_scgm development server, not TensorFlow Serving; REST http://127.0.0.1:"
        )
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
