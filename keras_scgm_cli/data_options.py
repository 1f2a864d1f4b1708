"""Options of the commands that read data sets of images and masks."""

from __future__ import annotations

from typing import Annotated

import typer

from keras_scgm_cli.help import DATA

ImagePattern = Annotated[
    str | None,
    typer.Option(
        "--image-pattern",
        help="Names of the images in the BIDS layout, by default sub-*_T2starw.nii.gz and sub-*_T2star.nii.gz.",
        rich_help_panel=DATA,
    ),
]
MaskPattern = Annotated[
    str | None,
    typer.Option(
        "--mask-pattern",
        help="Paths of the masks in the BIDS layout, by default derivatives/labels/**/*_gmseg*.nii.gz.",
        rich_help_panel=DATA,
    ),
]
LabelValue = Annotated[
    int | None,
    typer.Option(
        "--label-value",
        help="Value of gray matter in the masks, by default 1 in the challenge's layout, else the only one.",
        rich_help_panel=DATA,
    ),
]
