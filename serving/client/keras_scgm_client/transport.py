"""Address and model of a server, and the interface that REST and gRPC share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from keras_scgm_client.answer import Answer
from keras_scgm_client.errors import ClientError, ImageError, SettingsError

CONNECT_SECONDS = 4.0
"""For each address of the server's name."""
INPUT = "nifti_bytes"
REQUEST_SLACK_BYTES = 2**20
"""Room in an answer for areas, warnings and punctuation."""


@dataclass(frozen=True)
class Model:
    """Which model answers.

    Args:
        name: under which it is served.
        label: version label; the latest version if empty.
        signature: "serving_default" for masks, "soft" for probabilities.
    """

    name: str = "gm_nifti"
    label: str = ""
    signature: str = "serving_default"


@dataclass(frozen=True)
class Access:
    """How the server is reached.

    Args:
        url: scheme (http, https, grpc, grpcs), host and port; REST may have a path in front of the API's own.
        token: bearer token.
        ca: file with the certificate authority to trust instead of the system's.
        certificate: file with a client certificate.
        key: file with its key.
        connections: kept open at a time.

    Raises:
        SettingsError: an address of another form, or a token that would travel unencrypted.
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
            well_formed = bool(parts.hostname) and (parts.port or True)
        except ValueError:
            well_formed = False
        if not well_formed or parts.scheme not in ("http", "https", "grpc", "grpcs"):
            raise SettingsError(f"{self.url}: not a server; give for example http://localhost:8501")
        if parts.username or parts.query or parts.fragment:
            raise SettingsError("the server's URL must have no user, query or fragment; use a token")
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
    """REST or gRPC."""

    def predict(
        self, nifti: bytes, seconds: float, max_answer_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one image once.

        Args:
            nifti: the file.
            seconds: until it must be answered.
            max_answer_bytes: of the files in the answer.
            headers: HTTP headers or gRPC metadata of this request, in lower case.

        Raises:
            ImageError: the server refuses the image.
            ServerUnreachable: there is no connection.
            ServerUnavailable: worth another try.
            SettingsError: wrong for every image.
            ServerError: not worth another try.
        """

    def status(self, seconds: float) -> list[VersionStatus]:
        """The versions of the model, latest first; same errors."""

    def close(self) -> None: ...


def refused(message: str) -> ClientError:
    """The server's INVALID_ARGUMENT, without the names of graph nodes around it."""
    if "version label" in message or "signature" in message.lower():
        return SettingsError(
            f"the server has no such model: {message.splitlines()[0]}; check --label and --soft"
        )
    text = message.split("\n\t [[")[0].split("assertion failed: [")[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ImageError(f"the server refuses the image: {lines[0].rstrip(']') if lines else 'no reason given'}")
