"""The thin client: against the server's interfaces over real sockets, and against every way they can fail."""

import base64
import builtins
import csv
import errno
import gzip
import hashlib
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent import futures
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import keras_scgm_client
import keras_scgm_client.outputs as client_outputs
import keras_scgm_client.picture
import keras_scgm_client.tracing
import keras_scgm_devserver as dev_server
import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from keras_scgm_client import Client, ImageError, ServerError, ServerUnavailable, SettingsError
from keras_scgm_client.cli import main
from keras_scgm_client.limits import FREE_SLICES
from keras_scgm_client.metrics import Metrics
from keras_scgm_client.nifti import as_sent, check_answer, parse_grid, read_image
from keras_scgm_client.rest import RestTransport
from keras_scgm_client.results import Result
from keras_scgm_client.rpc import GrpcTransport
from keras_scgm_client.transport import Access, Answer, Findings, Model, SliceRow
from keras_scgm_devserver.rest_format import format_outputs
from opentelemetry import trace
from PIL import Image
from tiny_serving import THRESHOLD, TinyNifti, nifti_bytes, random_voxels, save_tiny_models

import keras_scgm.images
from keras_scgm import segment
from keras_scgm.export.saved_model import export_saved_model
from keras_scgm.nifti import read_volume
from keras_scgm.outputs import OutputPaths, write_outputs

SMOKE = Path(__file__).parents[1] / "serving" / "smoke.sh"
SIZE = (60, 60, 10)
NOTHING_LISTENS = "127.0.0.1:9"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def address(models):
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as started:
        yield started


@pytest.fixture(params=["rest", "grpc"])
def url(request, address):
    return address.rest_url if request.param == "rest" else f"grpc://{address.grpc}"


@pytest.fixture(scope="module")
def old_address(tmp_path_factory):
    """A server of an export without verdicts, whose `soft` has a single output."""
    folder = save_tiny_models(tmp_path_factory.mktemp("old"), is_old=True)
    with dev_server.serve(dev_server.Catalogue.load(folder), rest_port=0, grpc_port=0) as started:
        yield started


@pytest.fixture(params=["rest", "grpc"])
def old_url(request, old_address):
    return old_address.rest_url if request.param == "rest" else f"grpc://{old_address.grpc}"


