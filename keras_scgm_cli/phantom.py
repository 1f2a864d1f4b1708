"""`keras-scgm phantom`: drawn subjects in the layout of the challenge."""

from pathlib import Path
from typing import Annotated

import typer

from keras_scgm_cli.stderr import import_keras_scgm


def phantom(
    folder: Annotated[Path, typer.Argument(help="Where the images and masks go.")],
    subjects: Annotated[int, typer.Option(help="Labelled subjects of each of the four sites.")] = 10,
    unlabelled: Annotated[int, typer.Option(help="Further subjects of each site, without masks.")] = 0,
    raters: Annotated[int, typer.Option(help="Masks of each labelled subject.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed writes the same files.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the subjects that are in the folder.")
    ] = False,
) -> None:
    """Draw synthetic subjects: images, masks by several raters, vertebral levels.

    The files are named and valued as in the spinal cord gray matter challenge: siteS-scNN-image.nii.gz and
    siteS-scNN-mask-rR.nii.gz with 1 for gray and 2 for white matter.
    """
    import_keras_scgm()
    from keras_scgm.datasets.phantom import write_challenge_dataset
    from keras_scgm.files import check_writable

    check_writable(folder)
    images = write_challenge_dataset(
        folder, subjects, seed, raters=raters, unlabelled_per_site=unlabelled, force=force
    )
    typer.echo(f"{folder}: {len(images)} subjects, {raters} raters, seed {seed}")
