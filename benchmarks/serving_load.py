"""Measures throughput and latency of a server by transport and concurrency, compared with direct calls.

Synthetic volumes are segmented by direct calls of the exported model and by one or more clients over REST and gRPC.
All masks are compared with the direct ones, byte for byte, and the memory of the server is read after each quarter.
The server is the development server in a process of its own, or the one that TF_SERVING_URL and TF_SERVING_GRPC name.
Usage:

    python benchmarks/serving_load.py MODELS [--volumes 100] [--concurrency 1 2 4 8] [--image t2s.nii.gz]

MODELS is the output folder of `keras-scgm export`. Needs the client: pip install 'serving/client[grpc]'.
"""

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
from keras_scgm_client.rest import RestTransport
from keras_scgm_client.rpc import GrpcTransport
from keras_scgm_client.transport import Access, Model
from keras_scgm_devserver import Catalogue

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject

SECONDS, MAX_ANSWER_BYTES = 600.0, 2**28
WARM_UP_REQUESTS = 2
FIRST_AGAINST = 20
"""Number of requests that the first request of a new server is compared with."""

SERVE = """
import sys, threading
import keras_scgm_devserver as dev_server
with dev_server.serve(dev_server.Catalogue.load(sys.argv[1]), rest_port=0, grpc_port=0) as address:
    print(address.rest_url, address.grpc, flush=True)
    threading.Event().wait()
"""


def synthetic_volumes(count: int, n_slices: int) -> list[bytes]:
    """Gzipped NIfTI files of synthetic cords, each of another subject."""
    config = PhantomConfig(spacing_mm=0.5, matrix_size=120, n_slices=n_slices)
    return [gzip.compress(draw_subject(config, seed).image.to_bytes()) for seed in range(count)]


@contextmanager
def server(models: Path):
    """REST URL, gRPC address, and the process if this script started it."""
    if os.environ.get("TF_SERVING_URL"):
        yield os.environ["TF_SERVING_URL"], os.environ.get("TF_SERVING_GRPC", "localhost:8500"), None
        return
    command = [sys.executable, "-c", SERVE, str(models)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            rest_url, grpc_address = process.stdout.readline().split()
            yield rest_url, grpc_address, process
        finally:
            process.terminate()


def resident_mib(process: subprocess.Popen | None) -> float:
    if process is None:
        return float("nan")
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def latency(call: Callable[[bytes], bytes], volume: bytes) -> float:
    started = time.perf_counter()
    call(volume)
    return time.perf_counter() - started


def measure(
    call: Callable[[bytes], bytes],
    volumes: list[bytes],
    expected: list[bytes],
    concurrency: int,
    process: subprocess.Popen | None,
) -> tuple[list[float], float, list[float]]:
    """Latencies (s), total time (s), and memory of the server after each quarter (MiB)."""
    memory = []

    def timed(k: int) -> float:
        started = time.perf_counter()
        file = call(volumes[k])
        seconds = time.perf_counter() - started
        if file != expected[k]:
            sys.exit(f"volume {k}: the mask differs from that of a direct call")
        return seconds

    for k in range(WARM_UP_REQUESTS):
        call(volumes[k % len(volumes)])
    started = time.perf_counter()
    latencies = []
    with ThreadPoolExecutor(concurrency) as pool:
        for k, seconds in enumerate(pool.map(timed, range(len(volumes)))):
            latencies.append(seconds)
            if (k + 1) % max(1, len(volumes) // 4) == 0:
                memory.append(resident_mib(process))
    return latencies, time.perf_counter() - started, memory


def row(name: str, concurrency: int, latencies: list[float], seconds: float, memory: list[float]) -> None:
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    quarters = " ".join(f"{size:.0f}" for size in memory[:4])
    print(
        f"{name:8s} {concurrency:7d} {len(latencies) / seconds:9.2f} {p50:8.3f} {p95:8.3f} {p99:8.3f}  {quarters}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path)
    parser.add_argument("--volumes", type=int, default=100)
    parser.add_argument("--slices", type=int, default=4, help="slices of each synthetic volume")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--image", type=Path, help="a real volume, for the overhead of the transports")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions with the real volume")
    arguments = parser.parse_args()

    version = Catalogue.load(arguments.models).version("gm_nifti")

    def direct(data: bytes) -> bytes:
        inputs = {"nifti_bytes": np.array([data], object)}
        return bytes(version.predict("", inputs)["mask_bytes"][0])

    volumes = synthetic_volumes(arguments.volumes, arguments.slices)
    expected = [direct(data) for data in volumes]
    gray = sum(np.count_nonzero(nib.Nifti1Image.from_bytes(mask).dataobj) for mask in expected)
    print(
        f"{len(volumes)} volumes of {arguments.slices} slices, {gray} voxels of gray matter, {os.cpu_count()} cores"
    )
    print(
        f"{'':8s} {'clients':>7s} {'volumes/s':>9s} {'p50 s':>8s} {'p95 s':>8s} {'p99 s':>8s}  server MiB by quarter"
    )
    row("direct", 1, *measure(direct, volumes, expected, 1, None)[:2], [])
    with server(arguments.models) as (rest_url, grpc_address, process):
        most = max(arguments.concurrency)
        transports = {
            "REST": RestTransport(Access(rest_url, connections=most), Model()),
            "gRPC": GrpcTransport(Access(f"grpc://{grpc_address}", connections=most), Model()),
        }

        def over(transport) -> Callable[[bytes], bytes]:
            return lambda data: transport.predict(data, SECONDS, MAX_ANSWER_BYTES).file

        first, *later = (latency(over(transports["REST"]), volumes[0]) for _ in range(1 + FIRST_AGAINST))
        print(
            f"first request after warm-up {first:.3f} s, {first / statistics.median(later):.2f} x the median"
        )
        for concurrency in arguments.concurrency:
            for name, transport in transports.items():
                row(name, concurrency, *measure(over(transport), volumes, expected, concurrency, process))
        if arguments.image:
            data = arguments.image.read_bytes()
            answer = direct(data)
            ways = {"direct": direct, **{name: over(transport) for name, transport in transports.items()}}
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(arguments.repeats):
                # Alternate, so that other load on the machine affects all alike.
                for name, call in ways.items():
                    (taken,), *_ = measure(call, [data], [answer], 1, None)
                    seconds[name].append(taken)
            middle = {name: statistics.median(values) for name, values in seconds.items()}
            print(f"{arguments.image.name}, median of {arguments.repeats}:")
            for name, value in middle.items():
                print(f"  {name:8s} {value:.3f} s, {value / middle['direct']:.3f} x direct")


if __name__ == "__main__":
    main()