@pytest.fixture
def images(tmp_path):
    """in/0.nii.gz to in/deep/3.nii.gz."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for k in range(4):
        path = folder / "deep" / f"{k}.nii.gz" if k % 2 else folder / f"{k}.nii.gz"
        path.write_bytes(nifti_bytes(random_voxels(k), compress=True))
    return folder


@pytest.fixture
def image(images):
    return images / "0.nii.gz"


def check_mask(path, voxels):
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), voxels > THRESHOLD)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_image(url, image):
    with Client(url) as client:
        mask = client.segment(image)
    assert mask == image.parent / "0_gmseg.nii.gz"
    voxels = random_voxels(0)
    check_mask(mask, voxels)
    with open(image.parent / "0_gmseg_area.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    n_voxels = (voxels > THRESHOLD).sum((0, 1))
    assert [row["area_mm2"] for row in rows] == [f"{n:.3f}" for n in n_voxels]
    assert [int(row["n_voxels"]) for row in rows] == list(n_voxels)
    assert [row["soft_area_mm2"] for row in rows] == [f"{n:.3f}" for n in voxels.sum((0, 1)) / 255]
    assert [row["position_mm"] for row in rows] == ["0.000", "1.000", "2.000"]
    assert {(row["noise"], row["predicted_dsc"], row["verdict"], row["warning"]) for row in rows} == {
        ("0.125", "0.900", "pass", "")
    }
    record = json.loads((image.parent / "0_gmseg.json").read_text())
    assert record["server"] == url
    assert record["version"] == (1 if url.startswith("grpc") else None)
    assert record["input_sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert (record["program"], record["window_moved"], record["orientation"]) == ("tiny", True, "LAS")
    assert record["gray_matter_volume_mm3"] == n_voxels.sum()
    assert record["quality"]["slices"] == {"pass": [0, 1, 2], "review": [], "fail": []}
    assert record["files"] == ["0_gmseg.nii.gz", "0_gmseg_area.csv", "0_gmseg_qc.png"]
    assert not [name for name in names(image.parent) if "/." in name or name.startswith(".")]


def test_probabilities(url, image):
    with Client(url, soft=True) as client:
        file = client.segment(image)
    probabilities = nib.load(file)
    assert probabilities.get_data_dtype() == np.float32
    np.testing.assert_array_equal(
        np.asarray(probabilities.dataobj), (random_voxels(0) / 255).astype(np.float32)
    )
    record = json.loads((image.parent / "0_gmseg.json").read_text())
    assert (record["output"], record["quality"]["verdict"]) == ("probabilities", "pass")


def test_exports_of_earlier_releases(old_url, image, tmp_path):
    """They have no verdicts, and an only output, whose name the server leaves out over REST."""
    with Client(old_url) as client:
        check_mask(client.segment(image, tmp_path / "hard"), random_voxels(0))
    with open(tmp_path / "hard" / "0_gmseg_area.csv", newline="") as file:
        first = next(csv.DictReader(file))
    n_voxels = (random_voxels(0) > THRESHOLD).sum((0, 1))
    assert (first["area_mm2"], first["n_voxels"], first["verdict"]) == (f"{n_voxels[0]:.3f}", "", "")
    with Client(old_url, soft=True) as client:
        file = client.segment(image, tmp_path / "soft")
    np.testing.assert_array_equal(
        np.asarray(nib.load(file).dataobj), (random_voxels(0) / 255).astype(np.float32)
    )
    assert names(tmp_path / "soft") == ["0_gmseg.json", "0_gmseg.nii.gz"]
    with (
        Client(old_url, picture=True) as client,
        pytest.raises(SettingsError, match="does not tell what a picture needs"),
    ):
        client.segment(image, tmp_path / "picture")
    assert names(tmp_path / "picture") == []


def test_empty_slices_have_empty_cells(url, tmp_path):
    voxels = random_voxels(0)
    voxels[..., 1] = 0
    (tmp_path / "a.nii").write_bytes(nifti_bytes(voxels))
    with Client(url) as client:
        (job,) = client.segment_all([tmp_path / "a.nii"])
    assert job.verdict == "review"
    with open(tmp_path / "a_gmseg_area.csv", newline="") as file:
        row = list(csv.DictReader(file))[1]
    empty = ("mean_probability", "contrast", "noise", "predicted_dsc", "area_sd_mm2", "uncertainty")
    assert {row[name] for name in empty} == {""}
    assert (row["n_voxels"], row["area_mm2"], row["verdict"], row["warning"]) == (
        "0",
        "0.000",
        "review",
        "few voxels",
    )
    record = json.loads((tmp_path / "a_gmseg.json").read_text())
    assert record["quality"]["contrast"] is None
    assert record["quality"]["slices"] == {"pass": [0, 2], "review": [1], "fail": []}
    assert record["quality"]["reasons"] == {"few voxels": [1]}


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


def test_uncompressed_images_and_warnings(url, tmp_path):
    (tmp_path / "dark.nii").write_bytes(nifti_bytes(np.zeros((4, 4, 2), np.uint8)))
    with Client(url) as client:
        (job,) = client.segment_all([tmp_path / "dark.nii"])
    assert job.warnings == ("no gray matter found",)
    assert json.loads((tmp_path / "dark_gmseg.json").read_text())["warnings"] == ["no gray matter found"]


def test_answers_over_4_mib(url, tmp_path):
    (tmp_path / "large.nii.gz").write_bytes(
        nifti_bytes(np.full((580, 580, 14), 255, np.uint8), compress=True)
    )
    with Client(url, picture=False) as client:
        assert nib.load(client.segment(tmp_path / "large.nii.gz")).shape == (580, 580, 14)


def test_answers_of_many_slices(url, tmp_path):
    """Whose rows are longer than the file."""
    (tmp_path / "long.nii.gz").write_bytes(nifti_bytes(random_voxels(0, (4, 4, 24_000)), compress=True))
    with Client(url, picture=False) as client:
        client.segment(tmp_path / "long.nii.gz")
    assert (tmp_path / "long_gmseg_area.csv").read_text().count("\n") == 24_001


def test_status(url):
    with Client(url) as client:
        (version,) = client.status()
    assert (version.version, version.state) == (1, "AVAILABLE")


def test_many_clients_at_a_time(address, tmp_path):
    """Eight, half of them REST; every mask is the one expected, and no image is sent twice at once."""
    for k in range(40):
        (tmp_path / f"{k}.nii.gz").write_bytes(nifti_bytes(random_voxels(k), compress=True))

    def run(number):
        url = address.rest_url if number % 2 else f"grpc://{address.grpc}"
        mine = [(tmp_path / f"{k}.nii.gz", tmp_path / "out") for k in range(40) if k % 8 == number]
        with Client(url) as client:
            return list(client.segment_all(mine, jobs=2))

    with futures.ThreadPoolExecutor(8) as pool:
        jobs = [job for done in pool.map(run, range(8)) for job in done]
    assert len(jobs) == 40
    assert not [job.error for job in jobs if job.error]
    for k in range(40):
        check_mask(tmp_path / "out" / f"{k}_gmseg.nii.gz", random_voxels(k))


# --- a server that is killed ------------------------------------------------------------------------------

SERVE = """
import sys, threading
import keras_scgm.images
import keras_scgm_devserver as dev_server
folder, rest_port, grpc_port = sys.argv[1:]
with dev_server.serve(dev_server.Catalogue.load(folder), rest_port=int(rest_port), grpc_port=int(grpc_port)) as address:
    print(address.rest_url, address.grpc, flush=True)
    threading.Event().wait()
"""


@contextmanager
def server_process(models, rest_port=0, grpc_port=0):
    command = [sys.executable, "-c", SERVE, models, rest_port, grpc_port]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as process:
        try:
            rest_url, grpc_address = process.stdout.readline().split()
            yield process, rest_url, grpc_address
        finally:
            process.kill()


def resident_bytes(process):
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory is read from /proc")
def test_a_killed_server_loses_nothing_and_memory_stays_flat(models, tmp_path):
    n_images = 40
    for k in range(n_images):
        voxels = random_voxels(k, SIZE)
        (tmp_path / f"{k}.nii.gz").write_bytes(nifti_bytes(voxels, compress=True))
    jobs, waited = {"rest": [], "grpc": []}, threading.Event()

    def run(way, url):
        mine = [(tmp_path / f"{k}.nii.gz", tmp_path / way) for k in range(n_images)]
        with Client(url, deadline=300, on_retry=lambda line: waited.set()) as client:
            jobs[way].extend(client.segment_all(mine, jobs=4))

    with server_process(models) as (process, rest_url, grpc_address):
        threads = [
            threading.Thread(target=run, args=("rest", rest_url)),
            threading.Thread(target=run, args=("grpc", f"grpc://{grpc_address}")),
        ]
        for thread in threads:
            thread.start()
        while len(list(tmp_path.glob("*/*_gmseg.nii.gz"))) < 10:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done_before = len(list(tmp_path.glob("*/*_gmseg.nii.gz")))
    assert done_before < 2 * n_images, "killed too late to prove anything"
    assert waited.wait(60)
    ports = rest_url.rsplit(":", 1)[1], grpc_address.rsplit(":", 1)[1]
    with server_process(models, *ports) as (process, *_):
        for thread in threads:
            thread.join(300)
        for way, done in jobs.items():
            assert len(done) == n_images
            assert not [job.error for job in done if job.error]
            for k in range(n_images):
                check_mask(tmp_path / way / f"{k}_gmseg.nii.gz", random_voxels(k, SIZE))
        assert not list(tmp_path.rglob(".scgm_*"))

        data = nifti_bytes(random_voxels(0, SIZE), compress=True)
        ways = Access(rest_url, connections=8), Access(f"grpc://{grpc_address}")
        transports = [RestTransport(ways[0], Model()), GrpcTransport(ways[1], Model())]
        sizes = []
        with futures.ThreadPoolExecutor(8) as pool:
            for _ in range(2):
                list(pool.map(lambda k: transports[k % 2].predict(data, 60, 2**24), range(300)))
                sizes.append(resident_bytes(process))
        for transport in transports:
            transport.close()
    assert sizes[1] - sizes[0] < 20e6


# --- servers that fail ------------------------------------------------------------------------------------


@contextmanager
def rest_answers(*answers):
    """A server that gives these answers one after the other, the last for ever: (status, body, headers)."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            status, content, headers = answers[min(len(seen), len(answers) - 1)]
            seen.append((self.path, dict(self.headers), body))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()


