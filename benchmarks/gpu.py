"""Everything to be measured on a GPU, in one run of less than ten minutes; it also runs on a processor.

1. Network alone, slices per second in float32, TF32 and bfloat16, and how much of the arithmetic limit that is.
   The limit is measured, not looked up: the rate of a large matrix product in the same precision.
2. A volume of 4676 slices as long as the paper's ex vivo cord, the whole command's work with the network loaded:
   reading, resampling, network, resampling back.
3. The served model `gm_nifti` on one volume, as a request, and the command's work on the same file.
4. Training steps of the paper's protocol (batches of 11 augmented slices of 200 x 200 pixels), and the time of its
   1000 epochs of 32 steps extrapolated from them, in float32 and in bfloat16 with XLA (on a processor without).

    python benchmarks/gpu.py [--slices 4676] [--steps 500] [--seconds 20] [--batch 64]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from long_volume import write_tiled_volume

from keras_scgm.augmentation import PRESETS, augment
from keras_scgm.export.check import warm_up_files
from keras_scgm.export.saved_model import export_saved_model
from keras_scgm.losses import DiceLoss
from keras_scgm.models import DilatedGMNet
from keras_scgm.runtimes.tensorflow_network import build
from keras_scgm.segmentation import SegmentationConfig, Segmenter

GFLOP_PER_SLICE = 9.98
EPOCHS, STEPS_PER_EPOCH, BATCH, SIZE = 1000, 32, 11, 200
MATRIX = {"GPU": 8192, "CPU": 2048}
PRECISIONS = [("float32", False, tf.float32), ("TF32", True, tf.float32), ("bfloat16", True, tf.bfloat16)]


def rate(work: Callable[[], tf.Tensor], seconds: float) -> float:
    """Calls per second, each waited for, after one that is not counted."""
    work().numpy()
    started, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - started < seconds:
        # A number that depends on all of the work comes back from the device; the rest stays there.
        work().numpy()
        calls += 1
    return calls / (time.perf_counter() - started)


def arithmetic_limit(dtype: tf.DType, device: str, seconds: float) -> float:
    """TFLOP/s of a square matrix product."""
    size = MATRIX[device]
    a = tf.cast(tf.random.stateless_normal((size, size), (0, 1)), dtype)
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))
    return rate(multiply, seconds) * 2 * size**3 / 1e12


def network_rates(device: str, batch: int, seconds: float) -> None:
    slices = tf.random.stateless_normal((batch, SIZE, SIZE, 1), (0, 2))
    model = DilatedGMNet(weights="synthetic")
    print("| precision | slices/s, fast graph | slices/s, Keras | TFLOP/s | matrix product TFLOP/s | share |")
    print("|---|---|---|---|---|---|")
    for name, tensor_float_32, dtype in PRECISIONS:
        if name == "TF32" and device == "CPU":
            continue
        tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)
        network = build(model, dtype)
        if network is None:
            raise RuntimeError("the bundled weights are not a DilatedGMNet")
        fast = tf.function(lambda network=network: tf.reduce_sum(network(slices)))
        per_second = batch * rate(fast, seconds)
        plain = "-"
        if dtype == tf.float32:
            plain = f"{batch * rate(tf.function(lambda: tf.reduce_sum(model(slices))), seconds):.0f}"
        limit = arithmetic_limit(dtype, device, seconds / 4)
        reached = per_second * GFLOP_PER_SLICE / 1e3
        print(
            f"| {name} | {per_second:.0f} | {plain} | {reached:.2f} | {limit:.2f} | {reached / limit:.0%} |",
            flush=True,
        )
    tf.config.experimental.enable_tensor_float_32_execution(True)


def long_volume(n_slices: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cord.nii"
        write_tiled_volume(path, n_slices)
        for precision in ("float32", "bfloat16"):
            settings = SegmentationConfig(keep_probabilities=False, window="center", precision=precision)
            segmenter = Segmenter(None, settings)
            segmenter.networks.predict(np.zeros((4, SIZE, SIZE, 1), np.float32))
            started = time.perf_counter()
            segmenter.segment(path)
            seconds = time.perf_counter() - started
            print(
                f"{n_slices} slices, {precision}: {seconds:.2f} s, {n_slices / seconds:.0f} slices/s",
                flush=True,
            )


def served(seconds: float) -> None:
    """Requests of a volume of 36 slices, one after the other, by the graph that a server runs."""
    _, cord, _ = warm_up_files()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cord.nii.gz"
        path.write_bytes(cord)
        models = export_saved_model(None, Path(folder) / "models")
        predict = tf.saved_model.load(str(models.nifti)).signatures["serving_default"]
        request = tf.constant([cord])
        segmenter = Segmenter()
        of_server = rate(lambda: predict(nifti_bytes=request)["predicted_dsc"], seconds)
        of_command = rate(lambda: tf.constant(segmenter.segment(path).quality.predicted_dsc), seconds)
    print(
        f"volumes of 36 slices: served {of_server:.2f}/s, command {of_command:.2f}/s, "
        f"ratio of times {of_command / of_server:.2f}",
        flush=True,
    )


def training(device: str, steps: int) -> None:
    random = np.random.default_rng(0)
    images = random.normal(size=(8 * BATCH, SIZE, SIZE, 1)).astype("float32")
    masks = (images > 1.5).astype("float32")
    on_gpu = device == "GPU"
    for name, policy, xla in (
        ("float32", "float32", False),
        ("bfloat16, XLA" if on_gpu else "bfloat16", "mixed_bfloat16", on_gpu),
    ):
        keras.config.set_dtype_policy(policy)
        model = DilatedGMNet()
        model.compile(keras.optimizers.Adam(1e-3), loss=DiceLoss(), jit_compile=xla)
        dataset = (
            tf.data.Dataset.from_tensor_slices((images, masks)).repeat().batch(BATCH, drop_remainder=True)
        )
        dataset = augment(dataset, PRESETS["strong"], seed=0).prefetch(tf.data.AUTOTUNE)
        model.fit(dataset, steps_per_epoch=2, shuffle=False, verbose=0)
        started = time.perf_counter()
        model.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0)
        per_second = steps / (time.perf_counter() - started)
        minutes = EPOCHS * STEPS_PER_EPOCH / per_second / 60
        print(
            f"training, {name}: {per_second:.2f} steps/s over {steps} steps; the protocol's "
            f"{EPOCHS} x {STEPS_PER_EPOCH} steps would take {minutes:.0f} minutes",
            flush=True,
        )
    keras.config.set_dtype_policy("float32")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=4676)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    device = "GPU" if gpus else "CPU"
    name = tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else "CPU"
    print(f"{name}, TensorFlow {tf.__version__}, Keras {keras.__version__}", flush=True)
    network_rates(device, arguments.batch, arguments.seconds)
    long_volume(arguments.slices)
    served(arguments.seconds)
    training(device, arguments.steps)


if __name__ == "__main__":
    main()
