"""Reads answers of the server, and checks that they fit the image that was sent."""

from __future__ import annotations

import array
import json
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from keras_scgm_client.errors import ServerError, SettingsError
from keras_scgm_client.grid import VOXEL_BYTES, Grid, parse_grid
from keras_scgm_client.limits import MAX_FIELD_MM2, MAX_SLICE_VOXELS

Kind = Literal["mask", "probabilities"]
TYPE_CODES: dict[Kind, int] = {"mask": 2, "probabilities": 16}
"""uint8 and float32."""
FILE_OF = {"serving_default": "mask_bytes", "soft": "probability_bytes"}
"""Signature -> requested output."""
_FILES = {
    "mask": "mask_bytes",
    "probabilities": "probability_bytes",
    "cord": "cord_bytes",
    "cord_probabilities": "cord_probability_bytes",
}
"""Field of an answer -> output of the model."""
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
    "cord_area_mm2": "cord_area_mm2",
    "wm_area_mm2": "wm_area_mm2",
    "gm_cord_ratio": "gm_cord_ratio",
}
"""Field of a row -> output of the model."""
_BYTES_PER_VOXEL: dict[Kind, int] = {"mask": 2, "probabilities": 10}
"""Of gray matter and cord; with the probabilities come the masks."""
_BYTES_PER_SLICE = 2**10
"""Room for the measurements of one slice, as JSON."""
_HEADERS_BYTES = 2**20
_MAX_BRACKETS = 500
"""In the provenance; JSON that is nested deeper can be read, but not always be written again."""
_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"
_NEGATIVE_ZERO, _ONE = 0x8000_0000, 0x3F80_0008
# Bits of float32, which order non-negative numbers as their values; one is rounded generously.


@dataclass(frozen=True)
class SliceRow:
    """Measurements of the server in one axial slice; NaN, None or "" where it gives none.

    Args:
        area_mm2: Gray matter area, mm2.
        position_mm: Distance from the most inferior slice, mm.
        soft_area_mm2: Sum of the probabilities times the voxel area, mm2.
        n_voxels: Number of voxels of the mask.
        mean_probability: Mean probability over the voxels of the mask.
        contrast: Mean intensity of the gray matter minus that of its rim.
        noise: Standard deviation of the noise around the gray matter.
        predicted_dsc: Expected Dice coefficient with a reference.
        verdict: "pass", "review" or "fail".
        reason: Reason of a verdict other than "pass".
        cord_area_mm2: Cord area, mm2.
        wm_area_mm2: White matter area, mm2.
        gm_cord_ratio: Gray matter area divided by the cord area.
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
    cord_area_mm2: float = math.nan
    wm_area_mm2: float = math.nan
    gm_cord_ratio: float = math.nan


@dataclass(frozen=True)
class Findings:
    """Findings of the server about a volume besides its mask; models exported by earlier releases give none.

    Args:
        verdict: "pass", "review" or "fail".
        reason: Reason of a verdict other than "pass", otherwise empty.
        predicted_dsc: Expected Dice coefficient with a reference.
        contrast: Mean intensity of the gray matter minus that of its rim; NaN if unknown.
        noise: Standard deviation of the noise around the gray matter; NaN if unknown.
        window_moved: Whether the network's window was moved away from the image centre.
        intensity_mean: Mean of the intensities, used for normalization.
        intensity_std: Standard deviation of the intensities, used for normalization.
        removed_away_from_cord_mm3: Volume of the gray matter that was removed because it lies away from the cord, mm3.
        provenance: Program, weights and settings of the result.
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
    """Answer of the server to one image.

    Files are uncompressed NIfTI files; None if the model does not give them.

    Args:
        mask: Gray matter mask.
        probabilities: Gray matter probabilities; None if not requested.
        rows: Measurements of each axial slice, in the order of the file; empty if the server gave none.
        warnings: Possible problems of the result.
        findings: Findings about the volume; None from models exported by earlier releases.
        version: Version of the model; None if the server does not state it.
        cord: Cord mask.
        cord_probabilities: Cord probabilities; None if not requested.
    """

    mask: bytes | None = field(repr=False)
    probabilities: bytes | None = field(repr=False)
    rows: tuple[SliceRow, ...]
    warnings: tuple[str, ...]
    findings: Findings | None = None
    version: int | None = None
    cord: bytes | None = field(default=None, repr=False)
    cord_probabilities: bytes | None = field(default=None, repr=False)

    @property
    def files(self) -> tuple[bytes, ...]:
        """The requested files: gray matter, and the cord if the model segments it."""
        masks, probabilities = (self.mask, self.cord), (self.probabilities, self.cord_probabilities)
        wanted = masks if self.probabilities is None else probabilities
        return tuple(file for file in wanted if file is not None)