def answer_of(**files):
    """An answer of an earlier release with these files."""
    outputs = {name: [{"b64": base64.b64encode(file).decode()}] for name, file in files.items()}
    outputs |= {"area_mm2": [[1.0]], "warnings": [""]}
    return 200, json.dumps({"outputs": outputs}).encode(), {}


def good_answer(voxels=None):
    voxels = random_voxels(0) if voxels is None else voxels
    return answer_of(mask_bytes=nifti_bytes((voxels > THRESHOLD).astype(np.uint8)))


def tiny_answer(image):
    """What the tiny model answers over REST."""
    data = tf.constant([image.read_bytes()])
    model = TinyNifti()
    outputs = {name: value.numpy() for name, value in model.segment(data).items()}
    return json.loads(format_outputs(outputs, "column"))["outputs"]


def error(status, message="", **headers):
    return status, json.dumps({"error": message}).encode() if message else b"<html>", headers


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
        ((200, b"{}", {}), SettingsError, "not a model's outputs"),
        ((200, b'{"outputs": {"probabilities": [[1.0]]}}', {}), SettingsError, "check --model"),
        ((200, b'{"outputs": {"mask_bytes": [{"b64": "AA"}]}}', {}), SettingsError, "not a model's outputs"),
        ((200, b'{"outputs": {"mask_bytes": [{"b64": "AAAA"}]}}', {}), ServerError, "no image"),
        ((200, b" " * 3_000_000, {}), ServerError, "over 2 MB"),
        (good_answer(random_voxels(0, (4, 4, 4))), ServerError, "not on the grid"),
        ((*good_answer()[:2], {"Content-Length": "100000"}), ServerUnavailable, "no connection"),
    ],
)  # fmt: skip
def test_rest_answers_that_are_errors(image, answer, kind, message):
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


def test_what_is_sent(image):
    with rest_answers(good_answer()) as (url, seen), Client(url, token="sesame", label="canary") as client:
        client.segment(image)
    ((path, headers, body),) = seen
    assert path == "/v1/models/gm_nifti/labels/canary:predict"
    assert headers["authorization"] == "Bearer sesame"
    document = json.loads(body)
    assert document["signature_name"] == "serving_default"
    assert base64.b64decode(document["inputs"]["nifti_bytes"][0]["b64"]) == image.read_bytes()


@contextmanager
def grpc_server(handler):
    """Serves what a handler of (call) gives."""

    class Generic(grpc.GenericRpcHandler):
        def service(self, call):
            return grpc.unary_unary_rpc_method_handler(handler(call))

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Generic()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def grpc_answer(code, details):
    return grpc_server(lambda call: lambda request, context: context.abort(code, details))


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


# --- what is logged and counted ---------------------------------------------------------------------------


@contextmanager
def grpc_relay(address, seen):
    """Passes calls on to a server, and keeps their metadata."""

    def relay(call):
        seen.append(dict(call.invocation_metadata))
        onward = channel.unary_unary(call.method)
        return lambda request, context: onward(request)

    with grpc.insecure_channel(address) as channel, grpc_server(relay) as relayed:
        yield relayed


def test_requests_have_an_id_in_header_record_and_error_line(run, address, image, tmp_path):
    answers = error(503), good_answer()
    with rest_answers(*answers) as (url, seen):
        assert run("segment", image, "-o", tmp_path, "--server", url)[0] == 0
    ids = {headers["x-request-id"] for _, headers, _ in seen}
    record = json.loads((tmp_path / "0_gmseg.json").read_text())
    assert ids == {record["request_id"]}, "one for an image, whatever number of tries"
    assert len(record["request_id"]) == 32

    over_grpc = []
    with grpc_relay(address.grpc, over_grpc) as url, Client(url) as client:
        client.segment(image)
    assert (
        json.loads(image.with_name("0_gmseg.json").read_text())["request_id"] == over_grpc[0]["x-request-id"]
    )

    with rest_answers(error(400, "4-D")) as (url, seen):
        code, _, err = run("segment", image, "-o", tmp_path / "bad", "--server", url)
    assert code == 2
    assert err.endswith(f"the server refuses the image: 4-D (request {seen[0][1]['x-request-id']})\n")
    with rest_answers(error(401)) as (url, seen):
        err = run("segment", image, "-o", tmp_path / "bad", "--server", url)[2]
    assert f"(request {seen[0][1]['x-request-id']})" in err


