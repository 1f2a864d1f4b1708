"""Search for a better augmentation, at random as in the paper (3.4.1) or by what earlier trials showed.

A trial is one `keras_scgm.training.train`, judged by the Dice coefficient of whole validation volumes.
KerasTuner proposes the trials, keeps account of them and hands them to several processes.
"""

from __future__ import annotations

import csv
import inspect
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_scgm import checks
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedVolume, annotated_volumes, check_volumes
from keras_scgm.errors import InputError
from keras_scgm.files import replaced
from keras_scgm.json_config import JsonConfig
from keras_scgm.models import BUILDERS
from keras_scgm.pretrained import WeightsCard
from keras_scgm.segmentation import SegmentationConfig, Segmenter
from keras_scgm.training import Batches, DrawnBatches, TrainingConfig, TrainingResult, train
from keras_scgm.training.checkpoint import LOG
from keras_scgm.training.validation import volume_dice

SPECS, TRIALS, TABLE, PICTURE = "search.json", "trials", "trials.csv", "trials.png"

Range = tuple[float, float]
"""Lowest and highest value."""

AUGMENTATION_RANGES: Mapping[str, Range] = MappingProxyType(
    {
        "rotation_degrees": (0.0, 30.0),
        "shift_px": (0.0, 24.0),
        "scaling": (0.0, 0.3),
        "flip_left_right": (0.0, 0.5),
        "elastic_px": (0.0, 3.0),
        "elastic_smoothness_px": (6.0, 16.0),
        "channel_shift": (0.0, 0.5),
        "noise": (0.0, 0.3),
        "bias_field": (0.0, 0.5),
        "gamma": (0.0, 0.6),
        "blur_px": (0.0, 2.0),
        "low_resolution": (1.0, 3.0),
    }
)
"""Fields of `AugmentationConfig`: the paper's changes, noise, and those that low image quality makes."""

OPTIONAL_RANGES: Mapping[str, Any] = MappingProxyType(
    {
        "threshold": (0.2, 0.8),
        "dropout": (0.0, 0.5),
        "filters": (16, 32, 64),
        "dilation_rates": ((6, 12, 18), (4, 8, 12, 16), (6, 12, 18, 24), (3, 6, 12, 18, 24)),
    }
)
"""What else can be searched, by the field of `TuningConfig`, with ranges that suit 0.25 mm."""

STRATEGIES = ("random", "hyperband", "bayesian")

_AGAINST = {"elastic_smoothness_px"}
"""Fields that bind the others more the lower they are."""


