"""The weights that are known by name, their cards, and the folders of bundled and downloaded files."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Literal

from keras_scgm import checks
from keras_scgm.errors import InputError, one_line
from keras_scgm.files import once_per_version, read_text
from keras_scgm.pretrained.card import SUFFIXES_TEXT, WEIGHTS_SUFFIXES, WeightsCard, card_path
from keras_scgm.pretrained.ensemble import ENSEMBLE_SUFFIX

DEFAULT_WEIGHTS = "synthetic"
"""The weights used by default; they come with the package."""


def weights_folder() -> Path:
    """The folder of cards and bundled weights, of an installed package or of a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no weights folder in {package}: install keras-scgm again")


def cache_folder() -> Path:
    """The folder of downloaded weights: $KERAS_SCGM_HOME, or ~/.keras/keras_scgm if it is not set.

    Raises:
        InputError: It is in a home folder that is not known, as in a container whose user has no name.
    """
    place = os.environ.get("KERAS_SCGM_HOME") or "~/.keras/keras_scgm"
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{place}: there is no such home folder; set KERAS_SCGM_HOME to a folder for downloaded weights"
        ) from error


def list_weights() -> list[str]:
    """The names that `weights=...` takes, in alphabetical order; `weights_card` describes each.

    Example:

    >>> list_weights()
    ['challenge', 'large', 'synthetic', 'synthetic_unet']
    """
    return list(_known_cards())


def weights_card(name: str) -> WeightsCard:
    """The card of weights known by name: network, training data, licence, threshold, measured scores and limits.

    Args:
        name: One of `list_weights`.

    Raises:
        keras_scgm.errors.InputError: No weights have this name; the message lists those that exist.

    Example:

    >>> card = weights_card("large")
    >>> card.architecture, card.model_kwargs["filters"], card.threshold
    ('DilatedGMNet', 64, 0.5)
    """
    checks.text("name of weights", name)
    cards = _known_cards()
    if name in cards:
        return cards[name]
    close = difflib.get_close_matches(name, cards, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(
        f"unknown weights {name!r}: neither a known name ({', '.join(cards)}) "
        f"nor a file ending in {SUFFIXES_TEXT}{hint}"
    )


def weights_status(card: WeightsCard) -> Literal["bundled", "cached", "download"]:
    """Whether the file of a card is in the package, in the cache folder, or still to be downloaded."""
    if (weights_folder() / card.file).is_file():
        return "bundled"
    return "cached" if (cache_folder() / card.file).is_file() else "download"


def weights_path(card: WeightsCard) -> Path:
    """Where the file of a card is, or has its place once it is downloaded."""
    folder = weights_folder() if weights_status(card) == "bundled" else cache_folder()
    return folder / card.file


def as_path(name_or_path: str | Path) -> Path | None:
    """The path, or None when the argument is to be read as a name."""
    if str(name_or_path).endswith(ENSEMBLE_SUFFIX):
        raise InputError(f"{name_or_path}: a card, where one network is needed; give a weights file")
    if isinstance(name_or_path, Path):
        return checks.path("weights", name_or_path)
    if not isinstance(name_or_path, str):
        checks.refuse("weights", "a known name or a path", name_or_path)
    return checks.path("weights", name_or_path) if name_or_path.endswith(WEIGHTS_SUFFIXES) else None


def find_card(name_or_path: str | Path) -> WeightsCard | None:
    """The card of a known name, or the one beside a weights file (NAME.json), or None if there is none."""
    path = as_path(name_or_path)
    if path is None:
        return weights_card(str(name_or_path))
    beside = card_path(path)
    if not beside.is_file() or not _is_card(beside):
        return None
    card = _read_card(beside)
    if card.file != path.name:
        raise InputError(f"{beside}: describes {card.file}, not {path.name} beside it")
    return card


def _known_cards() -> dict[str, WeightsCard]:
    cards = [_read_card(path) for path in sorted(weights_folder().glob("*.json"))]
    return {card.name: card for card in cards}


def _read_card(path: Path) -> WeightsCard:
    text = _text_of(path)
    try:
        return WeightsCard.from_json(text)
    except ValueError as error:
        raise InputError(f"{path}: {one_line(error)}; mend the card, or move it away") from error


def _is_card(path: Path) -> bool:
    """Whether a JSON file is meant as a card: the authors keep others beside their weights.

    One that is damaged may have been a card, whose settings are not to be lost in silence.
    """
    try:
        content = json.loads(_text_of(path))
    except (ValueError, RecursionError):
        return True
    return isinstance(content, dict) and "architecture" in content


_text_of = once_per_version(read_text)