def test_the_log_as_json(run, url, images):
    (images / "bad.nii").write_bytes(b"")
    code, out, err = run("segment", images, "--server", url, "--log-format", "json", "--jobs", "1")
    assert (code, out) == (2, "")
    lines = [json.loads(line) for line in err.splitlines()]
    assert {"time", "level", "message"} <= set(lines[0])
    assert [line["level"] for line in lines].count("error") == 1
    (bad,) = (line for line in lines if line["level"] == "error")
    assert bad["image"] == str(images / "bad.nii")
    done = [line for line in lines if "mask" in line]
    assert {line["verdict"] for line in done} == {"pass"}
    assert len({line["request_id"] for line in done}) == 4
    assert (lines[-1]["segmented"], lines[-1]["failed"]) == (4, 1)


def test_metrics_of_a_run(run, images, tmp_path):
    file = tmp_path / "scgm.prom"
    answers = error(503), error(400, "4-D"), good_answer()
    with rest_answers(*answers) as (url, _):
        arguments = ("segment", images, "-o", tmp_path / "out", "--server", url, "--jobs", "1")
        run(*arguments, "--metrics-file", file)
    text = file.read_text()
    for line in (
        'scgm_client_requests_total{outcome="unavailable"} 1.0',
        'scgm_client_requests_total{outcome="refused"} 1.0',
        "scgm_client_request_seconds_count 5.0",
    ):
        assert line in text.splitlines()
    with rest_answers(error(401)) as (url, _):
        run("segment", images, "-o", tmp_path / "out2", "--server", url, "--metrics-file", file)
    assert 'outcome="error"' in file.read_text()
    code, _, err = run(
        "segment", images, "--server", "http://localhost", "--metrics-file", tmp_path / "no" / "x"
    )
    assert (code, "cannot be written" in err) == (2, True)


def test_verdicts_are_counted(url, images):
    metrics = Metrics()
    with Client(url, metrics=metrics) as client:
        assert len(list(client.segment_all(client_outputs.find_images(images)))) == 4
    value = metrics.registry.get_sample_value
    assert value("scgm_client_verdicts_total", {"verdict": "pass"}) == 4
    assert value("scgm_client_requests_total", {"outcome": "ok"}) == 4


def test_metrics_that_are_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SettingsError, match=r"pip install 'keras-scgm-client\[metrics\]'"):
        Metrics()


def test_requests_join_the_callers_trace(image):
    """With OpenTelemetry's API alone: the server gets the span that is current in the program."""
    context = trace.SpanContext(7, 9, is_remote=False, trace_flags=trace.TraceFlags(1))
    with rest_answers(good_answer()) as (url, seen), Client(url) as client:
        with trace.use_span(trace.NonRecordingSpan(context)):
            client.segment(image)
        client.segment(image)
    assert seen[0][1]["traceparent"] == f"00-{7:032x}-{9:016x}-01"
    assert "traceparent" not in seen[1][1]


def test_tracing_that_is_not_installed(monkeypatch, url, image):
    monkeypatch.setattr(keras_scgm_client.tracing, "_INSTALLED", False)
    with Client(url) as client:
        check_mask(client.segment(image), random_voxels(0))


# --- images, addresses, files -----------------------------------------------------------------------------


def header_with(offset, content):
    data = bytearray(nifti_bytes(random_voxels(0)))
    data[offset : offset + len(content)] = content
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.nii", None, "cannot be read"),
        ("a.txt", b"x", "not a .nii or .nii.gz file"),
        ("a.nii", b"", "too short"),
        ("a.nii", b"x" * 400, "not a single-file NIfTI-1 image"),
        ("a.nii", header_with(344, b"ni1\0"), "header of a .hdr/.img pair"),
        ("a.nii", header_with(40, b"\1\0"), "claims 1 dimensions"),
        ("a.nii", header_with(70, b"\x80\0"), "voxel type code 128"),
        ("a.nii", header_with(4, b"n+2\0"), "NIfTI-2"),
        ("a.nii", header_with(40, b"\4\0\2\0\2\0\2\0\5\0"), "not a 3-D image"),
        ("a.nii", header_with(42, b"\0\0"), "claims"),
        ("a.nii", header_with(42, b"\xff\x7f\xff\x7f\xff\x7f"), r"claims \d+\.\d GB"),
        ("a.nii", nifti_bytes(random_voxels(0))[:-1], "cut off"),
        ("a.nii.gz", gzip.compress(nifti_bytes(random_voxels(0)))[:-40], "cut off|too short"),
        ("a.nii.gz", gzip.compress(nifti_bytes(random_voxels(0))[:-1]), "cut off"),
        ("a.nii.gz", b"\x1f\x8bnonsense", "convert it again"),
        ("a.nii", b"x" * 3_000_000, "over the limit of 2 MB"),
    ],
)
def test_images_that_are_not_sent(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    client = Client(f"http://{NOTHING_LISTENS}", max_upload_bytes=2_000_000)
    with client, pytest.raises(ImageError, match=message):
        client.segment(tmp_path / name)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("seed", range(12))
def test_geometry_is_that_of_the_command(tmp_path, order, seed):
    """Orientation, areas and distances of any grid, from a sform or a qform, as nibabel has them."""
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] * random.uniform(0.3, 3, 3)
    if seed % 3 == 0:
        affine[:3, :3] += random.normal(0, 0.1, (3, 3))
    affine[:3, 3] = random.normal(0, 50, 3)
    header = nib.Nifti1Header(endianness=order)
    image = nib.Nifti1Image(np.zeros((3, 4, 5, 1), f"{order}i2"), affine, header, dtype="int16")
    if seed % 3 == 1:
        image.set_sform(None, 0)
        image.set_qform(affine, 1)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    grid = read_image(tmp_path / "a.nii", 10_000)[1]
    volume = read_volume(tmp_path / "a.nii")
    assert (grid.order, grid.shape, grid.n_bytes) == (order, (3, 4, 5, 1), 352 + 120)
    assert grid.orientation == "".join(nib.aff2axcodes(volume.affine))
    assert (grid.axial_axis, grid.n_slices) == (volume.axial_axis, volume.n_slices)
    assert grid.slice_spacing_mm == pytest.approx(volume.slice_spacing_mm, abs=1e-6)
    assert grid.voxel_area_mm2 == pytest.approx(volume.voxel_area_mm2, rel=1e-12)
    np.testing.assert_allclose(grid.spacing_mm, np.linalg.norm(volume.affine[:3, :3], axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "max_bytes", "is_unpacked"),
    [
        ((2000, 2000, 2), 10**9, False),
        ((2000, 2000, 3), 10**9, True),
        ((2000, 2000, 3), 10**6, False),
        ((100, 82, FREE_SLICES), 10**9, False),
        ((100, 82, FREE_SLICES + 1), 10**9, True),
    ],
)
def test_files_that_the_server_refuses_packed_are_sent_unpacked(shape, max_bytes, is_unpacked):
    """A server's work is bounded by what it is sent; the same zeros, unpacked, are many bytes."""
    plain = nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([-0.1, 0.1, 4.0, 1.0])).to_bytes()
    packed = gzip.compress(plain, 1)
    grid = parse_grid(plain)
    assert as_sent(packed, grid, max_bytes) == (plain if is_unpacked else packed)
    assert as_sent(plain, grid, max_bytes) == plain


