"""Training on other backends and on several devices."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_training import weights_of

from keras_scgm.models import DilatedGMNet

ON_OTHER_HARDWARE = """
import sys
from pathlib import Path
import keras
import numpy as np

folder, n_devices = Path(sys.argv[1]), int(sys.argv[2])
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * n_devices
    tf.config.set_logical_device_configuration(cpu, halves)
else:
    sys.modules["tensorflow"] = None

from keras_scgm.augmentation import PRESETS, AugmentationConfig
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.training import SliceBatches, TrainingConfig, all_devices, train

rng = np.random.default_rng(0)
image = rng.standard_normal((4, 24, 24, 1), np.float32)
mask = np.zeros_like(image)
mask[:, 8:16, 8:16] = 1
index = np.arange(4)
slices = AnnotatedSlices(
    image, mask, 0 * index, 0 * index, index, raters="all", seed=0, spacing_mm=0.25, contour_smoothing_mm=0, warnings=()
)
config = TrainingConfig(
    model_kwargs={"filters": 2, "dilation_rates": (6,), "dropout": 0.0}, window_px=24,
    epochs=1, steps_per_epoch=3, batch_size=4, cross_entropy_weight=100.0, ema_momentum=0.5,
    augmentation=PRESETS["none"] if n_devices > 1 else AugmentationConfig(rotation_degrees=10.0),
)
class Compiled(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        assert self.model.jit_compile == (keras.backend.backend() == "jax")


train(config, SliceBatches(slices), folder / "one", callbacks=[Compiled()])
assert (folder / "one" / "best.weights.h5").exists()
if n_devices > 1:
    with all_devices() as n:
        assert n == n_devices
        train(config, SliceBatches(slices), folder / "shared")
"""


@pytest.mark.parametrize(("backend", "n_devices"), [("tensorflow", 2), ("jax", 2), ("torch", 1)])
def test_other_backends_and_several_devices(tmp_path: Path, backend: str, n_devices: int) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n_devices}",
        # Devices of one processor wait for each other in threads: there must be more than the cores of a small machine,
        # and two programs under way at once must not take them.
        "PJRT_NPROC": "8",
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "0",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    process = subprocess.run(
        [sys.executable, "-c", ON_OTHER_HARDWARE, str(tmp_path), str(n_devices)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    if n_devices == 1:
        return
    states = [dict(np.load(tmp_path / name / "state.npz")) for name in ("one", "shared")]
    assert states[0].keys() == states[1].keys()
    paths = [tmp_path / name / "last.weights.h5" for name in ("one", "shared")]
    one, shared = (np.concatenate([array.ravel() for array in weights_of(path)]) for path in paths)
    keras.utils.set_random_seed(0)
    start = DilatedGMNet(filters=2, dilation_rates=(6,), dropout=0.0).get_weights()
    moved = np.abs(one - np.concatenate([array.ravel() for array in start]))
    # Adam makes steps of one size even from gradients that are zero but for rounding.
    assert np.mean(np.abs(shared - one) < 2e-4) > 0.95
    assert np.mean(moved > 1e-3) > 0.5


def test_two_replicas_train_as_one_device() -> None:
    process = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("replicas.py"))],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert len(found) == 4
    for name, (weights, losses, moved) in found.items():
        # The kinks of a deep network enlarge rounding; normalization by the statistics of each device alone exceeds
        # the bounds.
        bounds = (1e-2, 1e-3) if name == "training" else (1e-3, 1e-5)
        assert moved > 0.01, name
        assert weights < bounds[0] * moved, name
        assert losses < bounds[1], name
