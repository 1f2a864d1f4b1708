"""Protobuf messages of TensorFlow Serving's predict and status calls, defined field by field.

The official classes need TensorFlow. These have the same wire format, as far as this client uses them, in a
descriptor pool of their own, so that both can exist in one process.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
DT_STRING = 7


class _Numbers(NamedTuple):
    """Field of a tensor that holds its numbers, and `struct` code of its `tensor_content`."""

    field: str
    code: str


NUMBERS = {
    1: _Numbers("float_val", "f"),
    2: _Numbers("double_val", "d"),
    3: _Numbers("int_val", "i"),
    9: _Numbers("int64_val", "q"),
    10: _Numbers("bool_val", "?"),
}
"""Type of a tensor -> its numbers: float, double, int32, int64 and bool."""

_PACKAGE = "keras_scgm_client"
_Field = descriptor_pb2.FieldDescriptorProto
_NUMBERED = {
    "Int64Value": {"value": (1, _Field.TYPE_INT64)},
    "ModelSpec": {
        "name": (1, _Field.TYPE_STRING),
        "version": (2, "Int64Value"),
        "signature_name": (3, _Field.TYPE_STRING),
        "version_label": (4, _Field.TYPE_STRING),
    },
    "Dim": {"size": (1, _Field.TYPE_INT64)},
    "TensorShape": {"dim": (2, "Dim*")},
    "Tensor": {
        "dtype": (1, _Field.TYPE_INT32),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, _Field.TYPE_BYTES),
        "float_val": (5, -_Field.TYPE_FLOAT),
        "double_val": (6, -_Field.TYPE_DOUBLE),
        "int_val": (7, -_Field.TYPE_INT32),
        "string_val": (8, -_Field.TYPE_BYTES),
        "int64_val": (10, -_Field.TYPE_INT64),
        "bool_val": (11, -_Field.TYPE_BOOL),
    },
    "NamedTensor": {"key": (1, _Field.TYPE_STRING), "value": (2, "Tensor")},
    # A map has the wire format of a repeated message of key and value.
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "NamedTensor*")},
    "PredictResponse": {"outputs": (1, "NamedTensor*"), "model_spec": (2, "ModelSpec")},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "Status": {"error_code": (1, _Field.TYPE_INT32), "error_message": (2, _Field.TYPE_STRING)},
    "VersionStatus": {
        "version": (1, _Field.TYPE_INT64),
        "state": (2, _Field.TYPE_INT32),
        "status": (3, "Status"),
    },
    "GetModelStatusResponse": {"model_version_status": (1, "VersionStatus*")},
}
"""Message -> field -> number and type; a star or a minus marks a repeated field."""

STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}/messages.proto", package=_PACKAGE, syntax="proto3"
    )
    for message_name, fields in _NUMBERED.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind) in fields.items():
            field = message.field.add(name=name, number=number)
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind.rstrip('*')}"
                repeated = kind.endswith("*")
            else:
                field.type, repeated = abs(kind), kind < 0
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _NUMBERED
    }


_CLASSES = _build()
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
Tensor = _CLASSES["Tensor"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES["GetModelStatusResponse"]
