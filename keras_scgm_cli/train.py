"""`keras-scgm train`: a network trained by the paper's protocol, on annotated or synthetic slices."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from keras_scgm_cli.stderr import import_keras_scgm

if TYPE_CHECKING:
    from keras_scgm.training import TrainingConfig
    from keras_scgm.tuning import TuningConfig

    Config = TypeVar("Config", TrainingConfig, TuningConfig)


def train(
    output: Annotated[Path, typer.Argument(help="Folder for the weights, the log and the curves.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            help="Folder in the challenge's or the BIDS layout; without it, slices are synthetic.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="challenge, exvivo, quick or synthetic; by default challenge with data, synthetic without."
        ),
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="JSON file of settings in place of a preset.")] = None,
    architecture: Annotated[
        str | None, typer.Option(help="DilatedGMNet or UNet, in place of the preset's.")
    ] = None,
    fine_tune: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="Known name or file to start from; it tells the architecture."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Stage whose weights stay as they are; repeat for several. DilatedGMNet: conv2d, rate2, branches, "
            "amort, predictions. UNet: encoder1 to encoder3, bottom, decoder3 to decoder1, predictions. Or the name "
            "of a layer.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="In place of the preset's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Batches of an epoch, in place of the preset's.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the preset's.")] = None,
    split: Annotated[
        Path | None, typer.Option(help="JSON file of the split by subject; written if it does not exist.")
    ] = None,
    raters: Annotated[str, typer.Option(help="all, random, majority, staple or mean.")] = "all",
    mixed_precision: Annotated[
        bool,
        typer.Option(
            "--mixed-precision",
            help="Compute in bfloat16, for GPUs and processors that multiply it (avx512_bf16, amx_bf16).",
        ),
    ] = False,
    xla: Annotated[bool, typer.Option("--xla", help="Compile with XLA (GPU).")] = False,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--all-devices",
            help="Share every batch among all GPUs of the machine, or on JAX of several (see the README).",
        ),
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write logs for TensorBoard.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in the folder, if there is one.")
    ] = False,
) -> None:
    """Train a network.

    The folder gets best.weights.h5 and last.weights.h5 with their cards, log.csv, curves.png, samples.png (masks of
    the best weights beside those of the raters), spec.json and state.npz, from which --resume goes on after a
    kill. Interrupt it at any time: the epochs that were finished are kept.
    """
    import_keras_scgm()
    from keras_scgm.errors import InputError
    from keras_scgm.training import Batches, all_devices, annotated_source, fine_tuned, synthetic_source
    from keras_scgm.training import train as train_network

    chosen = training_config(preset or ("synthetic" if data is None else "challenge"), spec)
    if fine_tune is not None:
        chosen = fine_tuned(chosen, fine_tune)
        if architecture not in (None, chosen.architecture):
            raise InputError(
                f"--architecture {architecture}: the weights {fine_tune} are of {chosen.architecture}; leave it out"
            )
    changes: dict[str, Any] = {
        "architecture": architecture,
        "frozen_layers": tuple(freeze) if freeze else None,
        "epochs": epochs,
        "steps_per_epoch": steps,
        "seed": seed,
        "mixed_precision": mixed_precision or None,
        "xla": xla or None,
    }
    chosen = replace(chosen, **{name: value for name, value in changes.items() if value is not None})
    own_split, drawn = output / "split.json", output / "validation"
    if data is None and own_split.exists():
        raise InputError(f"{own_split}: the training is one on annotated volumes; give them with --data")
    if data is not None and drawn.exists():
        raise InputError(
            f"{drawn}: the training is one on synthetic slices; leave out --data, or choose another folder"
        )
    with all_devices() if everywhere else nullcontext():
        batches: Batches
        if data is None:
            batches, validation = synthetic_source(drawn, chosen.seed, chosen.window_px)
        else:
            batches, validation = annotated_source(
                data, split or own_split, raters, chosen.seed, chosen.window_px
            )
            for warning in batches.slices.warnings:
                typer.echo(f"warning: {warning}", err=True)
        result = train_network(
            chosen, batches, output, validation, resume=resume, tensorboard=tensorboard, verbose=2
        )
    if result.stopped:
        typer.echo(f"error: training stopped: {result.stopped}", err=True)
        raise typer.Exit(2)
    score = max((row["val_dsc"] for row in result.history if "val_dsc" in row), default=None)
    typer.echo(f"{result.best}" + ("" if score is None else f": validation DSC {score:.4f}"))


def training_config(preset: str, path: Path | None) -> TrainingConfig:
    """The settings in a file, or else those of a preset."""
    from keras_scgm.errors import InputError
    from keras_scgm.training import PRESETS, TrainingConfig

    if path is not None:
        return read_config(TrainingConfig, path)
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    return PRESETS[preset]


def read_config(kind: type[Config], path: Path) -> Config:
    """The settings in a JSON file."""
    from keras_scgm.errors import InputError

    try:
        return kind.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error
