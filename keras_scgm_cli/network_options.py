"""Options of the commands that segment with a network, or export it."""

from __future__ import annotations

from typing import Annotated

import typer

from keras_scgm_cli.completion import known_weights
from keras_scgm_cli.help import COMPUTING, IMAGES, NETWORK, RESULTS

Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        "-w",
        autocompletion=known_weights,
        help="Known name (see `keras-scgm weights`), file, or ensemble.json; the networks of several are averaged.",
        rich_help_panel=NETWORK,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Probability above which a voxel is gray matter, if not the weights' own.",
        rich_help_panel=NETWORK,
    ),
]
Window = Annotated[
    str,
    typer.Option(
        "--window",
        help="auto: around the cord; center: middle of the field of view; X,Y: centre in mm from its right posterior "
        "corner.",
        rich_help_panel=NETWORK,
    ),
]
Mirror = Annotated[
    bool,
    typer.Option(
        "--mirror",
        help="Average with the mirrored slice, which treats left and right alike; twice the time of the network.",
        rich_help_panel=NETWORK,
    ),
]
Uncertainty = Annotated[
    int,
    typer.Option(
        "--uncertainty",
        help="Number of predictions of the slightly changed image (at least 2) for an uncertainty map.",
        rich_help_panel=RESULTS,
    ),
]
Frame = Annotated[
    int | None, typer.Option("--frame", help="Frame of a 4-D image, from 0.", rich_help_panel=IMAGES)
]
Runtime = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="Program that computes the network: onnxruntime, openvino, tensorflow, keras, or auto for the fastest "
        "installed one.",
        rich_help_panel=COMPUTING,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="float32, or bfloat16 for less time and almost the same mask.",
        rich_help_panel=COMPUTING,
    ),
]
