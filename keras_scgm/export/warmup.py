"""Warm-up requests, which TensorFlow Serving runs when it loads a version, before it answers requests.

The first run of a graph is slower than the others (memory, kernels, on a GPU the choice of algorithms). The
server replays the records of one file, and refuses the version if a record fails.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import replaced

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000
"""The server refuses a file with more."""


@dataclass(frozen=True)
class WarmupRequest:
    """One predict request.

    Args:
        inputs: Name of an input -> array; an object array of bytes for strings.
        signature: Name of the signature.
    """

    inputs: Mapping[str, NDArray[Any]] = field(repr=False)
    signature: str = "serving_default"


def write_warmup(version_folder: str | Path, model_name: str, requests: Sequence[WarmupRequest]) -> Path:
    """Put warm-up requests into an exported SavedModel.

    Args:
        version_folder: Folder with the `saved_model.pb`, such as `models/gm_nifti/1`.
        model_name: Name under which the model is served, such as `gm_nifti`.
        requests: At least one request; the model must answer each.

    Returns:
        The file written, `assets.extra/tf_serving_warmup_requests` in the folder.

    Raises:
        InputError: No request, or more than the server accepts.
    """
    if not 1 <= len(requests) <= MAX_RECORDS:
        raise InputError(f"requests must be 1 to {MAX_RECORDS}, received {len(requests)}")
    path = checks.path("version_folder", version_folder) / WARMUP_FILE
    with (
        replaced(path) as temporary,
        tensorflow_writes(),
        tf.io.TFRecordWriter(str(temporary)) as writer,
    ):
        for request in requests:
            writer.write(_record(model_name, request))
    return path


@contextmanager
def tensorflow_writes() -> Iterator[None]:
    """Makes an `OSError`, such as of a full disk, of the errors of TensorFlow's own file system."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message.rsplit("; ", 1)[-1].split(" [Op:")[0]) from error


def read_warmup(version_folder: str | Path) -> list[WarmupRequest]:
    """The warm-up requests of an exported SavedModel; none if it has no such file.

    Raises:
        InputError: The file is damaged.
    """
    path = checks.path("version_folder", version_folder) / WARMUP_FILE
    if not path.is_file():
        return []
    requests = []
    try:
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = _prediction_log().FromString(serialized).predict_log.request
            inputs = {
                name: tf.make_ndarray(TensorProto.FromString(tensor))
                for name, tensor in request.inputs.items()
            }
            requests.append(WarmupRequest(inputs, request.model_spec.signature_name or "serving_default"))
    except (tf.errors.OpError, DecodeError) as error:
        raise InputError(f"{path}: damaged; export the model again") from error
    return requests


def _record(model_name: str, request: WarmupRequest) -> bytes:
    log = _prediction_log()()
    predict = log.predict_log.request
    predict.model_spec.name = model_name
    predict.model_spec.signature_name = request.signature
    for name, array in request.inputs.items():
        predict.inputs[name] = _tensor(array).SerializeToString()
    serialized: bytes = log.SerializeToString(deterministic=True)
    return serialized


def _tensor(array: NDArray[Any]) -> Any:
    """TensorProto; an array of equal numbers stores the number once."""
    if array.dtype.kind != "O" and array.size and np.all(array == array.flat[0]):
        return tf.make_tensor_proto(array.flat[0], array.dtype, array.shape)
    return tf.make_tensor_proto(array)


@functools.cache
def _prediction_log() -> Any:
    """Class of `PredictionLog` with the few fields of the server's messages that a warm-up request uses.

    The official classes are in `tensorflow-serving-api`, which an export should not need. Tensors are bytes
    here: on the wire, a message within a message is its own serialization.
    """
    file = descriptor_pb2.FileDescriptorProto(name="keras_scgm/warmup.proto", package="keras_scgm.warmup")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(message_name: str, **fields: tuple[int, int | str]) -> Any:
        descriptor = file.message_type.add(name=message_name)
        for field_name, (number, kind) in fields.items():
            made = descriptor.field.add(name=field_name, number=number, label=kinds.LABEL_OPTIONAL)
            if isinstance(kind, str):
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".keras_scgm.warmup.{kind}"
            else:
                made.type = kind
        return descriptor

    message("ModelSpec", name=(1, kinds.TYPE_STRING), signature_name=(3, kinds.TYPE_STRING))
    request = message("PredictRequest", model_spec=(1, "ModelSpec"), inputs=(2, "PredictRequest.InputsEntry"))
    request.field[1].label = kinds.LABEL_REPEATED
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    for number, (field_name, kind) in enumerate((("key", kinds.TYPE_STRING), ("value", kinds.TYPE_BYTES)), 1):
        entry.field.add(name=field_name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    message("PredictLog", request=(1, "PredictRequest"))
    message("PredictionLog", predict_log=(6, "PredictLog"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("keras_scgm.warmup.PredictionLog"))
