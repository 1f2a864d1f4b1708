"""`keras-scgm tune`: search for better settings or networks, by complete training runs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_scgm_cli.data_options import ImagePattern, LabelValue, MaskPattern
from keras_scgm_cli.help import DATA, RESULTS, SEARCH, TRAINING
from keras_scgm_cli.interruption import kept_interrupts
from keras_scgm_cli.named_objects import named_object
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm
from keras_scgm_cli.train import training_config
from keras_scgm_cli.training_options import Epochs, Spec, Steps, given

if TYPE_CHECKING:
    from keras_scgm.tuning import SearchConfig, TuningResult


def tune(
    output: Annotated[Path, typer.Argument(help="Folder for the table, the picture and the best settings.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", "-d", help="Folder in the challenge's or the BIDS layout.", rich_help_panel=DATA
        ),
    ],
    strategy: Annotated[
        str | None,
        typer.Option(help="random, hyperband or bayesian; by default random.", rich_help_panel=SEARCH),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Trainings at most, by default 30; the first has the given settings.", rich_help_panel=SEARCH
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="Search this, too: threshold, dropout, filters or dilation_rates; repeatable.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    ranges: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of a whole search, without --also; the other options change it.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    hypermodel: Annotated[
        str | None,
        typer.Option(
            help="MODULE:NAME of what to search instead of the augmentation, in the current folder or installed: a "
            "function of (hp, training) that returns the settings of a training, or a KerasTuner HyperModel or a "
            "function of (hp) that returns a compiled network.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Training that every trial starts from, by default challenge.", rich_help_panel=TRAINING
        ),
    ] = None,
    spec: Spec = None,
    epochs: Epochs = None,
    steps: Steps = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Of the search, by default 0; the training's is in its settings.", rich_help_panel=SEARCH
        ),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of the split by subject; written if it does not exist.", rich_help_panel=DATA
        ),
    ] = None,
    resplit: Annotated[
        bool,
        typer.Option(
            "--resplit",
            help="Draw a new split by subject in place of the one that exists.",
            rich_help_panel=DATA,
        ),
    ] = False,
    raters: Annotated[
        str, typer.Option(help="all, random, majority, staple or mean.", rich_help_panel=DATA)
    ] = "all",
    image_pattern: ImagePattern = None,
    mask_pattern: MaskPattern = None,
    label_value: LabelValue = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the search in the folder, if there is one, with its settings.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
) -> None:
    """Search for a better augmentation, or what --hypermodel searches, by the Dice coefficient of validation volumes.

    The folder gets trials.csv, trials.png, best.weights.h5 and best_training.json, which `keras-scgm train
    --spec` takes; of a search among networks, best.keras, which `keras-scgm segment --weights` takes.
    To share the trials among processes, start the same command in each with KERASTUNER_ORACLE_IP and
    KERASTUNER_ORACLE_PORT set alike, and KERASTUNER_TUNER_ID set to chief for the one that hands out the trials and
    to another name for each that trains.

    \b
    Examples:
      keras-scgm tune search/ --data challenge/ --preset quick --trials 20
      keras-scgm tune search/ --data challenge/ --resume
    """
    import_keras_scgm()
    from keras_scgm.errors import InputError
    from keras_scgm.files import check_inputs_stay
    from keras_scgm.locks import exclusive_start
    from keras_scgm.training import DataConfig, annotated_source
    from keras_scgm.training.folds import SPLIT
    from keras_scgm.tuning import tune as run_trials
    from keras_scgm.tuning.kept_search import SEARCH, KeptSearch
    from keras_scgm.tuning.record import BEST_AUGMENTATION, BEST_TRAINING
    from keras_scgm.tuning.search import process_role

    if resume and resplit:
        raise InputError("--resplit starts another search, --resume goes on with one; choose one of them")
    check_inputs_stay([spec, ranges], [output / name for name in (SEARCH, BEST_AUGMENTATION, BEST_TRAINING)])
    kept = KeptSearch.read(output) if resume else None
    if kept is not None and preset is None and spec is None:
        training = kept.training
    else:
        training = training_config(preset, spec, "challenge")
    training = replace(training, **given(epochs=epochs, steps_per_epoch=steps))
    options = given(strategy=strategy, seed=seed)
    if kept is not None and not (options or also or ranges or hypermodel):
        tuning, hypermodel = replace(kept.tuning, **given(trials=trials)), kept.hypermodel
    else:
        tuning = _tuning(options | given(trials=trials), also or [], ranges, hypermodel)
    searched = None if hypermodel is None else named_object("--hypermodel", hypermodel)
    # The folder of a search that is shared among processes is the chief's.
    started = nullcontext() if process_role() == "worker" else exclusive_start(output, SEARCH)
    with started, kept_interrupts() as interruption:
        annotated = DataConfig(
            data, split or output / SPLIT, raters, image_pattern, mask_pattern, label_value
        )
        batches, validation = annotated_source(annotated, training, resplit=resplit)
        warn(*batches.slices.warnings)
        result = run_trials(
            tuning,
            training,
            batches,
            output,
            validation,
            hypermodel=searched,
            resume=resume,
            callbacks=[interruption],
            verbose=1,
        )
    say("no trial is left for this worker" if result is None else _summary(result, output))


def _summary(result: TuningResult, folder: Path) -> str:
    from keras_scgm.errors import counted
    from keras_scgm.tuning.record import TABLE
    from keras_scgm.tuning.results import standing

    text = f"{folder / TABLE}: {counted(len(result.trials), 'trial')}; {standing(result.highest)}"
    first = result.trials[0]
    if first in result.highest or first.val_dsc is None:
        return text
    return f"{text}, {first.val_dsc:.4f} with the given settings"


def _tuning(
    options: dict[str, Any], also: list[str], path: Path | None, hypermodel: str | None
) -> SearchConfig:
    from keras_scgm.errors import InputError
    from keras_scgm.tuning import OPTIONAL_RANGES, SearchConfig, TuningConfig

    if hypermodel is not None:
        if also or path is not None:
            raise InputError("--hypermodel says what is searched; leave out --also and --ranges")
        return SearchConfig(**options)
    if path is not None:
        if also:
            raise InputError(
                f"--ranges {path} says what is searched; leave out --also, or add its ranges there"
            )
        return replace(TuningConfig.read(path), **options)
    if unknown := sorted(set(also) - set(OPTIONAL_RANGES)):
        raise InputError(f"also: unknown {', '.join(unknown)}; known: {', '.join(OPTIONAL_RANGES)}")
    return TuningConfig(**options, **{name: OPTIONAL_RANGES[name] for name in also})