@dataclass(frozen=True)
class TuningConfig(JsonConfig):
    """What is searched, and how.

    Args:
        strategy: "random" draws every trial independently, as in the paper. "hyperband" (Li et al. 2018)
            gives most trials a few epochs and only the better ones all; each runs its own learning rate
            schedule to its end. "bayesian" draws a third at random and proposes the others by a Gaussian
            process; it needs scikit-learn.
        trials: how many at most. The first is the training as it was given, to compare with; Hyperband may
            need fewer.
        seed: of the draws, 0 to 2**31 - 1.
        augmentation: range of each searched field of `AugmentationConfig`; the others stay as given.
        threshold: range of the probability above which a voxel is gray matter; None searches none.
        dropout: range of the builder's argument; None keeps it.
        filters: candidates for the builder's argument, besides the given one; none keeps it.
        dilation_rates: likewise, for `DilatedGMNet`.

    Raises:
        InputError: a field breaks its rule.

    Example:

    >>> config = TuningConfig(trials=10, augmentation={"rotation_degrees": (0.0, 20.0)}, filters=(16, 32))
    >>> TuningConfig.from_json(config.to_json()) == config
    True
    """

    strategy: Literal["random", "hyperband", "bayesian"] = "random"
    trials: int = 30
    seed: int = 0
    augmentation: Mapping[str, Range] = field(default_factory=lambda: dict(AUGMENTATION_RANGES))
    threshold: Range | None = None
    dropout: Range | None = None
    filters: tuple[int, ...] = ()
    dilation_rates: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            strategy=checks.one_of(STRATEGIES),
            trials=checks.integer(1),
            seed=checks.integer(0, 2**31 - 1),
            augmentation=checks.instance(Mapping, "ranges of fields of AugmentationConfig"),
            filters=checks.several(checks.integer(1), "positive integers"),
            dilation_rates=checks.several(
                checks.several(checks.integer(1), "positive integers"), "sequences of positive integers"
            ),
        )
        known = {item.name for item in fields(AugmentationConfig)} - {"mask_interpolation"}
        if not self.augmentation or not set(self.augmentation) <= known:
            raise InputError(
                "augmentation must name at least one field of AugmentationConfig and no other, "
                f"received {', '.join(map(str, self.augmentation)) or 'none'}"
            )
        ranges = {name: _range(name, ends, 0.0, math.inf) for name, ends in self.augmentation.items()}
        object.__setattr__(self, "augmentation", ranges)
        self.check_augmentation(replace(AugmentationConfig(), elastic_smoothness_px=1e6))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", _range("threshold", self.threshold, 0.001, 0.999))
        if self.dropout is not None:
            object.__setattr__(self, "dropout", _range("dropout", self.dropout, 0.0, 0.99))

    def check_augmentation(self, given: AugmentationConfig) -> None:
        """Tries the ends of the ranges, with the fields that are not searched as given.

        Raises:
            InputError: a trial could break a rule of `AugmentationConfig`.
        """
        for end in (0, 1):
            corner: dict[str, Any] = {
                name: ends[1 - end if name in _AGAINST else end] for name, ends in self.augmentation.items()
            }
            try:
                replace(given, **corner)
            except InputError as error:
                raise InputError(f"augmentation: a trial could draw what is not allowed: {error}") from error


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Args:
        name: of its folder under `trials`, numbered in the order of the starts; 0 is the training as given.
        status: "COMPLETED", "RUNNING" or "FAILED", in KerasTuner's words.
        val_dsc: mean Dice coefficient of whole volumes in the best epoch; None while there is none.
        epochs: how many were trained.
        seconds: how long they took.
        values: what was tried, by the names of the fields.
    """

    name: str
    status: str
    val_dsc: float | None
    epochs: int
    seconds: float
    values: Mapping[str, Any]

    @property
    def number(self) -> int:
        return int(self.name.removeprefix("trial_"))


@dataclass(frozen=True)
class TuningResult:
    """What a search found.

    Args:
        trials: all of them, in the order of their starts.
        best: the completed one with the highest Dice coefficient.
        config: the given training with the best trial's settings.
        weights: of its best epoch, with the threshold that was searched in their card.
    """

    trials: tuple[Trial, ...]
    best: Trial
    config: TrainingConfig
    weights: Path


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
    trials under way go on from their last finished epoch. A search can be resumed with more trials.

    Several processes, on one machine or on several that share the folder, work on one search if each calls
    this function with the same arguments and KerasTuner's three environment variables:
    `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT`, the same for all, and `KERASTUNER_TUNER_ID`, "chief"
    for the one that only hands out trials and a different name for each worker. A worker that was killed
    is started again under its name; if the chief was killed, stop the workers and start all again with
    `resume`.

    Args:
        tuning: what is searched.
        training: what every trial starts from; its seed is the same in all of them.
        batches: the slices to train on.
        folder: where the results go; it is made if missing.
        validation: volumes that judge the trials; not those trained on.
        resume: go on with the search in the folder, or start it if there is none.

    Returns:
        What was found, or None in a worker.

    Raises:
        keras_scgm.errors.InputError: KerasTuner or the data are missing, the folder holds another search,
            the settings do not fit together, or a trial could draw an augmentation that is not allowed.
        RuntimeError: three trials in a row failed.
    """
    checks.instance(TuningConfig, "a TuningConfig")("tuning", tuning)
    checks.instance(TrainingConfig, "a TrainingConfig")("training", training)
    folder, resume = checks.path("folder", folder), checks.flag("resume", resume)
    validation = annotated_volumes("validation", validation)
    role = _role()
    _check_packages(tuning)
    if isinstance(batches, DrawnBatches):
        raise InputError("drawn slices are not augmented; search with slices of annotated volumes")
    if not validation:
        raise InputError("a search needs volumes for validation")
    check_volumes(validation)
    tuning.check_augmentation(training.augmentation)
    _check_network(tuning, training)
    if role != "worker":
        _open_folder(folder, tuning, training, resume)
    search = _Search(tuning, training, folder)
    _run(search, batches, validation, role)
    return None if role == "worker" else search.summarize()


