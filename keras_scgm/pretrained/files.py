"""The file of weights, known by name or by path: found, downloaded the first time, and verified against its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_scgm.errors import InputError, one_line
from keras_scgm.files import replaced, sha256_of
from keras_scgm.pretrained.card import WeightsCard
from keras_scgm.pretrained.catalog import as_path, find_card, weights_card, weights_path
from keras_scgm.pretrained.layers import INFLATED_FROM, read_layers


def resolve_weights(name_or_path: str | Path) -> tuple[Path, WeightsCard | None]:
    """Finds a weights file, downloading it the first time, and verifies it against its card.

    Args:
        name_or_path: A name that `list_weights` knows, or the path of a weights file.

    Returns:
        The path of the file, and its card or None for a file without one.

    Raises:
        keras_scgm.errors.InputError: The name is unknown, the file is missing, differs from its card's hash,
            or cannot be downloaded.
    """
    path = as_path(name_or_path)
    if path is None:
        known = weights_card(str(name_or_path))
        path = weights_path(known)
        _verify(path, known) if path.is_file() else _download(known, path)
        return path, known
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    if card := find_card(path):
        _verify(path, card)
    return path, card


def classes_of(name_or_path: str | Path) -> int:
    """The number of output channels of weights, as their card says or, without one, their file; 1 if neither does.

    Args:
        name_or_path: A name that `list_weights` knows, or the path of a weights file.

    Raises:
        keras_scgm.errors.InputError: The file is damaged, or as `resolve_weights`.
    """
    card = find_card(name_or_path)
    if card is not None:
        return int(card.model_kwargs.get("classes", 1))
    path, _ = resolve_weights(name_or_path)
    predictions = read_layers(path).get("predictions")
    return int(predictions[0].shape[-1]) if predictions else 1


def weights_for(name_or_path: str | Path, architecture: str, arguments: Mapping[str, Any]) -> Path:
    """The file of weights for a builder called with these arguments, as `resolve_weights` finds it.

    Args:
        name_or_path: A name that `list_weights` knows, or the path of a weights file.
        architecture: Name of the builder.
        arguments: Arguments of the builder that determine the shapes of its weights.

    Raises:
        keras_scgm.errors.InputError: The card names another architecture or another value of an argument, or
            as `resolve_weights`.
    """
    card = find_card(name_or_path)
    if card is not None:
        if card.architecture not in (architecture, INFLATED_FROM.get(architecture)):
            raise InputError(
                f"weights={name_or_path!r} needs the architecture {card.architecture}, received {architecture}"
            )
        for argument, value in arguments.items():
            needed = card.model_kwargs.get(argument, value)
            needed = tuple(needed) if isinstance(needed, list) else needed
            if needed != value:
                raise InputError(f"weights={name_or_path!r} needs {argument}={needed}, received {value}")
    return resolve_weights(name_or_path)[0]


def _download(card: WeightsCard, path: Path) -> None:
    """Downloads the file under a temporary name, so that `path` is always complete and verified."""
    by_hand = f"put {card.file} (sha256 {card.sha256}, from {card.url}) into {path.parent}"
    if card.url is None:
        raise InputError(f"weights {card.name!r}: {card.file} is missing from the package; {by_hand}")
    # Only a download needs Keras here; reading weights should not wait for it.
    import keras

    with replaced(path, "set KERAS_SCGM_HOME to a folder that can be written") as temporary:
        try:
            keras.utils.get_file(card.file, card.url, cache_dir=str(temporary.parent), cache_subdir="")
        # A bare Exception when the network fails.
        except Exception as error:
            raise InputError(
                f"weights {card.name!r}: cannot download {card.file} ({one_line(error)}); "
                f"without a network, {by_hand}"
            ) from error
        _verify(temporary, card)


def _verify(path: Path, card: WeightsCard) -> None:
    found = sha256_of(path)
    if found != card.sha256:
        raise InputError(
            f"{path}: damaged or another file: sha256 is {found}, "
            f"the card of {card.name!r} says {card.sha256}; delete it, or put the right one in its place"
        )
