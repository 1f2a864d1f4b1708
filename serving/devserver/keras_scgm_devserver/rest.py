"""TensorFlow Serving's REST interface."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import grpc
import waitress
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import get_model_metadata_pb2
from waitress import wasyncore

from keras_scgm.errors import InputError
from keras_scgm_devserver.errors import ServerError, report_unexpected
from keras_scgm_devserver.limits import THREADS, Limits
from keras_scgm_devserver.models import Catalogue
from keras_scgm_devserver.rest_format import FormatError, format_outputs, parse_document, parse_inputs

NAME = "keras_scgm development server, not TensorFlow Serving"
"""Name in the HTTP header `Server` and in the output of `keras-scgm serve`."""

_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:predict")
_STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?")


@contextmanager
def serve_rest(
    catalogue: Catalogue, gate: threading.BoundedSemaphore, host: str, port: int, limits: Limits
) -> Iterator[int]:
    """Answer REST requests until the context ends; threads hold complete requests only, however slow the callers.

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
    # waitress would log every request that waits for another.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise InputError(f"port {port}: {error.strerror}; choose another with --rest-port") from error
    server = waitress.create_server(
        _RestApplication(catalogue, gate),
        sockets=[listener],
        threads=THREADS,
        ident=NAME,
        connection_limit=limits.connections,
        channel_timeout=limits.idle_seconds,
        cleanup_interval=max(1, limits.idle_seconds // 4),
        # Bodies of this size and above are refused.
        max_request_body_size=limits.body_bytes + 1,
        asyncore_use_poll=True,
    )
    accepting = threading.Thread(target=server.run, daemon=True)
    accepting.start()
    try:
        yield server.effective_port
    finally:
        # Only the accepting thread may change the map of connections.
        server.trigger.pull_trigger(partial(wasyncore.close_all, server._map))
        accepting.join()
        server.task_dispatcher.shutdown(timeout=1)


class _RestApplication:
    """WSGI application."""

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
        # A fault of this server must not leave the client without an answer.
        except Exception as error:
            return 500, _error_json(report_unexpected(error))

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
