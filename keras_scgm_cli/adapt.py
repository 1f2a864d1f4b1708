"""`keras-scgm adapt`: weights adapted to the scanner of images without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_scgm_cli.completion import known_weights
from keras_scgm_cli.data_options import LabelValue
from keras_scgm_cli.help import DATA, RESULTS, TRAINING
from keras_scgm_cli.interruption import after_epochs, kept_interrupts
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm
from keras_scgm_cli.training_options import given

if TYPE_CHECKING:
    from keras_scgm.adaptation import AdaptationConfig, Suggestion

REFUSED = 3
"""Exit code if the guard refuses, as that of `segment --fail-on`."""
SUGGESTED = "suggested.csv"


def adapt(
    output: Annotated[Path, typer.Argument(metavar="RUN", help="Folder for the weights and the report.")],
    images: Annotated[
        list[str],
        typer.Option(
            "--images",
            "-i",
            help="Folder, file or pattern of images; repeat for several.",
            rich_help_panel=DATA,
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Folder of masks with labels in some slices, IMAGE_gmseg.nii.gz; other slices need none.",
            rich_help_panel=DATA,
        ),
    ] = None,
    label_value: LabelValue = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            autocompletion=known_weights,
            help="Known name or file to start from.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    rescans: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with the columns scan and rescan; by default by name, A_scan and A_rescan, or _run-1 "
            "and _run-2.",
            rich_help_panel=DATA,
        ),
    ] = None,
    suggest: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Only rank N slices to label, and write them to suggested.csv.",
            rich_help_panel=DATA,
        ),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="JSON file of settings of the adaptation.", rich_help_panel=TRAINING)
    ] = None,
    guard: Annotated[
        Path | None, typer.Option(help="JSON file of the limits of the guard.", rich_help_panel=RESULTS)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="In place of the settings'.", rich_help_panel=TRAINING)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Batches of an epoch, in place of the settings'.", rich_help_panel=TRAINING),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="In place of the settings'.", rich_help_panel=TRAINING)
    ] = None,
    statistics_only: Annotated[
        bool,
        typer.Option(
            "--statistics-only",
            help="Change the statistics of batch normalization alone, in seconds.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the adaptation in the folder, if there is one; same options.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
) -> None:
    """Adapt weights to the scanner of images without labels.

    A part of the images is held back. On these, on scans that were repeated and on synthetic subjects, a guard compares
    the adapted weights with those that were started from. If none of its measures got worse and the predicted quality
    rose, the folder gets adapted.weights.h5, for `keras-scgm segment --weights`; otherwise the exit code is 3, and
    last.weights.h5 has a card that says why. guard.json has what was measured, changes.csv all slices, and changes.png
    pictures before and after. Interrupt it at any time: the epochs that were finished are kept.

    \b
    Examples:
      keras-scgm adapt run/ --images my_scans/
      keras-scgm adapt run/ --images my_scans/ --suggest 8
      keras-scgm adapt run/ --images my_scans/ --labels few/ --weights challenge
    """
    import_keras_scgm()
    from keras_scgm.adaptation import GuardConfig, find_scans
    from keras_scgm.adaptation import adapt as adapt_weights
    from keras_scgm.adaptation.record import SETTINGS
    from keras_scgm.adaptation.report import CHANGES, REPORT
    from keras_scgm.errors import InputError
    from keras_scgm.files import check_inputs_stay
    from keras_scgm.locks import exclusive_start
    from keras_scgm.pretrained import DEFAULT_WEIGHTS
    from keras_scgm.training.checkpoint import LAST

    if label_value is not None and labels is None:
        raise InputError("--label-value: for masks only; give their folder with --labels")
    written = SETTINGS, REPORT, CHANGES, SUGGESTED
    check_inputs_stay([spec, guard, rescans], [output / name for name in written])
    chosen = weights or DEFAULT_WEIGHTS
    changes = given(epochs=epochs, steps_per_epoch=steps, seed=seed, statistics_only=statistics_only or None)
    config = replace(_config(spec, output, resume), **changes)
    limits = GuardConfig() if guard is None else GuardConfig.read(guard)
    scans, notes = find_scans(images, labels, rescans, label_value)
    for note in notes:
        say(f"note: {note}", err=True)
    if suggest is not None:
        _suggest(output, [str(path) for path in scans.images], chosen, suggest, config.seed)
        return
    try:
        with exclusive_start(output, SETTINGS), kept_interrupts() as interruption:
            result = adapt_weights(
                scans, output, chosen, config, limits, resume=resume, callbacks=[interruption], verbose=2
            )
    except KeyboardInterrupt:
        how = f"with the same command and --resume (keras-scgm adapt {quote(str(output))} ... --resume)"
        raise KeyboardInterrupt(after_epochs([output], config.epochs, how)) from None
    warn(*result.warnings)
    if result.stopped:
        say(f"error: adaptation stopped: {result.stopped}", err=True)
        raise typer.Exit(2)
    say(*result.judgement.table().splitlines())
    if result.adapted is None:
        say(
            f"refused: the adapted weights are not better by what can be told without labels; go on with {chosen}, "
            f"or look at {output / 'changes.png'} ({output / LAST} has the refused weights)",
            err=True,
        )
        raise typer.Exit(REFUSED)
    say(f"accepted; segment with --weights {result.adapted}")


def _config(spec: Path | None, output: Path, resume: bool) -> AdaptationConfig:
    from keras_scgm.adaptation import AdaptationConfig
    from keras_scgm.adaptation.record import kept_record

    if spec is not None:
        return AdaptationConfig.read(spec)
    kept = kept_record(output) if resume else None
    return AdaptationConfig() if kept is None else kept.adaptation


def _suggest(output: Path, images: list[str], weights: str, count: int, seed: int) -> None:
    from keras_scgm.adaptation import suggest_slices
    from keras_scgm.files import check_writable, write_rows

    check_writable(output)
    found = suggest_slices(images, weights, count, seed)
    write_rows(output / SUGGESTED, [_row(rank, one) for rank, one in enumerate(found, start=1)])
    for one in found:
        say(f"{one.image}: slice {one.slice}, uncertainty {one.uncertainty:.3f}")
    say(
        f"{output / SUGGESTED}; draw the gray matter of these slices into IMAGE_gmseg.nii.gz in a folder of their own "
        "and give it with --labels"
    )


def _row(rank: int, one: Suggestion) -> dict[str, Any]:
    return {
        "rank": rank,
        "image": str(one.image),
        "slice": one.slice,
        "uncertainty": f"{one.uncertainty:.4f}",
        "distance": f"{one.distance:.2f}",
    }