def answer_from(outputs: Mapping[str, Any], signature: str, version: int | None = None) -> Answer:
    """Convert the outputs of the model for one image.

    Args:
        outputs: List of values, or bytes, by name of the output.
        signature: Requested signature.
        version: Version of the model; None if the server does not state it.

    Raises:
        SettingsError: The model was not exported by keras-scgm.
        ServerError: The outputs contradict each other.
    """
    if not isinstance(outputs.get(FILE_OF[signature]), bytes):
        raise SettingsError(f"the model's outputs are {sorted(outputs)}, not an image's; check --model")
    try:
        texts = [_text(text) for text in outputs.get("warnings", ())]
        rows = _rows(outputs)
        return Answer(
            **{name: outputs.get(key) for name, key in _FILES.items()},
            rows=rows,
            warnings=tuple(line for text in texts for line in text.splitlines() if line.strip()),
            findings=_findings(outputs, rows),
            version=version,
        )
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ServerError(f"the server's answer contradicts itself ({error}); check the model") from error


def _rows(outputs: Mapping[str, Any]) -> tuple[SliceRow, ...]:
    n_slices = int(outputs["n_slices"][0]) if "n_slices" in outputs else None
    columns = {name: outputs[key][:n_slices] for name, key in _COLUMNS.items() if key in outputs}
    return tuple(
        SliceRow(**_converted(SliceRow, dict(zip(columns, values, strict=True))))
        for values in zip(*columns.values(), strict=True)
    )


def _findings(outputs: Mapping[str, Any], rows: Sequence[SliceRow]) -> Findings | None:
    if "verdict" not in outputs:
        return None
    findings = Findings(
        **_converted(Findings, {item.name: outputs[item.name][0] for item in fields(Findings)})
    )
    for verdict in (findings.verdict, *(row.verdict for row in rows)):
        if verdict not in VERDICTS:
            raise ValueError(f"verdict {verdict}")
    return findings


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    # JSON can hold characters that no file can.
    value.encode()
    return value


def _provenance(text: str) -> dict[str, Any]:
    if text.count("{") + text.count("[") > _MAX_BRACKETS:
        raise ValueError("provenance of too many parts")
    provenance = dict(json.loads(text))
    for weights in provenance["weights"]:
        _text(weights["name"])
    return provenance


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    "float": float,
    "int | None": int,
    "bool": bool,
    "str": _text,
    "Mapping[str, Any]": _provenance,
}
"""Type of a field -> function that converts the server's value."""


def _converted(kind: type[SliceRow | Findings], values: Mapping[str, Any]) -> dict[str, Any]:
    types = {item.name: item.type for item in fields(kind)}
    return {name: _CONVERTERS[types[name]](value) for name, value in values.items()}


def max_answer_bytes(image: Grid, kind: Kind) -> int:
    """Largest size of the answer to an image, bytes."""
    of_voxels, of_slices = image.n_voxels * _BYTES_PER_VOXEL[kind], max(image.shape) * _BYTES_PER_SLICE
    return of_voxels + of_slices + _HEADERS_BYTES


