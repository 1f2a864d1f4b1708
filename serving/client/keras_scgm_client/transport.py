"""What both ways to the server have in common."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from keras_scgm_client.errors import ClientError, ImageError, ServerError, SettingsError

CONNECT_SECONDS = 4.0
"""For each address of the server's name."""
INPUT = "nifti_bytes"
REQUEST_SLACK_BYTES = 2**20
"""Room in an answer for areas, warnings and punctuation."""
FILE_OF = {"serving_default": "mask_bytes", "soft": "probability_bytes"}
"""Signature -> the output that is asked for."""
VERDICTS = ("pass", "review", "fail")

_COLUMNS = {
    "area_mm2": "area_mm2",
    "position_mm": "position_mm",
    "soft_area_mm2": "soft_area_mm2",
    "n_voxels": "n_voxels",
    "mean_probability": "mean_probability",
    "contrast": "slice_contrast",
    "noise": "slice_noise",
    "predicted_dsc": "slice_predicted_dsc",
    "verdict": "slice_verdict",
    "reason": "slice_reason",
}
"""Field of a row -> output of the model."""


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
class SliceRow:
    """What the server measured in one axial slice; NaN, None or "" where it does not say.

    Args:
        area_mm2: gray matter.
        position_mm: distance from the most inferior slice.
        soft_area_mm2: sum of the probabilities times the voxel's area.
        n_voxels: of the mask.
        mean_probability: over the voxels of the mask.
        contrast: brightness of the gray matter minus that of its rim, in the image's unit.
        noise: standard deviation of the noise around the gray matter, in the same unit.
        predicted_dsc: expected Dice coefficient with a reference.
        verdict: "pass", "review" or "fail".
        reason: of a verdict other than "pass".
    """

    area_mm2: float
    position_mm: float = math.nan
    soft_area_mm2: float = math.nan
    n_voxels: int | None = None
    mean_probability: float = math.nan
    contrast: float = math.nan
    noise: float = math.nan
    predicted_dsc: float = math.nan
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Findings:
    """What the server knows of a volume besides its mask; exports of earlier releases do not tell.

    Args:
        verdict: "pass", "review" or "fail".
        reason: why it does not pass, empty if it does.
        predicted_dsc: expected Dice coefficient with a reference.
        contrast: brightness of the gray matter minus that of its rim, in the image's unit; NaN if not known.
        noise: standard deviation of the noise around the gray matter, in the same unit; NaN if not known.
        window_moved: whether the network's window is elsewhere than in the middle.
        intensity_mean: mean by which the intensities were normalized.
        intensity_std: standard deviation by which they were normalized.
        removed_away_from_cord_mm3: gray matter that was removed because it lies away from the cord.
        provenance: program, weights and settings that made the result.
    """

    verdict: str
    reason: str
    predicted_dsc: float
    contrast: float
    noise: float
    window_moved: bool
    intensity_mean: float
    intensity_std: float
    removed_away_from_cord_mm3: float
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the server made of one image.

    Args:
        mask: NIfTI file, unpacked; None if the server gave probabilities alone.
        probabilities: NIfTI file, unpacked; None if they were not asked for.
        rows: one for each axial slice, in the order of the file; empty if the server gave no areas.
        warnings: what may be wrong with the result.
        findings: None from exports of earlier releases.
        version: of the model, if the server says.
    """

    mask: bytes | None = field(repr=False)
    probabilities: bytes | None = field(repr=False)
    rows: tuple[SliceRow, ...]
    warnings: tuple[str, ...]
    findings: Findings | None = None
    version: int | None = None

    @property
    def file(self) -> bytes:
        """What was asked for."""
        wanted = self.mask if self.probabilities is None else self.probabilities
        assert wanted is not None
        return wanted


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


def answer_from(outputs: Mapping[str, Any], signature: str, version: int | None = None) -> Answer:
    """Outputs of the model, for one image, as an `Answer`.

    Args:
        outputs: list of values, or bytes, by name.
        signature: which was asked for.
        version: of the model, if the server says.

    Raises:
        SettingsError: the model is not one of keras-scgm's.
        ServerError: outputs of the model contradict each other.
    """
    files = {name: outputs.get(name) for name in FILE_OF.values()}
    if not isinstance(files[FILE_OF[signature]], bytes):
        raise SettingsError(f"the model's outputs are {sorted(outputs)}, not an image's; check --model")
    texts = [str(text) for text in outputs.get("warnings", ())]
    try:
        return Answer(
            mask=files["mask_bytes"],
            probabilities=files["probability_bytes"],
            rows=_rows(outputs),
            warnings=tuple(line for text in texts for line in text.splitlines() if line.strip()),
            findings=_findings(outputs),
            version=version,
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServerError(f"the server's answer contradicts itself ({error}); check the model") from error


def _rows(outputs: Mapping[str, Any]) -> tuple[SliceRow, ...]:
    n_slices = int(outputs["n_slices"][0]) if "n_slices" in outputs else None
    columns = {name: outputs[key][:n_slices] for name, key in _COLUMNS.items() if key in outputs}
    return tuple(
        SliceRow(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)
    )


def _findings(outputs: Mapping[str, Any]) -> Findings | None:
    if "verdict" not in outputs:
        return None
    values = {item.name: outputs[item.name][0] for item in fields(Findings)}
    if not {values["verdict"], *outputs["slice_verdict"]} <= {*VERDICTS, ""}:
        raise ValueError(f"verdict {values['verdict']}")
    return Findings(**{**values, "provenance": dict(json.loads(values["provenance"]))})


def refused(message: str) -> ClientError:
    """The server's INVALID_ARGUMENT, without the names of graph nodes around it."""
    if "version label" in message or "signature" in message.lower():
        return SettingsError(
            f"the server has no such model: {message.splitlines()[0]}; check --label and --soft"
        )
    text = message.split("\n\t [[")[0].split("assertion failed: [")[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ImageError(f"the server refuses the image: {lines[0].rstrip(']') if lines else 'no reason given'}")
