"""The card of a weights file: what the weights are, and the settings to use them with."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.json_config import JsonConfig
from keras_scgm.slices import SliceConfig

WEIGHTS_SUFFIXES = (".weights.h5", ".keras", ".hdf5")
SUFFIXES_TEXT = ".weights.h5, .keras or .hdf5"

BRIGHT, DARK = "bright gray matter", "dark gray matter"
CONTRASTS = (BRIGHT, DARK)
"""Gray matter brighter than white matter, as in T2*-weighted images, or darker, as in PSIR and T1-weighted ones."""

GRAY_MATTER, CORD = "gray_matter", "cord"
TISSUES = ((GRAY_MATTER,), (GRAY_MATTER, CORD))
"""What a network can segment, in the order of its outputs. The cord contains the gray matter."""

PAPER_SLICES = SliceConfig()
UNSTATED = "not stated"


@dataclass(frozen=True)
class WeightsCard(JsonConfig):
    """What a weights file is, and the settings it is to be used with.

    Args:
        name: Name by which users choose the weights.
        architecture: Name of the builder, e.g. "DilatedGMNet".
        model_kwargs: Arguments of the builder that determine the network.
        file: Name of the file, without a folder.
        sha256: Hash of the file, 64 lower-case hexadecimal digits.
        url: Address for the download, or None for a file that comes with the package.
        slices: Pixel spacing and window of the slices that the network was trained on.
        threshold: Probability above which a voxel is gray matter, on the image's own grid.
        paper_threshold: Threshold on the slices' grid in the paper's order of steps.
        cord_threshold: Probability above which a voxel is cord, for weights that segment it.
        tissues: What the outputs of the network are, one of `TISSUES`.
        contrasts: Contrasts that the network was trained for, of `CONTRASTS`.
        data: Training data.
        training: Settings of the training, as in `keras_scgm.training.TrainingConfig`; empty if unknown.
        licence: Terms of use of the file.
        scores: Measured results, each with "image", "metric", "value" and "pipeline".
        limits: Cases that are known not to work, or were not tested.
        citation: Publication to cite.

    Raises:
        keras_scgm.errors.InputError: A field breaks its rule.
    """

    name: str
    architecture: str
    model_kwargs: dict[str, Any]
    file: str
    sha256: str
    url: str | None = None
    slices: SliceConfig = PAPER_SLICES
    threshold: float = 0.5
    paper_threshold: float = 0.999
    cord_threshold: float = 0.5
    tissues: tuple[str, ...] = (GRAY_MATTER,)
    contrasts: tuple[str, ...] = (BRIGHT,)
    data: str = UNSTATED
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = UNSTATED
    scores: tuple[dict[str, Any], ...] = ()
    limits: str = UNSTATED
    citation: str = UNSTATED

    def __post_init__(self) -> None:
        mapping = checks.instance(dict, "a mapping")
        threshold = checks.number(above=0, below=1)
        checks.check_fields(
            self,
            **dict.fromkeys(("name", "architecture", "data", "licence", "limits", "citation"), checks.text),
            model_kwargs=mapping,
            training=mapping,
            file=_file_name,
            sha256=_sha256,
            url=checks.optional(_url),
            slices=checks.instance(SliceConfig),
            threshold=threshold,
            paper_threshold=threshold,
            cord_threshold=threshold,
            tissues=known_tissues,
            contrasts=_contrasts,
            scores=checks.several(mapping, "a list of mappings"),
        )


def weights_stem(path: Path) -> str:
    """The name of a weights file without its suffix, `.weights.h5` being one suffix."""
    for suffix in WEIGHTS_SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.stem


def distinct_names(weights: Sequence[str]) -> list[str]:
    """Short names of known names and files: without the folder, or with it if two files are called alike.

    Raises:
        InputError: Two have the same name and folder.

    >>> distinct_names(["synthetic", "a/best.weights.h5", "b/best.weights.h5"])
    ['synthetic', 'a/best', 'b/best']
    """
    stems = [weights_stem(Path(item)) for item in weights]
    names = [
        f"{Path(os.path.abspath(item)).parent.name}/{stem}" if stems.count(stem) > 1 else stem
        for item, stem in zip(weights, stems, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            same = [item for item, other in zip(weights, names, strict=True) if other == name]
            raise InputError(f"{' and '.join(same)}: one name, {name}; give each once, or rename a folder")
    return names


def card_path(path: Path) -> Path:
    """The file of the card that belongs to a weights file: NAME.json beside it."""
    return path.with_name(f"{weights_stem(path)}.json")


def _file_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or Path(value).name != value or not value.endswith(WEIGHTS_SUFFIXES):
        checks.refuse(name, f"a file name ending in {SUFFIXES_TEXT}, without a folder", value)
    return value


def is_sha256(value: Any) -> bool:
    """Whether a value is a SHA-256 hash as cards have it, 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _sha256(name: str, value: Any) -> str:
    if not is_sha256(value):
        checks.refuse(name, "64 lower-case hexadecimal digits", value)
    return str(value)


def _url(name: str, value: Any) -> str:
    if not isinstance(value, str) or "://" not in value:
        checks.refuse(name, "a URL", value)
    return value


def tissues_of_outputs(number: int) -> tuple[str, ...]:
    """The tissues of a network that nothing but its number of outputs describes; gray matter if none has as many."""
    return next((tissues for tissues in TISSUES if len(tissues) == number), TISSUES[0])


def known_tissues(name: str, value: Any) -> tuple[str, ...]:
    """A rule for arguments: one of `TISSUES`."""
    wanted = " or ".join(f"[{', '.join(tissues)}]" for tissues in TISSUES)
    tissues = checks.several(checks.text, wanted)(name, value)
    return tissues if tissues in TISSUES else checks.refuse(name, wanted, value)


def _contrasts(name: str, value: Any) -> tuple[str, ...]:
    wanted = f"a list of {' and '.join(map(repr, CONTRASTS))}"
    contrasts = checks.several(checks.one_of(CONTRASTS), wanted)(name, value)
    return contrasts or checks.refuse(name, wanted, value)
