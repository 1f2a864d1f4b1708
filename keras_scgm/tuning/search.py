"""Runs a search for better settings or networks, after every check that can be made first."""

from __future__ import annotations

import json
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume, annotated_volumes, check_slices
from keras_scgm.errors import InputError, one_line
from keras_scgm.files import check_inputs_stay, check_writable, write_text
from keras_scgm.json_config import refuse_changes
from keras_scgm.slices import SliceConfig
from keras_scgm.training import Batches, SliceBatches, SyntheticBatches, TrainingConfig
from keras_scgm.training.checkpoint import BEST
from keras_scgm.tuning.config import SearchConfig, TuningConfig
from keras_scgm.tuning.kept_search import SEARCH, KeptSearch
from keras_scgm.tuning.record import TRIALS, SearchRecord, last_line
from keras_scgm.tuning.results import TuningResult
from keras_scgm.tuning.spaces import space_of, takes_training
from keras_scgm.tuning.trial_setup import TrialSetup

if TYPE_CHECKING:
    import keras
    import keras_tuner


def tune(
    tuning: SearchConfig,
    training: TrainingConfig,
    batches: Batches,
    folder: str | Path,
    validation: Sequence[AnnotatedVolume],
    *,
    hypermodel: keras_tuner.HyperModel | Callable[..., Any] | None = None,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> TuningResult | None:
    """Run the trials of a search, or go on with them, and keep what was found in a folder.

    What is searched is in a `TuningConfig`, or else in `hypermodel`, by KerasTuner's hyperparameters `hp`:

    - A function of (hp, training) that returns a `TrainingConfig`, the settings of a trial. A value named "threshold"
      is the probability above which a voxel is gray matter, in the score of the trial and in the card of the weights.
    - A `keras_tuner.HyperModel`, its class, or a function of (hp) that returns a compiled Keras model from (batch,
      height, width, 1) to (batch, height, width, 1), or 2 with the cord. KerasTuner builds and fits it with the epochs,
      steps, batches, augmentation and seed of `training`, whose other settings do not count.

    The folder holds `trials.csv` (a row per trial), `trials.png`, `best_augmentation.json` and
    `best_training.json` for `train`, `best.weights.h5` with its card `best.json`, and each training under
    `trials`, which is a project of KerasTuner. A search among networks has `best.keras` in place of settings and
    weights. All of them are up to date after every trial. A search that was killed goes on with `resume`; unfinished
    trainings continue from their last finished epoch, unfinished trials of a network start anew. A search can be
    resumed with more trials.

    Several processes, on one machine or on several that share the folder, work on one search if each calls
    this function with the same arguments and KerasTuner's three environment variables:
    `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT`, the same for all, and `KERASTUNER_TUNER_ID`, "chief"
    for the one that only hands out trials and a different name for each worker. A worker or a chief that was killed
    is started again under its name, with `resume`; workers wait for the chief for an hour.

    Args:
        tuning: Strategy of the search: a `TuningConfig` with the ranges, or a `SearchConfig` for a hypermodel.
        training: Settings that every trial starts from; the seed is the same in all of them.
        batches: The slices to train on.
        folder: Folder of the results; it is made if missing.
        validation: Volumes that the trials are validated on; not those trained on.
        hypermodel: What is searched, in place of the ranges of a `TuningConfig`.
        resume: Whether to continue the search in the folder, if there is one.
        callbacks: Further callbacks of every training; KerasTuner copies them for each network.
        verbose: 1 for a line for each trial and, on a terminal, a bar of its epochs; 0 for none.

    Returns:
        What was found, or None in a worker.

    Raises:
        keras_scgm.errors.InputError: KerasTuner or the data are missing, the folder holds another search,
            the settings do not fit together, a trial could draw an augmentation that is not allowed, the hypermodel
            fails, or three trials in a row or all of them do.
    """
    checks.instance(SearchConfig, "a TuningConfig or a SearchConfig")("tuning", tuning)
    checks.instance(TrainingConfig)("training", training)
    checks.instance(Batches, "SliceBatches or SyntheticBatches")("batches", batches)
    folder, resume = checks.path("folder", folder), checks.flag("resume", resume)
    verbose = checks.integer(0, 1)("verbose", verbose)
    validation = annotated_volumes("validation", validation)
    role = process_role()
    _check_package("keras_tuner", "KerasTuner")
    if tuning.strategy == "bayesian":
        _check_package("sklearn", "scikit-learn")
    if not validation:
        raise InputError("a search needs volumes for validation")
    check_slices(validation, SliceConfig(batches.spacing_mm, batches.window_px))
    if hypermodel is None:
        _check_ranges(tuning, training, batches)
    elif isinstance(tuning, TuningConfig):
        raise InputError("tuning must be a SearchConfig, since hypermodel says what is searched")
    setup = TrialSetup(folder, training, batches, validation, callbacks, bool(verbose))
    open_tuner, record = _prepared(tuning, hypermodel, setup)
    if role == "chief":
        _check_address()
    if role == "worker":
        check_writable(folder)
    else:
        name = None if hypermodel is None else _name(hypermodel)
        _open_folder(folder, KeptSearch.of(tuning, training, name, batches, validation), resume)
    return _run(open_tuner, record, role)


def _prepared(
    tuning: SearchConfig, hypermodel: Any, setup: TrialSetup
) -> tuple[Callable[[], Any], SearchRecord]:
    """A function that opens KerasTuner's tuner, and the record that it keeps; nothing is written yet."""
    # KerasTuner is optional.
    import keras_tuner

    from keras_scgm.tuning import tuners

    is_class = isinstance(hypermodel, type) and issubclass(hypermodel, keras_tuner.HyperModel)
    searched = _called(hypermodel, hypermodel) if is_class else hypermodel
    training, batches = setup.training, setup.batches
    if isinstance(tuning, TuningConfig):
        settings_of = partial(tuners.settings_of, space_of(tuning), training)
    elif isinstance(searched, keras_tuner.HyperModel) or not takes_training(searched):
        # KerasTuner imports it to fit a network.
        _check_package("tensorboard", "TensorBoard")
        n_masks = (
            batches.slices.masks.shape[-1] if isinstance(batches, SliceBatches) else len(training.tissues)
        )
        _called(hypermodel, tuners.check_network, searched, n_masks)
        record = SearchRecord(setup, "best.keras", None, tuning.trials)
        return lambda: tuners.NetworkTuner(
            tuners.oracle_of(tuning, training, record), searched, setup
        ), record
    else:
        settings_of = partial(tuners.settings_of, searched, training)
        asked = keras_tuner.HyperParameters()
        _called(hypermodel, settings_of, asked)
        if not asked.space:
            raise InputError(f"{_name(hypermodel)} asks hp for no value, so there is nothing to search")

    record = SearchRecord(setup, BEST, settings_of, tuning.trials)
    return lambda: tuners.TrainingTuner(
        tuners.oracle_of(tuning, training, record), settings_of, setup
    ), record


def _run(open_tuner: Callable[[], Any], record: SearchRecord, role: str) -> TuningResult | None:
    import keras_tuner

    account = record.folder / TRIALS / f"{os.environ.get('KERASTUNER_TUNER_ID', 'tuner0')}.json"
    if role != "worker" and not account.exists() and account.with_name("oracle.json").exists():
        # KerasTuner goes on only under the name that it had before; this file has nothing else.
        write_text(account, "{}")
    try:
        tuner = open_tuner()
    except (json.JSONDecodeError, RuntimeError) as error:
        # KerasTuner was killed while it wrote its account: a file is cut short, or the trials it names are not
        # there, which is a KeyError inside. Without the account the search is played again from its seed, and
        # trainings that were finished are found so in their folders.
        is_damaged = isinstance(error, json.JSONDecodeError) or isinstance(error.__cause__, KeyError)
        if not is_damaged or not account.exists():
            raise
        account.replace(account.with_suffix(".json.damaged"))
        tuner = open_tuner()
    oracle = tuner.oracle
    try:
        tuner.search()
        if role != "worker" and oracle.failure is not None:
            raise oracle.failure
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None
    except RuntimeError as error:
        if not str(error).startswith("Number of consecutive failures"):
            raise
        raise InputError(
            f"three trials in a row failed, the last: {last_line(str(error))}; see trial.json in the folders "
            f"under {record.folder / TRIALS}"
        ) from error
    if role == "worker":
        return None
    record.update(oracle.trials)
    return record.result(tuner)


def _check_package(module: str, name: str) -> None:
    if find_spec(module) is None:
        raise InputError(f"a search needs {name}; install it with pip install 'keras-scgm[tuner]'")


def _check_ranges(tuning: SearchConfig, training: TrainingConfig, batches: Batches) -> None:
    if not isinstance(tuning, TuningConfig):
        raise InputError(
            "tuning must be a TuningConfig with ranges, unless a hypermodel says what is searched"
        )
    if isinstance(batches, SyntheticBatches):
        raise InputError("synthetic slices are not augmented; search with slices of annotated volumes")
    tuning.check_augmentation(training.augmentation)
    if tuning.dilation_rates and training.architecture == "UNet":
        raise InputError(f"dilation_rates cannot be searched: {training.architecture} has none")
    if training.initial_weights is not None and (tuning.filters or tuning.dilation_rates):
        raise InputError(
            f"filters and dilation_rates cannot be searched: the weights {training.initial_weights} fix them"
        )


def _called(hypermodel: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives that calls the user's code."""
    try:
        return function(*arguments)
    except InputError as error:
        raise InputError(f"{_name(hypermodel)}: {error}") from error
    # The code of a user can raise anything.
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{_name(hypermodel)}: {type(error).__name__}: {one_line(error)} ({place.filename}, line {place.lineno})"
        ) from error


def _name(hypermodel: Any) -> str:
    named = hypermodel if hasattr(hypermodel, "__qualname__") else type(hypermodel)
    return f"{named.__module__}:{named.__qualname__}"


def _open_folder(folder: Path, search: KeptSearch, resume: bool) -> None:
    if search.training.initial_weights is not None:
        check_inputs_stay([Path(search.training.initial_weights)], [folder / BEST])
    before = KeptSearch.read(folder)
    if before is not None:
        if not resume:
            raise InputError(f"{folder}: holds a search; go on with --resume, or choose another folder")
        refuse_changes(folder / SEARCH, "search", before.differences(search))
    search.write(folder)


def _check_address() -> None:
    """Refuse an address at which another process listens; gRPC would let two chiefs share it."""
    ip, port = (os.environ[f"KERASTUNER_ORACLE_{name}"] for name in ("IP", "PORT"))
    try:
        family, *_, address = socket.getaddrinfo(ip.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address[0], int(port)))
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(
            f"the chief cannot listen at {ip}:{port} ({reason}); change KERASTUNER_ORACLE_IP or KERASTUNER_ORACLE_PORT"
        ) from error


def process_role() -> Literal["alone", "chief", "worker"]:
    names = [f"KERASTUNER_{name}" for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID")]
    if names[0] not in os.environ:
        return "alone"
    if missing := [name for name in names if not os.environ.get(name)]:
        raise InputError(f"{names[0]} is set, so set {' and '.join(missing)}, too")
    return "chief" if "chief" in os.environ[names[2]] else "worker"
