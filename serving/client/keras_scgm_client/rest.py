"""Transport over the REST interface of TensorFlow Serving."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from time import monotonic
from typing import Any

import urllib3

from keras_scgm_client.answer import FILE_OF, Answer, answer_from
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
    SHORTEST_TRY_SECONDS,
    TOO_LONG,
    Access,
    Model,
    VersionStatus,
    refused,
)

_CHUNK_BYTES = 2**20
_RETRY_STATUS = (408, 425, 429, 502, 503, 504)


class RestTransport:
    """REST transport; connections stay open between requests.

    Args:
        access: Address of the server and credentials.
        model: Model that answers.
    """

    def __init__(self, access: Access, model: Model) -> None:
        tls: dict[str, Any] = {}
        if access.is_encrypted:
            try:
                context = ssl.create_default_context(cafile=access.ca)
                if access.certificate:
                    context.load_cert_chain(access.certificate, access.key)
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(f"the TLS files cannot be used ({error}); check them") from error
            tls["ssl_context"] = context
        self._pool = urllib3.PoolManager(maxsize=access.connections, retries=False, **tls)
        self._headers = {**access.headers, "content-type": "application/json"}
        self._model_url = f"{access.url.rstrip('/')}/v1/models/{model.name}"
        self._url = f"{self._model_url}/labels/{model.label}" if model.label else self._model_url
        self._model = model

    def predict(
        self, nifti: bytes, seconds: float, max_answer_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        # Assembled without the JSON encoder, which would make two more copies of a long string.
        start = f'{{"signature_name": "{self._model.signature}", "inputs": {{"{INPUT}": [{{"b64": "'
        body = b"".join((start.encode(), base64.b64encode(nifti), b'"}]}}'))
        limit = max_answer_bytes * 4 // 3 + REQUEST_SLACK_BYTES
        ends = monotonic() + seconds
        # The answer does not state the version, so one is named in the request.
        version = self.version(seconds)
        url = self._url if version is None else f"{self._model_url}/versions/{version}"
        try:
            reply = self._request(
                "POST", f"{url}:predict", max(ends - monotonic(), SHORTEST_TRY_SECONDS), limit, body, headers
            )
        except SettingsError as error:
            # The server unloads a version once it has a newer one.
            if version is None or version == self.version(SHORTEST_TRY_SECONDS):
                raise
            raise ServerUnavailable(f"version {version} is no longer served") from error
        try:
            outputs = reply["outputs"]
            if isinstance(outputs, list):
                # The server omits the name of a single output.
                outputs = {FILE_OF[self._model.signature]: outputs}
            first = {name: _first(value) for name, value in outputs.items()}
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError("the server's answer is not a model's outputs; check --server") from error
        return answer_from(first, self._model.signature, version)

    def status(self, seconds: float) -> list[VersionStatus]:
        reply = self._request("GET", self._url, seconds, REQUEST_SLACK_BYTES)
        try:
            return [
                VersionStatus(
                    int(entry["version"]),
                    str(entry["state"]),
                    str(entry.get("status", {}).get("error_message", "")),
                )
                for entry in reply["model_version_status"]
            ]
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ServerError(NOT_A_STATUS) from error

    def version(self, seconds: float) -> int | None:
        # The status of a label has all versions of the model; the metadata name the one that answers.
        try:
            reply = self._request("GET", f"{self._url}/metadata", seconds, REQUEST_SLACK_BYTES)
            return int(reply["model_spec"]["version"])
        except ServerUnavailable:
            raise
        except (ClientError, KeyError, TypeError, ValueError, OverflowError):
            return None

    def close(self) -> None:
        self._pool.clear()

    def _request(
        self,
        method: str,
        url: str,
        seconds: float,
        limit: int,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        # urllib3 takes the time limit of connecting for sending, too. An image is sent after the version was answered.
        connect = min(CONNECT_SECONDS, seconds) if body is None else seconds
        timeout = urllib3.Timeout(connect=connect, read=seconds)
        ends = monotonic() + seconds
        try:
            response = self._pool.request(
                method,
                url,
                body,
                headers={**self._headers, **(headers or {})},
                timeout=timeout,
                redirect=False,
                preload_content=False,
            )
            try:
                content = bytearray()
                # `read1` returns what has come, so that a slow answer ends in time. Nobody asked for a compressed
                # answer, a chunk of which could be a thousand times larger.
                while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                    content += chunk
                    if len(content) > limit:
                        raise ServerError(TOO_LONG.format(limit / 1e6))
                    if monotonic() > ends:
                        raise ServerUnavailable(f"no answer within {seconds:.0f} s")
            except ClientError:
                response.close()
                raise
            response.release_conn()
        except urllib3.exceptions.SSLError as error:
            raise SettingsError(f"no TLS connection ({error}); check --ca and the server's name") from error
        except urllib3.exceptions.NewConnectionError as error:
            raise ServerUnreachable(f"no connection ({_reason(error)})") from error
        except urllib3.exceptions.ConnectTimeoutError as error:
            raise ServerUnreachable(f"no connection within {timeout.connect_timeout:g} s") from error
        except urllib3.exceptions.TimeoutError as error:
            raise ServerUnavailable(f"no answer within {seconds:.0f} s") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if "BadStatusLine" in str(error):
                raise ServerUnreachable("no HTTP answer (is this the gRPC port?)") from error
            raise ServerUnavailable(f"no connection ({_reason(error)})") from error
        if response.status != 200:
            raise _error(response.status, bytes(content), response.headers.get("location"))
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ServerError(COMPRESSED)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                "the answer is not JSON, so not from TensorFlow Serving; check --server"
            ) from error


def _first(value: Any) -> Any:
    """Value of the only image of a batch: a decoded file, a list of numbers, or a list of texts."""
    first = value[0]
    if isinstance(first, dict):
        return base64.b64decode(first["b64"], validate=True)
    return first if isinstance(first, list) else [first]


def _error(status: int, content: bytes, location: str | None) -> ClientError:
    try:
        message = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = ""
    said = f": {message.splitlines()[0]}" if message else ""
    if status in _RETRY_STATUS:
        return ServerUnavailable(f"the server is busy or unavailable (HTTP {status}){said}")
    if status == 400 and message:
        return refused(message)
    if status in (401, 403):
        return SettingsError(f"the server denies access (HTTP {status}); check the token or the certificate")
    if status == 404:
        return SettingsError(
            f"the server has no such model (HTTP 404){said}; check --server, --model and --label"
        )
    if status == 413:
        return ImageError("the image is larger than the server accepts (HTTP 413); crop or compress it")
    if location:
        return SettingsError(f"the server has moved to {location}; give that address")
    return ServerError(f"the server failed (HTTP {status}){said}; see its log")


def _reason(error: BaseException) -> str:
    return str(error).rsplit(": ", 1)[-1].strip("()'\"")
