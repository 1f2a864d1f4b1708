"""`keras-scgm train`: a network trained by the paper's protocol, on annotated or synthetic slices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_scgm_cli.data_options import ImagePattern, LabelValue, MaskPattern
from keras_scgm_cli.folds import chosen_folds
from keras_scgm_cli.help import COMPUTING, DATA, NETWORK, RESULTS, TRAINING
from keras_scgm_cli.interruption import after_epochs, kept_interrupts
from keras_scgm_cli.keras_callbacks import keras_callbacks
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm
from keras_scgm_cli.training_options import Epochs, Spec, Steps, given

if TYPE_CHECKING:
    from keras_scgm.datasets import AnnotatedVolume
    from keras_scgm.training import DataConfig, SliceBatches, TrainingConfig, TrainingResult


def train(
    output: Annotated[Path, typer.Argument(help="Folder for the weights, the log and the curves.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            help="Folder in the challenge's or the BIDS layout; without it, slices are synthetic.",
            rich_help_panel=DATA,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="challenge or exvivo (the paper's two protocols), quick or synthetic; by default challenge with "
            "data, synthetic without.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    spec: Spec = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="DilatedGMNet, DilatedGMNet3D or UNet, in place of the preset's.", rich_help_panel=NETWORK
        ),
    ] = None,
    fine_tune: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Known name or file to start from; it tells the architecture. DilatedGMNet3D starts from those of "
            "DilatedGMNet, too.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Stage whose weights stay as they are; repeat for several. DilatedGMNet and DilatedGMNet3D: conv2d, "
            "rate2, branches, amort, predictions. UNet: encoder1 to encoder3, bottom, decoder3 to decoder1, "
            "predictions. Or the name of a layer.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    epochs: Epochs = None,
    steps: Steps = None,
    seed: Annotated[
        int | None, typer.Option(help="In place of the preset's.", rich_help_panel=TRAINING)
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(help="JSON file of the split; written if it does not exist.", rich_help_panel=DATA),
    ] = None,
    validation_subjects: Annotated[
        int | None,
        typer.Option(
            help="Subjects of each site for validation, in place of the preset's.", rich_help_panel=DATA
        ),
    ] = None,
    slices: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="TRAIN VALIDATION TEST",
            help="Split by evenly spaced slices of every volume, not by subject.",
            rich_help_panel=DATA,
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            help="Pixel spacing in mm, or native for that of the data; in place of the preset's.",
            rich_help_panel=DATA,
        ),
    ] = None,
    window_px: Annotated[
        int | None,
        typer.Option(
            help="Pixels along each side of the windows, in place of the preset's.", rich_help_panel=DATA
        ),
    ] = None,
    contour_smoothing: Annotated[
        float | None,
        typer.Option(help="Width of the label smoothing on the contours, mm.", rich_help_panel=DATA),
    ] = None,
    resplit: Annotated[
        bool,
        typer.Option(
            "--resplit", help="Make a new split in place of the one that exists.", rich_help_panel=DATA
        ),
    ] = False,
    raters: Annotated[
        str | None,
        typer.Option(help="all, random, majority, staple or mean; by default all.", rich_help_panel=DATA),
    ] = None,
    image_pattern: ImagePattern = None,
    mask_pattern: MaskPattern = None,
    label_value: LabelValue = None,
    mixed_precision: Annotated[
        bool,
        typer.Option(
            "--mixed-precision",
            help="Compute in bfloat16, for GPUs and processors that multiply it (avx512_bf16, amx_bf16).",
            rich_help_panel=COMPUTING,
        ),
    ] = False,
    xla: Annotated[
        bool, typer.Option("--xla", help="Compile with XLA (GPU; on JAX always).", rich_help_panel=COMPUTING)
    ] = False,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--all-devices",
            help="Share every batch among all GPUs of the machine, or on JAX of several machines.",
            rich_help_panel=COMPUTING,
        ),
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Cross-validate with so many folds, by subject; the networks of all become ensemble.json.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    leave_one_site_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-site-out", help="Cross-validate with a fold for each site.", rich_help_panel=TRAINING
        ),
    ] = False,
    callback: Annotated[
        list[str] | None,
        typer.Option(
            help="Keras callback, MODULE:CLASS or MODULE:CLASS(ARGUMENTS), in which {folder} is that of the training; "
            "repeat for several.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write logs for TensorBoard.", rich_help_panel=RESULTS)
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the training in the folder, if there is one. Its settings and its data are known; "
            "--epochs may raise the number of epochs. Give --callback, --tensorboard and --all-devices again.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
) -> None:
    """Train a network.

    The folder gets best.weights.h5 and last.weights.h5 with their cards, log.csv, curves.png, samples.png (masks of
    the best weights beside those of the raters), calibration.csv and calibration.png (the threshold of the best
    weights, chosen on the validation volumes), spec.json and data.json (settings), and state.npz, from which --resume
    goes on after a kill. Interrupt it at any time: the epochs that were finished are kept.

    With --folds or --leave-one-site-out each fold has these in a folder of its own, fold1 and so on. Beside them are
    folds.csv and subjects.csv, the Dice coefficients of subjects that were held out, and ensemble.json, which
    `keras-scgm segment --weights` takes.

    \b
    Examples:
      keras-scgm train run/ --data challenge/ --preset challenge
      keras-scgm train run/ --data bids/ --fine-tune synthetic --epochs 20
      keras-scgm train run/ --resume
    """
    import_keras_scgm()
    from keras_scgm.errors import InputError
    from keras_scgm.files import check_inputs_stay
    from keras_scgm.locks import exclusive_start
    from keras_scgm.training import Batches, all_devices, fine_tuned, synthetic_source, train_folds
    from keras_scgm.training import train as train_network
    from keras_scgm.training.checkpoint import SPEC, check_start, kept_config
    from keras_scgm.training.folds import SPLIT, fold_folder, table_text

    if resume and resplit:
        raise InputError("--resplit starts another training, --resume goes on with one; choose one of them")
    if not resume:
        check_inputs_stay([spec], [output / SPEC])
    own_split, drawn = output / SPLIT, output / "validation"
    of_data = given(
        folder=data,
        split=split,
        raters=raters,
        image_pattern=image_pattern,
        mask_pattern=mask_pattern,
        label_value=label_value,
    )
    annotated = _data_config(of_data, output, resume)
    first_fold = fold_folder(output, 1)
    keeps_settings = resume and preset is None and spec is None
    kept = (kept_config(first_fold) or kept_config(output)) if keeps_settings else None
    chosen = kept or training_config(preset, spec, "synthetic" if annotated is None else "challenge")
    if fine_tune is not None:
        chosen = fine_tuned(chosen, fine_tune, architecture)
    changes = given(
        architecture=architecture,
        frozen_layers=tuple(freeze) if freeze else None,
        epochs=epochs,
        steps_per_epoch=steps,
        seed=seed,
        validation_per_site=validation_subjects,
        slice_counts=slices,
        window_px=window_px,
        contour_smoothing_mm=contour_smoothing,
        mixed_precision=mixed_precision or None,
        xla=xla or None,
    )
    chosen = replace(chosen, **changes)
    if spacing is not None:
        chosen = replace(chosen, spacing_mm=None if spacing == "native" else _number("--spacing", spacing))
    if annotated is None and resplit:
        raise InputError("--resplit: for annotated volumes only; give their folder with --data")
    if annotated is None and own_split.exists():
        raise InputError(f"{own_split}: the training is one on annotated volumes; give them with --data")
    if annotated is not None and drawn.exists():
        raise InputError(
            f"{drawn}: the training is one on synthetic slices; leave out --data, or choose another folder"
        )
    check_start(output, chosen, resume)
    held_out = chosen_folds(output, annotated, folds, leave_one_site_out, resume, chosen.seed)
    if held_out and (split is not None or resplit):
        raise InputError("--split and --resplit are of one training; leave them out with folds")
    try:
        with (
            nullcontext() if held_out else exclusive_start(output, SPEC),
            all_devices() if everywhere else nullcontext(),
            kept_interrupts() as interruption,
        ):
            if annotated is not None and held_out:
                of_folds = train_folds(
                    chosen,
                    held_out,
                    _loader(annotated, chosen, output, resplit),
                    output,
                    resume=resume,
                    tensorboard=tensorboard,
                    callbacks=lambda place: [*keras_callbacks(callback or (), place), interruption],
                    verbose=2,
                )
                say(*table_text(of_folds.folds).splitlines(), of_folds.ensemble)
                return
            batches: Batches
            if annotated is None:
                batches, validation = synthetic_source(drawn, chosen)
            else:
                batches, validation = _loader(annotated, chosen, output, resplit)(Path(annotated.split))
            result = train_network(
                chosen,
                batches,
                output,
                validation,
                resume=resume,
                tensorboard=tensorboard,
                callbacks=[*keras_callbacks(callback or (), output), interruption],
                verbose=2,
            )
    except KeyboardInterrupt:
        folders = [fold_folder(output, number) for number in range(1, len(held_out) + 1)] or [output]
        # With the options that the folder does not remember.
        again = ["keras-scgm train", quote(str(output)), "--resume"]
        again += ["--tensorboard"] * tensorboard + ["--all-devices"] * everywhere
        again += [f"--callback {quote(text)}" for text in callback or ()]
        raise KeyboardInterrupt(after_epochs(folders, chosen.epochs, f"with: {' '.join(again)}")) from None
    _tell(result, chosen.epochs)


def _loader(
    data: DataConfig, config: TrainingConfig, output: Path, resplit: bool
) -> Callable[[Path], tuple[SliceBatches, tuple[AnnotatedVolume, ...]]]:
    """A function from the file of a split to batches and volumes for validation, which tells each warning once."""
    from keras_scgm.training import annotated_source
    from keras_scgm.training.data_config import DATA

    shown: set[str] = set()

    def load(split: Path) -> tuple[SliceBatches, tuple[AnnotatedVolume, ...]]:
        batches, validation = annotated_source(replace(data, split=split), config, resplit=resplit)
        warn(*(warning for warning in batches.slices.warnings if warning not in shown))
        shown.update(batches.slices.warnings)
        data.write(output / DATA)
        return batches, validation

    return load


def _tell(result: TrainingResult, epochs: int) -> None:
    """What came of a training of so many epochs.

    Raises:
        typer.Exit: It had to be stopped.
    """
    warn(*result.warnings)
    if result.stopped:
        say(f"error: training stopped: {result.stopped}", err=True)
        raise typer.Exit(2)
    score = max((row["val_dsc"] for row in result.history if "val_dsc" in row), default=None)
    if len(result.history) < epochs:
        say(f"ended after epoch {len(result.history)} of {epochs}, as the settings or a callback ask for")
    say(f"{result.best}" + ("" if score is None else f": validation DSC {score:.4f}"))


def _data_config(options: dict[str, Any], output: Path, resume: bool) -> DataConfig | None:
    """The annotated data by the options that were given, over those of a training to go on with."""
    from keras_scgm.errors import InputError
    from keras_scgm.json_config import refuse_changes
    from keras_scgm.training import DataConfig
    from keras_scgm.training.data_config import DATA
    from keras_scgm.training.folds import SPLIT

    path = output / DATA
    if resume and path.exists():
        kept = DataConfig.read(path)
        now = replace(kept, **options)
        # The volumes themselves are compared: the folder may have moved with its split.
        refuse_changes(path, "training", replace(kept, folder=now.folder, split=now.split).differences(now))
        return now
    if "folder" in options:
        return DataConfig(**{"split": output / SPLIT, **options})
    if options:
        shown = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise InputError(f"{shown}: for annotated volumes only; give their folder with --data")
    return None


def _number(name: str, text: str) -> float:
    from keras_scgm import checks

    try:
        return float(text)
    except ValueError:
        checks.refuse(name, "a number of mm or native", text)


def training_config(preset: str | None, path: Path | None, default: str) -> TrainingConfig:
    """The settings in a file, or else those of a preset."""
    from keras_scgm.errors import InputError
    from keras_scgm.training import PRESETS, TrainingConfig

    if path is not None:
        if preset is not None:
            raise InputError(f"--preset {preset} and --spec {path} are both whole settings; give one of them")
        return TrainingConfig.read(path)
    preset = preset or default
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    return PRESETS[preset]