def changed(offset, form, *values, file=None):
    data = bytearray(nifti_bytes((random_voxels(0) > THRESHOLD).astype(np.uint8)) if file is None else file)
    struct.pack_into(form, data, offset, *values)
    return bytes(data)


def as_float(values):
    image = nib.Nifti1Image(np.full((8, 9, 3), 0.25, np.float32), np.diag([-1.0, 1, 1, 1]))
    data = bytearray(image.to_bytes())
    data[352 : 352 + 4 * len(values)] = np.array(values, np.float32).tobytes()
    return bytes(data)


WRONG_ANSWERS = {
    "origin": (changed(292, "<f", 3.0), "not on the grid"),
    "flipped axis": (changed(280, "<f", 1.0), "not on the grid"),
    "qform": (changed(256, "<f", 0.5), "not on the grid"),
    "qform code": (changed(252, "<h", 2), "not on the grid"),
    "spacing": (changed(80, "<f", 2.0), "not on the grid"),
    "shape": (changed(42, "<2h", 9, 8), "not on the grid"),
    "type": (changed(70, "<h", 256), "type 256"),
    "scaled": (changed(112, "<f", 2.0), "scaled by 2"),
    "intercept": (changed(112, "<2f", 1.0, 1.0), "scaled by 1"),
    "values": (changed(360, "<B", 2), "other than 0 and 1"),
    "cut off": (changed(0, "<i", 348)[:-1], "bytes; check the connection"),
    "too long": (changed(0, "<i", 348) + b"\0", "bytes; check the connection"),
    "text": (b"no image", "no image"),
    "a mask for probabilities": (changed(0, "<i", 348), "type 2"),
    "over 1": (as_float([0.5, 1.01]), "other than 0 to 1"),
    "negative": (as_float([-0.01]), "other than 0 to 1"),
    "NaN": (as_float([np.nan]), "other than 0 to 1"),
    "infinite": (as_float([np.inf]), "other than 0 to 1"),
}


@pytest.mark.parametrize("what", WRONG_ANSWERS)
def test_answers_that_do_not_fit_the_image_are_not_written(image, what):
    file, message = WRONG_ANSWERS[what]
    soft = "for probabilities" in what or "0 to 1" in message
    name = "probability_bytes" if soft else "mask_bytes"
    before = names(image.parent)
    with (
        rest_answers(answer_of(**{name: file})) as (url, _),
        Client(url, soft=soft) as client,
        pytest.raises(ServerError, match=message),
    ):
        client.segment(image)
    assert names(image.parent) == before


@pytest.mark.parametrize("values", [[0.0, 1.0], [-0.0], [1 + 2**-23]])
@pytest.mark.parametrize("order", "<>")
def test_probabilities_that_are_accepted(values, order):
    data = nib.Nifti1Image.from_bytes(as_float(values))
    image = nib.Nifti1Image(
        np.asarray(data.dataobj), data.affine, data.header.as_byteswapped(order), dtype=np.float32
    )
    file = image.to_bytes()
    check_answer(file, parse_grid(file), "probabilities")


def test_areas_of_other_slices_are_not_written(image):
    """Of an answer that has verdicts; a server that cuts rows off would shift every area after it."""
    answer = tiny_answer(image)
    for name in ("area_mm2", "n_voxels"):
        short = {**answer, name: [answer[name][0][:2]]}
        with (
            rest_answers((200, json.dumps({"outputs": short}).encode(), {})) as (url, _),
            Client(url) as client,
            pytest.raises(ServerError, match="contradicts itself"),
        ):
            client.segment(image)
    short = {**answer, "n_slices": [2]}
    with (
        rest_answers((200, json.dumps({"outputs": short}).encode(), {})) as (url, _),
        Client(url) as client,
        pytest.raises(ServerError, match="areas of 2 slices for an image of 3"),
    ):
        client.segment(image)
    wrong = {**answer, "verdict": ["perhaps"]}
    with (
        rest_answers((200, json.dumps({"outputs": wrong}).encode(), {})) as (url, _),
        Client(url) as client,
        pytest.raises(ServerError, match="verdict perhaps"),
    ):
        client.segment(image)


