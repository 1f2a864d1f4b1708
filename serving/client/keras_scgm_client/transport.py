"""Address and model of a server, and the interface that REST and gRPC share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from urllib3.util import parse_url

from keras_scgm_client.answer import Answer
from keras_scgm_client.errors import ClientError, ImageError, NotAnImageError, SettingsError

LABELS = "labels, not an image"
"""Beginning of the server's message about a file that holds labels."""

CONNECT_SECONDS = 4.0
"""Time limit of connecting to each address of the server's name."""
SHORTEST_TRY_SECONDS = 1.0
"""Shortest time limit of a request; with less, every fault just before the deadline would look like "no answer"."""
INPUT = "nifti_bytes"
COMPRESSED = "the server's answers are compressed, which is not accepted; check its settings"
TOO_LONG = "the server's answer is over {:.0f} MB; check the model"
NOT_A_STATUS = "the server's answer is not a model's status; check --server"
REQUEST_SLACK_BYTES = 2**20
"""Room in an answer for areas, warnings and the JSON syntax."""


@dataclass(frozen=True)
class Model:
    """Model that answers.

    Args:
        name: Name of the served model.
        label: Version label; the latest version if empty.
        signature: "serving_default" for masks, "soft" for probabilities.

    Raises:
        SettingsError: The name or the label cannot be sent.
    """

    name: str = "gm_nifti"
    label: str = ""
    signature: str = "serving_default"

    def __post_init__(self) -> None:
        for option, value in (("--model", self.name), ("--label", self.label)):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise SettingsError(f"{value!a}: not Unicode; check {option}") from error


@dataclass(frozen=True)
class Access:
    """Address of the server and credentials.

    Args:
        url: Scheme (http, https, grpc, grpcs), host and port; REST may have a path before that of the API.
        token: Bearer token.
        ca: File of the certificate authority to trust instead of the system's.
        certificate: File of the client certificate.
        key: File of the certificate's key.
        connections: Number of simultaneous connections.

    Raises:
        SettingsError: The address or the token has another form, or the token would be sent unencrypted.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    connections: int = 4

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            well_formed = bool(parts.hostname) and (parts.port or True) and not re.search(r"\s", parts.netloc)
            # What urllib3 would refuse at the first request.
            parse_url(f"http://{parts.netloc}")
            (parts.hostname or "").encode("idna")
        except ValueError:
            well_formed = False
        if not well_formed or parts.scheme not in ("http", "https", "grpc", "grpcs"):
            raise SettingsError(f"{self.url}: not a server; give for example http://localhost:8501")
        if parts.username or parts.query or parts.fragment:
            raise SettingsError("the server's URL must have no user, query or fragment; use a token")
        # The token itself is not shown.
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise SettingsError(
                "the token is empty, or holds spaces, line breaks or other than ASCII characters; check --token-file"
            )
        if not self.is_encrypted:
            if self.token and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
                raise SettingsError("a token is sent over TLS only; use https or grpcs")
            if self.ca or self.certificate:
                raise SettingsError("certificates are for TLS; use https or grpcs")
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("a client certificate and its key go together; give both")
        for path in (self.ca, self.certificate, self.key):
            if path is not None and not path.is_file():
                raise SettingsError(f"{path}: no such file; check the TLS options")

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def is_encrypted(self) -> bool:
        return self.scheme in ("https", "grpcs")

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model on the server."""

    version: int
    state: str
    message: str


class Transport(Protocol):
    """Interface of the REST and gRPC transports; both are safe to use from several threads."""

    def predict(
        self, nifti: bytes, seconds: float, max_answer_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one image, without retries.

        Args:
            nifti: Content of the NIfTI file.
            seconds: Time limit of the request, s.
            max_answer_bytes: Largest total size of the files in the answer, bytes.
            headers: HTTP headers or gRPC metadata of this request, with names in lower case.

        Raises:
            ImageError: The server refuses the image.
            ServerUnreachable: There is no connection, or the address answers in another protocol.
            ServerUnavailable: The server failed temporarily; a retry may succeed.
            SettingsError: A setting is wrong, for every image.
            ServerError: The server failed, and a retry would fail too.
        """

    def status(self, seconds: float) -> list[VersionStatus]:
        """Versions of the model, latest first; raises the errors of `predict`."""

    def version(self, seconds: float) -> int | None:
        """Version that answers now; None if the server does not state it.

        Raises:
            ServerUnavailable: As in `predict`.
        """

    def close(self) -> None: ...


def refused(message: str) -> ClientError:
    """Error for the server's INVALID_ARGUMENT, without the names of graph nodes in its message."""
    if "version label" in message or "signature" in message.lower():
        return SettingsError(
            f"the server has no such model: {message.splitlines()[0]}; check --label and --soft"
        )
    text = message.split("\n\t [[")[0].split("assertion failed: [")[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = lines[0].rstrip("]") if lines else "no reason given"
    if LABELS in reason:
        return NotAnImageError(reason[reason.index(LABELS) :])
    return ImageError(f"the server refuses the image: {reason}")
