"""Limits of bodies, requests and time, and what else is refused."""

import socket
import ssl
import sys
import time
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from keras_scgm_client import Client, ImageError, ServerUnavailable
from nginx_proxy import BODY_LIMIT, NIFTI, NOTHING_LISTENS, Proxy, rpc_status
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tiny_serving import nifti_bytes

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the container's user and capabilities are Linux's"
)


def test_413(proxy, url, alice, tmp_path):
    image = tmp_path / "large.nii"
    image.write_bytes(nifti_bytes(np.zeros((2**9, 2**9, 564), np.uint8)))
    with (
        Client(url, token=alice, ca=proxy.ca, deadline=20, max_upload_bytes=2**30) as client,
        pytest.raises(ImageError, match="larger than"),
    ):
        client.segment(image)
    assert list(tmp_path.iterdir()) == [image]


def test_413_before_the_body_is_sent(proxy, alice):
    with proxy.connection() as upload:
        upload.sendall(
            f"POST {NIFTI}:predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {alice}\r\n"
            f"Content-Length: {BODY_LIMIT + 1}\r\n\r\n".encode()
        )
        answer = upload.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"error": "the request is over 140 MB"}' in answer


def test_415(proxy, alice):
    status, _, answer = proxy.request("POST", f"{NIFTI}:predict", b"x", alice, Content_Encoding="gzip")
    assert (status, answer) == (
        415,
        {"error": "compressed bodies are refused; send the .nii.gz file as it is"},
    )
    metadata = [("authorization", f"Bearer {alice}")]
    code, details = rpc_status(proxy, metadata, grpc.Compression.Gzip)
    assert (code, details) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "compressed messages are refused; send the .nii.gz file as it is",
    )
    assert rpc_status(proxy, metadata, grpc.Compression.NoCompression)[0] is grpc.StatusCode.OK


class Uploads:
    """Requests that stay under way until the end of a `with`.

    A request that has been answered counts for a moment longer, so an upload started right after it may be refused;
    `keep` starts those again.
    """

    def __init__(self, proxy):
        self.proxy = proxy
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _, upload in self.started:
            upload.close()

    def add(self, token, n):
        self.started += [(token, self.proxy.started_upload(token)) for _ in range(n)]

    def keep(self):
        for k, (token, upload) in enumerate(self.started):
            upload.settimeout(0)
            try:
                upload.recv(4096)
            except ssl.SSLWantReadError:
                upload.settimeout(20)
                upload.sendall(b" ")
            else:
                upload.close()
                self.started[k] = token, self.proxy.started_upload(token)

    def wait_for(self, status, token):
        """The answer to the first request that has this status."""
        for _ in range(200):
            self.keep()
            answer = self.proxy.request("GET", NIFTI, token=token)
            if answer[0] == status:
                return answer[2]
            time.sleep(0.02)
        return pytest.fail(f"the answer stays {answer[0]}")


def test_429_for_one_token_while_others_are_served(nginx, server, authority, image):
    with Proxy(nginx, *server, authority).running() as proxy:
        alice, bob, erin = map(proxy.add_token, ("alice", "bob", "erin"))
        with Uploads(proxy) as uploads:
            uploads.add(alice, 3)
            time.sleep(0.2)
            assert proxy.request("GET", NIFTI, token=alice)[0] == 200
            uploads.add(alice, 1)
            assert uploads.wait_for(429, alice) == {"error": "too many requests at a time; try again"}
            assert rpc_status(proxy, [("authorization", f"Bearer {alice}")]) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too many requests at a time; try again",
            )
            for url in (proxy.rest_url, proxy.rpc_url):
                uploads.keep()
                with Client(url, token=bob, ca=proxy.ca, deadline=20) as client:
                    client.segment(image)
                uploads.keep()
                with (
                    Client(url, token=alice, ca=proxy.ca, deadline=2) as client,
                    pytest.raises(ServerUnavailable, match="too many requests at a time"),
                ):
                    client.segment(image)
            # With one of Bob's, one of six places is free; with two, none.
            uploads.add(bob, 1)
            uploads.keep()
            uploads.wait_for(200, erin)
            uploads.add(bob, 1)
            uploads.wait_for(429, erin)
            assert proxy.request("GET", "/healthz")[0] == 200
        # Places are free again, and the client waits for one.
        with Client(proxy.rest_url, token=alice, ca=proxy.ca, deadline=20) as client:
            client.segment(image)