# --- what is finished -------------------------------------------------------------------------------------


def test_soft_for_hard_and_a_changed_input_are_refused(run, url, image):
    """As `keras-scgm segment --resume`: what was made in another way is named, and replaced with --force."""
    assert run("segment", image, "--server", url)[0] == 0
    code, out, _ = run("segment", image, "--server", url)
    assert (code, out.splitlines()[-1]) == (0, "0 segmented, 1 skipped, 0 failed")
    hard = image.with_name("0_gmseg.nii.gz").read_bytes()
    refused = (
        f"error: {image.parent}/0_gmseg.nii.gz: exists and was made in another way; replace it with --force"
    )

    code, _, err = run("segment", image, "--server", url, "--soft")
    assert (code, err.strip()) == (2, refused)
    assert image.with_name("0_gmseg.nii.gz").read_bytes() == hard
    assert run("segment", image, "--server", url, "--soft", "--force")[0] == 0
    assert nib.load(image.with_name("0_gmseg.nii.gz")).get_data_dtype() == np.float32
    assert run("segment", image, "--server", url)[::2] == (2, refused + "\n")
    assert run("segment", image, "--server", url, "--force")[0] == 0

    image.write_bytes(nifti_bytes(random_voxels(9), compress=True))
    assert run("segment", image, "--server", url)[::2] == (2, refused + "\n")
    assert image.with_name("0_gmseg.nii.gz").read_bytes() == hard
    assert run("segment", image, "--server", url, "--force")[0] == 0
    check_mask(image.with_name("0_gmseg.nii.gz"), random_voxels(9))
    image.with_name("0_gmseg_area.csv").unlink()
    assert run("segment", image, "--server", url)[0] == 2


def test_a_result_of_another_version_is_not_finished(models, image):
    with Client(f"grpc://{NOTHING_LISTENS}") as client:
        paths = client_outputs.OutputPaths.for_input(image)
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        like = {"input_sha256": digest, "output": "mask", "model": "gm_nifti", "label": None}
        paths.mask.write_bytes(b"")
        paths.record.write_text(json.dumps({**like, "version": 7, "files": [paths.mask.name]}))
        # Nobody says which version is served.
        assert client._finished(image, paths)
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as address:
        for url in (address.rest_url, f"grpc://{address.grpc}"):
            with Client(url) as client:
                assert not client._finished(image, paths)
        paths.record.write_text(json.dumps({**like, "version": 1, "files": [paths.mask.name]}))
        with Client(address.rest_url) as client:
            assert client._finished(image, paths)
        with Client(address.rest_url, picture=True) as client:
            assert not client._finished(image, paths)


def test_the_exit_code_can_tell_verdicts(run, url, tmp_path):
    voxels = random_voxels(0)
    voxels[..., 1] = 0
    (tmp_path / "a.nii").write_bytes(nifti_bytes(voxels))
    command = ("segment", tmp_path / "a.nii", "--server", url)
    assert run(*command)[0] == 0
    # Finished results count, too.
    assert run(*command, "--fail-on", "review")[0] == 3
    assert run(*command, "--fail-on", "fail")[0] == 0
    (tmp_path / "b.nii").write_bytes(b"")
    assert run(*command, tmp_path / "b.nii", "--fail-on", "review")[0] == 2


# --- pictures ---------------------------------------------------------------------------------------------


def test_pictures_are_drawn_without_tensorflow(url, image):
    done = in_process("segment", image, "--server", url, "--picture")
    assert done == ["1 segmented, 0 skipped, 0 failed", "['numpy']"]
    with Image.open(image.with_name("0_gmseg_qc.png")) as picture:
        assert picture.size[0] > 100


def test_pictures_that_cannot_be_drawn(monkeypatch, url, image, tmp_path):
    monkeypatch.setattr(keras_scgm_client.picture, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'keras-scgm-client\[picture\]'"):
        Client(url, picture=True)
    with Client(url) as client:
        client.segment(image, tmp_path / "out")
    assert names(tmp_path / "out") == ["0_gmseg.json", "0_gmseg.nii.gz", "0_gmseg_area.csv"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8501"}, "not a server"),
        ({"url": "ftp://localhost"}, "not a server"),
        ({"url": "http://host:port"}, "not a server"),
        ({"url": "http://user:word@host"}, "use a token"),
        ({"url": "http://elsewhere.org", "token": "x"}, "over TLS only"),
        ({"url": "http://localhost", "ca": Path(__file__)}, "certificates are for TLS"),
        ({"url": "https://localhost", "certificate": Path(__file__)}, "go together"),
        ({"url": "https://localhost", "ca": Path("none.pem")}, "none.pem: no such file"),
    ],
)
def test_addresses_that_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        Access(**settings)


def test_tokens_do_not_show():
    access = Access("https://localhost", "sesame")
    assert "sesame" not in repr(access)
    assert access.headers == {"authorization": "Bearer sesame"}


def test_results_that_cannot_be_written(url, image, tmp_path):
    (tmp_path / "file").write_text("")
    with Client(url) as client:
        with pytest.raises(ImageError, match="cannot write there"):
            client.segment(image, tmp_path / "file" / "out")
        (image.parent / "0_gmseg.nii.gz").mkdir()
        with pytest.raises(ImageError, match=r"cannot be replaced \(Is a directory\); move it away"):
            client.segment(image)
    assert not list(image.parent.glob(".scgm_*"))


