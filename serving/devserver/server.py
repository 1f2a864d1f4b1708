"""A development stand-in for TensorFlow Serving: its REST and gRPC interfaces over a TensorFlow session.

It is not TensorFlow Serving. It loads SavedModels the way the server does (a graph in a C++ session, no Keras,
no Python of the model) and answers as the server answers, so that clients and exports can be tried on a machine
without one. It does not batch, reload or meter anything, and its limits are those of `Limits`; for use by others,
run the real server.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
import waitress
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.protobuf.text_format import Parse, ParseError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from keras_scgm_devserver.rest_format import Arrays, FormatError, format_outputs, parse_document, parse_inputs
from numpy.typing import NDArray
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig
from waitress import wasyncore

from keras_scgm import checks
from keras_scgm.errors import InputError, log_traceback
from keras_scgm.export.warmup import read_warmup

NAME = "keras_scgm development stand-in, not TensorFlow Serving"
THREADS = 32
"""Each for REST and gRPC."""
HEALTH_SERVICES = ("", "PredictionService")

_GRPC_CODE = {code.value[0]: code for code in grpc.StatusCode}
_HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:predict")
_STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?")
_VALUE_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint64": "uint64_val",
    "uint32": "uint32_val",
    "bool": "bool_val",
    "object": "string_val",
}


class ServerError(Exception):
    """An answer other than OK.

    Args:
        code: as in gRPC; REST answers with the HTTP status that the server maps it to.
        message: what went wrong.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        return _HTTP_STATUS.get(self.code, 500)


class ModelVersion:
    """One version of a model, loaded and warmed up.

    Args:
        folder: the SavedModel.

    Raises:
        InputError: there is no SavedModel that a session can load, or a warm-up request fails.
    """

    def __init__(self, folder: Path) -> None:
        self.number = int(folder.name)
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                self.meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            raise InputError(f"{folder}: cannot be loaded ({_first_line(error)}); export it again") from error
        self._session.graph.finalize()
        for request in read_warmup(folder):
            try:
                self.predict(request.signature, dict(request.inputs))
            except ServerError as error:
                raise InputError(f"{folder}: a warm-up request fails ({error}); export it again") from error

    def signature(self, name: str) -> Any:
        """The SignatureDef; an empty name is `serving_default`."""
        name = name or "serving_default"
        if name not in self.meta_graph.signature_def:
            raise ServerError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f'Serving signature name: "{name}" not found in signature def',
            )
        return self.meta_graph.signature_def[name]

    def input_dtypes(self, signature: str) -> dict[str, np.dtype[Any]]:
        """NumPy type of each input; object for strings."""
        inputs = self.signature(signature).inputs
        return {name: np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype) for name, info in inputs.items()}

    def predict(self, signature: str, inputs: Arrays, outputs: Sequence[str] = ()) -> Arrays:
        """Run the graph.

        Args:
            signature: name of the signature, or "".
            inputs: one array per input.
            outputs: names of the outputs wanted; all if empty.

        Raises:
            ServerError: the request does not fit the signature, or an operation fails.
        """
        definition = self.signature(signature)
        if set(inputs) != set(definition.inputs):
            raise ServerError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input keys {sorted(inputs)} do not match the signature's {sorted(definition.inputs)}",
            )
        for name, dtype in self.input_dtypes(signature).items():
            if inputs[name].dtype != dtype:
                raise ServerError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Expects {name} to be {dtype.name} but {inputs[name].dtype.name} is provided",
                )
        unknown = set(outputs) - set(definition.outputs)
        if unknown:
            raise ServerError(
                grpc.StatusCode.INVALID_ARGUMENT, f"output keys {sorted(unknown)} not in signature"
            )
        wanted = {name: definition.outputs[name].name for name in outputs or definition.outputs}
        feeds = {definition.inputs[name].name: array for name, array in inputs.items()}
        try:
            values: dict[str, Any] = self._session.run(wanted, feeds)
        except tf.errors.OpError as error:
            raise ServerError(_GRPC_CODE[error.error_code], error.message) from error
        except ValueError as error:
            # The session's Python side compares shapes; the server leaves that to the graph.
            raise ServerError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        return {
            name: np.asarray(value, object if isinstance(value, bytes) else None)
            for name, value in values.items()
        }


@dataclass(frozen=True)
class Model:
    """The versions of a model that are served, and the labels that point to them."""

    versions: dict[int, ModelVersion]
    labels: Mapping[str, int] = field(default_factory=dict)


