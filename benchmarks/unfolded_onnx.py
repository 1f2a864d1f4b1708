"""The paper's network in ONNX as converters write it from Keras: every layer a node of its own.

This is the network that the Spinal Cord Toolbox hands to ONNX Runtime, which may optimise it as it likes:
normalisations after the ReLU, the pooled features repeated at every position, then the concatenation.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from keras_scgm.pretrained import read_layers, resolve_weights
from keras_scgm.runtimes.folding import EPSILON


def unfolded_onnx(weights: str | Path) -> onnx.ModelProto:
    """Slices (slice, rows, columns, 1) to probabilities of the same shape."""
    layers = read_layers(resolve_weights(weights)[0])
    nodes, constants = [], []

    def constant(array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), f"constant_{len(constants)}"))
        return constants[-1].name

    def node(kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    numbers = iter(range(1, 100))

    def normalize(x: str) -> str:
        arrays = layers[f"batch_normalization_{next(numbers)}"]
        return node("BatchNormalization", x, *map(constant, arrays), epsilon=EPSILON)

    def convolve(x: str, name: str, rate: int = 1) -> str:
        kernel, bias = layers[name]
        pads = [rate * (kernel.shape[0] // 2)] * 4
        kernel = kernel.transpose(3, 2, 0, 1)
        return node("Conv", x, constant(kernel), constant(bias), pads=pads, dilations=[rate, rate])

    def unit(x: str, name: str, rate: int = 1) -> str:
        return normalize(node("Relu", convolve(x, name, rate)))

    local = unit(unit(node("Transpose", "slices", perm=[0, 3, 1, 2]), "conv2d_1"), "conv2d_2")
    x = unit(unit(local, "rate2_1", 2), "rate2_2", 2)
    branches = [unit(unit(x, "branch1x1_1"), "branch1x1_2")]
    rates = [int(match[1]) for name in layers if (match := re.fullmatch(r"rate(\d+)_1", name))]
    for rate in rates[1:]:
        branches.append(unit(unit(x, f"rate{rate}_1", rate), f"rate{rate}_2", rate))
    repeated = node("Expand", node("GlobalAveragePool", local), node("Shape", local))
    branches.insert(-1, repeated)
    x = unit(normalize(node("Concat", *branches, axis=1)), "amort")
    x = node("Sigmoid", convolve(x, "predictions"))
    node("Transpose", x, perm=[0, 2, 3, 1], output="probabilities")
    shape = ("slice", "rows", "columns", 1)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("slices", "probabilities")
    ]
    graph = helper.make_graph(nodes, "dilated_gmnet", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