def in_process(*arguments):
    """Runs the command on its own: its last line, and which packages it imported."""
    script = (
        "import sys; from keras_scgm_client.cli import main\ntry: main()\nexcept SystemExit as stop: pass\n"
    )
    script += "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-2:]


WRITERS = ("0_gmseg.nii.gz", "0_gmseg_area.csv", "0_gmseg_qc.png", "0_gmseg.json")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_leaves_nothing(monkeypatch, address, image, name, before):
    """Whichever file is the one that does not fit; an earlier result stays whole."""
    real_open = builtins.open
    with Client(address.rest_url) as client:
        if before:
            client.segment(image)
        there = {path: path.read_bytes() for path in image.parent.iterdir() if path.is_file()}

        def full(path, mode="r", *arguments, **options):
            file = real_open(path, mode, *arguments, **options)
            if "w" in mode and Path(path).name == name:
                file.close()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return file

        monkeypatch.setattr(builtins, "open", full)
        monkeypatch.setattr(io, "open", full)
        with pytest.raises(ImageError, match=r"writing failed \(No space left on device\); free space"):
            client.segment(image)
        monkeypatch.undo()
    assert {path: path.read_bytes() for path in image.parent.iterdir() if path.is_file()} == there
    assert not list(image.parent.glob(".scgm_*"))


def test_a_file_that_is_too_large_for_the_disk_leaves_nothing(address, image):
    """As the system reports it, in the middle of a file."""
    image.write_bytes(nifti_bytes(random_voxels(0, (60, 60, 40)), compress=True))
    script = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    script += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    script += "from keras_scgm_client.cli import main; main()"
    command = [sys.executable, "-c", script, "segment", image, "--server", address.rest_url]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "0_gmseg.nii.gz: writing failed (File too large); free space" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(image.parent) == ["0.nii.gz", "2.nii.gz", "deep/1.nii.gz", "deep/3.nii.gz"]


def test_the_client_needs_no_numpy(url, image):
    done = in_process("segment", image, "--server", url, "--no-picture")
    assert done == ["1 segmented, 0 skipped, 0 failed", "[]"]


# --- the same result as the command's ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def bright_models(tmp_path_factory, bright_network):
    folder = tmp_path_factory.mktemp("bright")
    export_saved_model(bright_network, folder)
    return dev_server.Catalogue.load(folder)


MADE_ALIKE = (
    "weights",
    "threshold",
    "slices",
    "shape",
    "orientation",
    "axial_axis",
    "window_moved",
    "warnings",
    "output",
    "files",
    "input_sha256",
)
CLOSE = (
    "spacing_mm",
    "intensity_mean",
    "intensity_std",
    "gray_matter_volume_mm3",
    "removed_away_from_cord_mm3",
)


def stored(image, codes):
    start = nib.io_orientation(image.affine)
    return image.as_reoriented(
        nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(codes)))
    )


def check_same(got, expected):
    """That two results hold the same: mask, table, picture and record."""
    assert gzip.decompress(got.mask.read_bytes()) == gzip.decompress(expected.mask.read_bytes())
    assert got.areas.read_bytes() == expected.areas.read_bytes()
    with Image.open(got.picture) as mine, Image.open(expected.picture) as theirs:
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    mine, theirs = (json.loads(paths.record.read_text()) for paths in (got, expected))
    assert set(theirs) <= set(mine)
    assert {key: mine[key] for key in MADE_ALIKE} == {key: theirs[key] for key in MADE_ALIKE}
    for key in CLOSE:
        assert mine[key] == pytest.approx(theirs[key], rel=1e-6), key
    for key, value in theirs["quality"].items():
        assert mine["quality"][key] == (pytest.approx(value) if isinstance(value, float) else value), key


@pytest.mark.parametrize(("way", "soft", "codes"), [("rest", False, "LAS"), ("grpc", True, "IRP")])
def test_a_served_result_is_the_commands(
    bright_models, bright_network, blob_image, tmp_path, way, soft, codes
):
    path = tmp_path / "cord.nii.gz"
    stored(blob_image(shape=(60, 56, 4), radius_mm=2.0), codes).to_filename(path)
    expected = OutputPaths.for_input(path, tmp_path / "command")
    write_outputs(segment(path, bright_network, keep_probabilities=soft), expected, soft=soft)
    with dev_server.serve(bright_models, rest_port=0, grpc_port=0) as address:
        url = address.rest_url if way == "rest" else f"grpc://{address.grpc}"
        with Client(url, soft=soft) as client:
            (job,) = client.segment_all([(path, tmp_path / "served")])
    assert job.error is None
    check_same(OutputPaths.for_input(path, tmp_path / "served"), expected)


def answer_like(result, soft):
    """What a server answers that measures what the command measured."""
    record, quality = result.record, result.quality
    values = {name: value for name, value in record.items() if name in CLOSE or name == "window_moved"}
    values |= {item.name: getattr(quality, item.name) for item in fields(quality)} | {"provenance": record}
    files = [
        nib.Nifti1Image.to_bytes(image) if wanted else None
        for image, wanted in ((result.mask, True), (soft and result.probabilities, soft))
    ]
    rows = [
        SliceRow(reason=row.warning, **{name: getattr(row, name) for name in names_of(SliceRow) - {"reason"}})
        for row in result.areas
    ]
    findings = Findings(**{name: values[name] for name in names_of(Findings)})
    return Answer(*files, tuple(rows), result.warnings, findings, 1)


def names_of(kind):
    return {item.name for item in fields(kind)}


