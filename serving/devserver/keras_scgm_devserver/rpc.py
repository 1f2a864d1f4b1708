"""TensorFlow Serving's gRPC interface."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from keras_scgm.errors import InputError
from keras_scgm_devserver.errors import ServerError, report_unexpected
from keras_scgm_devserver.limits import THREADS, Limits
from keras_scgm_devserver.models import Catalogue

HEALTH_SERVICES = ("", "PredictionService")

_VALUE_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint64": "uint64_val",
    "uint32": "uint32_val",
    "bool": "bool_val",
    "object": "string_val",
}


@contextmanager
def serve_rpc(
    catalogue: Catalogue, gate: threading.BoundedSemaphore, host: str, port: int, limits: Limits
) -> Iterator[int]:
    """Answer gRPC requests until the context ends.

    Args:
        catalogue: The models.
        gate: Held while a model computes.
        host: Address to listen on.
        port: Port to listen on; 0 selects a free port.
        limits: Limits of connections and requests.

    Yields:
        The port.

    Raises:
        InputError: The port is in use.
    """
    with ThreadPoolExecutor(max_workers=THREADS) as executor:
        server = grpc.server(
            executor,
            options=[
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.server_handshake_timeout_ms", 1000 * limits.idle_seconds),
            ],
            maximum_concurrent_rpcs=limits.connections,
        )
        prediction = _PredictionService(catalogue, gate)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(catalogue), server)
        checks = health.HealthServicer()
        for service in HEALTH_SERVICES:
            checks.set(service, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        try:
            try:
                bound: int = server.add_insecure_port(f"{host}:{port}")
            except RuntimeError as error:
                raise InputError(f"port {port}: cannot be used; choose another with --grpc-port") from error
            server.start()
            yield bound
        finally:
            server.stop(grace=1.0).wait()


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, catalogue: Catalogue, gate: threading.BoundedSemaphore) -> None:
        self._catalogue = catalogue
        self._gate = gate

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        with _rpc_errors(context):
            version = self._catalogue.version(*_spec(request.model_spec))
            try:
                inputs = {name: _array(tensor) for name, tensor in request.inputs.items()}
            except (TypeError, ValueError, DecodeError) as error:
                raise ServerError(
                    grpc.StatusCode.INVALID_ARGUMENT, f"tensor parsing error: {error}"
                ) from error
            signature = request.model_spec.signature_name
            with self._gate:
                outputs = version.predict(signature, inputs, list(request.output_filter))
            response = predict_pb2.PredictResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version.number
            response.model_spec.signature_name = signature or "serving_default"
            for name, array in outputs.items():
                _fill_tensor(response.outputs[name], array)
            return response

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        with _rpc_errors(context):
            if list(request.metadata_field) != ["signature_def"]:
                raise ServerError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "GetModelMetadataRequest needs metadata_field signature_def",
                )
            return self._catalogue.metadata(*_spec(request.model_spec))


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        with _rpc_errors(context):
            return self._catalogue.status(*_spec(request.model_spec))


@contextmanager
def _rpc_errors(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except ServerError as error:
        context.abort(error.code, error.message)
    except Exception as error:
        context.abort(grpc.StatusCode.INTERNAL, report_unexpected(error))


def _spec(model_spec: Any) -> tuple[str, int | None, str]:
    if not model_spec.name:
        raise ServerError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
    number = model_spec.version.value if model_spec.HasField("version") else None
    return model_spec.name, number, model_spec.version_label


def _array(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tf.make_ndarray(tensor)
    return array


def _fill_tensor(tensor: Any, array: NDArray[Any]) -> None:
    """Write values one by one, not as `tensor_content`, which is the default of TensorFlow Serving."""
    tensor.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    tensor.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    values = getattr(tensor, _VALUE_FIELDS.get(array.dtype.name, "int_val"))
    values.extend(array.ravel().tolist())
