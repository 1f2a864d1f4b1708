"""Programs that compute a network, behind one interface.

| name | computes |
|---|---|
| `tensorflow` | a `DilatedGMNet` as a plain graph, any other network as Keras' own graph; on a processor it does \
without TensorFlow's Python package |
| `keras` | the Keras model itself, on Keras' backend |
| `openvino` | both in OpenVINO, the fastest on processors; optional extra `openvino` |
| `onnxruntime` | a `DilatedGMNet` in ONNX Runtime; optional extra `onnx` |
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.localization import Predict
from keras_scgm.runtimes.folding import FoldedNetwork
from keras_scgm.runtimes.tensorflow_library import find_library, tensorflow_version
from keras_scgm.runtimes.tensorflow_library import predictor as library_predictor

if TYPE_CHECKING:
    import keras

NAMES = ("auto", "tensorflow", "keras", "openvino", "onnxruntime")
PRECISIONS = ("float32", "bfloat16")

NVIDIA_DRIVER = Path("/proc/driver/nvidia")

# OpenVINO's package sends usage data when it is imported, from a forked process. Nobody asked for that, and a fork
# while NumPy's threads are at work can stop them for good. Without the package that sends, it does not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}
_MODULES = {"openvino": ["openvino"], "onnxruntime": ["onnx", "onnxruntime"]}
_REDUCED = ("tensorflow", "openvino")


@dataclass(frozen=True)
class Network:
    """What a runtime is given.

    Args:
        folded: the network without its batch normalisations, if it is a `DilatedGMNet`.
        load: makes the Keras model; not called where `folded` is enough.
        name: for messages.
    """

    folded: FoldedNetwork | None
    load: Callable[[], keras.Model]
    name: str

    @cached_property
    def model(self) -> keras.Model:
        return self.load()


@dataclass(frozen=True)
class Runtime:
    """A network, ready to run.

    Args:
        name: one of `NAMES` other than "auto".
        version: of the program.
        precision: one of `PRECISIONS`, of the feature maps.
        predict: z-scored slices, float32 (slice, rows, columns, 1) of any size, to gray matter probabilities,
            float32 (slice, rows, columns).
        takes_crops: `predict` is a `folding.PredictCrops`.
    """

    name: str
    version: str
    precision: str
    predict: Callable[..., np.ndarray]
    takes_crops: bool

    def __str__(self) -> str:
        return f"{self.name} {self.version}, {self.precision}"


def check_choice(name: str | None, precision: str) -> None:
    """Refuse what no runtime can do, before anything is loaded.

    Raises:
        InputError: an unknown runtime or precision, one that is not installed, or both not together.
    """
    checks.optional(checks.one_of(NAMES))("runtime", name)
    checks.one_of(PRECISIONS)("precision", precision)
    if name in _EXTRAS and not is_installed(name):
        raise InputError(f"runtime {name} is not installed; pip install 'keras-scgm[{_EXTRAS[name]}]'")
    if precision != "float32" and name not in (None, "auto", *_REDUCED):
        raise InputError(f"runtime {name} computes in float32 only; {' and '.join(_REDUCED)} in {precision}")


def open_runtime(network: Network, name: str | None = None, precision: str = "float32") -> Runtime:
    """Make a network ready to run.

    Args:
        network: the network.
        name: one of `NAMES`. "auto" takes OpenVINO if it is installed and there is no NVIDIA GPU, else
            TensorFlow. None takes TensorFlow, or Keras if its backend is another.
        precision: one of `PRECISIONS`.

    Raises:
        InputError: as `check_choice`, or the runtime cannot run this network.
    """
    check_choice(name, precision)
    if name == "auto":
        name = "openvino" if is_installed("openvino") and not NVIDIA_DRIVER.exists() else "tensorflow"
    if name is None:
        name = "tensorflow" if _keras_backend() == "tensorflow" else "keras"
    if name == "keras":
        from keras_scgm.runtimes.keras_network import backend_version, predictor

        return Runtime(name, backend_version(), precision, predictor(network.model), takes_crops=False)
    if network.folded is None and _keras_backend() != "tensorflow":
        raise InputError(f"runtime {name} cannot run the network {network.name}; choose the runtime keras")
    if network.folded is None and name == "tensorflow" and precision != "float32":
        raise InputError(f"the network {network.name} runs in float32 only with TensorFlow")
    predict = _OPENERS[name](network, precision)
    return Runtime(name, _version(name), precision, predict, takes_crops=network.folded is not None)


def _version(module: str) -> str:
    """Version of a program that runs here; distributions of one module have many names, such as onnxruntime-gpu."""
    imported = sys.modules.get(module)
    return str(imported.__version__).partition("-")[0] if imported else tensorflow_version()


def _tensorflow(network: Network, precision: str) -> Predict:
    if network.folded is None:
        from keras_scgm.runtimes.keras_network import predictor

        return predictor(network.model)
    if not NVIDIA_DRIVER.exists() and find_library():
        return library_predictor(network.folded, precision)
    from keras_scgm.runtimes.tensorflow_network import predictor as python_predictor

    return python_predictor(network.folded, precision)


def _openvino(network: Network, precision: str) -> Predict:
    from keras_scgm.runtimes.openvino_network import compiled, convert, predictor

    return (
        predictor(network.folded, precision)
        if network.folded
        else compiled(convert(network.model), precision)
    )


def _onnxruntime(network: Network, precision: str) -> Predict:
    from keras_scgm.runtimes.onnx_network import predictor

    if network.folded is None:
        raise InputError(f"runtime onnxruntime cannot run the network {network.name}; choose another")
    return predictor(network.folded)


_OPENERS = {"tensorflow": _tensorflow, "openvino": _openvino, "onnxruntime": _onnxruntime}


def is_installed(runtime: str) -> bool:
    """Whether the optional extra of a runtime is there."""
    return all(find_spec(module) for module in _MODULES[runtime])


def _keras_backend() -> str:
    """Keras' backend, by the rules Keras finds it by, without importing Keras for it."""
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    settings = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    try:
        return str(json.loads(settings.read_text(encoding="utf-8")).get("backend", "tensorflow"))
    except (OSError, ValueError):
        return "tensorflow"
