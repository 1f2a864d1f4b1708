"""Masks through the proxy, what the server receives, and the log."""

import json
import re
import sys
import urllib.error
import urllib.request
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import grpc
import nibabel as nib
import numpy as np
import pytest
from keras_scgm_client import Client
from nginx_proxy import NIFTI, NOTHING_LISTENS, Proxy, status_request
from tensorflow_serving.apis import model_service_pb2_grpc
from tiny_serving import THRESHOLD, nifti_bytes, random_voxels

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the container's user and capabilities are Linux's"
)


def test_masks_through_the_proxy(proxy, url, alice, image):
    with Client(url, token=alice, ca=proxy.ca, deadline=20) as client:
        assert client.status()[0].state == "AVAILABLE"
        mask = nib.load(client.segment(image))
        # Over REST it is read from the metadata.
        assert json.loads(image.with_name("t2s_gmseg.json").read_text())["version"] == 1
    np.testing.assert_array_equal(np.asarray(mask.dataobj), random_voxels(0) > THRESHOLD)


def test_more_jobs_than_are_let_in_lose_nothing(proxy, url, alice, tmp_path):
    images = [tmp_path / f"{k}.nii.gz" for k in range(12)]
    for k, path in enumerate(images):
        path.write_bytes(nifti_bytes(random_voxels(k), compress=True))
    with Client(url, token=alice, ca=proxy.ca, connections=8) as client:
        jobs = list(client.segment_all(images, jobs=8))
    assert [job.error for job in jobs] == [None] * 12
    for job in jobs:
        voxels = random_voxels(int(job.image.name.split(".")[0]))
        np.testing.assert_array_equal(np.asarray(nib.load(job.mask).dataobj), voxels > THRESHOLD)


def test_a_refused_image_is_the_servers_answer(proxy, alice):
    body = b'{"instances": ["no image"]}'
    status, _, answer = proxy.request("POST", f"{NIFTI}:predict", body, alice)
    with pytest.raises(urllib.error.HTTPError) as direct:
        urllib.request.urlopen(urllib.request.Request(f"http://{proxy.rest}{NIFTI}:predict", body))
    assert status == direct.value.code == 400
    assert answer == json.load(direct.value)


class Recorder(BaseHTTPRequestHandler):
    """A server that keeps what it receives."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received = self.path, dict(self.headers), body
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def test_what_the_server_receives(nginx, authority):
    server = HTTPServer(("127.0.0.1", 0), Recorder)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        address = f"127.0.0.1:{server.server_port}"
        with Proxy(nginx, address, NOTHING_LISTENS, authority).running() as proxy:
            token = proxy.add_token("alice")
            _, headers, _ = proxy.request(
                "POST",
                "/v1/x/%2e%2e/models//gm_nifti:predict?token=1",
                b"image",
                token,
                X_Request_ID="abcdefgh-1",
            )
            path, received, body = server.received
    finally:
        server.shutdown()
        server.server_close()
    assert (path, body) == ("/v1/models/gm_nifti:predict", b"image")
    assert "Authorization" not in received
    assert received["X-Request-ID"] == headers["X-Request-ID"] == "abcdefgh-1"


def test_the_log_names_who_and_what_but_no_token_and_no_image(proxy, alice, image):
    body = b'{"instances": ["no image"]}'
    proxy.request("POST", f"{NIFTI}:predict?secret=1", body, alice, X_Request_ID="request-0001")
    entry = proxy.logged("request-0001")
    assert entry["user"] == "alice"
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", f"{NIFTI}:predict", "400")
    assert entry["request_bytes"] > len(body)
    assert entry["answer_bytes"] > 0
    assert entry["seconds"] >= 0
    assert float(entry["server_seconds"]) >= 0
    assert datetime.fromisoformat(entry["time"]).tzinfo
    with proxy.channel() as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        metadata = [("authorization", f"Bearer {alice}"), ("x-request-id", "request-0002")]
        _, call = stub.GetModelStatus.with_call(status_request(), timeout=20, metadata=metadata)
        assert dict(call.initial_metadata())["x-request-id"] == "request-0002"
        assert proxy.logged("request-0002")["grpc_status"] == "0"
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetModelStatus(status_request(), timeout=20, metadata=[("x-request-id", "request-0003")])
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        refusal = proxy.logged("request-0003")
        assert (refusal["user"], refusal["grpc_status"]) == ("", "16")
    log = proxy.log.read_text()
    assert alice not in log
    assert "secret" not in log
    assert "no image" not in log


@pytest.mark.parametrize("given", ["short", 'quote"quote', "x" * 65, "line {break}"])
def test_a_request_id_of_another_form_is_replaced(proxy, alice, given):
    _, headers, _ = proxy.request("GET", NIFTI, token=alice, X_Request_ID=given)
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])
    assert proxy.logged(headers["X-Request-ID"])["status"] == "200"
