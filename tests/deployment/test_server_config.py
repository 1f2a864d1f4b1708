"""TensorFlow Serving's configuration files against the protobuf messages of its reader."""

import functools
from importlib.resources import files

import pytest
from deployment_files import SERVING, documents
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from keras_scgm.export.saved_model import BATCHES


@functools.cache
def described(message_name):
    """BatchingParameters and MonitoringConfig, which no package carries, from the server's .proto files."""
    kinds = descriptor_pb2.FieldDescriptorProto
    wrapper = {kind: f".google.protobuf.{kind}" for kind in ("Int64Value", "BoolValue", "StringValue")}
    file = descriptor_pb2.FileDescriptorProto(
        name="described.proto",
        package="described",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    batching = file.message_type.add(name="BatchingParameters")
    for name, number, kind in (
        ("max_batch_size", 1, "Int64Value"),
        ("batch_timeout_micros", 2, "Int64Value"),
        ("max_enqueued_batches", 3, "Int64Value"),
        ("num_batch_threads", 4, "Int64Value"),
        ("thread_pool_name", 5, "StringValue"),
        ("pad_variable_length_inputs", 7, None),
        ("allowed_batch_sizes", 6, "repeated"),
        ("enable_large_batch_splitting", 8, "BoolValue"),
        ("max_execution_batch_size", 9, "Int64Value"),
    ):
        field = batching.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
        if kind is None:
            field.type = kinds.TYPE_BOOL
        elif kind == "repeated":
            field.type, field.label = kinds.TYPE_INT64, kinds.LABEL_REPEATED
        else:
            field.type, field.type_name = kinds.TYPE_MESSAGE, wrapper[kind]
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=".described.PrometheusConfig",
        label=kinds.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"described.{message_name}"))


def parse(name, message_class):
    return text_format.Parse((SERVING / "config" / name).read_text(), message_class())


@pytest.mark.parametrize("name", ["models.config", "models.canary.config"])
def test_models_config(name):
    models = parse(name, ModelServerConfig).model_config_list.config
    assert {model.name: model.base_path for model in models} == {
        "gm_nifti": "/models/gm_nifti",
        "gm_slices": "/models/gm_slices",
    }
    for model in models:
        served = list(model.model_version_policy.specific.versions)
        assert set(model.version_labels.values()) <= set(served)
        assert bool(served) == ("canary" in name)


def test_batching_parameters():
    text = files("keras_scgm.export").joinpath("batching_params.pbtxt").read_text(encoding="utf-8")
    batching = text_format.Parse(text, described("BatchingParameters")())
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_execution_batch_size.value == 64
    assert batching.enable_large_batch_splitting.value, "a request of more slices would be refused"
    assert batching.max_batch_size.value == 1024
    assert tuple(sizes) == BATCHES, "each has a warm-up request"
    assert not batching.pad_variable_length_inputs, "would pad images with their first voxel"
    assert not batching.HasField("num_batch_threads"), "not read from a model's own file"


def test_the_usual_slip_in_batching_parameters_is_refused():
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batch_size: 64", described("BatchingParameters")())


def test_session_and_monitoring_config(compose, container):
    assert parse("session.config", ConfigProto).gpu_options.allow_growth
    monitoring = parse("monitoring.config", described("MonitoringConfig")).prometheus_config
    assert monitoring.enable
    (monitor,) = documents(SERVING / "k8s" / "servicemonitor.yaml")
    assert [endpoint["path"] for endpoint in monitor["spec"]["endpoints"]] == [monitoring.path]