def test_a_stranger_takes_no_place(nginx, server, authority):
    with Proxy(nginx, *server, authority).running() as proxy, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(proxy.started_upload("x"))
        time.sleep(0.2)
        assert proxy.request("GET", NIFTI, token=proxy.add_token("alice"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/monitoring/prometheus/metrics",
        "/v1/models/gm_nifti/../../../monitoring/prometheus/metrics",
        "/v1/models/gm_nifti/%2e%2e/%2e%2e/%2e%2e/monitoring/prometheus/metrics",
        "/v1/models/other",
        "/v1/models/gm_nifti:classify",
        "/v1/models/gm_nifti:predict/",
        "/v1/models/gm_nifti%0a",
    ],
)
def test_404(proxy, alice, path):
    for token in (alice, None):
        status, _, answer = proxy.request("GET", path, token=token)
        assert (status, answer) == (404, {"error": "the proxy passes on predictions and status only"})


def test_404_for_other_calls(proxy, alice):
    metadata = [("authorization", f"Bearer {alice}")]
    with proxy.channel() as channel:
        configure = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        with pytest.raises(grpc.RpcError) as refused:
            configure(model_management_pb2.ReloadConfigRequest(), timeout=20, metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        classify = prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify
        with pytest.raises(grpc.RpcError) as refused:
            classify(predict_pb2.PredictRequest(), timeout=20, metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_server_is_away(nginx, authority, image):
    with Proxy(nginx, NOTHING_LISTENS, NOTHING_LISTENS, authority).running() as proxy:
        token = proxy.add_token("alice")
        status, _, answer = proxy.request("GET", NIFTI, token=token)
        assert (status, answer) == (502, {"error": "the server is away; try again"})
        assert rpc_status(proxy, [("authorization", f"Bearer {token}")]) == (
            grpc.StatusCode.UNAVAILABLE,
            "the server is away; try again",
        )
        for url in (proxy.rest_url, proxy.rpc_url):
            with (
                Client(url, token=token, ca=proxy.ca, deadline=2) as client,
                pytest.raises(ServerUnavailable, match="the server is away"),
            ):
                client.segment(image)


def test_a_server_that_never_answers(nginx, authority):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        shorter = {"read_timeout 300s": "read_timeout 1s"}
        with Proxy(nginx, address, address, authority, shorter).running() as proxy:
            token = proxy.add_token("alice")
            status, _, answer = proxy.request("GET", NIFTI, token=token)
            assert (status, answer) == (504, {"error": "the server gave no answer in time; try again"})
            assert rpc_status(proxy, [("authorization", f"Bearer {token}")]) == (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "the server gave no answer in time; try again",
            )


def test_slow_senders_are_cut_off(nginx, authority):
    shorter = {
        f"client_{part}_timeout {s}s": f"client_{part}_timeout 1s"
        for part, s in (("header", 10), ("body", 30))
    }
    with (
        Proxy(nginx, NOTHING_LISTENS, NOTHING_LISTENS, authority, shorter).running() as proxy,
        ExitStack() as stack,
    ):
        slow = [stack.enter_context(proxy.connection()) for _ in range(2)]
        slow[1].sendall(b"GET / HTTP/1.1\r\nHost: ")
        slow.append(stack.enter_context(proxy.started_upload(proxy.add_token("alice"))))
        for sender in slow:
            sender.settimeout(8)
            assert sender.recv(4096) == b""