class _Search:
    """The translation between KerasTuner's trials and ours, and the files about them."""

    def __init__(self, tuning: TuningConfig, training: TrainingConfig, folder: Path) -> None:
        self.tuning, self.training, self.folder = tuning, training, folder
        self.trials: list[Trial] = []

    @property
    def given(self) -> dict[str, Any]:
        """The values of the training as it was given."""
        tuning, training = self.tuning, self.training
        values = {name: getattr(training.augmentation, name) for name in tuning.augmentation}
        if tuning.threshold is not None:
            values["threshold"] = _default(WeightsCard, "threshold")
        for name in ("dropout", "filters", "dilation_rates"):
            if getattr(tuning, name):
                value = training.model_kwargs.get(name, _default(BUILDERS[training.architecture], name))
                values[name] = _as_text(value) if name == "dilation_rates" else value
        return values

    def training_of(self, values: Mapping[str, Any]) -> TrainingConfig:
        """The given training with the values of a trial."""
        model_kwargs = dict(self.training.model_kwargs)
        for name in ("dropout", "filters"):
            if name in values:
                model_kwargs[name] = _rounded(values[name])
        if "dilation_rates" in values:
            model_kwargs["dilation_rates"] = tuple(int(rate) for rate in values["dilation_rates"].split("-"))
        searched = {name: _rounded(values[name]) for name in self.tuning.augmentation}
        return replace(
            self.training,
            model_kwargs=model_kwargs,
            augmentation=replace(self.training.augmentation, **searched),
            epochs=values.get("tuner/epochs", self.training.epochs),
        )

    def note(self, trials: Iterable[Any]) -> None:
        """Takes over KerasTuner's account of the trials and brings the files up to date."""
        self.trials = sorted((self._read(trial) for trial in trials), key=lambda trial: trial.number)
        _write_table(self.folder / TABLE, self.trials)
        if any(trial.val_dsc is not None for trial in self.trials):
            _draw(self.folder / PICTURE, self.trials)
            self._write_best()

    def summarize(self) -> TuningResult:
        best = self._best()
        config = replace(self.training_of(best.values), epochs=self.training.epochs)
        return TuningResult(tuple(self.trials), best, config, self.folder / "best.weights.h5")

    def _best(self) -> Trial:
        scored = [trial for trial in self.trials if trial.val_dsc is not None]
        if not scored:
            raise RuntimeError(f"no trial of {len(self.trials)} was completed; see {self.folder / TABLE}")
        return max(scored, key=lambda trial: trial.val_dsc or 0.0)

    def _read(self, trial: Any) -> Trial:
        name, epochs, seconds = f"trial_{trial.trial_id}", 0, 0.0
        log = self.folder / TRIALS / name / LOG
        if log.exists():
            with log.open(encoding="utf-8", newline="") as file:
                taken = [float(row["seconds"]) for row in csv.DictReader(file)]
            epochs, seconds = len(taken), round(sum(taken), 1)
        values = trial.hyperparameters.values
        return Trial(
            name=name,
            status=trial.status,
            val_dsc=None if trial.score is None else round(float(trial.score), 4),
            epochs=epochs,
            seconds=seconds,
            values={name: _rounded(values[name]) for name in self.given},
        )

    def _write_best(self) -> None:
        result = self.summarize()
        for name, text in (
            ("best_augmentation.json", result.config.augmentation.to_json()),
            ("best_training.json", result.config.to_json()),
        ):
            with replaced(self.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        folder = self.folder / TRIALS / result.best.name
        source = folder / result.weights.name
        if source.exists():
            with replaced(result.weights) as temporary:
                shutil.copyfile(source, temporary)
            card = WeightsCard.from_json((folder / "best.json").read_text(encoding="utf-8"))
            threshold = result.best.values.get("threshold", card.threshold)
            with replaced(self.folder / "best.json") as temporary:
                card = replace(card, name=self.folder.name or "best", threshold=threshold)
                temporary.write_text(card.to_json(), encoding="utf-8")


def _run(search: _Search, batches: Batches, validation: Sequence[AnnotatedVolume], role: str) -> None:
    """Has KerasTuner run the trials in this process, or this process take part in them."""
    # KerasTuner is optional, and its classes can only be derived from once it is there.
    import keras_tuner
    from keras_tuner.engine.base_tuner import BaseTuner

    class Tuner(BaseTuner):
        def run_trial(self, trial: Any) -> float:
            values = trial.hyperparameters.values
            keras.utils.clear_session()
            try:
                config = search.training_of(values)
                result = train(config, batches, self.get_trial_dir(trial.trial_id), validation, resume=True)
                threshold = values.get("threshold")
                return _score(result, None if threshold is None else _rounded(threshold), validation)
            except ValueError as error:
                # What is wrong with one trial's settings or data is wrong with all; KerasTuner would go on.
                raise keras_tuner.errors.FatalError(str(error)) from error

    def start() -> Tuner:
        return Tuner(_oracle(search), directory=str(search.folder), project_name=TRIALS)

    try:
        tuner = start()
    except (json.JSONDecodeError, RuntimeError) as error:
        # KerasTuner was killed while it wrote its account: a file is cut short, or the trials it names are not
        # there, which is a KeyError inside. Without the account the search is played again from its seed, and
        # trainings that were finished are found so in their folders.
        account = search.folder / TRIALS / f"{os.environ.get('KERASTUNER_TUNER_ID', 'tuner0')}.json"
        is_damaged = isinstance(error, json.JSONDecodeError) or isinstance(error.__cause__, KeyError)
        if not is_damaged or not account.exists():
            raise
        account.replace(account.with_suffix(".json.damaged"))
        tuner = start()
    oracle = tuner.oracle
    if role != "worker":
        oracle.verbose = 0
    try:
        tuner.search()
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None
    if role != "worker":
        search.note(oracle.trials.values())


def _oracle(search: _Search) -> Any:
    """What proposes the trials; the first is the training as it was given."""
    import keras_tuner
    from keras_tuner import oracles

    tuning = search.tuning
    space = keras_tuner.HyperParameters()
    ranges = {**tuning.augmentation, "threshold": tuning.threshold, "dropout": tuning.dropout}
    for name, ends in ranges.items():
        if ends is not None:
            space.Float(name, *ends)
    if tuning.filters:
        space.Choice("filters", sorted({*tuning.filters, search.given["filters"]}))
    if tuning.dilation_rates:
        texts = [search.given["dilation_rates"], *map(_as_text, tuning.dilation_rates)]
        space.Choice("dilation_rates", list(dict.fromkeys(texts)))

    base = {
        "random": oracles.RandomSearchOracle,
        "hyperband": oracles.HyperbandOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
    }[tuning.strategy]

    class Oracle(base):  # type: ignore[valid-type, misc]
        def populate_space(self, trial_id: str) -> dict[str, Any]:
            if not self.trials:
                return {"status": "RUNNING", "values": search.given}
            return super().populate_space(trial_id)

        def end_trial(self, trial: Any) -> None:
            super().end_trial(trial)
            search.note(self.trials.values())

    options: dict[str, Any] = {}
    if tuning.strategy == "hyperband":
        options["max_epochs"] = search.training.epochs
    if tuning.strategy == "bayesian":
        options["num_initial_points"] = max(2, tuning.trials // 3)
    # KerasTuner takes the seed 0 for none.
    oracle = Oracle(
        keras_tuner.Objective("val_dsc", "max"), hyperparameters=space, seed=tuning.seed + 1, **options
    )
    oracle.max_trials = tuning.trials
    return oracle


def _score(result: TrainingResult, threshold: float | None, validation: Sequence[AnnotatedVolume]) -> float:
    """Mean Dice coefficient of the best epoch; 0 if there is none, as a dead network finds nothing."""
    scores = [row["val_dsc"] for row in result.history if np.isfinite(row["val_dsc"])]
    if not scores:
        return 0.0
    if threshold is None:
        return max(scores)
    segmenter = Segmenter(result.best, SegmentationConfig(threshold=threshold, keep_probabilities=False))
    return float(np.nanmean([volume_dice(segmenter, volume) for volume in validation]))


def _role() -> Literal["alone", "chief", "worker"]:
    names = [f"KERASTUNER_{name}" for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID")]
    if names[0] not in os.environ:
        return "alone"
    if missing := [name for name in names if not os.environ.get(name)]:
        raise InputError(f"{names[0]} is set, so set {' and '.join(missing)}, too")
    return "chief" if "chief" in os.environ[names[2]] else "worker"


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
    path = folder / SPECS
    specs = {"tuning": json.loads(tuning.to_json()), "training": json.loads(training.to_json())}
    if path.exists():
        if not resume:
            raise InputError(f"{folder}: holds a search; go on with --resume, or choose another folder")
        found = json.loads(path.read_text(encoding="utf-8"))
        found["tuning"]["trials"] = tuning.trials
        if found != specs:
            raise InputError(f"{path}: another search than this one; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(specs, indent=2) + "\n", encoding="utf-8")


def _write_table(path: Path, trials: Sequence[Trial]) -> None:
    rows = [{**vars(trial), **trial.values} for trial in trials]
    for row in rows:
        del row["values"]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replaced(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _draw(path: Path, trials: Sequence[Trial]) -> None:
    """The Dice coefficient of the trials against each value; the given training and the best stand out."""
    scored = [trial for trial in trials if trial.val_dsc is not None]
    best = max(scored, key=lambda trial: trial.val_dsc or 0.0)
    names = list(scored[0].values)
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3 * columns, 2.6 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        for trial in scored:
            colour = "#dc2626" if trial is best else "#2563eb"
            marker = "D" if trial.number == 0 else "o"
            axes.plot(trial.values[name], trial.val_dsc, marker, color=colour, alpha=0.8)
        axes.set_xlabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.supylabel("validation DSC")
    figure.suptitle("diamond: as given, red: best", fontsize="medium")
    with replaced(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})


def _range(name: str, ends: Any, low: float, high: float) -> Range:
    first, last = checks.interval(low, high)(name, ends)
    if first == last:
        raise InputError(f"{name} must be two different numbers, received {ends!r}")
    return first, last


def _rounded(value: Any) -> Any:
    """Four digits, which survive the single precision in which KerasTuner sends numbers to workers."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _as_text(rates: Sequence[int]) -> str:
    """KerasTuner chooses among texts and numbers only."""
    return "-".join(map(str, rates))


def _default(function: Any, name: str) -> Any:
    return inspect.signature(function).parameters[name].default
