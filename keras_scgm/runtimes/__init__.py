"""Programs that compute a network, behind one contract (`keras_scgm.predict.Predict`).

| name | computes |
|---|---|
| `onnxruntime` | a `DilatedGMNet`; the default on processors |
| `openvino` | any network, with the optional extra `openvino`; the default on processors where it is installed |
| `tensorflow` | any network; the default with an NVIDIA GPU |
| `keras` | the Keras model itself, on Keras' backend; the default for networks other than `DilatedGMNet` |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.runtimes.folding import FoldedNetwork
from keras_scgm.runtimes.one_by_one import one_by_one
from keras_scgm.runtimes.region_of_interest import (
    Compute,
    Predictor,
    gray_matter_of,
    mean_of,
    with_cord_of,
)
from keras_scgm.runtimes.stacks import slice_by_slice

if TYPE_CHECKING:
    import keras

NAMES = ("auto", "onnxruntime", "openvino", "tensorflow", "keras")
PRECISIONS = ("float32", "bfloat16")

NVIDIA_DRIVER = Path("/proc/driver/nvidia")

WITH_BFLOAT16 = ("openvino", "tensorflow")
ON_PROCESSORS_ALONE = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class LoadedNetwork:
    """A network before a runtime is chosen for it.

    Args:
        folded: The network without its batch normalizations, if it is a `DilatedGMNet`.
        load: Function that returns the Keras model; not called where `folded` is enough.
        name: Name in messages.
    """

    folded: FoldedNetwork | None
    load: Callable[[], keras.Model]
    name: str

    @cached_property
    def model(self) -> keras.Model:
        return self.load()

    @property
    def slice_reach(self) -> int | None:
        """How many slices on either side of a slice the network sees; None for a network of single slices."""
        if self.folded:
            return None
        from keras_scgm.runtimes import keras_network

        return keras_network.slice_reach(self.model)


@dataclass(frozen=True)
class Runtime:
    """Networks, ready to predict.

    Args:
        name: One of `NAMES` other than "auto".
        version: Version of the program.
        precision: Precision of the feature maps, one of `PRECISIONS`.
        members: Predictions of each network.
        predict: Mean of the members.
        slice_reach: How many slices on either side of a slice the networks see; None if they all see single slices.
    """

    name: str
    version: str
    precision: str
    members: tuple[Predictor, ...]
    predict: Predictor
    slice_reach: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}, {self.precision}"


def check_choice(name: str, precision: str) -> None:
    """Refuse what no runtime can do, before anything is loaded.

    Raises:
        InputError: an unknown runtime or precision, one that is not installed, or both not together.
    """
    checks.one_of(NAMES)("runtime", name)
    checks.one_of(PRECISIONS)("precision", precision)
    if name == "openvino" and not has_openvino():
        raise InputError("runtime openvino is not installed; pip install 'keras-scgm[openvino]'")
    if precision != "float32" and name not in ("auto", *WITH_BFLOAT16):
        raise InputError(
            f"runtime {name} computes in float32 only; {' and '.join(WITH_BFLOAT16)} in {precision}"
        )


def open_runtime(
    networks: Sequence[LoadedNetwork],
    name: str = "auto",
    precision: str = "float32",
    *,
    mirror: bool = False,
    spacing_mm: float = 0.25,
    thresholds: Sequence[float] = (0.5,),
    cord: LoadedNetwork | None = None,
) -> Runtime:
    """Make networks ready to predict.

    Args:
        networks: At least one network.
        name: One of `NAMES`. "auto" takes the default in the table of this package.
        precision: One of `PRECISIONS`.
        mirror: Whether the mean includes the predictions of the left-right mirrored slices.
        spacing_mm: Pixel spacing of the slices, mm.
        thresholds: Probability above which a pixel is of a tissue, for each tissue that is wanted.
        cord: Network whose cord is taken in place of that of the others.

    Raises:
        InputError: as `check_choice`, or the runtime cannot run one of the networks.
    """
    check_choice(name, precision)
    together = [*networks, cord] if cord else networks
    if name == "auto":
        name = _default(together, precision)

    reaches = [network.slice_reach for network in together]
    reach = max((found for found in reaches if found is not None), default=None)

    def predictor(network: LoadedNetwork) -> Predictor:
        compute = _open(network, name, precision)
        if name in ON_PROCESSORS_ALONE:
            compute = one_by_one(compute)
        if reach is not None and network.slice_reach is None:
            compute = slice_by_slice(compute)
        takes_regions = network.folded is not None and name != "keras"
        return Predictor(compute, takes_regions, spacing_mm, tuple(thresholds))

    members = tuple(map(predictor, networks))
    if len(thresholds) == 1:
        members = tuple(map(gray_matter_of, members))
    mean = mean_of(members, mirror)
    if cord:
        of_cord = predictor(cord)
        mean = with_cord_of(mean, mean_of([of_cord], mirror))
        members = tuple(with_cord_of(member, of_cord) for member in members)
    return Runtime(name, _version(name), precision, members, mean, reach)


def has_openvino() -> bool:
    """Whether the optional extra is installed."""
    return find_spec("openvino") is not None


def _default(networks: Sequence[LoadedNetwork], precision: str) -> str:
    if not all(network.folded for network in networks):
        return "keras" if precision == "float32" else "tensorflow"
    if NVIDIA_DRIVER.exists():
        return "tensorflow"
    if has_openvino():
        return "openvino"
    return "onnxruntime" if precision == "float32" else "tensorflow"


def _open(network: LoadedNetwork, name: str, precision: str) -> Compute:
    if name == "keras":
        from keras_scgm.runtimes import keras_network

        return keras_network.compiled(network.model)
    if network.folded:
        if name == "onnxruntime":
            from keras_scgm.runtimes import onnx_network

            return onnx_network.compiled(network.folded)
        if name == "openvino":
            from keras_scgm.runtimes import openvino_network

            return openvino_network.compiled(network.folded, precision)
        from keras_scgm.runtimes import tensorflow_network

        return tensorflow_network.compiled(network.folded, precision)
    return _open_as_keras_has_it(network, name, precision)


def _open_as_keras_has_it(network: LoadedNetwork, name: str, precision: str) -> Compute:
    """A network other than `DilatedGMNet`, by way of Keras' TensorFlow graph."""
    from keras_scgm.runtimes import keras_network

    if name == "onnxruntime" or keras_network.backend() != "tensorflow":
        raise InputError(f"runtime {name} cannot run the network {network.name}; choose the runtime keras")
    if name == "openvino":
        from keras_scgm.runtimes import openvino_network

        return openvino_network.converted(network.model, precision)
    if precision != "float32":
        raise InputError(f"the network {network.name} runs in float32 only with TensorFlow")
    return keras_network.compiled(network.model)


def _version(name: str) -> str:
    """The module knows it; distributions of one module have many names, such as onnxruntime-gpu."""
    if name == "keras":
        from keras_scgm.runtimes import keras_network

        return f"{import_module(name).__version__}, {keras_network.backend()}"
    return str(import_module(name).__version__).partition("-")[0]
