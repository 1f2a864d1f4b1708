"""Runs a search for better augmentation settings, after every check that can be made first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume, annotated_volumes, check_slices
from keras_scgm.errors import InputError
from keras_scgm.files import replaced
from keras_scgm.slices import SliceConfig
from keras_scgm.training import Batches, SyntheticBatches, TrainingConfig
from keras_scgm.tuning.config import TuningConfig
from keras_scgm.tuning.oracle import process_role, run_trials
from keras_scgm.tuning.results import TuningResult
from keras_scgm.tuning.trainings import TrialTrainings

SEARCH = "search.json"


def tune(
    tuning: TuningConfig,
    training: TrainingConfig,
    batches: Batches,
    folder: str | Path,
    validation: Sequence[AnnotatedVolume],
    *,
    resume: bool = False,
) -> TuningResult | None:
    """Run the trials of a search, or go on with them, and keep what was found in a folder.

    The folder holds `trials.csv` (a row per trial), `trials.png`, `best_augmentation.json` and
    `best_training.json` for `train`, `best.weights.h5` with its card `best.json`, and each training under
    `trials`. All of them are up to date after every trial. A search that was killed goes on with `resume`;
    unfinished trials continue from their last finished epoch. A search can be resumed with more trials.

    Several processes, on one machine or on several that share the folder, work on one search if each calls
    this function with the same arguments and KerasTuner's three environment variables:
    `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT`, the same for all, and `KERASTUNER_TUNER_ID`, "chief"
    for the one that only hands out trials and a different name for each worker. A worker that was killed
    is started again under its name; if the chief was killed, stop the workers and start all again with
    `resume`.

    Args:
        tuning: Settings of the search.
        training: Settings that every trial starts from; the seed is the same in all of them.
        batches: The slices to train on.
        folder: Folder of the results; it is made if missing.
        validation: Volumes that the trials are validated on; not those trained on.
        resume: Whether to continue the search in the folder, if there is one.

    Returns:
        What was found, or None in a worker.

    Raises:
        keras_scgm.errors.InputError: KerasTuner or the data are missing, the folder holds another search,
            the settings do not fit together, or a trial could draw an augmentation that is not allowed.
        RuntimeError: Three trials in a row failed.
    """
    checks.instance(TuningConfig, "a TuningConfig")("tuning", tuning)
    checks.instance(TrainingConfig, "a TrainingConfig")("training", training)
    folder, resume = checks.path("folder", folder), checks.flag("resume", resume)
    validation = annotated_volumes("validation", validation)
    role = process_role()
    _check_packages(tuning)
    if isinstance(batches, SyntheticBatches):
        raise InputError("synthetic slices are not augmented; search with slices of annotated volumes")
    if not validation:
        raise InputError("a search needs volumes for validation")
    check_slices(validation, SliceConfig(window_px=training.window_px))
    tuning.check_augmentation(training.augmentation)
    _check_network(tuning, training)
    if role != "worker":
        _open_folder(folder, tuning, training, resume)
    trainings = TrialTrainings(tuning, training, folder)
    run_trials(trainings, batches, validation, role)
    return None if role == "worker" else trainings.summarize()


def _check_packages(tuning: TuningConfig) -> None:
    needed = {"keras_tuner": "KerasTuner"}
    if tuning.strategy == "bayesian":
        needed["sklearn"] = "scikit-learn"
    for module, name in needed.items():
        if find_spec(module) is None:
            raise InputError(f"a search needs {name}; install it with pip install keras-scgm[tuner]")


def _check_network(tuning: TuningConfig, training: TrainingConfig) -> None:
    if tuning.dilation_rates and training.architecture != "DilatedGMNet":
        raise InputError(f"dilation_rates cannot be searched: {training.architecture} has none")
    if training.initial_weights is not None and (tuning.filters or tuning.dilation_rates):
        raise InputError(
            f"filters and dilation_rates cannot be searched: the weights {training.initial_weights} fix them"
        )


def _open_folder(folder: Path, tuning: TuningConfig, training: TrainingConfig, resume: bool) -> None:
    path = folder / SEARCH
    configs = {"tuning": json.loads(tuning.to_json()), "training": json.loads(training.to_json())}
    if path.exists():
        if not resume:
            raise InputError(f"{folder}: holds a search; go on with --resume, or choose another folder")
        found = json.loads(path.read_text(encoding="utf-8"))
        found["tuning"]["trials"] = tuning.trials
        if found != configs:
            raise InputError(f"{path}: another search than this one; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(configs, indent=2) + "\n", encoding="utf-8")
