"""The card of an ensemble: weights files whose networks are averaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from keras_scgm import checks
from keras_scgm.errors import InputError, one_line
from keras_scgm.files import read_text, sha256_of
from keras_scgm.json_config import JsonConfig
from keras_scgm.pretrained.card import SUFFIXES_TEXT, UNSTATED, WEIGHTS_SUFFIXES, is_sha256

T = TypeVar("T")

ENSEMBLE_SUFFIX = ".json"


@dataclass(frozen=True)
class EnsembleCard(JsonConfig):
    """Weights files that are used as one: the probabilities of their networks are averaged.

    Slices, tissues and thresholds are those of the members' own cards, the thresholds averaged.

    Args:
        name: Name of the ensemble.
        members: Path of each weights file, relative to the folder of the card, and its SHA-256 hash.
        data: Training data.
        licence: Terms of use.
        scores: Measured results, as in `WeightsCard`.
        limits: Cases that are known not to work, or were not tested.
        citation: Publication to cite.

    Raises:
        keras_scgm.errors.InputError: A field breaks its rule.
    """

    name: str
    members: dict[str, str]
    data: str = UNSTATED
    licence: str = UNSTATED
    scores: tuple[dict[str, Any], ...] = ()
    limits: str = UNSTATED
    citation: str = UNSTATED

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            **dict.fromkeys(("name", "data", "licence", "limits", "citation"), checks.text),
            members=_members,
            scores=checks.several(checks.instance(dict, "a mapping"), "a list of mappings"),
        )


def ensemble_members(weights: T) -> list[T | Path]:
    """The networks of what a user gives as weights.

    Args:
        weights: Path of an ensemble's card, NAME.json, or anything else that is weights.

    Returns:
        The files of the ensemble, or the weights themselves.

    Raises:
        keras_scgm.errors.InputError: The card is missing or damaged, or a file is missing or another one.
    """
    if not isinstance(weights, (str, Path)) or not str(weights).endswith(ENSEMBLE_SUFFIX):
        return [weights]
    path = checks.path("weights", weights)
    card = _read(path)
    files: list[T | Path] = []
    for place, sha256 in card.members.items():
        file = path.parent / place
        if not file.is_file():
            raise InputError(f"{path}: {file} of the ensemble is missing; put it there")
        if sha256_of(file) != sha256:
            raise InputError(
                f"{path}: {file} is not the file of the ensemble, its sha256 is not {sha256}; put that one there"
            )
        files.append(file)
    return files


def _read(path: Path) -> EnsembleCard:
    if not path.exists():
        raise InputError(f"{path}: no such card of an ensemble")
    text = read_text(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error
    if isinstance(values, dict) and "architecture" in values:
        raise InputError(
            f"{path}: the card of one weights file; give that file, {values.get('file')}, as weights"
        )
    try:
        return EnsembleCard.from_values(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _members(name: str, value: Any) -> dict[str, str]:
    wanted = f"relative paths of files ending in {SUFFIXES_TEXT}, each with its SHA-256 hash, at least one"
    if not isinstance(value, dict) or not value:
        checks.refuse(name, wanted, value)
    for path, sha256 in value.items():
        if not isinstance(path, str) or Path(path).is_absolute() or not path.endswith(WEIGHTS_SUFFIXES):
            checks.refuse(name, wanted, value)
        if not is_sha256(sha256):
            checks.refuse(name, wanted, value)
    return dict(value)
