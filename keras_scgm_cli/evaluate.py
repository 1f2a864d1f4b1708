"""`keras-scgm evaluate`: metrics of masks against raters, the tables of the paper, and an HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_scgm.errors import InputError
from keras_scgm_cli.help import DATA, MEASURES, RESULTS
from keras_scgm_cli.progress import progress_bar
from keras_scgm_cli.say import say

ALL = "all"


def evaluate(
    prediction: Annotated[
        str, typer.Argument(metavar="PRED", help="Mask or folder of masks; NAME=PATH to name the model.")
    ],
    references: Annotated[
        list[Path],
        typer.Argument(
            metavar="REF...",
            help="Mask or folder for each rater, or one folder in the challenge's layout.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="NAME=PATH of a further model; may be repeated.", rich_help_panel=DATA
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for the tables (CSV, LaTeX, text, JSON).", rich_help_panel=RESULTS
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML file with tables, plots and pictures.", rich_help_panel=RESULTS)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="The volumes, for the report; those of the challenge are found beside the masks.",
            rich_help_panel=DATA,
        ),
    ] = None,
    tissue: Annotated[
        str,
        typer.Option(
            help="gm: gray matter; wm: white matter; cord; all: each that a model and a rater both have, by the "
            "names of the files (*_gmseg, *_wmseg, *_seg) or the labels.",
            rich_help_panel=MEASURES,
        ),
    ] = "gm",
    label: Annotated[
        list[int] | None,
        typer.Option(
            help="Value of the tissue in masks with several labels; given twice, those of gray and of white "
            "matter, which together are the cord (challenge: 1 and 2).",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    resample_reference: Annotated[
        bool,
        typer.Option(
            "--resample-reference",
            help="Resample references to the grid of the prediction.",
            rich_help_panel=DATA,
        ),
    ] = False,
    annotated_slices: Annotated[
        bool,
        typer.Option(
            "--annotated-slices",
            help="Leave out slices without gray matter in the reference.",
            rich_help_panel=DATA,
        ),
    ] = False,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            help="MODEL=NUMBER, the parameter count for Table 3; may be repeated.", rich_help_panel=MEASURES
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published", help="Add the values of the paper, marked as published.", rich_help_panel=MEASURES
        ),
    ] = False,
) -> None:
    """Score masks by the ten metrics of the gray matter challenge (Table 2) and those of Table 3.

    Prints the tables; --output writes them with one row per case and rater, and per slice; with --tissue all, a
    folder for each tissue. Files in folders are paired by name. A file that cannot be used does not stop the others;
    the exit code is 2 if any failed.

    \b
    Examples:
      keras-scgm evaluate t2s_gmseg.nii.gz manual.nii.gz
      keras-scgm evaluate ours=results/ rater1/ rater2/ --model large=large/ --output tables/ --report report.html
    """
    models = dict([_named(prediction), *map(_named, model or [])])
    if len(models) < 1 + len(model or []):
        raise InputError("two models have the same name; give them others with NAME=PATH")
    counts = {}
    for text in parameters or []:
        name, _, digits = text.partition("=")
        if not digits.isdigit():
            raise InputError(f"--parameters {text}: give MODEL=NUMBER, such as DilatedGMNet=124769")
        counts[name] = int(digits)
    if report and report.suffix not in (".html", ".htm"):
        raise InputError(f"--report {report}: the report is a web page; give a name ending in .html")
    if report:
        try:
            from keras_scgm.evaluation.report import write_report
        except ImportError as missing:
            raise InputError(
                f"--report needs {missing.name}; install it with pip install 'keras-scgm[report]'"
            ) from missing
    from keras_scgm import checks
    from keras_scgm.evaluation import evaluate_tissues, tables_text, write_evaluation
    from keras_scgm.evaluation.tissues import TISSUES

    checks.one_of((*TISSUES, ALL))("--tissue", tissue)

    with progress_bar("case") as progress:
        results = evaluate_tissues(
            models,
            references,
            tissues=TISSUES if tissue == ALL else [name for name in TISSUES if name == tissue],
            images=images,
            label=label or None,
            resample_reference=resample_reference,
            annotated_only=annotated_slices,
            parameters=counts,
            progress=progress,
        )
    say(*"\n".join(tables_text(result, published) for result in results.values()).splitlines())
    if output:
        for name, result in results.items():
            write_evaluation(result, output / name if tissue == ALL else output, published)
    if report:
        write_report(results, report, published)
    warnings = [f"warning: {line}" for result in results.values() for line in result.warnings]
    errors = [f"error: {line}" for result in results.values() for line in result.errors]
    # Tissues share files, and what is wrong with these.
    say(*dict.fromkeys([*warnings, *errors]), err=True)
    if errors:
        raise typer.Exit(2)


def _named(text: str) -> tuple[str, str]:
    from keras_scgm import checks
    from keras_scgm.files import place_name

    name, separator, path = text.partition("=")
    if separator and name and not checks.path("model", text).exists():
        return name, path
    return place_name(checks.path("model", text)), text
