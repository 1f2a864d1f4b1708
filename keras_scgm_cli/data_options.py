"""Options of the commands that read data sets of images and masks."""

from __future__ import annotations

from typing import Annotated

import typer

ImagePattern = Annotated[
    str | None,
    typer.Option(
        "--image-pattern", help="Names of the images in the BIDS layout, by default sub-*_T2star.nii.gz."
    ),
]
MaskPattern = Annotated[
    str | None,
    typer.Option(
        "--mask-pattern",
        help="Paths of the masks in the BIDS layout, by default derivatives/labels/**/*_gmseg*.nii.gz.",
    ),
]
LabelValue = Annotated[
    int | None,
    typer.Option(
        "--label-value",
        help="Value of gray matter in the masks, by default 1 in the challenge's layout and all but 0 in that of BIDS.",
    ),
]