@pytest.mark.parametrize("codes", ["LAS", "LPI", "SAR", "AIL"])
@pytest.mark.parametrize("soft", [False, True])
def test_the_files_of_a_result_are_the_commands(bright_network, blob_image, tmp_path, codes, soft):
    image = blob_image(shape=(60, 56, 4), radius_mm=2.0)
    voxels = np.asarray(image.dataobj).copy()
    voxels[..., 2] = 100
    voxels[..., 3] = np.roll(voxels[..., 3], 6, axis=0)
    image = stored(nib.Nifti1Image(voxels, image.affine), codes)
    path = tmp_path / "cord.nii.gz"
    image.to_filename(path)
    expected = OutputPaths.for_input(path, tmp_path / "command")
    result = segment(path, bright_network, keep_probabilities=soft)
    assert result.mask_voxels.any()
    assert result.warnings
    write_outputs(result, expected, soft=soft)
    got = client_outputs.OutputPaths.for_input(path, tmp_path / "served")
    kind = "probabilities" if soft else "mask"
    made = {"output": kind, "input_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    grid = read_image(path, 10**6)[1]
    mine = Result(path, got, grid, kind, answer_like(result, soft), made, with_picture=True)
    mine.check()
    mine.write()
    check_same(OutputPaths.for_input(path, tmp_path / "served"), expected)


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    """Calls the command: (exit code, standard output, standard error)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        return stop.value.code or 0, *capsys.readouterr()

    return call


def test_folders_keep_their_places_and_finished_images_are_skipped(run, url, images, tmp_path):
    (images / "bad.nii").write_bytes(b"")
    (images / "notes.txt").write_text("hello")
    code, out, err = run("segment", images, "-o", tmp_path / "out", "--server", url)
    assert code == 2
    assert out.splitlines()[-1] == "4 segmented, 0 skipped, 1 failed"
    assert err == f"error: {images}/bad.nii: too short for a NIfTI file; copy or convert it again\n"
    masks = [name for name in names(tmp_path / "out") if name.endswith(".nii.gz")]
    assert masks == ["0_gmseg.nii.gz", "2_gmseg.nii.gz", "deep/1_gmseg.nii.gz", "deep/3_gmseg.nii.gz"]
    (images / "bad.nii").unlink()
    code, out, err = run("segment", images, "-o", tmp_path / "out", "--server", url)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "0 segmented, 4 skipped, 0 failed"


def test_folders_are_searched_as_by_the_command_itself(images):
    assert client_outputs.LABEL_NAME == keras_scgm.images.LABEL_NAME
    for name in (
        ".git/a.nii",
        "derivatives/a.nii",
        "deep/a_gmseg.nii.gz",
        "a_seg.nii",
        ".a.nii",
        "notes.txt",
    ):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).touch()
    (images / "0.nii.gz").rename(images / "0.NII.GZ")
    (images / "deep" / "circle").symlink_to(images)
    found = client_outputs.find_images(images)
    assert found == [image.path for image in keras_scgm.images.find_images([images]).images]
    assert len(found) == 4
    assert client_outputs.OutputPaths.for_input(found[0]).mask == images / "0_gmseg.nii.gz"


def test_settings_that_are_wrong_for_all_images_are_told_once(run, url, images):
    code, out, err = run("segment", images, "--server", url, "--label", "none")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "check --label" in err


def test_status_command(run, url):
    # A channel that breaks on a busy machine is opened again, which standard error tells.
    code, out, _ = run("status", "--server", url)
    assert (code, out) == (0, "gm_nifti version 1: AVAILABLE\n")
    code, _, err = run("status", "--server", url, "--model", "none")
    assert code == 2
    assert "no such model" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segment", "{images}/empty", "--server", "http://localhost"), "holds no .nii"),
        (
            ("segment", "{images}/0.nii.gz", "{images}/0.nii", "--server", "http://localhost"),
            "would both become",
        ),
        (("status", "--server", "here"), "not a server"),
        (("status", "--token-file", "{images}/none"), "cannot be read; check --token-file"),
        (("segment", "x.nii", "--jobs", "0"), "must be 1 to 64"),
        (("segment", "x.nii", "--deadline", "0"), "must be over 0"),
    ],
)
def test_command_lines_that_are_refused(run, images, arguments, message):
    (images / "empty").mkdir()
    code, _, err = run(*(part.format(images=images) for part in arguments))
    assert code == 2
    assert message in err


def test_an_interrupt_ends_the_command_and_leaves_nothing_half(images, tmp_path):
    with rest_answers((200, b"", {"Content-Length": "10"})) as (url, seen):
        script = "from keras_scgm_client.cli import main; main()"
        command = [
            sys.executable,
            "-c",
            script,
            "segment",
            str(images),
            "-o",
            str(tmp_path / "out"),
            "--server",
            url,
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while not seen:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 130
            assert "interrupted; finished images are kept" in process.stderr.read()
    assert names(tmp_path / "out") == []


def test_the_smoke_script(address, image, tmp_path):
    scripts = Path(sys.executable).parent
    if not (scripts / "scgm-client").exists():
        pytest.skip("the command is not installed beside this Python")
    with Client(address.rest_url) as client:
        expected = client.segment(image, tmp_path / "expected")
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}
    environment |= {"REST": address.rest_url, "GRPC": f"grpc://{address.grpc}"}
    command = ["bash", str(SMOKE), str(image)]
    done = subprocess.run(
        [*command, str(expected)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" ok\n") == 10
    wrong = tmp_path / "wrong.nii.gz"
    wrong.write_bytes(gzip.compress(nifti_bytes(random_voxels(1))))
    done = subprocess.run(
        [*command, str(wrong)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "FAILED" in done.stdout.splitlines()[-1]


def test_public_names():
    assert all(hasattr(keras_scgm_client, name) for name in keras_scgm_client.__all__)
