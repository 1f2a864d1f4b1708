"""Transport over the gRPC interface of TensorFlow Serving; needs the extra `grpc`."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError

from keras_scgm_client import messages
from keras_scgm_client.answer import Answer, answer_from
from keras_scgm_client.errors import (
    ClientError,
    ImageError,
    ServerError,
    ServerUnavailable,
    ServerUnreachable,
    SettingsError,
)
from keras_scgm_client.transport import (
    COMPRESSED,
    CONNECT_SECONDS,
    INPUT,
    NOT_A_STATUS,
    REQUEST_SLACK_BYTES,
    TOO_LONG,
    Access,
    Model,
    VersionStatus,
    refused,
)

MAX_ANSWER_BYTES = 2**31 - 1
_NO_CONNECTION = ("failed to connect", "DNS resolution failed", "connections to all backends failing")
_DEFAULT_PORTS = {"grpc": 8500, "grpcs": 443}


class GrpcTransport:
    """gRPC transport; all requests use one channel.

    Args:
        access: Address of the server and credentials.
        model: Model that answers.
    """

    def __init__(self, access: Access, model: Model) -> None:
        parts = urlsplit(access.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        target = f"{host}:{parts.port or _DEFAULT_PORTS[access.scheme]}"
        options = [
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            ("grpc.max_send_message_length", -1),
            # Identity alone: the size of a compressed answer is known only when it is unpacked.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            # The client retries with its own pauses; a channel would wait up to two minutes before it connects
            # again.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # Time limit of one attempt to connect.
            ("grpc.min_reconnect_backoff_ms", int(1000 * CONNECT_SECONDS)),
            # Otherwise all channels to one address share a connection.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if access.is_encrypted:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=access.ca.read_bytes() if access.ca else None,
                private_key=access.key.read_bytes() if access.key else None,
                certificate_chain=access.certificate.read_bytes() if access.certificate else None,
            )
            self._channel = grpc.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._metadata = tuple(access.headers.items())
        self._model = model
        self._predict = self._channel.unary_unary(
            messages.PREDICT,
            request_serializer=messages.PredictRequest.SerializeToString,
        )
        self._status = self._channel.unary_unary(
            messages.GET_MODEL_STATUS,
            request_serializer=messages.GetModelStatusRequest.SerializeToString,
        )

    def predict(
        self, nifti: bytes, seconds: float, max_answer_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        request = messages.PredictRequest()
        self._name_model(request.model_spec)
        request.model_spec.signature_name = self._model.signature
        image = request.inputs.add(key=INPUT).value
        image.dtype = messages.DT_STRING
        image.tensor_shape.dim.add(size=1)
        image.string_val.append(nifti)
        limit = max_answer_bytes + REQUEST_SLACK_BYTES
        answer = self._call(self._predict, request, seconds, limit, headers)
        try:
            response = messages.PredictResponse.FromString(answer)
            outputs = {named.key: _values(named.key, named.value) for named in response.outputs}
        except (DecodeError, struct.error) as error:
            raise ServerError(f"the server's answer is damaged ({error}); check the connection") from error
        version = response.model_spec.version.value if response.model_spec.HasField("version") else None
        return answer_from(outputs, self._model.signature, version)

    def status(self, seconds: float) -> list[VersionStatus]:
        request = messages.GetModelStatusRequest()
        self._name_model(request.model_spec)
        answer = self._call(self._status, request, seconds, REQUEST_SLACK_BYTES)
        try:
            response = messages.GetModelStatusResponse.FromString(answer)
        except DecodeError as error:
            raise ServerError(NOT_A_STATUS) from error
        return [
            VersionStatus(
                entry.version, messages.STATES.get(entry.state, str(entry.state)), entry.status.error_message
            )
            for entry in response.model_version_status
        ]

    def version(self, seconds: float) -> int | None:
        try:
            versions = [entry.version for entry in self.status(seconds) if entry.state == "AVAILABLE"]
        except ServerUnavailable:
            raise
        except ClientError:
            return None
        # Requests without a label get the latest; the status of a label may have all versions of the model.
        return None if self._model.label and len(versions) > 1 else max(versions, default=None)

    def close(self) -> None:
        self._channel.close()

    def _name_model(self, model_spec: Any) -> None:
        model_spec.name = self._model.name
        model_spec.version_label = self._model.label

    def _call(
        self,
        method: Any,
        request: Any,
        seconds: float,
        limit: int,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        try:
            answer: bytes = method(
                request, timeout=seconds, metadata=(*self._metadata, *(headers or {}).items())
            )
        except grpc.RpcError as error:
            raise _error(error.code(), error.details() or "", seconds) from error
        except ValueError as error:
            raise ServerError(f"the gRPC request cannot be sent ({error})") from error
        if len(answer) > limit:
            raise ServerError(TOO_LONG.format(limit / 1e6))
        return answer


def _values(name: str, tensor: Any) -> Any:
    if tensor.dtype == messages.DT_STRING:
        texts = list(tensor.string_val)
        if name.endswith("_bytes"):
            return texts[0] if len(texts) == 1 else None
        return [text.decode(errors="replace") for text in texts]
    numbers = messages.NUMBERS.get(tensor.dtype)
    if numbers is None:
        return None
    if tensor.tensor_content:
        n = len(tensor.tensor_content) // struct.calcsize(numbers.code)
        return list(struct.unpack(f"<{n}{numbers.code}", tensor.tensor_content))
    return list(getattr(tensor, numbers.field))


def _error(code: grpc.StatusCode, details: str, seconds: float) -> ClientError:
    first_line = details.splitlines()[0] if details else ""
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return refused(details)
    if "status: 413" in details or (
        code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details
    ):
        return ImageError(
            f"the image or its result is larger than the server or the proxy accepts: {first_line}"
        )
    if "Compression algorithm" in details:
        return ServerError(COMPRESSED)
    # "tcp handshaker shutdown" means that connecting took too long; it does not concern TLS.
    if code is grpc.StatusCode.UNAVAILABLE and re.search(
        "certificate|ssl|handshake(?!r)", details, re.IGNORECASE
    ):
        return SettingsError(f"no TLS connection ({first_line}); check --ca and the server's name")
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NO_CONNECTION):
        return ServerUnreachable(f"no connection ({first_line})")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerUnavailable(f"no answer within {seconds:.0f} s")
    if code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    ):
        return ServerUnavailable(f"the server is busy or unavailable ({code.name}): {first_line}")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return SettingsError(f"the server denies access ({code.name}); check the token or the certificate")
    if code is grpc.StatusCode.NOT_FOUND:
        return SettingsError(f"the server has no such model: {first_line}; check --model and --label")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return SettingsError("this is no TensorFlow Serving gRPC port; check --server")
    return ServerError(f"the server failed ({code.name}): {first_line}; see its log")
