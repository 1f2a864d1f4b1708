"""`keras-scgm phantom`: drawn subjects in the layout of the challenge."""

from pathlib import Path
from typing import Annotated

import typer

from keras_scgm_cli.help import IMAGES, RESULTS
from keras_scgm_cli.say import say
from keras_scgm_cli.stderr import import_keras_scgm


def phantom(
    folder: Annotated[Path, typer.Argument(help="Where the images and masks go.")],
    subjects: Annotated[
        int | None,
        typer.Option(
            help="Labelled subjects of each of the four sites, by default 10.", rich_help_panel=IMAGES
        ),
    ] = None,
    unlabelled: Annotated[
        int | None,
        typer.Option(
            help="Further subjects of each site, without masks; by default none.", rich_help_panel=IMAGES
        ),
    ] = None,
    raters: Annotated[
        int | None, typer.Option(help="Masks of each labelled subject, by default 4.", rich_help_panel=IMAGES)
    ] = None,
    exvivo: Annotated[
        int | None,
        typer.Option(
            metavar="SLICES",
            help="One ex vivo cord with this many slices of 0.1 mm pixels in their place.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    study: Annotated[
        int | None,
        typer.Option(
            metavar="PARTICIPANTS",
            help="A study in BIDS with two sessions per participant in their place.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The same seed writes the same files.", rich_help_panel=IMAGES)
    ] = 0,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the subjects that are in the folder.", rich_help_panel=RESULTS),
    ] = False,
) -> None:
    """Draw synthetic subjects: images, masks by several raters, vertebral levels.

    The files are named and valued as in the spinal cord gray matter challenge: siteS-scNN-image.nii.gz and
    siteS-scNN-mask-rR.nii.gz with 1 for gray and 2 for white matter. An ex vivo cord and a study
    are in the layout of BIDS.

    \b
    Examples:
      keras-scgm phantom cohort/ --subjects 2
      keras-scgm phantom practice/ --study 4 --seed 1
    """
    import_keras_scgm()
    from keras_scgm.datasets.phantom import write_challenge_dataset, write_exvivo_dataset, write_study_dataset
    from keras_scgm.errors import InputError, counted
    from keras_scgm.files import check_writable

    of_subjects = {"--subjects": subjects, "--unlabelled": unlabelled, "--raters": raters}
    data_sets = {"--exvivo": exvivo, "--study": study}
    for name, number in data_sets.items():
        rest = {other: value for other, value in {**of_subjects, **data_sets}.items() if other != name}
        if number is not None and any(value is not None for value in rest.values()):
            raise InputError(
                f"{name}: a data set of its own, to which {', '.join(rest)} do not apply; leave them out"
            )
    check_writable(folder)
    if exvivo is not None:
        say(
            f"{write_exvivo_dataset(folder, exvivo, seed, force=force)}: {counted(exvivo, 'slice')}, seed {seed}"
        )
        return
    if study is not None:
        images = write_study_dataset(folder, study, seed, force=force)
        say(f"{folder}: {counted(study, 'participant')}, {counted(len(images), 'image')}, seed {seed}")
        return
    subjects, raters = 10 if subjects is None else subjects, 4 if raters is None else raters
    images = write_challenge_dataset(
        folder, subjects, seed, raters=raters, unlabelled_per_site=unlabelled or 0, force=force
    )
    say(f"{folder}: {counted(len(images), 'subject')}, {counted(raters, 'rater')}, seed {seed}")
