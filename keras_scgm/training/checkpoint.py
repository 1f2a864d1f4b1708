"""Checkpoints: the files of a training's folder, and resuming from them.

Files are replaced whole, so that a kill at any moment leaves those of the last finished epoch.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.datasets.slice_loading import labels_sha256
from keras_scgm.errors import InputError, one_line
from keras_scgm.figures import write_figure
from keras_scgm.files import check_inputs_stay, check_writable, replaced, sha256_of, write_rows
from keras_scgm.json_config import refuse_changes
from keras_scgm.pretrained import WeightsCard, card_path, resolve_weights
from keras_scgm.training.batches import Batches, SliceBatches
from keras_scgm.training.config import TrainingConfig

BEST, LAST = "best.weights.h5", "last.weights.h5"
SPEC, STATE, LOG, CURVES, SAMPLES = "spec.json", "state.npz", "log.csv", "curves.png", "samples.png"

NOT_HASHED = "0" * 64
"""Hash in a card of weights that are not written yet; `write_card` replaces it."""

Row = dict[str, float]
"""What was measured in an epoch, by name."""


def check_start(folder: Path, config: TrainingConfig, resume: bool) -> None:
    """Checks that a training may start in a folder, or go on with the one in it; writes nothing.

    Without a finished epoch nothing in the folder can be lost, so any training may start there. One that goes on may
    have more epochs than before.

    Raises:
        InputError: It holds another training, or one that was not to be resumed, or the initial weights under the name
            of its own, or nothing can be written there.
    """
    check_writable(folder)
    if config.initial_weights is not None:
        check_inputs_stay([Path(config.initial_weights)], [folder / BEST, folder / LAST])
    if not (folder / STATE).exists():
        return
    if not resume:
        raise InputError(f"{folder}: holds a training; go on with --resume, or choose another folder")
    before = kept_config(folder)
    if before is None:
        raise InputError(f"{folder / SPEC}: missing; train in another folder")
    if config.epochs < before.epochs:
        raise InputError(
            f"{folder / SPEC}: epochs was {before.epochs}, now {config.epochs}; a training that goes on may have "
            "more epochs, not fewer"
        )
    refuse_changes(folder / SPEC, "training", replace(before, epochs=config.epochs).differences(config))


def kept_config(folder: Path) -> TrainingConfig | None:
    """The settings of the training in a folder; None if it holds none.

    Raises:
        InputError: The file cannot be read.
    """
    path = folder / SPEC
    return TrainingConfig.read(path) if path.exists() else None


def finished_epochs(folder: Path) -> int:
    """How many epochs of the training in a folder are finished."""
    try:
        with _opened(folder / STATE) as file:
            return len(json.loads(str(file["words"]))["history"])
    except InputError:
        return 0


@dataclass(frozen=True, eq=False)
class Data:
    """Fingerprint of the training and validation data, by which a resumed training recognizes them.

    Args:
        what: Description of the data.
        examples: Some of the slices, (sample, height, width, 1), or stacks of them.
        validation: Names of the images for validation.
        hashes: Result of `data_hashes`.
    """

    what: str
    examples: np.ndarray
    validation: tuple[str, ...]
    hashes: Mapping[str, str]

    def differs_from(self, other: Data) -> str:
        """Description of the first difference, empty if there is none."""
        if self.validation != other.validation:
            shown = [f"{len(data.validation)} ({', '.join(data.validation[:3])})" for data in (other, self)]
            return f"its validation volumes were {shown[0]}, now they are {shown[1]}"
        if self.what != other.what:
            return f"its data were {other.what}, now they are {self.what}"
        # Processors differ in the last digits of what is resampled.
        if self.examples.shape != other.examples.shape or not np.allclose(
            self.examples, other.examples, atol=1e-2
        ):
            return f"its data were other {self.what}"
        changed = [name for name, sha256 in self.hashes.items() if other.hashes.get(name) != sha256]
        return f"its {changed[0]} were others" if changed else ""


def data_hashes(
    config: TrainingConfig, batches: Batches, validation: Sequence[AnnotatedVolume]
) -> dict[str, str]:
    """SHA-256 of what a training depends on besides images and settings, by what it is.

    Raises:
        InputError: A mask or the initial weights cannot be used.
    """
    hashes = {}
    if isinstance(batches, SliceBatches):
        hashes["training masks"] = batches.slices.labels_sha256
    if validation:
        hashes["validation masks"] = labels_sha256(validation)
    if config.initial_weights is not None:
        hashes["initial weights"] = sha256_of(resolve_weights(config.initial_weights)[0])
    return hashes


def save_state(folder: Path, model: keras.Model, history: list[Row], data: Data) -> None:
    """Writes the state that a resumed training needs."""
    arrays = [keras.ops.convert_to_numpy(variable) for variable in _variables(model)]
    words = json.dumps(
        {"history": history, "what": data.what, "validation": data.validation, "hashes": data.hashes}
    )
    with replaced(folder / STATE) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays, words=np.array(words), examples=data.examples)


def load_state(folder: Path, model: keras.Model, data: Data) -> list[Row]:
    """Restores the state written by `save_state`; returns the finished epochs, none in a new folder.

    Raises:
        InputError: The file is damaged, of another network, or of other data.
    """
    path = folder / STATE
    if not path.exists():
        return []
    with _opened(path) as file:
        arrays = [file[f"arr_{index}"] for index in range(len(file) - 2)]
        words = json.loads(str(file["words"]))
        before = Data(words["what"], file["examples"], tuple(words["validation"]), words["hashes"])
    variables = _variables(model)
    if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
        raise InputError(f"{path}: the state of another network; train in another folder")
    if difference := data.differs_from(before):
        raise InputError(
            f"{path}: of another training, {difference}; give the same data, or choose another folder"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    history: list[Row] = words["history"]
    return history


@contextmanager
def _opened(state: Path) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        with state.open("rb") as source, np.load(source) as file:
            yield file
    # NumPy passes on whatever a damaged archive raises, of any type.
    except Exception as error:
        raise InputError(f"{state}: damaged ({one_line(error)}); train again in another folder") from error


def save_weights(path: Path, network: keras.Model, card: WeightsCard) -> None:
    """Writes weights, or a whole network if the name ends in .keras, and the card that `segment` finds beside them."""
    with replaced(path) as temporary:
        if path.suffix == ".keras":
            network.save(temporary)
        else:
            # HDF5 crashes the process where it cannot write on a full disk; Python raises an error.
            memory = _WeightsFile()
            network.save_weights(memory)
            temporary.write_bytes(memory.getbuffer())
    write_card(path, card)


class _WeightsFile(io.BytesIO):
    """A file in memory, whose name ends as Keras requires it of files of weights."""

    def __str__(self) -> str:
        return ".weights.h5"


def write_card(weights: Path, card: WeightsCard) -> None:
    """Writes the card beside a weights file, with the name and the hash of the file."""
    replace(card, file=weights.name, sha256=sha256_of(weights)).write(card_path(weights))


def write_log(folder: Path, history: list[Row]) -> None:
    """The epochs as a table and as curves."""
    write_rows(folder / LOG, history)
    names = [name for name in history[0] if name not in ("epoch", "seconds")]
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axes.plot(epochs, [row[name] for row in history], ".-", color="#2563eb")
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    write_figure(folder / CURVES, figure)


def _variables(model: keras.Model) -> list[Any]:
    """Weights, optimizer (its averages and count of steps) and the states of the dropout."""
    # A model of several networks has their layers one level below its own.
    layers = [layer for part in model.layers for layer in getattr(part, "layers", (part,))]
    dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout) and layer.rate]
    states = [layer.seed_generator.state for layer in dropouts]
    return [*model.weights, *states, *model.optimizer.variables]
