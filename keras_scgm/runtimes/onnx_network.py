"""The paper's network in ONNX Runtime."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from keras_scgm.runtimes.folding import FoldedNetwork
from keras_scgm.runtimes.region_of_interest import Compute
from keras_scgm.runtimes.threads import thread_limit

OPSET, IR_VERSION = 18, 9


def build(network: FoldedNetwork, in_regions: bool = False) -> onnx.ModelProto:
    """Slices (slice, rows, columns, 1) to probabilities (slice, rows, columns, tissue), of any size.

    Args:
        network: The network.
        in_regions: Whether the probabilities are those of a second input, regions of the slices.
    """
    operations = _OnnxOperations()
    names = ["slices", "regions"] if in_regions else ["slices"]
    inputs = [operations.node("Transpose", [name], perm=[0, 3, 1, 2]) for name in names]
    operations.node("Transpose", [network(operations, *inputs)], "probabilities", perm=[0, 2, 3, 1])

    def described(name: str, of: str, channels: int = 1) -> onnx.ValueInfoProto:
        shape = ("slice", f"rows of {of}", f"columns of {of}", channels)
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        operations.nodes,
        "dilated_gmnet",
        [described(name, name) for name in names],
        [described("probabilities", names[-1], network.classes)],
        operations.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def compiled(network: FoldedNetwork) -> Compute:
    """Prediction on the processor."""

    @cache
    def session(in_regions: bool) -> onnxruntime.InferenceSession:
        return open_session(build(network, in_regions))

    def compute(slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        given = {"slices": slices} if regions is None else {"slices": slices, "regions": regions}
        arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in given.items()}
        return session(regions is not None).run(None, arrays)[0]

    return compute


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A model on the processor, on at most `thread_limit` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_limit()
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class _OnnxOperations:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def convolve(self, x: str, kernel: np.ndarray, bias: np.ndarray, rate: int) -> str:
        rows, columns = (rate * (length // 2) for length in kernel.shape[:2])
        inputs = [x, self._constant(kernel.transpose(3, 2, 0, 1)), self._constant(bias)]
        pads = [rows, columns, rows, columns]
        return self.node("Conv", inputs, dilations=[rate, rate], pads=pads)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x])

    def shift(self, x: str, constants: np.ndarray) -> str:
        return self.node("Add", [x, self._constant(constants.reshape(1, -1, 1, 1))])

    def concatenate(self, maps: list[str]) -> str:
        return self.node("Concat", maps, axis=1)

    def average(self, x: str) -> str:
        return self.node("GlobalAveragePool", [x])

    def add(self, x: str, y: str) -> str:
        return self.node("Add", [x, y])

    def sigmoid(self, x: str) -> str:
        return self.node("Sigmoid", [x])