class Catalogue:
    """Models by name.

    Args:
        models: what is served.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = dict(models)

    @classmethod
    def load(cls, folder: str | Path, config: str | Path | None = None) -> Catalogue:
        """Load what a folder or a configuration names.

        Args:
            folder: a model (a folder of numbered versions), or a folder of models.
            config: `models.config` of the server, with version policies and labels; the last part of each
                base_path is looked for in `folder`. Without it, the latest version of each model is served.

        Raises:
            InputError: nothing to serve, a file that cannot be read, or a version that is not there.
        """
        folder = checks.path("folder", folder)
        if config is not None:
            return cls({entry.name: _load_model(folder, entry) for entry in _read_config(Path(config))})
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; make one with keras-scgm export")
        candidates = [folder] if _versions(folder) else sorted(filter(_versions, folder.iterdir()))
        if not candidates:
            raise InputError(
                f"{folder}: holds no model with a numbered version; make one with keras-scgm export"
            )
        return cls(
            {
                path.name: Model({max(_versions(path)): _load_version(path, max(_versions(path)))})
                for path in candidates
            }
        )

    def version(self, name: str, number: int | None = None, label: str = "") -> ModelVersion:
        """The version that a request asks for; the latest if it does not say."""
        model = self.models.get(name)
        if model is None:
            asked = f"Specific({name}, {number})" if number is not None else f"Latest({name})"
            raise ServerError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        if label:
            if label not in model.labels:
                raise ServerError(
                    grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}"
                )
            number = model.labels[label]
        if number is None:
            number = max(model.versions)
        if number not in model.versions:
            raise ServerError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {number})"
            )
        return model.versions[number]

    def status(self, name: str, number: int | None = None, label: str = "") -> Any:
        """GetModelStatusResponse of one version, or of all of a model."""
        model = self.models.get(name)
        if model is None:
            raise ServerError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        if label:
            number = self.version(name, label=label).number
        if number is not None and number not in model.versions:
            raise ServerError(grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for served in sorted(model.versions, reverse=True) if number is None else [number]:
            status = response.model_version_status.add(
                version=served, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
            )
            status.status.error_code = 0
        return response

    def metadata(self, name: str, number: int | None = None, label: str = "") -> Any:
        """GetModelMetadataResponse with the signatures of a version."""
        version = self.version(name, number, label)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for signature_name, signature in version.meta_graph.signature_def.items():
            signatures.signature_def[signature_name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = name
        response.model_spec.version.value = version.number
        response.metadata["signature_def"].Pack(signatures)
        return response


@dataclass(frozen=True)
class Address:
    """Where a stand-in listens."""

    rest_url: str
    grpc: str


@dataclass(frozen=True)
class Limits:
    """What callers can take.

    Args:
        connections: over REST; more wait until one is closed. Calls over gRPC; more are refused.
        idle_seconds: after which a connection is closed that neither sends nor has a request running.
        body_bytes: of a request.
    """

    connections: int = 100
    idle_seconds: int = 30
    body_bytes: int = 2**28


@contextmanager
def serve(
    catalogue: Catalogue,
    host: str = "127.0.0.1",
    rest_port: int = 8501,
    grpc_port: int = 8500,
    runs_at_once: int | None = None,
    limits: Limits | None = None,
) -> Iterator[Address]:
    """Answer REST and gRPC requests, in threads, until the context ends.

    Args:
        catalogue: the models.
        host: the address to listen on; nothing guards it, so others should not reach it.
        rest_port: as in TensorFlow Serving; 0 takes a free one.
        grpc_port: as in TensorFlow Serving; 0 takes a free one.
        runs_at_once: requests in the network at a time, the others wait; the default is the number of cores.
        limits: of connections and requests.

    Raises:
        InputError: a port is taken.
    """
    gate = threading.BoundedSemaphore(runs_at_once or os.cpu_count() or 1)
    limits = limits or Limits()
    rest = _rest_server(_RestApplication(catalogue, gate), host, rest_port, limits)
    executor = ThreadPoolExecutor(max_workers=THREADS)
    rpc = grpc.server(
        executor,
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", 1000 * limits.idle_seconds),
        ],
        maximum_concurrent_rpcs=limits.connections,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(catalogue, gate), rpc
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(catalogue), rpc)
    checks = health.HealthServicer()
    for service in HEALTH_SERVICES:
        checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, rpc)
    accepting = threading.Thread(target=rest.run, daemon=True)
    try:
        try:
            bound = rpc.add_insecure_port(f"{host}:{grpc_port}")
        except RuntimeError as error:
            raise InputError(f"port {grpc_port}: cannot be used; choose another with --grpc-port") from error
        rpc.start()
        accepting.start()
        yield Address(f"http://{host}:{rest.effective_port}", f"{host}:{bound}")
    finally:
        # The map of connections belongs to the thread that accepts them.
        rest.trigger.pull_trigger(partial(wasyncore.close_all, rest._map))
        if accepting.ident is None:
            accepting.start()
        accepting.join()
        rest.task_dispatcher.shutdown(timeout=1)
        rpc.stop(grace=1.0).wait()
        executor.shutdown()


def _rest_server(application: _RestApplication, host: str, port: int, limits: Limits) -> Any:
    """A server whose threads hold whole requests only, however slowly these arrive."""
    # It would tell of every request that waits for another.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise InputError(f"port {port}: {error.strerror}; choose another with --rest-port") from error
    return waitress.create_server(
        application,
        sockets=[listener],
        threads=THREADS,
        ident=NAME,
        connection_limit=limits.connections,
        channel_timeout=limits.idle_seconds,
        cleanup_interval=max(1, limits.idle_seconds // 4),
        # From this size on they are refused.
        max_request_body_size=limits.body_bytes + 1,
        asyncore_use_poll=True,
    )


class _RestApplication:
    """The REST interface, as a WSGI application."""

    def __init__(self, catalogue: Catalogue, gate: threading.BoundedSemaphore) -> None:
        self._catalogue = catalogue
        self._gate = gate

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        status, body = self._answer(environ)
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {phrase}", headers)
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[int, bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        try:
            if method == "GET":
                return 200, self._get(path)
            if method == "POST":
                return 200, self._post(path, environ["wsgi.input"].read())
            raise _malformed(method, path)
        except ServerError as error:
            return error.http_status, _error_json(error.message)
        except FormatError as error:
            return 400, _error_json(str(error))
        # A client must get an answer, whatever is wrong with us.
        except Exception as error:
            return 500, _error_json(_report(error))

    def _get(self, path: str) -> bytes:
        match = _STATUS.fullmatch(path)
        if match is None:
            raise _malformed("GET", path)
        name, number, label, wants_metadata = match.groups()
        config = name, _number(number), label or ""
        if not wants_metadata:
            return _message_json(self._catalogue.status(*config))
        metadata = self._catalogue.metadata(*config)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        metadata.metadata["signature_def"].Unpack(signatures)
        document = {
            "model_spec": MessageToDict(metadata.model_spec, preserving_proto_field_name=True),
            "metadata": {"signature_def": MessageToDict(signatures, preserving_proto_field_name=True)},
        }
        return json.dumps(document).encode()

    def _post(self, path: str, body: bytes) -> bytes:
        match = _PREDICT.fullmatch(path)
        if match is None:
            raise _malformed("POST", path)
        name, number, label = match.groups()
        document = parse_document(body)
        version = self._catalogue.version(name, _number(number), label or "")
        signature = document.get("signature_name", "")
        inputs, layout = parse_inputs(document, version.input_dtypes(signature))
        with self._gate:
            outputs = version.predict(signature, inputs)
        return format_outputs(outputs, layout)


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
        context.abort(grpc.StatusCode.INTERNAL, _report(error))


def _report(error: BaseException) -> str:
    """Log an unexpected error, and say so on the server's screen."""
    message = log_traceback("stand-in server", error)
    print(f"error: {message}", file=sys.stderr, flush=True)
    return message


