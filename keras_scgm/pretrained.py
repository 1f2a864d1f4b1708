"""Weights by name or path: their cards, where their files are, and reading them into a network."""

import difflib
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import replaced

if TYPE_CHECKING:
    import keras

DEFAULT_WEIGHTS = "synthetic"
"""Used when none are named: they come with the package."""

SUFFIXES = (".weights.h5", ".keras", ".hdf5")
_SUFFIXES_TEXT = ".weights.h5, .keras or .hdf5"
_UNSTATED = "not stated"

_REMEDIES = {
    "channels": "; use weights=None, or input_tensor=keras.layers.Conv2D(1, 1)(images) to make one channel of several",
    "classes": "; use include_top=False and an output layer of your own, or weights=None",
}
"""What to do about a network whose weights have another number of input channels or classes."""

BRIGHT, DARK = "bright gray matter", "dark gray matter"
CONTRASTS = (BRIGHT, DARK)
"""Gray matter brighter than white matter, as in T2*-weighted images, or darker, as in PSIR and T1-weighted ones."""


@dataclass(frozen=True)
class WeightsCard:
    """What a weights file is, and the settings it is to be used with.

    Args:
        name: What users call the weights.
        architecture: Name of the builder, e.g. "DilatedGMNet".
        model_kwargs: The builder's arguments that fix the network.
        file: Name of the file, without a folder.
        sha256: Hash of the file, 64 lower-case hexadecimal digits.
        url: Where the file is downloaded from, or None when it comes with the package.
        slices: "spacing_mm", the pixel size of a slice in plane, and "window_px", its height and width in pixels.
        normalization: How intensities are normalized; "zscore_volume": the windowed volume to mean 0 and
            standard deviation 1.
        threshold: Probability from which a voxel is gray matter.
        threshold_space: Grid on which `threshold` applies, "native" (the image's own) or "slices".
        paper_threshold: Threshold on the slices' grid in the paper's order of steps.
        contrasts: Contrasts that the network knows, of `CONTRASTS`.
        data: What the weights were trained on.
        licence: Terms of use of the file.
        scores: Measured results, each with "image", "metric", "value" and "pipeline".
        limits: What is known not to work, or was not tested.
        citation: What to cite.
    """

    name: str
    architecture: str
    model_kwargs: dict[str, Any]
    file: str
    sha256: str
    url: str | None = None
    slices: dict[str, float] = field(default_factory=lambda: {"spacing_mm": 0.25, "window_px": 200})
    normalization: str = "zscore_volume"
    threshold: float = 0.5
    threshold_space: str = "native"
    paper_threshold: float = 0.999
    contrasts: list[str] = field(default_factory=lambda: [BRIGHT])
    data: str = _UNSTATED
    licence: str = _UNSTATED
    scores: list[dict[str, Any]] = field(default_factory=list)
    limits: str = _UNSTATED
    citation: str = _UNSTATED

    def __post_init__(self) -> None:
        for key in ("name", "architecture", "file", "data", "licence", "limits", "citation"):
            value = getattr(self, key)
            self._require(key, isinstance(value, str) and value.strip() != "", "a text")
        for key in ("model_kwargs", "slices"):
            self._require(key, isinstance(getattr(self, key), dict), "a mapping")
        self._require(
            "file",
            isinstance(self.file, str) and Path(self.file).name == self.file and self.file.endswith(SUFFIXES),
            f"a file name ending in {_SUFFIXES_TEXT}, without a folder",
        )
        self._require(
            "sha256",
            isinstance(self.sha256, str) and re.fullmatch("[0-9a-f]{64}", self.sha256) is not None,
            "64 lower-case hexadecimal digits",
        )
        self._require("url", self.url is None or (isinstance(self.url, str) and "://" in self.url), "a URL")
        spacing_mm, size = self.slices.get("spacing_mm"), self.slices.get("window_px")
        self._require(
            "slices",
            set(self.slices) == {"spacing_mm", "window_px"}
            and isinstance(spacing_mm, (int, float))
            and spacing_mm > 0
            and isinstance(size, int)
            and size > 0,
            'a positive "spacing_mm" and a positive integer "window_px"',
        )
        self._require("normalization", self.normalization == "zscore_volume", '"zscore_volume"')
        for key in ("threshold", "paper_threshold"):
            value = getattr(self, key)
            self._require(key, isinstance(value, (int, float)) and 0 < value < 1, "between 0 and 1")
        self._require("threshold_space", self.threshold_space in ("native", "slices"), '"native" or "slices"')
        self._require(
            "contrasts",
            isinstance(self.contrasts, list)
            and bool(self.contrasts)
            and set(self.contrasts) <= set(CONTRASTS),
            f"a list of {' and '.join(map(repr, CONTRASTS))}",
        )
        self._require(
            "scores",
            isinstance(self.scores, list) and all(isinstance(score, dict) for score in self.scores),
            "a list of mappings",
        )

    def _require(self, key: str, holds: bool, rule: str) -> None:
        if not holds:
            raise InputError(f"weights card: {key} must be {rule}, received {getattr(self, key)!r}")

    def to_json(self) -> str:
        """The card as JSON text, in the order of its fields."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "WeightsCard":
        """The card written by `to_json`.

        Raises:
            keras_scgm.errors.InputError: The text is not JSON, lacks a field, has an unknown one, or breaks a
                field's rule.
        """
        try:
            content = json.loads(checks.text("weights card", text))
        except json.JSONDecodeError as error:
            raise InputError(f"weights card: is not JSON ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"weights card: must be a JSON object, received {type(content).__name__}")
        known = {item.name: item for item in fields(cls)}
        required = {
            key for key, item in known.items() if item.default is MISSING and item.default_factory is MISSING
        }
        if missing := sorted(required - set(content)):
            raise InputError(f"weights card: lacks {', '.join(missing)}")
        if unknown := sorted(set(content) - set(known)):
            raise InputError(f"weights card: has unknown fields {', '.join(unknown)}")
        return cls(**content)


def weights_folder() -> Path:
    """The folder of cards and bundled weights, of an installed package or of a checkout."""
    package = Path(__file__).parent
    for folder in (package / "weights", package.parent / "weights"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no weights folder in {package}: install keras-scgm again")


def cache_folder() -> Path:
    """The folder of downloaded weights: $KERAS_SCGM_HOME, or ~/.keras/keras_scgm if it is not set."""
    return Path(os.environ.get("KERAS_SCGM_HOME") or "~/.keras/keras_scgm").expanduser()


def list_weights() -> list[str]:
    """The names of all weights that `weights=...` takes, in alphabetical order; see `weights_card` for what they are.

    Example:

    >>> list_weights()
    ['challenge', 'large', 'synthetic', 'synthetic_unet']
    """
    return list(_known_cards())


def weights_card(name: str) -> WeightsCard:
    """What weights known by name are: network, training data, licence, threshold, measured scores and limits.

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
        f"nor a file ending in {_SUFFIXES_TEXT}{hint}"
    )


