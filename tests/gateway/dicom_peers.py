"""The gateway as a program, and what is around it: senders, a receiver and a relay to the server."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import highdicom as hd
import numpy as np
import pydicom
import urllib3
from dicom_images import PATIENT
from keras_scgm_client.dicom.spool import STATES
from pynetdicom import AE, AllStoragePresentationContexts, evt
from tiny_serving import CORD_THRESHOLD, THRESHOLD


class Receiver:
    """An archive that remembers what it has stored, and can end and come back at the same address."""

    def __init__(self):
        self.stored = []
        self.before_storing = self.before_answering = lambda uid: None
        self.port = 0
        self.tls = None
        self.status = 0x0000
        self.contexts = AllStoragePresentationContexts

    def start(self):
        self.entity = AE("ARCHIVE")
        self.entity.require_called_aet = True
        self.entity.supported_contexts = self.contexts
        handlers = [(evt.EVT_C_STORE, self.store)]
        self.server = self.entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls
        )
        self.port = self.server.server_address[1]

    def stop(self):
        """End. pynetdicom cannot abort an association that it has rejected and whose connection it still closes."""
        for association in self.server.active_associations:
            if not association.is_established:
                association.join(10)
        self.entity.shutdown()

    def store(self, event):
        uid = event.request.AffectedSOPInstanceUID
        self.before_storing(uid)
        if self.status >> 12 in (0x0, 0xB):
            self.stored.append((str(uid), event.encoded_dataset()))
        self.before_answering(uid)
        return self.status

    def read(self):
        """What is stored, by modality; each object once."""
        found = {}
        for _, content in self.stored:
            dataset = pydicom.dcmread(io.BytesIO(content))
            assert dataset.Modality not in found
            found[dataset.Modality] = dataset
        return found


class Relay:
    """Passes requests on to a server; can hold them, end and come back."""

    def __init__(self, url):
        self.url = url
        self.free = threading.Event()
        self.free.set()
        self.n_requests = 0
        self.port = 0

    def start(self):
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                relay.n_requests += 1
                assert relay.free.wait(30)
                headers = {"connection": "close"}
                reply = urllib3.request("POST", relay.url + self.path, body=body, headers=headers)
                with suppress(OSError):
                    self.send_response(reply.status)
                    self.send_header("content-length", str(len(reply.data)))
                    self.end_headers()
                    self.wfile.write(reply.data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Process:
    """A gateway as a program of its own, and its log."""

    def __init__(self, folder, relay, receiver, *options):
        self.folder, self.port = folder, free_port()
        self.log_file = folder / "log"
        self.arguments = [
            *(sys.executable, "-c", "from keras_scgm_client.cli import main; main()", "dicom-gateway"),
            *("--server", f"http://127.0.0.1:{relay.port}", "--timeout", "30", "--settle", "1"),
            *("--log-format", "json"),
            *("--store", str(folder / "store"), "--port", str(self.port)),
            *("--send-to", f"ARCHIVE@127.0.0.1:{receiver.port}", *options),
        ]

    def start(self):
        n_before = len(self.events("started"))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.arguments, stdout=log, stderr=log)
        self.wait_for("started", n_before + 1)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()

    def events(self, kind):
        lines = self.log_file.read_text().splitlines() if self.log_file.exists() else []
        return [line for line in map(json.loads, lines) if line.get("event") == kind]

    def wait_for(self, kind, n=1, seconds=30):
        until(lambda: len(self.events(kind)) >= n, seconds, lambda: self.log_file.read_text())
        return self.events(kind)[-1]

    def states(self):
        return {state: len(names) for state in STATES if (names := os.listdir(self.folder / "store" / state))}


def until(is_so, seconds=30, told=lambda: ""):
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, told()
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def send(images, port, title="SCGM", calling="SCANNER", tls=None):
    """The images that were acknowledged."""
    entity = AE(calling)
    entity.dimse_timeout = entity.network_timeout = 5
    for image in images:
        with suppress(ValueError):
            entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    link = entity.associate("127.0.0.1", port, ae_title=title, tls_args=tls and (tls, "127.0.0.1"))
    if not link.is_established:
        return []
    acknowledged = []
    for image in images:
        if not link.is_established:
            break
        with suppress(RuntimeError):
            if link.send_c_store(image).get("Status") == 0:
                acknowledged.append(image)
    if link.is_established:
        link.release()
    link.join(10)
    return acknowledged


def check_results(receiver, images):
    """One segmentation and one picture, of what the tiny model takes for the tissues, in their place."""
    made = receiver.read()
    assert set(made) == {"SEG", "OT"}
    stored = hd.seg.Segmentation.from_dataset(made["SEG"])
    of_source = hd.get_volume_from_series(images)
    volume = stored.get_volume().match_geometry(of_source)
    gray_matter, cord = of_source.array > THRESHOLD, of_source.array > CORD_THRESHOLD
    np.testing.assert_array_equal(volume.array, np.stack([gray_matter, cord & ~gray_matter, cord], axis=-1))
    assert made["OT"].SeriesDescription.startswith("Gray matter and cord, research only: ")
    assert made["OT"].pixel_array.max() > 0
    for result in made.values():
        assert result.StudyInstanceUID == images[0].StudyInstanceUID
        assert str(result.PatientName) == PATIENT