def _spec(model_spec: Any) -> tuple[str, int | None, str]:
    if not model_spec.name:
        raise ServerError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
    number = model_spec.version.value if model_spec.HasField("version") else None
    return model_spec.name, number, model_spec.version_label


def _array(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tf.make_ndarray(tensor)
    return array


def _fill_tensor(tensor: Any, array: NDArray[Any]) -> None:
    """As the server does by default: values one by one, not as `tensor_content`."""
    tensor.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    tensor.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    values = getattr(tensor, _VALUE_FIELDS.get(array.dtype.name, "int_val"))
    values.extend(array.ravel().tolist())


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _malformed(method: str, path: str) -> ServerError:
    return ServerError(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {method} {path}")


def _error_json(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def _message_json(message: Any) -> bytes:
    fields = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(fields, indent=1).encode()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _versions(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return [
        int(path.name)
        for path in folder.iterdir()
        if path.is_dir() and path.name.isascii() and path.name.isdigit()
    ]


def _load_version(model_folder: Path, number: int) -> ModelVersion:
    return ModelVersion(
        next(path for path in model_folder.iterdir() if path.name.isdigit() and int(path.name) == number)
    )


def _read_config(path: Path) -> list[Any]:
    try:
        config = Parse(path.read_text(encoding="utf-8"), ModelServerConfig())
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise InputError(f"{path}: no models.config of TensorFlow Serving ({_first_line(error)})") from error
    if not config.model_config_list.config:
        raise InputError(f"{path}: names no model; add one to model_config_list")
    return list(config.model_config_list.config)


def _load_model(folder: Path, config: ModelConfig) -> Model:
    path = folder / Path(config.base_path).name
    present = sorted(_versions(path))
    if not present:
        raise InputError(
            f"{path}: holds no numbered version of {config.name}; make one with keras-scgm export"
        )
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        wanted = present
    elif kind == "specific":
        wanted = list(policy.specific.versions)
    else:
        wanted = present[-(policy.latest.num_versions or 1) :]
    for number in [*wanted, *config.version_labels.values()]:
        if number not in present or number not in wanted:
            raise InputError(
                f"{path}: version {number} of {config.name} is not there or not served; correct the policy"
            )
    return Model({number: _load_version(path, number) for number in wanted}, dict(config.version_labels))
