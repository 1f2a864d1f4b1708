"""`keras-scgm segment`: images in, masks, areas, pictures and records out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_scgm.errors import InputError
from keras_scgm_cli.dicom_inputs import converted_jobs, split_dicom_folders
from keras_scgm_cli.help import COMPUTING, IMAGES, NETWORK, RESULTS
from keras_scgm_cli.network_options import (
    Frame,
    Mirror,
    Precision,
    Runtime,
    Threshold,
    Uncertainty,
    Weights,
    Window,
)
from keras_scgm_cli.progress import progress_bar
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import held_back_stderr
from keras_scgm_cli.viewers import show_hint

if TYPE_CHECKING:
    from keras_scgm.cohort import Outcome, SegmentationJob
    from keras_scgm.images import ImageFile

BAD_VERDICTS: dict[str | None, tuple[str, ...]] = {None: (), "review": ("review", "fail"), "fail": ("fail",)}
"""Verdicts that are no better than the one that an option names."""


def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="NIfTI files, folders (searched through), quoted patterns, or folders of DICOM images."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the results, or a .nii.gz file for one input.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    weights: Weights = None,
    binarize: Annotated[
        str,
        typer.Option(
            help="native: threshold the probabilities on the image's grid; paper: on the network's, as SCT does.",
            rich_help_panel=NETWORK,
        ),
    ] = "native",
    threshold: Threshold = None,
    window: Window = "auto",
    cord: Annotated[
        str,
        typer.Option(
            help="auto: the cord, if the weights know it; ours: that of the default weights; none: gray matter alone; "
            "FILE: a mask of the cord.",
            rich_help_panel=NETWORK,
        ),
    ] = "auto",
    tissues: Annotated[
        str,
        typer.Option(
            help="all: write gray matter, white matter and cord; gm: gray matter alone.",
            rich_help_panel=RESULTS,
        ),
    ] = "all",
    soft: Annotated[
        bool,
        typer.Option("--soft", help="Write probabilities (float32), not masks.", rich_help_panel=RESULTS),
    ] = False,
    mirror: Mirror = False,
    uncertainty: Uncertainty = 0,
    frame: Frame = None,
    orientation: Annotated[
        str | None,
        typer.Option(
            help="Where the axes lead, such as LAS (RPI in the Spinal Cord Toolbox), for images whose header has no "
            "orientation.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    runtime: Runtime = "auto",
    precision: Precision = "float32",
    engine: Annotated[
        str,
        typer.Option(
            help="local: here, one after the other; ray: on a Ray cluster.", rich_help_panel=COMPUTING
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="With --engine ray: address of the cluster's head, or auto; otherwise one starts on this machine.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --engine ray: largest number of workers; otherwise one per core.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            help="BIDS suffix of the images in folders: T2starw selects *_T2starw.nii.gz.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Pattern of the images in folders, such as '*_t2s.nii.gz' or 'sub-*/anat/*'.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            help="review or fail: exit code 3 if a verdict is this or worse, in new and in skipped results.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace results that exist, but not masks that were edited by hand.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip images whose results exist and were made the same way; measure masks that were edited by hand.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
) -> None:
    """Segment gray matter, white matter and cord of one or many images.

    For NAME.nii.gz this writes NAME_gmseg.nii.gz (gray matter), NAME_wmseg.nii.gz (white matter), NAME_seg.nii.gz
    (cord), NAME_gmseg_area.csv (areas per slice), NAME_gmseg_qc.png (picture) and NAME_gmseg.json (how it was made).
    Gray matter and white matter together are the cord. A bad image does not stop the others; the exit code is 2 if
    any could not be segmented, and 3 if --fail-on asks for it.

    Folders are searched with their subfolders, without hidden ones and derivatives. Results (*_gmseg), files named like
    labels (*_seg*, *mask*, *label*) and files that hold labels are skipped. The T2*-weighted series of a folder of
    DICOM images are converted (extra dicom), and get NAME_gmseg.dcm, a DICOM segmentation, too.

    \b
    Examples:
      keras-scgm segment t2s.nii.gz
      keras-scgm segment study/ --suffix T2starw --output results/ --resume
      keras-scgm segment t2s.nii.gz --weights large --cord ours
    """
    with held_back_stderr():
        from keras_scgm.cohort import OutputConfig, run_here, run_on_ray
        from keras_scgm.files import check_inputs_stay
        from keras_scgm.images import FoundImages, find_images
        from keras_scgm.segmentation import SegmentationConfig, Segmenter

    check_engine(engine, {"--address": address, "--workers": workers})
    check_verdict("--fail-on", fail_on)
    output_config = OutputConfig(soft=soft, tissues=tissues, force=force, resume=resume)
    dicom_folders, inputs = split_dicom_folders(inputs)
    found = find_images(inputs, suffix, pattern) if inputs or suffix or pattern else FoundImages()
    for note in found.notes:
        say(note)
    images = [image.path for image in found.images]
    converted, not_converted = (
        converted_jobs(dicom_folders, output, force, images) if dicom_folders else ([], [])
    )
    problems = [*found.problems, *not_converted]
    for problem in problems:
        say(f"error: {problem}", err=True)
    if not found.images and not converted:
        raise typer.Exit(2)
    jobs = _jobs(found.images, converted, output)
    settings = SegmentationConfig(
        binarize=binarize,  # type: ignore[arg-type]
        threshold=threshold,
        window=parse_window(window),  # type: ignore[arg-type]
        cord=cord,
        mirror=mirror,
        uncertainty_passes=uncertainty,
        frame=frame,
        orientation=orientation,
        keep_probabilities=soft,
        runtime=runtime,
        precision=precision,
    )
    if force:
        given = [settings.cord] if isinstance(settings.cord, Path) else []
        results = {path for job in jobs for path in job.paths.own}
        if tissues == "all":
            results.update(path for job in jobs for path in job.paths.of_cord(bool(given)))
        check_inputs_stay([*images, *given], results)
    if engine == "ray":
        outcomes = run_on_ray(weights, settings, jobs, output_config, address, workers)
    else:
        with held_back_stderr():
            segmenter = Segmenter(weights or None, settings)
        outcomes = run_here(segmenter, jobs, output_config, lambda job: progress_bar("slice", job.image.name))
    reported = list(reporting(outcomes, len(jobs)))
    counts = Counter(outcome.status for outcome in reported) + Counter({"failed": len(problems)})
    if len(jobs) + len(problems) > 1:
        say(f"{counts['segmented']} segmented, {counts['skipped']} skipped, {counts['failed']} failed")
    if shown := next((outcome.job for outcome in reported if outcome.status == "segmented"), None):
        show_hint(shown.image, shown.paths.mask, is_mask=not soft)
    if counts["failed"]:
        raise typer.Exit(2)
    if any(outcome.verdict in BAD_VERDICTS[fail_on] for outcome in reported):
        raise typer.Exit(3)


def check_verdict(option: str, verdict: str | None) -> None:
    if verdict not in BAD_VERDICTS:
        raise InputError(f"{option} must be review or fail, received {verdict!r}")


def check_engine(engine: str, of_ray: Mapping[str, object]) -> None:
    """Refuse an unknown engine, and options of Ray, by name, that were given without it."""
    if engine not in ("local", "ray"):
        raise InputError(f"--engine must be local or ray, received {engine!r}")
    if engine == "local" and (given := [name for name, value in of_ray.items() if value is not None]):
        raise InputError(f"{', '.join(given)}: for a Ray cluster only; add --engine ray, or leave it out")


def reporting(outcomes: Iterable[Outcome], count: int) -> Iterator[Outcome]:
    """Tell the user what becomes of each of `count` images."""
    for number, outcome in enumerate(outcomes, start=1):
        is_failed = outcome.status == "failed"
        place = f"[{number}/{count}] " if count > 1 and not is_failed else ""
        say(place + outcome.message, err=is_failed)
        warn(*outcome.warnings, about=outcome.job.image)
        yield outcome


def _jobs(
    images: Sequence[ImageFile], converted: Sequence[SegmentationJob], output: Path | None
) -> list[SegmentationJob]:
    """The jobs of the images, and those of the converted ones, none of which may replace the result of another."""
    from keras_scgm.cohort import SegmentationJob
    from keras_scgm.files import is_nifti
    from keras_scgm.outputs import OutputPaths

    def paths_of(image: ImageFile) -> OutputPaths:
        if output is None:
            return OutputPaths.for_input(image.path)
        if is_nifti(output):
            return OutputPaths(output)
        return OutputPaths.for_input(image.path, output / image.path.parent.relative_to(image.root))

    jobs = [SegmentationJob(image.path, paths_of(image), image.is_named) for image in images]
    jobs += converted
    if output is not None and is_nifti(output) and len(jobs) > 1:
        raise InputError(f"{output}: one file cannot hold the results of {len(jobs)} images; give a folder")
    owners: dict[Path, Path] = {}
    for job in jobs:
        mask = job.paths.mask
        if owners.setdefault(mask, job.image) != job.image:
            raise InputError(
                f"{owners[mask]} and {job.image} would both become {mask}; segment them one by one"
            )
    return jobs


def parse_window(text: str) -> str | tuple[float, float]:
    if "," not in text:
        return text
    try:
        x, y = map(float, text.split(","))
    except ValueError as error:
        raise InputError(f"--window {text}: give auto, center, or two numbers in mm such as 80,75") from error
    return x, y