def _known_cards() -> dict[str, WeightsCard]:
    cards = [_read_card_file(path) for path in sorted(weights_folder().glob("*.json"))]
    return {card.name: card for card in cards}


def weights_status(card: WeightsCard) -> Literal["bundled", "cached", "download"]:
    """Where the file of a card is: with the package, in the cache folder, or still to be downloaded."""
    if (weights_folder() / card.file).is_file():
        return "bundled"
    return "cached" if (cache_folder() / card.file).is_file() else "download"


def find_card(name_or_path: str | Path) -> WeightsCard | None:
    """The card of a known name, or the one beside a weights file (NAME.json), or None if there is none."""
    path = _as_path(name_or_path)
    if path is None:
        return weights_card(str(name_or_path))
    card_path = path.with_name(weights_stem(path) + ".json")
    if not card_path.is_file() or not _is_card(card_path):
        return None
    card = _read_card_file(card_path)
    if card.file != path.name:
        raise InputError(f"{card_path}: describes {card.file}, not {path.name} beside it")
    return card


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
    path = _as_path(name_or_path)
    if path is None:
        named = weights_card(str(name_or_path))
        return _file_of(named), named
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    card = find_card(path)
    if card is not None:
        _verify(path, card)
    return path, card


def weights_for(name_or_path: str | Path, architecture: str, arguments: Mapping[str, Any]) -> Path:
    """The file of weights for a builder called with these arguments, as `resolve_weights` finds it.

    Args:
        name_or_path: A name that `list_weights` knows, or the path of a weights file.
        architecture: Name of the builder.
        arguments: Those of the builder's arguments that fix the shapes of its weights, and the number of input
            "channels".

    Raises:
        keras_scgm.errors.InputError: The card names another architecture or another value of an argument, or
            as `resolve_weights`.
    """
    card = find_card(name_or_path)
    if card is not None:
        if card.architecture != architecture:
            raise InputError(
                f"weights={name_or_path!r} needs the architecture {card.architecture}, received {architecture}"
            )
        channels = card.model_kwargs.get("input_shape", (None, None, 1))[-1]
        described = {"classes": 1, **card.model_kwargs, "channels": channels}
        for argument, value in arguments.items():
            needed = described.get(argument, value)
            needed = tuple(needed) if isinstance(needed, list) else needed
            if needed != value:
                raise InputError(
                    f"weights={name_or_path!r} needs {argument}={needed}, received {value}"
                    f"{_REMEDIES.get(argument, '')}"
                )
    return resolve_weights(name_or_path)[0]


