"""The network in a graph: its device, its precision and the numbers of slices that it takes."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_scgm import DilatedGMNet
from keras_scgm.export.graph.network import SLICES_ON_GPU, GraphNetwork, _chunks


def placements(folder, signature, feed):
    """Operations of one run as a server with a GPU would place them: (label, types of outputs) on its fastest device
    and on the processor.

    There is no GPU here: pins to the processor are changed into pins to a second, virtual processor, and the first
    stands for the GPU.
    """
    meta_graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[
        0
    ]
    functions = meta_graph.graph_def.library.function
    for node in itertools.chain(meta_graph.graph_def.node, *(function.node_def for function in functions)):
        assert node.device in ("", "/device:CPU:0", "/device:CPU:*")
        node.device = node.device.replace("CPU:0", "CPU:1")
    # The statistics lack what functions compute that servers do not take apart. Their results (Identity) are where
    # the functions are called.
    shared = [function for function in functions if function.attr["_noinline"].b]
    for node in itertools.chain(*(function.node_def for function in shared)):
        assert node.device == "/device:CPU:1" or node.op in ("Identity", "NoOp")
    config = tf.compat.v1.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=True)
    metadata = tf.compat.v1.RunMetadata()
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph, config=config) as session:
        tf.import_graph_def(meta_graph.graph_def, name="")
        saver = meta_graph.saver_def
        session.run(saver.restore_op_name, {saver.filename_tensor_name: str(folder / "variables/variables")})
        ends = meta_graph.signature_def[signature]
        (given,) = ends.inputs.values()
        session.run(
            {key: end.name for key, end in ends.outputs.items()},
            {given.name: feed},
            options=tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE),
            run_metadata=metadata,
        )
    placed = {"fastest": [], "processor": []}
    for device in metadata.step_stats.dev_stats:
        where = placed["fastest" if device.device.endswith("CPU:0") else "processor"]
        for node in device.node_stats:
            types = {output.tensor_description.dtype for output in node.output}
            where.append((node.timeline_label or node.node_name, types))
    return placed


@pytest.mark.parametrize(
    ("model", "signature"),
    [("slices", "serving_default"), ("slices", "raw"), ("nifti", "soft")],
)
def test_a_gpu_computes_the_network_and_nothing_else(
    two_networks, served, served_cord, small, model, signature
):
    exports = [two_networks[1].models, served.models, served_cord.models]
    feed = np.zeros((2, 200, 200, 1), np.float32)
    if model == "nifti":
        # What is around the networks is the same, and most where there is a cord.
        exports, feed = exports[-1:], np.array([small.to_bytes()], object)
    for models in exports:
        placed = placements(getattr(models, model), signature, feed)
        convolutions = {
            where: sum("Conv2D" in label for label, _ in nodes) for where, nodes in placed.items()
        }
        assert convolutions["fastest"] > 0
        assert convolutions["processor"] == 0
        # Image work is in float64, and the network never; the answer's numbers are, and there are few.
        types = set().union(*(types for label, types in placed["fastest"] if "IdentityN" not in label))
        assert tf.float64.as_datatype_enum not in types


def test_a_gpu_sees_few_numbers_of_slices_at_a_time():
    for n_slices in range(70):
        starts, sizes = (values.numpy().tolist() for values in _chunks(tf.constant(n_slices), False))
        assert starts == [sum(sizes[:k]) for k in range(len(sizes))]
        assert sum(sizes) == n_slices
        assert set(sizes) <= set(SLICES_ON_GPU)
        assert len(sizes) <= n_slices // max(SLICES_ON_GPU) + 4
        assert _chunks(tf.constant(n_slices), True)[1].numpy().tolist() == [1] * n_slices


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_computes_in_it(precision):
    network = DilatedGMNet(filters=2, dilation_rates=(6,))
    slices = np.random.default_rng(0).normal(size=(1, 40, 40, 1)).astype(np.float32)
    full, reduced = (GraphNetwork([network], name)(slices).numpy() for name in ("float32", precision))
    np.testing.assert_allclose(reduced, full, atol=0.02)
    assert np.any(reduced != full)
    assert reduced.dtype == np.float32
