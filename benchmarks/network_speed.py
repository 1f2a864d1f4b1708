"""How fast is the network alone, in each runtime? Milliseconds per slice, measured in one run.

The candidates take turns, a batch each, so that whatever else the machine does meets them alike. "best" is the
fastest turn, "middle" the median, "processor" the processor time of all cores in the cheapest turn, which other
programs disturb least. "times" compares with the network in ONNX Runtime as the Spinal Cord Toolbox runs it
("as converted"; see `unfolded_onnx.py`), and the mask is compared with that of plain Keras. "around the cord" is what
`keras-scgm segment` asks a network for (`keras_scgm.runtimes.region_of_interest`), the other rows are whole windows.
The last line is the limit of all direct convolution of whole windows in float32: the network's arithmetic at the rate
of a large matrix product, which takes turns with the others.

    python benchmarks/network_speed.py [--weights challenge] [--image IMAGE] [--seconds 60] [--batch 4]

The image gives the slices; without one a cord is drawn. Candidates that are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from unfolded_onnx import unfolded_onnx

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.dice import dice
from keras_scgm.localization import windows_on_cord
from keras_scgm.nifti import read_volume, volume_from_image
from keras_scgm.prediction import Ensemble
from keras_scgm.runtimes import has_openvino
from keras_scgm.runtimes.onnx_network import open_session
from keras_scgm.slices import read_windows

GFLOP_PER_SLICE = 9.78
"""Of the folded network, for a slice of 200 x 200 pixels; nearly all in its twelve 3x3 convolutions."""
MATRIX = 2048

ANCHOR = "onnxruntime, as converted, float32"
CANDIDATES = [
    ("keras", "float32"),
    ("onnxruntime", "float32"),
    ("tensorflow", "float32"),
    ("tensorflow", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
]


def read_slices(image: Path | None, batch: int, network: Ensemble) -> tuple[np.ndarray, np.ndarray]:
    """Normalised slices, and where the cord is in them."""
    if image is None:
        volume = volume_from_image(draw_subject(PhantomConfig(n_slices=batch), seed=0).image)
    else:
        volume = read_volume(image)
    windows = windows_on_cord(volume, network.config, network.predict)
    if windows.cord is None:
        sys.exit("no cord was found in the image; choose another")
    start = max(0, (volume.n_slices - batch) // 2)
    stop = min(start + batch, volume.n_slices)
    return read_windows(volume, windows.geometry, windows.statistics, start, stop), windows.cord[start:stop]


def _around(network: Ensemble, cord: np.ndarray, slices: np.ndarray) -> np.ndarray:
    return network.predict(slices, cord)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    networks = {
        candidate: Ensemble(arguments.weights, runtime=candidate[0], precision=candidate[1])
        for candidate in CANDIDATES
        if candidate[0] != "openvino" or has_openvino()
    }
    slices, cord = read_slices(arguments.image, arguments.batch, networks["tensorflow", "float32"])
    predictors: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for network in networks.values():
        predictors[network.runtime] = network.predict
        if network.predict.takes_regions:
            predictors[f"{network.runtime}, around the cord"] = partial(_around, network, cord)
    session = open_session(unfolded_onnx(arguments.weights))
    predictors = {ANCHOR: lambda slices: session.run(None, {"slices": slices})[0], **predictors}
    probabilities = {name: predict(slices) for name, predict in predictors.items()}
    matrix = np.random.default_rng(0).random((MATRIX, MATRIX), np.float32)
    products = []
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in predictors}
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        for name, predict in predictors.items():
            started, processor = time.perf_counter(), time.process_time()
            predict(slices)
            seconds[name].append((time.perf_counter() - started, time.process_time() - processor))
        started = time.perf_counter()
        matrix @ matrix
        products.append(time.perf_counter() - started)

    plain = networks["keras", "float32"].runtime
    expected = probabilities[plain]
    milliseconds = {name: 1e3 * np.array(turns) / len(slices) for name, turns in seconds.items()}
    anchor = milliseconds[ANCHOR].min(axis=0)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {len(slices)} slices of {slices.shape[1]} pixels")
    head = ("best ms", "middle ms", "processor ms", "times", "times (processor)", "DSC", "largest difference")
    print(f"| runtime | turns | {' | '.join(head)} |\n|{'---|' * 9}")
    for name, turns in milliseconds.items():
        best, processor = turns.min(axis=0)
        mask = dice(probabilities[name] > 0.5, expected > 0.5)
        difference = np.abs(probabilities[name] - expected).max()
        print(
            f"| {name} | {len(turns)} | {best:.1f} | {np.median(turns[:, 0]):.1f} "
            f"| {processor:.1f} | {anchor[0] / best:.2f} | {anchor[1] / processor:.2f} | {mask:.5f} "
            f"| {difference:.1e} |"
        )
    rate = 2 * MATRIX**3 / 1e9 / min(products)
    limit = 1e3 * GFLOP_PER_SLICE / rate
    print(f"limit in float32: {limit:.1f} ms at {rate:.0f} GFLOP/s, {anchor[0] / limit:.2f} times")


if __name__ == "__main__":
    main()
