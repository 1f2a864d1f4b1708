"""What a search is of, as `search.json` keeps it: by it a search that goes on is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.errors import InputError
from keras_scgm.files import write_text
from keras_scgm.training import Batches, TrainingConfig
from keras_scgm.training.checkpoint import data_hashes
from keras_scgm.tuning.config import SearchConfig, TuningConfig

SEARCH = "search.json"


@dataclass(frozen=True)
class KeptSearch:
    """Settings and data of a search.

    Args:
        tuning: Strategy of the search, as in `TuningConfig`, or `SearchConfig` with a hypermodel.
        training: Settings that every trial starts from, as in `TrainingConfig`.
        hypermodel: MODULE:NAME of what is searched in place of the ranges of a `TuningConfig`, or None.
        data: Description of the slices to train on, and of each volume for validation, and the start of hashes.
    """

    tuning: SearchConfig
    training: TrainingConfig
    hypermodel: str | None
    data: tuple[str, ...]

    @classmethod
    def of(
        cls,
        tuning: SearchConfig,
        training: TrainingConfig,
        hypermodel: str | None,
        batches: Batches,
        validation: Sequence[AnnotatedVolume],
    ) -> KeptSearch:
        """What is kept of the arguments of a search."""
        hashes = data_hashes(training, batches, validation)
        shown = (f"{name} {sha256[:8]}" for name, sha256 in hashes.items())
        return cls(tuning, training, hypermodel, (batches.what, *map(_described, validation), *shown))

    @classmethod
    def read(cls, folder: Path) -> KeptSearch | None:
        """The search in a folder; None if it holds none.

        Raises:
            InputError: The file cannot be read.
        """
        path = folder / SEARCH
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            hypermodel = values["hypermodel"]
            kind = TuningConfig if hypermodel is None else SearchConfig
            return cls(
                kind.from_values(values["tuning"]),
                TrainingConfig.from_values(values["training"]),
                hypermodel,
                tuple(values["data"]),
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path}: cannot be read ({error}); choose another folder") from error

    def write(self, folder: Path) -> None:
        """Write the file, which marks a folder as that of a search that has started."""
        write_text(folder / SEARCH, json.dumps(asdict(self), indent=2) + "\n")

    def differences(self, now: KeptSearch) -> list[str]:
        """In what a later search is another one; the number of trials may differ."""
        changed = replace(self.tuning, trials=now.tuning.trials).differences(now.tuning)
        changed += self.training.differences(now.training)
        if self.hypermodel != now.hypermodel:
            changed.insert(0, f"hypermodel was {self.hypermodel}, now {now.hypermodel}")
        changed += [f"its data were {gone}" for gone in self.data if gone not in now.data]
        changed += [f"its data now are {new}" for new in now.data if new not in self.data]
        return changed


def _described(volume: AnnotatedVolume) -> str:
    masks = ", ".join(path.name for path in volume.masks)
    label = "" if volume.label_value is None else f", value {volume.label_value}"
    slices = (
        "" if volume.labelled_slices is None else f", slices {', '.join(map(str, volume.labelled_slices))}"
    )
    return f"{volume.image.name} with {masks}{label}{slices} for validation"