def check_answer(data: bytes, image: Grid, kind: Kind) -> None:
    """Check that a file from the server is a result for the image that was sent.

    Raises:
        ServerError: The file has another grid or voxel type, is truncated, or holds invalid values.
    """
    try:
        answer = parse_grid(data)
    except ValueError as error:
        raise ServerError(f"the server's answer is no image ({error}); check the model") from error
    if answer.place != image.place:
        raise ServerError(
            f"the server's answer of {answer.shape} voxels is not on the grid of the image (its dimensions, "
            "spacing, qform or sform are others); check the model"
        )
    slope, intercept = answer.fields("2f", 112)
    is_scaled = math.isfinite(slope) and (slope not in (0.0, 1.0) or intercept != 0)
    if answer.type_code != TYPE_CODES[kind] or is_scaled:
        raise ServerError(
            f"the server's answer has voxels of type {answer.type_code}, scaled by {slope:g}, which are no {kind}; "
            "check the model"
        )
    if len(data) != answer.n_bytes:
        raise ServerError(
            f"the server's answer has {len(data)} of {answer.n_bytes} bytes; check the connection"
        )
    voxels = data[answer.n_bytes - answer.n_voxels * VOXEL_BYTES[answer.type_code] :]
    if not (_is_mask(voxels) if kind == "mask" else _are_probabilities(voxels, answer.order)):
        values = "0 and 1" if kind == "mask" else "0 to 1"
        raise ServerError(f"the server's answer has voxels other than {values}; check the model")


def check_measurements(answer: Answer, image: Grid) -> None:
    """Check that the measurements of an answer can be those of an image that is served.

    Raises:
        ServerError: There are rows of more or fewer slices, or a number is out of its range.
    """
    if answer.findings and len(answer.rows) != image.n_slices:
        raise ServerError(
            f"the server's answer has areas of {len(answer.rows)} slices for an image of {image.n_slices}; "
            "check the model"
        )
    scores = [row.predicted_dsc for row in answer.rows]
    if answer.findings:
        scores.append(answer.findings.predicted_dsc)
    for name, values, largest in (
        ("areas", [row.area_mm2 for row in answer.rows], MAX_FIELD_MM2),
        ("areas of the cord", [row.cord_area_mm2 for row in answer.rows], MAX_FIELD_MM2),
        ("counts of voxels", [row.n_voxels or 0 for row in answer.rows], MAX_SLICE_VOXELS),
        ("predicted Dice coefficients", scores, 1.0),
    ):
        if any(value < 0 or value > largest for value in values):
            raise ServerError(
                f"the server's answer has {name} other than 0 to {largest:.9g}; check the model"
            )


def white_matter(gray_matter: bytes, cord: bytes, kind: Kind) -> bytes:
    """The file of the white matter, which is the cord without the gray matter.

    Args:
        gray_matter: Uncompressed NIfTI file that `check_answer` has accepted.
        cord: Likewise.
        kind: Content of the files.

    Raises:
        ServerError: A voxel of gray matter is not in the cord, or is more probable than the cord.
    """
    grid = parse_grid(gray_matter)
    start = grid.n_bytes - grid.n_voxels * VOXEL_BYTES[grid.type_code]
    inner, outer = gray_matter[start:], cord[start:]
    if kind == "mask":
        bits = int.from_bytes(inner, "little"), int.from_bytes(outer, "little")
        is_inside = bits[0] | bits[1] == bits[1]
        rest = (bits[0] ^ bits[1]).to_bytes(len(inner), "little")
    else:
        numbers = [array.array("f", voxels) for voxels in (inner, outer)]
        is_swapped = grid.order != _NATIVE_ORDER
        for each in numbers if is_swapped else ():
            each.byteswap()
        difference = array.array("f", map(operator.sub, numbers[1], numbers[0]))
        is_inside = min(difference) >= 0
        if is_swapped:
            difference.byteswap()
        rest = difference.tobytes()
    if not is_inside:
        raise ServerError("the server's answer has gray matter outside the cord; check the model")
    return gray_matter[:start] + rest


def _is_mask(voxels: bytes) -> bool:
    return voxels.count(0) + voxels.count(1) == len(voxels)


def _are_probabilities(voxels: bytes, order: str) -> bool:
    bits = array.array("I", voxels)
    if order != _NATIVE_ORDER:
        bits.byteswap()
    return max(bits) <= _ONE or all(value <= _ONE or value == _NEGATIVE_ZERO for value in bits)