def load_weights_into(model: "keras.Model", path: str | Path) -> None:
    """Reads a weights file into a network, matching layers by name.

    The network is changed only if all of it fits. The file may hold the layer "predictions" that a network
    built with `include_top=False` lacks; anything else it holds must be in the network.

    Args:
        model: A network of this package, or one with the same layer names.
        path: A `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file.

    Raises:
        keras_scgm.errors.InputError: The file is damaged or does not fit; names the first mismatch.
    """
    file_layers = read_layers(path)
    model_layers = {layer.name: layer for layer in model.layers if layer.weights}
    first = next(iter(model_layers), None)
    for name, layer in model_layers.items():
        if name not in file_layers:
            remedy = "; use include_top=False" if name == "predictions" else ""
            raise InputError(f"{path}: has no layer {name!r}, which the network {model.name!r} needs{remedy}")
        found = [array.shape for array in file_layers[name]]
        needed = [tuple(variable.shape) for variable in layer.weights]
        if found != needed:
            remedy = ""
            if name == first and found[0][:2] + found[0][3:] == needed[0][:2] + needed[0][3:]:
                remedy = _REMEDIES["channels"]
            elif name == "predictions" and found[0][:-1] == needed[0][:-1]:
                remedy = _REMEDIES["classes"]
            raise InputError(
                f"{path}: layer {name!r} has shapes {_listed(found)}, "
                f"the network {model.name!r} needs {_listed(needed)}{remedy}"
            )
    for name in file_layers:
        if name not in model_layers and name != "predictions":
            raise InputError(f"{path}: has a layer {name!r}, which the network {model.name!r} lacks")
    for name, layer in model_layers.items():
        layer.set_weights(file_layers[name])


def read_layers(path: str | Path) -> dict[str, list[np.ndarray]]:
    """The arrays of a weights file by layer name, in the order of the layers in the network.

    Args:
        path: A `.weights.h5`, `.keras` or published Keras 2 `.hdf5` file.

    Returns:
        Layer name to its arrays: kernel and bias, or gamma, beta, moving mean and moving variance.

    Raises:
        keras_scgm.errors.InputError: The file is missing, damaged, or of another kind.
    """
    path = checks.path("path", path)
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: a weights file must end in {_SUFFIXES_TEXT}")
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        source: Any = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(source, "r") as file:
            file_layers = _keras2_layers(file) if "layer_names" in file.attrs else _keras3_layers(file)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a Keras weights file, or damaged ({_one_line(error)})") from error
    for name, arrays in file_layers.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError(f"{path}: layer {name!r} holds values that are not finite")
    return file_layers


def sha256_of(path: Path) -> str:
    """The SHA-256 hash of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_stem(path: Path) -> str:
    """The name of a weights file without its suffix, `.weights.h5` being one suffix."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.stem


def _keras2_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    names = [name.decode() for name in file.attrs["layer_names"]]
    arrays = {
        name: [np.asarray(file[name][weight]) for weight in file[name].attrs["weight_names"]]
        for name in names
    }
    return {name: values for name, values in arrays.items() if values}


def _keras3_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    groups = file["layers"]
    # Groups are called conv2d, conv2d_1, ... conv2d_10; shorter first is the order of the layers.
    variables = [groups[group]["vars"] for group in sorted(groups, key=lambda group: (len(group), group))]
    return {
        group.attrs["name"]: [np.asarray(group[str(index)]) for index in range(len(group))]
        for group in variables
        if len(group)
    }


def _as_path(name_or_path: str | Path) -> Path | None:
    """The path, or None when the argument is to be read as a name."""
    if isinstance(name_or_path, Path):
        return checks.path("weights", name_or_path)
    if not isinstance(name_or_path, str):
        checks.refuse("weights", "a known name or a path", name_or_path)
    return checks.path("weights", name_or_path) if name_or_path.endswith(SUFFIXES) else None


def _read_card_file(path: Path) -> WeightsCard:
    try:
        return WeightsCard.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {_one_line(error)}") from error


def _is_card(path: Path) -> bool:
    """Whether a JSON file is meant as a card: the authors keep others beside their weights."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "architecture" in content


def _file_of(card: WeightsCard) -> Path:
    status = weights_status(card)
    folder = weights_folder() if status == "bundled" else cache_folder()
    path = folder / card.file
    if status == "download":
        _download(card, path)
    else:
        _verify(path, card)
    return path


def _download(card: WeightsCard, path: Path) -> None:
    """Fetches the file under a temporary name, so that `path` is only ever whole and verified."""
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
                f"weights {card.name!r}: cannot download {card.file} ({_one_line(error)}); "
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


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return " ".join(str(shape) for shape in shapes)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
