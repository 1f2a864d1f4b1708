"""Does memory stay flat for a volume as long as the paper's ex vivo cord (4676 slices of 600 x 600)?

Drawn slices are tiled to uncompressed NIfTI files of growing length; each is segmented in a process of its
own, whose peak resident memory is printed. Usage:

    python benchmarks/long_volume.py [--slices 100 400 4676] [--weights NAME]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm.datasets.phantom import PhantomSpec, draw_subject

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


def write_tiled_volume(path: Path, n_slices: int) -> None:
    """uint16 file of n_slices drawn ex vivo slices, the same ten over and over."""
    spec = PhantomSpec(
        spacing_mm=SPACING_MM,
        slice_thickness_mm=SPACING_MM,
        matrix_size=SIZE,
        n_slices=TILE_SLICES,
        contrast="exvivo",
    )
    tile = draw_subject(spec, seed=0).image
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 400, 4676])
    parser.add_argument("--weights", default="synthetic")
    arguments = parser.parse_args()
    print(f"{'slices':>8} {'file GiB':>9} {'peak GiB':>9} {'seconds':>8} {'slices/s':>9}")
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
        print(
            f"{n_slices:8d} {file_gib:9.2f} {peak_gib:9.2f} {seconds:8.1f} {n_slices / seconds:9.1f}",
            flush=True,
        )
        if peak_gib > LIMIT_GIB:
            sys.exit(f"peak memory of {peak_gib:.2f} GiB is over the limit of {LIMIT_GIB:g} GiB")


if __name__ == "__main__":
    main()
