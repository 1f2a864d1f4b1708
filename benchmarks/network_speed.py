"""How fast is the network alone, in each runtime? Milliseconds per slice, measured in one run.

The candidates take turns, a batch each, so that whatever else the machine does meets them alike. "best" is the
fastest turn, "middle" the median, "processor" the processor time of all cores in the cheapest turn, which other
programs disturb least. "times" compares with the network in ONNX Runtime as the Spinal Cord Toolbox runs it
("as converted"; see `unfolded_onnx.py`), and the mask is compared with that of plain Keras.

    python benchmarks/network_speed.py [--weights challenge] [--image IMAGE] [--seconds 60] [--batch 4]

The image gives the slices; without one a cord is drawn. Candidates that are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np

from keras_scgm.datasets.phantom import PhantomSpec, draw_subject
from keras_scgm.nifti import read_volume, volume_from_image
from keras_scgm.prediction import Ensemble
from keras_scgm.runtimes import is_installed
from keras_scgm.slices import SliceGeometry, SliceSpec, measure_intensities, read_windows

ANCHOR = "onnxruntime, as converted, float32"
CANDIDATES = [
    ("keras", "float32"),
    ("onnxruntime", "float32"),
    ("tensorflow", "float32"),
    ("tensorflow", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
]


def read_slices(image: Path | None, batch: int) -> np.ndarray:
    if image is None:
        volume = volume_from_image(draw_subject(PhantomSpec(n_slices=batch), seed=0).image)
    else:
        volume = read_volume(image)
    geometry = SliceGeometry.centered(volume, SliceSpec())
    statistics = measure_intensities(volume, geometry)
    middle = max(0, (volume.n_slices - batch) // 2)
    return read_windows(volume, geometry, statistics, middle, min(middle + batch, volume.n_slices))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """DSC of two masks."""
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    slices = read_slices(arguments.image, arguments.batch)
    networks = {
        candidate: Ensemble(arguments.weights, runtime=candidate[0], precision=candidate[1])
        for candidate in CANDIDATES
        if candidate[0] in ("keras", "tensorflow") or is_installed(candidate[0])
    }
    predictors = {network.runtime: network.predict for network in networks.values()}
    if is_installed("onnxruntime"):
        from unfolded_onnx import unfolded_onnx

        from keras_scgm.runtimes.onnx_network import predictor

        predictors = {ANCHOR: predictor(unfolded_onnx(arguments.weights)), **predictors}
    probabilities = {name: predict(slices) for name, predict in predictors.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in predictors}
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        for name, predict in predictors.items():
            started, processor = time.perf_counter(), time.process_time()
            predict(slices)
            seconds[name].append((time.perf_counter() - started, time.process_time() - processor))

    plain = networks["keras", "float32"].runtime
    expected = probabilities[plain]
    milliseconds = {name: 1e3 * np.array(turns) / len(slices) for name, turns in seconds.items()}
    anchor = milliseconds.get(ANCHOR, milliseconds[plain]).min(axis=0)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {len(slices)} slices of {slices.shape[1]} pixels")
    head = ("best ms", "middle ms", "processor ms", "times", "times (processor)", "DSC", "largest difference")
    print(f"| runtime | turns | {' | '.join(head)} |\n|{'---|' * 9}")
    for name, turns in milliseconds.items():
        best, processor = turns.min(axis=0)
        mask = overlap(probabilities[name] > 0.5, expected > 0.5)
        difference = np.abs(probabilities[name] - expected).max()
        print(
            f"| {name} | {len(turns)} | {best:.1f} | {np.median(turns[:, 0]):.1f} "
            f"| {processor:.1f} | {anchor[0] / best:.2f} | {anchor[1] / processor:.2f} | {mask:.5f} "
            f"| {difference:.1e} |"
        )


if __name__ == "__main__":
    main()
