"""`serving/smoke.sh` against the development server, with a program in place of nvidia-smi."""

import gzip
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras_scgm_devserver as dev_server
import pytest
import urllib3
from keras_scgm_client import Client
from tiny_serving import nifti_bytes, random_voxels, save_tiny_models

SMOKE = Path(__file__).parents[1] / "serving" / "smoke.sh"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    models = save_tiny_models(tmp_path_factory.mktemp("models"))
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as started:
        yield started


def test_what_is_missing_is_one_line(tmp_path):
    bash = shutil.which("bash")
    for arguments, text in (
        ([], "no image; give IMAGE.nii.gz and, to compare with, its masks"),
        (["t2s.nii.gz"], "curl is missing; install it"),
    ):
        done = subprocess.run(
            [bash, SMOKE, *arguments],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {text}\n")


@pytest.mark.parametrize(
    ("busy", "code", "line"),
    [
        ("echo 40; echo 7", 0, "ok (busy to 40 % while it works, 2 % before)"),
        ("echo 4", 1, "FAILED: it was busy to 2 % before 16 images and to 4 % at most during them"),
        (None, 0, "not known (nvidia-smi does not answer; set NVIDIA_SMI)"),
    ],
)
def test_whether_a_gpu_is_used(address, tmp_path, busy, code, line):
    if not (SCRIPTS / "scgm-client").exists():
        pytest.skip("the command is not installed beside this Python")
    image = tmp_path / "t2s.nii.gz"
    image.write_bytes(nifti_bytes(random_voxels(0), compress=True))
    program = tmp_path / "nvidia-smi"
    if busy:
        # Two percent when it is asked first.
        program.write_text(
            f"#!/bin/sh\n[ -e {tmp_path}/asked ] || {{ touch {tmp_path}/asked; echo 2; exit; }}\n{busy}\n"
        )
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "NVIDIA_SMI": str(program)}
    environment |= {"REST": address.rest_url, "GRPC": f"grpc://{address.grpc}"}
    done = subprocess.run(
        ["bash", SMOKE, image], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].removeprefix("gm_nifti uses the GPU").strip() == line


def test_masks_are_compared_with_the_expected_one(address, tmp_path):
    image = tmp_path / "t2s.nii.gz"
    image.write_bytes(nifti_bytes(random_voxels(0), compress=True))
    if not (SCRIPTS / "scgm-client").exists():
        pytest.skip("the command is not installed beside this Python")
    with Client(address.rest_url) as client:
        gray_matter = client.segment(image, tmp_path / "expected")
    expected = [gray_matter.with_name(f"t2s_{tissue}.nii.gz") for tissue in ("gmseg", "wmseg", "seg")]
    environment = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"}
    environment |= {"REST": address.rest_url, "GRPC": f"grpc://{address.grpc}"}
    command = ["bash", str(SMOKE), str(image)]
    done = subprocess.run(
        [*command, *map(str, expected)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" ok\n") == 14
    wrong = tmp_path / "wrong_seg.nii.gz"
    wrong.write_bytes(gzip.compress(nifti_bytes(random_voxels(1))))
    done = subprocess.run(
        [*command, str(wrong)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].split() == ["seg.nii.gz", "is", "the", "expected", "one", "FAILED"]


@contextmanager
def in_front_of(url, metrics):
    """Passes requests on, with another name of the server, and answers that for metrics with (status, body)."""

    class Handler(BaseHTTPRequestHandler):
        server_version = "other"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path == "/monitoring/prometheus/metrics":
                status, data = metrics
            else:
                reply = urllib3.request(self.command, url + self.path, body=body)
                status, data = reply.status, reply.data
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("metrics", "code", "line"),
    [
        # More than a pipe holds, with a match at the beginning.
        ((200, b':tensorflow:serving:request_count{status="OK"} 1\n' + b"# more\n" * 100_000), 0, "ok"),
        ((404, b"{}"), 1, "FAILED: HTTP 404; check --monitoring_config_file"),
        ((200, b"# nothing\n"), 1, "FAILED: HTTP 200; check --monitoring_config_file"),
    ],
    ids=["many", "none", "others"],
)
def test_whether_there_are_metrics(address, tmp_path, metrics, code, line):
    if not (SCRIPTS / "scgm-client").exists():
        pytest.skip("the command is not installed beside this Python")
    image = tmp_path / "t2s.nii.gz"
    image.write_bytes(nifti_bytes(random_voxels(0), compress=True))
    with in_front_of(address.rest_url, metrics) as url:
        environment = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "NVIDIA_SMI": "false"}
        environment |= {"REST": url, "GRPC": f"grpc://{address.grpc}"}
        done = subprocess.run(
            ["bash", SMOKE, image], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == code, done.stdout + done.stderr
    (told,) = (told for told in done.stdout.splitlines() if told.startswith("metrics "))
    assert told.removeprefix("metrics").strip() == line
