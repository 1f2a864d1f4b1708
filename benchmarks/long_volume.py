"""Do memory and speed stay flat for a volume as long as the paper's ex vivo cord (4676 slices of 600 x 600)?

Drawn slices are tiled to uncompressed NIfTI files of growing length; each is segmented in a process of its
own, whose peak resident memory is printed, and its rate as a share of what the network alone does before and
after it on slices that lie ready: in whole windows, and around the cord as the command does. Usage:

    python benchmarks/long_volume.py [--slices 100 400 4676] [--weights NAME]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject

SIZE, TILE_SLICES, SPACING_MM = 600, 10, 0.1
LIMIT_GIB = 2.0

MEASURED_RUN = """
import resource, sys
from keras_scgm_cli.main import main
sys.argv[0] = "keras-scgm"
try:
    main()
finally:
    print("PEAK_KIB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

NETWORK_ALONE = """
import sys, time
import keras_scgm_cli
import numpy as np
from keras_scgm.localization import windows_on_cord
from keras_scgm.nifti import read_volume
from keras_scgm.prediction import Ensemble
from keras_scgm.slices import CHUNK_SLICES, read_windows
network = Ensemble(sys.argv[1])
volume = read_volume(sys.argv[2])
windows = windows_on_cord(volume, network.config, network.predict)
slices = read_windows(volume, windows.geometry, windows.statistics, 0, CHUNK_SLICES)
around = lambda: network.predict(slices, windows.cord[:CHUNK_SLICES])
for compute in (lambda: network.predict(slices), around):
    compute()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < 20:
        compute()
        done += CHUNK_SLICES
    print(done / (time.perf_counter() - started))
"""


def write_tiled_volume(path: Path, n_slices: int) -> None:
    """uint16 file of n_slices drawn ex vivo slices, the same ten over and over."""
    config = PhantomConfig(
        spacing_mm=SPACING_MM,
        slice_thickness_mm=SPACING_MM,
        matrix_size=SIZE,
        n_slices=TILE_SLICES,
        contrast="exvivo",
    )
    tile = draw_subject(config, seed=0).image
    data = np.asarray(tile.dataobj)
    scaled = (data * (60000 / data.max())).astype(np.uint16)
    header = nib.Nifti1Header()
    header.set_data_shape((SIZE, SIZE, n_slices))
    header.set_data_dtype(np.uint16)
    header.set_zooms((SPACING_MM,) * 3)
    header.set_sform(tile.affine, code=1)
    with open(path, "wb") as file:
        header.write_to(file)
        for k in range(n_slices):
            file.write(scaled[:, :, k % TILE_SLICES].tobytes(order="F"))
        # Else the system is still writing it to the disk while it is segmented.
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 400, 4676])
    parser.add_argument("--weights", default="synthetic")
    arguments = parser.parse_args()
    head = ("slices", "file GiB", "peak GiB", "seconds", "slices/s", "of whole windows", "of around the cord")
    print(" | ".join(head))
    alone = network_alone(arguments.weights)
    for n_slices in arguments.slices:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cord.nii"
            write_tiled_volume(path, n_slices)
            command = [sys.executable, "-c", MEASURED_RUN, "segment", str(path), "-w", arguments.weights]
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - started
            if done.returncode:
                sys.exit(done.stderr)
            peak_gib = int(done.stdout.split("PEAK_KIB")[1]) / 2**20
            file_gib = path.stat().st_size / 2**30
        before, alone = alone, network_alone(arguments.weights)
        rate = n_slices / seconds
        shares = 2 * rate / (before + alone)
        print(
            f"{n_slices} | {file_gib:.2f} | {peak_gib:.2f} | {seconds:.1f} | {rate:.2f} "
            f"| {shares[0]:.1%} | {shares[1]:.1%}",
            flush=True,
        )
        if peak_gib > LIMIT_GIB:
            sys.exit(f"peak memory of {peak_gib:.2f} GiB is over the limit of {LIMIT_GIB:g} GiB")


def network_alone(weights: str) -> np.ndarray:
    """Slices per second in whole windows, and around the cord."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cord.nii"
        write_tiled_volume(path, TILE_SLICES)
        command = [sys.executable, "-c", NETWORK_ALONE, weights, str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return np.array(lines.split(), float)


if __name__ == "__main__":
    main()
