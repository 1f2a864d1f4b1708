"""A server that is killed in the middle of the work."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import pytest
from client_checks import check_mask
from keras_scgm_client import Client
from keras_scgm_client.rest import RestTransport
from keras_scgm_client.rpc import GrpcTransport
from keras_scgm_client.transport import Access, Model
from tiny_serving import nifti_bytes, random_voxels

SIZE = (60, 60, 10)
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
    n_images = 24
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
            assert not [outcome.error for outcome in done if outcome.error]
            for k in range(n_images):
                check_mask(tmp_path / way / f"{k}_gmseg.nii.gz", random_voxels(k, SIZE))
        assert not list(tmp_path.rglob(".scgm_*"))

        data = nifti_bytes(random_voxels(0, SIZE), compress=True)
        ways = Access(rest_url, connections=8), Access(f"grpc://{grpc_address}")
        transports = [RestTransport(ways[0], Model()), GrpcTransport(ways[1], Model())]
        sizes = []
        with futures.ThreadPoolExecutor(8) as pool:
            for _ in range(2):
                list(pool.map(lambda k: transports[k % 2].predict(data, 60, 2**24), range(150)))
                sizes.append(resident_bytes(process))
        for transport in transports:
            transport.close()
    assert sizes[1] - sizes[0] < 20e6
