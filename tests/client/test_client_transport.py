"""Errors, retries and waiting, over REST and gRPC."""

import base64
import gc
import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path

import grpc
import keras_scgm_devserver as dev_server
import numpy as np
import pytest
import tensorflow as tf
from client_checks import (
    NOTHING_LISTENS,
    check_mask,
    error,
    good_answer,
    grpc_answer,
    grpc_server,
    names,
    rest_answers,
)
from keras_scgm_client import Client, ImageError, ServerError, ServerUnavailable, SettingsError, rest
from keras_scgm_client.rest import RestTransport
from keras_scgm_client.transport import Access, Model
from tiny_serving import random_voxels


@pytest.mark.parametrize("content", [False, True])
def test_numbers_over_grpc_however_they_are_sent(content):
    """One by one, or as the bytes of a tensor."""
    from keras_scgm_client import messages
    from keras_scgm_client.rpc import _values

    for dtype, values in (
        ("float32", [0.5, 2.0]),
        ("float64", [0.1, np.nan]),
        ("int32", [-1, 7]),
        ("int64", [2**40]),
        ("bool", [True, False]),
    ):
        array = np.array(values, dtype)
        official = tf.make_tensor_proto(array)
        if not content:
            official.tensor_content = b""
            getattr(official, messages.NUMBERS[official.dtype].field)[:] = values
        tensor = messages.Tensor.FromString(official.SerializeToString())
        np.testing.assert_array_equal(_values("x", tensor), array)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (error(400, "assertion failed: [4-D; split]\n\t [[{{node x}}]]"), ImageError, r"image: 4-D; split$"),
        (error(400, "Unrecognized servable version label: x"), SettingsError, "--label"),
        (error(400), ServerError, "HTTP 400"),
        (error(401), SettingsError, "token"),
        (error(403), SettingsError, "token"),
        (error(404, "Servable not found for request: Latest(x)"), SettingsError, r"Latest\(x\); check --server"),
        (error(413), ImageError, "larger than the server accepts"),
        (error(301, Location="https://elsewhere"), SettingsError, "moved to https://elsewhere"),
        (error(500, "Data loss: corrupt"), ServerError, "Data loss: corrupt"),
        (error(503, "queue is full"), ServerUnavailable, "queue is full"),
        ((200, b"<html>", {}), SettingsError, "not JSON"),
        ((200, gzip.compress(b" " * 3_000_000), {"Content-Encoding": "gzip"}), ServerError, "are compressed"),
        ((200, b"[" * 100_000, {}), SettingsError, "not JSON"),
        ((400, b"[" * 100_000, {}), ServerError, "HTTP 400"),
        ((200, b"{}", {}), SettingsError, "not a model's outputs"),
        ((200, b'{"outputs": {"mask_bytes": [{"b64": "\xc3\xa9"}]}}', {}), SettingsError, "not a model's outputs"),
        ((200, b'{"outputs": {"probabilities": [[1.0]]}}', {}), SettingsError, "check --model"),
        ((200, b'{"outputs": {"mask_bytes": [{"b64": "AA"}]}}', {}), SettingsError, "not a model's outputs"),
        ((200, b'{"outputs": {"mask_bytes": [{"b64": "AAAA"}]}}', {}), ServerError, "no image"),
        ((200, b" " * 3_000_000, {}), ServerError, "over 2 MB"),
        (good_answer(random_voxels(0, (4, 4, 4))), ServerError, "not on the grid"),
        ((*good_answer()[:2], {"Content-Length": "100000"}), ServerUnavailable, "no connection"),
    ],
)  # fmt: skip
def test_rest_answers_that_are_errors(image, answer, kind, message):
    # What earlier tests left must not be collected within the recursion of an answer that is nested too deeply.
    gc.collect()
    with rest_answers(answer) as (url, _), Client(url, deadline=0.5) as client:
        with pytest.raises(kind, match=message) as caught:
            client.segment(image)
        assert type(caught.value) is kind
    assert names(image.parent) == ["0.nii.gz", "2.nii.gz", "deep/1.nii.gz", "deep/3.nii.gz"]


def test_busy_servers_are_tried_again_and_errors_of_the_image_are_not(image):
    told = []
    answers = error(429), error(503), error(502), good_answer()
    with rest_answers(*answers) as (url, seen), Client(url, on_retry=told.append) as client:
        check_mask(client.segment(image), random_voxels(0))
    assert len(seen) == 4
    assert [line.split(" (")[1][:8] for line in told] == ["HTTP 429", "HTTP 503", "HTTP 502"]
    with (
        rest_answers(error(400, "bad"), good_answer()) as (url, seen),
        Client(url) as client,
        pytest.raises(ImageError),
    ):
        client.segment(image)
    assert len(seen) == 1


