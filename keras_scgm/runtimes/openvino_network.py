"""The networks in OpenVINO (optional extra `openvino`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from keras_scgm.files import temporary_space
from keras_scgm.runtimes.folding import FoldedNetwork
from keras_scgm.runtimes.openvino_import import openvino as ov
from keras_scgm.runtimes.openvino_import import opset13 as opset
from keras_scgm.runtimes.openvino_import import plain_letters
from keras_scgm.runtimes.region_of_interest import Compute
from keras_scgm.runtimes.stacks import in_stacks
from keras_scgm.runtimes.threads import thread_limit

if TYPE_CHECKING:
    import keras

# Channels come second in OpenVINO.
ROWS_AND_COLUMNS = (2, 3)


@plain_letters()
def build(network: FoldedNetwork, in_regions: bool = False) -> ov.Model:
    """Slices (slice, rows, columns, 1) to probabilities (slice, rows, columns, tissue), of any size.

    Args:
        network: The network.
        in_regions: Whether the probabilities are those of a second input, regions of the slices.
    """
    names = ["slices", "regions"] if in_regions else ["slices"]
    inputs = [opset.parameter([-1, -1, -1, 1], np.float32, name=name) for name in names]
    found = network(_OpenVinoOperations(), *(opset.transpose(x, [0, 3, 1, 2]) for x in inputs))
    return ov.Model([opset.transpose(found, [0, 2, 3, 1])], inputs)


def compiled(network: FoldedNetwork, precision: str) -> Compute:
    """Prediction on the processor in "float32" or "bfloat16", with all its cores on one request."""

    @cache
    def request(in_regions: bool) -> Callable[..., np.ndarray]:
        return _request(build(network, in_regions), precision)

    return lambda slices, regions=None: (
        request(False)(slices) if regions is None else request(True)(slices, regions)
    )


def converted(model: keras.Model, precision: str) -> Compute:
    """Prediction of whole slices, or stacks of them, by any Keras model on the TensorFlow backend."""
    any_size = [None] * (len(model.inputs[0].shape) - 1)
    request = _request(from_keras(model, (*any_size, 1)), precision)
    return in_stacks(request) if len(any_size) == 4 else lambda slices, _=None: request(slices)


def from_keras(model: keras.Model, shape: Sequence[int | None]) -> ov.Model:
    """A Keras model on the TensorFlow backend in OpenVINO, by way of a SavedModel.

    OpenVINO 2026.4 does not take functions of TensorFlow on Python 3.13, where it ends in a NameError.

    Args:
        model: Network with one input and one output.
        shape: Shape of the input, which is named "slices"; None for an axis of any length.
    """
    import keras

    signature = [keras.InputSpec(shape=tuple(shape), dtype="float32", name="slices")]
    with temporary_space(), tempfile.TemporaryDirectory(prefix="keras_scgm_") as folder:
        model.export(folder, format="tf_saved_model", input_signature=signature, verbose=False)
        with plain_letters():
            return ov.convert_model(folder)


def _request(model: ov.Model, precision: str) -> Callable[..., np.ndarray]:
    """The function of a model from its inputs to probabilities (slice, rows, columns, tissue) in the last of them."""
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": thread_limit(),
        # Processes with few threads would all be pinned to the first cores.
        "ENABLE_CPU_PINNING": not thread_limit(),
    }
    with plain_letters():
        request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def compute(*inputs: np.ndarray) -> np.ndarray:
        arrays = [np.ascontiguousarray(array, np.float32) for array in inputs]
        return request.infer(arrays)[0]

    return compute


class _OpenVinoOperations:
    def convolve(self, x: ov.Node, kernel: np.ndarray, bias: np.ndarray, rate: int) -> ov.Node:
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)
        pads = [rate * (length // 2) for length in kernel.shape[2:]]
        return self.shift(opset.convolution(x, kernel, [1, 1], pads, pads, [rate, rate]), bias)

    def relu(self, x: ov.Node) -> ov.Node:
        return opset.relu(x)

    def shift(self, x: ov.Node, constants: np.ndarray) -> ov.Node:
        return opset.add(x, constants.reshape(1, -1, 1, 1).astype(np.float32))

    def concatenate(self, maps: list[ov.Node]) -> ov.Node:
        return opset.concat(maps, axis=1)

    def average(self, x: ov.Node) -> ov.Node:
        return opset.reduce_mean(x, np.array(ROWS_AND_COLUMNS), keep_dims=True)

    def add(self, x: ov.Node, y: ov.Node) -> ov.Node:
        return opset.add(x, y)

    def sigmoid(self, x: ov.Node) -> ov.Node:
        return opset.sigmoid(x)
