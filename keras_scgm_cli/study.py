"""`keras-scgm study`: a folder in BIDS in, masks and the tables of the whole study out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_scgm.errors import InputError, counted, first_of
from keras_scgm_cli.help import COMPUTING, IMAGES, MEASURES, NETWORK, RESULTS
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
from keras_scgm_cli.region_options import LevelRanges, SliceRange, parse_ranges
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.segment import BAD_VERDICTS, check_engine, check_verdict, parse_window, reporting
from keras_scgm_cli.stderr import held_back_stderr

if TYPE_CHECKING:
    from keras_scgm.cohort import Outcome, SegmentationJob
    from keras_scgm.study import Study

PARTICIPANT, GROUP = "participant", "group"


def study(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="BIDS_DIR",
            help="Data set in BIDS, another folder of images, or a list of files: .txt, .tsv with the column image.",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of the results, as BIDS derivatives.")
    ],
    level: Annotated[
        str,
        typer.Argument(
            metavar="participant|group",
            help="participant: segment and measure; group: statistics, figures and the quality page.",
        ),
    ],
    participant_label: Annotated[
        list[str] | None,
        typer.Option(
            "--participant-label",
            "--participant_label",
            help="Participants to take, with or without sub-; repeat it.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option(
            "--session-label",
            "--session_label",
            help="Sessions to take, with or without ses-; repeat it.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            help="Suffix of the images; T2starw in BIDS unless given, all images of another folder.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    skip_bids_validation: Annotated[
        bool,
        typer.Option(
            "--skip-bids-validation",
            help="Take a data set without a valid dataset_description.json.",
            rich_help_panel=IMAGES,
        ),
    ] = False,
    names: Annotated[
        str,
        typer.Option(
            help="bids: sub-X_label-GM_mask; sct: as the Spinal Cord Toolbox has them, _gmseg.",
            rich_help_panel=RESULTS,
        ),
    ] = "bids",
    levels: Annotated[
        str | None,
        typer.Option(
            help="Level map of each image, from BIDS_DIR, with {folder}, {name}, {participant} and {session} for those "
            "of the image: 'derivatives/labels/{folder}/{name}_levels.nii.gz'.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    discs: Annotated[
        str | None,
        typer.Option(
            help="Likewise labels of the discs, each with the number of the vertebra below it.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    level_table: Annotated[
        Path | None,
        typer.Option(
            help="TSV with image or participant_id, slice and level: the level of one slice of each image.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    level_range: LevelRanges = None,
    slices: SliceRange = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            help="fail: slices with that verdict count in no row of the summary; review: nor do those with review.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    weights: Weights = None,
    cord: Annotated[
        str,
        typer.Option(
            help="auto: the cord, if the weights know it; ours: that of the default weights; none: gray matter alone.",
            rich_help_panel=NETWORK,
        ),
    ] = "auto",
    threshold: Threshold = None,
    window: Window = "auto",
    mirror: Mirror = False,
    uncertainty: Uncertainty = 0,
    frame: Frame = None,
    runtime: Runtime = "auto",
    precision: Precision = "float32",
    engine: Annotated[
        str,
        typer.Option(
            help="local: a process on each core of this machine; ray: on a Ray cluster.",
            rich_help_panel=COMPUTING,
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="With --engine ray: address of the cluster's head, or auto.", rich_help_panel=COMPUTING
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Largest number of processes; 1 computes here, on all cores.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Segment images again whose results exist, but not those whose masks were edited by hand.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
    exclude: Annotated[
        Path | None,
        typer.Option(
            help="With group: qc.yml or TSV of the quality page; images marked fail or artefact are left out.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
) -> None:
    """Segment and measure all images of a study, in the manner of a BIDS App.

    participant writes masks with their sidecars and pictures, areas.tsv (a row per image and slice) and
    summary.tsv (a row per image and vertebral level, or position), joined with participants.tsv. What is
    finished is not done again; masks that were edited by hand are measured. group writes statistics, figures and the
    quality page from these tables.
    Exit code 2 if anything could not be done; the rest is done, and summary.tsv has the reason.

    \b
    Examples:
      keras-scgm study bids/ derivatives/cord participant
      keras-scgm study bids/ derivatives/cord participant --participant-label 01 --workers 4
      keras-scgm study bids/ derivatives/cord group --exclude qc.yml
    """
    if level not in (PARTICIPANT, GROUP):
        raise InputError(f"the third argument must be participant or group, received {level!r}")
    if level == GROUP:
        if participant_label or session_label:
            raise InputError(
                "--participant-label and --session-label belong to participant; group takes everything in "
                f"{output}, but for images that --exclude leaves out"
            )
        _group(images, output, suffix, exclude)
        return
    if exclude is not None:
        raise InputError("--exclude belongs to group; segmentation takes all images")
    with held_back_stderr():
        from keras_scgm.cohort import OutputConfig, run_here, run_on_cores, run_on_ray
        from keras_scgm.files import check_inputs_stay
        from keras_scgm.segmentation import SegmentationConfig, Segmenter
        from keras_scgm.study import LevelConfig, StudyConfig, run_study
        from keras_scgm.study.tables import AREAS, SUMMARY

    check_engine(engine, {"--address": address})
    check_verdict("--leave-out", leave_out)
    if cord not in ("auto", "ours", "none"):
        raise InputError(
            f"--cord must be auto, ours or none, received {cord!r}; one mask cannot be that of all images"
        )
    level_ranges, slice_range = parse_ranges(level_range, slices)
    config = StudyConfig(
        participants=tuple(participant_label or ()),
        sessions=tuple(session_label or ()),
        names=names,  # type: ignore[arg-type]
        levels=LevelConfig(levels, discs, level_table),
        level_ranges=tuple(level_ranges),
        slices=slice_range,
        left_out=BAD_VERDICTS[leave_out],
    )
    check_inputs_stay([images, level_table], [output / AREAS, output / SUMMARY])
    settings = SegmentationConfig(
        threshold=threshold,
        window=parse_window(window),  # type: ignore[arg-type]
        cord=cord,
        mirror=mirror,
        uncertainty_passes=uncertainty,
        frame=frame,
        keep_probabilities=False,
        runtime=runtime,
        precision=precision,
    )
    read = _read(images, suffix, validate=not skip_bids_validation)
    warn(*read.warnings)
    output_config = OutputConfig(force=force, resume=not force)

    def outcomes(jobs: Sequence[SegmentationJob]) -> Iterable[Outcome]:
        if engine == "ray":
            return run_on_ray(weights, settings, jobs, output_config, address, workers)
        if workers == 1 or len(jobs) < 2:
            with held_back_stderr():
                segmenter = Segmenter(weights or None, settings)
            return run_here(segmenter, jobs, output_config)
        return run_on_cores(weights, settings, jobs, output_config, workers)

    result = run_study(read, output, lambda jobs: reporting(outcomes(jobs), len(jobs)), config)
    counts = result.counts
    say(
        f"{output / 'summary.tsv'}: {counts['segmented']} segmented, {counts['skipped']} finished before, "
        f"{counts['failed']} failed, {counted(counts['problems'], 'other problem')}"
    )
    if counts["failed"] or counts["problems"]:
        say("the column error of summary.tsv has the reasons", err=True)
        raise typer.Exit(2)


def _read(images: Path, suffix: str | None, validate: bool) -> Study:
    from keras_scgm.study import SUFFIX, is_bids, read_bids, read_folder, read_list

    if images.is_file():
        if suffix:
            raise InputError("--suffix chooses among the images of a folder; a list names them itself")
        return read_list(images)
    if not images.is_dir():
        raise InputError(f"{images}: no such folder or list; check the path")
    if is_bids(images):
        return read_bids(images, suffix or SUFFIX, validate=validate)
    return read_folder(images, suffix)


def _group(images: Path, output: Path, suffix: str | None, exclude: Path | None) -> None:
    if not any(output.glob("sub-*/sub-*_summary.tsv")):
        raise InputError(f"{output}: no results of a study in it; run participant first")
    from keras_scgm.study import write_study_tables
    from keras_scgm.study.group import analyse
    from keras_scgm.study.images import read_dictionary
    from keras_scgm.study.page import write_pages
    from keras_scgm.study.participant import outdated_participants

    root = images.parent if images.is_file() else images
    dictionary, warnings = read_dictionary(root)
    warn(*warnings)
    write_study_tables(output, dictionary)

    doubts: list[str] = []
    unmeasured: list[str] = []
    if images.exists():
        try:
            unmeasured = _unmeasured(images, output, suffix)
        except InputError as error:
            doubts.append(f"its images are not compared with summary.tsv: {error}")
    if unmeasured:
        doubts.append(
            f"{len(unmeasured)} of the participants have images without a row in summary.tsv; run participant again, "
            f"or give its --suffix here: {first_of(unmeasured)}"
        )
    outdated = outdated_participants(images, output) if images.is_dir() else []
    if outdated := [name for name in outdated if name not in unmeasured]:
        doubts.append(
            f"participants.tsv and summary.tsv differ in {len(outdated)} of the participants; run participant again: "
            f"{first_of(outdated)}"
        )
    for path in [*analyse(output, exclude, partial(warn, about=output), doubts), *write_pages(root, output)]:
        say(path)


def _unmeasured(images: Path, output: Path, suffix: str | None) -> list[str]:
    """Participants with images that are not in summary.tsv."""
    from keras_scgm.study import is_bids
    from keras_scgm.study.participant import measured_suffix, unmeasured_participants

    if images.is_dir() and is_bids(images):
        suffix = suffix or measured_suffix(output)
    return unmeasured_participants(_read(images, suffix, validate=False), output)