def test_a_refused_answer_frees_its_connection(image):
    with rest_answers((200, b" " * 10_000_000, {}), good_answer()) as (url, _):
        client = Client(url, connections=1)
        with pytest.raises(ServerError, match="over 2 MB"):
            client.segment(image)
        segmenting = threading.Thread(target=client.segment, args=(image,), daemon=True)
        segmenting.start()
        segmenting.join(30)
    check_mask(image.with_name("0_gmseg.nii.gz"), random_voxels(0))


@contextmanager
def raw_server(answer):
    """A server that gives its one connection to a function."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with listener.accept()[0] as connection, suppress(OSError):
                answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_answer_that_comes_byte_by_byte_ends_in_time():
    sent = []

    def answer(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            sent.append(b" ")
            time.sleep(0.1)

    with raw_server(answer) as url, pytest.raises(ServerUnavailable, match="no answer within 1 s"):
        RestTransport(Access(url), Model())._request("GET", url, 1.0, 1000)
    assert len(sent) < 100


def test_a_long_upload_is_not_limited_by_the_time_to_connect(monkeypatch):
    monkeypatch.setattr(rest, "CONNECT_SECONDS", 0.3)
    body = bytes(20_000_000)

    def answer(connection):
        time.sleep(1)
        seen = 0
        while seen < len(body):
            seen += len(connection.recv(2**20))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    with raw_server(answer) as url:
        assert RestTransport(Access(url), Model())._request("POST", url, 60.0, 1000, body) == {}


def test_a_busy_connection_is_waited_for_until_the_deadline(image):
    with Client("http://localhost", connections=1, deadline=0.1) as client:

        def meanwhile(*_):
            with pytest.raises(ServerUnavailable, match="all connections are busy"):
                client.status()
            raise ImageError("refused")

        client._transport.predict = meanwhile
        client._transport.status = lambda seconds: []
        with pytest.raises(ImageError, match="refused"):
            client.segment(image)
        assert client.status() == []


def test_what_is_sent(image):
    with rest_answers(good_answer()) as (url, seen), Client(url, token="sesame", label="canary") as client:
        client.segment(image)
    ((path, headers, body),) = seen
    assert path == "/v1/models/gm_nifti/labels/canary:predict"
    assert headers["authorization"] == "Bearer sesame"
    document = json.loads(body)
    assert document["signature_name"] == "serving_default"
    assert base64.b64decode(document["inputs"]["nifti_bytes"][0]["b64"]) == image.read_bytes()


@pytest.mark.parametrize(
    ("code", "details", "kind", "message"),
    [
        ("INVALID_ARGUMENT", "a.nii: 4-D; give a frame\n\t [[{{node x}}]]", ImageError, "give a frame$"),
        ("UNAUTHENTICATED", "", SettingsError, "token"),
        ("PERMISSION_DENIED", "", SettingsError, "token"),
        ("NOT_FOUND", "Servable not found", SettingsError, "--model"),
        ("UNIMPLEMENTED", "", SettingsError, "no TensorFlow Serving"),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)", ImageError, "larger than"),
        ("RESOURCE_EXHAUSTED", "queue is full", ServerUnavailable, "queue is full"),
        ("UNKNOWN", "Received http2 header with status: 413", ImageError, "larger than"),
        ("UNAVAILABLE", "restarting", ServerUnavailable, "restarting"),
        ("DATA_LOSS", "corrupt", ServerError, "corrupt"),
        ("INTERNAL", "", ServerError, "INTERNAL"),
    ],
)
def test_grpc_answers_that_are_errors(image, code, details, kind, message):
    with grpc_answer(grpc.StatusCode[code], details) as url, Client(url, deadline=0.5) as client:
        with pytest.raises(kind, match=message) as caught:
            client.segment(image)
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("answer", "compression", "message"),
    [
        (bytes(3_000_000), None, "over 2 MB"),
        # gRPC before 1.85 unpacks it first.
        (bytes(3_000_000), grpc.Compression.Gzip, "compressed, which is not accepted|over 2 MB"),
        (b"no message", None, "damaged"),
    ],
    ids=("large", "compressed", "damaged"),
)
def test_grpc_answers_that_are_not_read(image, answer, compression, message):
    def reply(request, context):
        context.set_compression(compression or grpc.Compression.NoCompression)
        return answer

    with grpc_server(lambda call: reply) as url, Client(url) as client:
        with pytest.raises(ServerError, match=message) as caught:
            client.segment(image)
        assert type(caught.value) is ServerError
        with pytest.raises(ServerError):
            client.status()


def test_a_command_that_gives_up_does_not_go_on_trying(images):
    """One image is told that access is denied while another waits to be sent again."""
    script = "from keras_scgm_client.cli import main; main()"
    with rest_answers(error(503), error(503), error(503), error(401), error(503)) as (url, _):
        command = [sys.executable, "-c", script, "segment", images, "--server", url, "--jobs", "4"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "denies access" in done.stderr


@contextmanager
def full_queue():
    """A port of this machine that takes no connection and refuses none."""
    with socket.socket() as listener, ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize("place", ["refused", "silent"])
def test_no_server_is_said_within_ten_seconds_and_once(images, scheme, place):
    """By the command with its defaults, for a port that refuses and for one that never answers."""
    with full_queue() if place == "silent" else nullcontext(NOTHING_LISTENS) as address:
        script = "from keras_scgm_client.cli import main; main()"
        command = [sys.executable, "-c", script, "segment", images, "--server", f"{scheme}://{address}"]
        started = time.monotonic()
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=60)
    assert time.monotonic() - started < 10
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert re.match(rf"error: {scheme}://{address}: no connection .*; start the server, check", done.stderr)


def test_the_port_of_the_other_protocol_is_said_at_once(image):
    started = time.monotonic()
    with (
        grpc_answer(grpc.StatusCode.UNAVAILABLE, "") as grpc_url,
        rest_answers(error(503)) as (rest_url, _),
    ):
        for url, message in (
            (
                grpc_url.replace("grpc", "http"),
                r"no HTTP answer \(is this the gRPC port\?\); .*check --server",
            ),
            (rest_url.replace("http", "grpc"), "no connection .*check --server"),
        ):
            with Client(url, deadline=60) as client, pytest.raises(ServerUnavailable, match=message):
                client.segment(image)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_not_there_yet_is_waited_for_if_asked(models, image, scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ports = {"rest_port": port, "grpc_port": 0} if scheme == "http" else {"rest_port": 0, "grpc_port": port}
    catalogue = dev_server.Catalogue.load(models)
    told = threading.Event()
    client = Client(f"{scheme}://127.0.0.1:{port}", wait=60, on_retry=lambda line: told.set())
    with client, futures.ThreadPoolExecutor(1) as pool:
        mask = pool.submit(client.segment, image)
        assert told.wait(20)
        with dev_server.serve(catalogue, **ports):
            check_mask(mask.result(60), random_voxels(0))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_does_not_answer(image, scheme):
    with ThreadingHTTPServer(("127.0.0.1", 0), None, bind_and_activate=True) as silent:
        port = silent.server_address[1]
        url = f"{scheme}://127.0.0.1:{port}"
        with (
            Client(url, timeout=0.3, deadline=0.6) as client,
            pytest.raises(ServerUnavailable, match="no answer"),
        ):
            client.segment(image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8501"}, "not a server"),
        ({"url": "ftp://localhost"}, "not a server"),
        ({"url": "http://host:port"}, "not a server"),
        ({"url": "http://a..b:8501"}, "not a server"),
        ({"url": "grpc://a..b:8500"}, "not a server"),
        ({"url": "http://ho st:8501"}, "not a server"),
        ({"url": f"http://{'a' * 64}.org"}, "not a server"),
        ({"url": "http://user:word@host"}, "use a token"),
        ({"url": "http://elsewhere.org", "token": "x"}, "over TLS only"),
        ({"url": "https://localhost", "token": ""}, "the token is empty"),
        ({"url": "http://localhost", "ca": Path(__file__)}, "certificates are for TLS"),
        ({"url": "https://localhost", "certificate": Path(__file__)}, "go together"),
        ({"url": "https://localhost", "ca": Path("none.pem")}, "none.pem: no such file"),
    ],
)
def test_addresses_that_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        Access(**settings)


@pytest.mark.parametrize("url", ["http://[::1]:8501", "grpc://[::1]:8500", "https://m\u00fcnchen.example/gm"])
def test_addresses_that_are_accepted(url):
    assert Access(url).url == url


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_names_that_cannot_be_sent_are_refused(scheme):
    """A name from the command line may have bytes that are no characters."""
    for name, setting in (("--model", {"model": "gm\udcff"}), ("--label", {"label": "gm\udcff"})):
        with pytest.raises(SettingsError, match=rf"'gm\\udcff': not Unicode; check {name}"):
            Client(f"{scheme}://{NOTHING_LISTENS}", **setting)


@pytest.mark.parametrize(
    "token", ["sesame\nopen", "sesame\ropen", "sesame open", "sesam\u00e9", "sesame\x00"]
)
def test_tokens_that_no_header_can_hold_are_refused_without_being_shown(token):
    with pytest.raises(SettingsError, match="check --token-file") as refused:
        Access("https://localhost", token)
    assert "sesam" not in str(refused.value)


def test_tokens_do_not_show():
    access = Access("https://localhost", "sesame")
    assert "sesame" not in repr(access)
    assert access.headers == {"authorization": "Bearer sesame"}
