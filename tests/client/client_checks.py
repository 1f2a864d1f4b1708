"""What several tests of the client need: checks of results, and servers that answer as they are told."""

import base64
import json
import subprocess
import sys
import threading
from concurrent import futures
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import nibabel as nib
import numpy as np
import tensorflow as tf
from keras_scgm_devserver.rest_format import format_outputs
from tiny_serving import THRESHOLD, TinyNifti, nifti_bytes, random_voxels

NOTHING_LISTENS = "127.0.0.1:9"


def check_mask(path, voxels):
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), voxels > THRESHOLD)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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
    return _tiny_answer(image.read_bytes())


@cache
def _tiny_answer(content):
    model = TinyNifti()
    outputs = {name: value.numpy() for name, value in model.segment(tf.constant([content])).items()}
    return json.loads(format_outputs(outputs, "column"))["outputs"]


def error(status, message="", **headers):
    return status, json.dumps({"error": message}).encode() if message else b"<html>", headers


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


def in_process(*arguments):
    """Runs the command on its own: its last line, and which packages it imported."""
    script = (
        "import sys; from keras_scgm_client.cli import main\ntry: main()\nexcept SystemExit as stop: pass\n"
    )
    script += "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-2:]
