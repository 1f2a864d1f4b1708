"""Images to segment one by one, and what came of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from keras_scgm import checks
from keras_scgm.errors import InputError, NotAnImageError, log_traceback, no_memory
from keras_scgm.files import check_inputs_stay, check_writable, sha256_of, unchanged
from keras_scgm.messages import shown_dsc
from keras_scgm.outputs import (
    EditedMasks,
    OutputPaths,
    differences,
    edited_masks,
    finished_record,
    other_settings,
    output_kind,
    write_outputs,
)
from keras_scgm.quality.verdicts import Verdict
from keras_scgm.segmentation import Progress, Segmentation, Segmenter
from keras_scgm.segmentation.edited_masks import segmentation_of_edited


@dataclass(frozen=True)
class SegmentationJob:
    """An image to segment and the files of its result.

    Args:
        image: NIfTI file.
        paths: Files of the result.
        is_named: Whether the user named the file; a file found in a folder is skipped if it holds labels.
        dicom: DICOM images of which the file was made, whose series gets a DICOM segmentation; usually none.
    """

    image: Path
    paths: OutputPaths
    is_named: bool = True
    dicom: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        checks.check_fields(self, image=checks.path)


@dataclass(frozen=True)
class OutputConfig:
    """Kind of result to write, and treatment of results that exist.

    Args:
        soft: Whether to write probabilities instead of masks.
        tissues: "all", or "gm" for gray matter alone.
        force: Whether to replace results that exist.
        resume: Whether to skip images whose results exist and were made in the same way.

    With either, masks that were edited by hand stay, and are measured.

    Raises:
        keras_scgm.errors.InputError: both `force` and `resume`, or other tissues.
    """

    soft: bool = False
    tissues: str = "all"
    force: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        checks.check_fields(self, tissues=checks.one_of(("all", "gm")))
        if self.force and self.resume:
            raise InputError(
                "force and resume contradict each other: one replaces results that exist, the other keeps them; "
                "give one of the two"
            )


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    Args:
        job: The job.
        status: "skipped" if it was finished before, or if the file holds labels.
        message: One line for the user.
        verdict: Verdict on the result, None without one.
        warnings: Possible faults of the result, one line each.
        pid: Number of the process that reports it; usually the one that did it.
    """

    job: SegmentationJob
    status: Literal["segmented", "skipped", "failed"]
    message: str
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()
    pid: int = field(default_factory=os.getpid)


ShowProgress = Callable[[SegmentationJob], AbstractContextManager[Progress | None]]


def do_job(
    segmenter: Segmenter, job: SegmentationJob, output: OutputConfig, progress: Progress | None = None
) -> Outcome:
    """Segment one image and write its results; whatever goes wrong is an outcome, not an exception."""
    try:
        return _do_job(segmenter, job, output, progress)
    except NotAnImageError as error:
        if job.is_named:
            return Outcome(job, "failed", f"error: {error}")
        return Outcome(job, "skipped", f"{str(error).partition(';')[0]}; skipped")
    except InputError as error:
        return Outcome(job, "failed", f"error: {error}")
    except MemoryError as error:
        return Outcome(job, "failed", f"error: {job.image}: {no_memory(error)}")
    # One image must not stop a cohort, whatever is wrong with it or with us.
    except Exception as error:
        return Outcome(job, "failed", f"error: {log_traceback(str(job.image), error)}")


def run_here(
    segmenter: Segmenter,
    jobs: Sequence[SegmentationJob],
    output: OutputConfig,
    show_progress: ShowProgress = lambda job: nullcontext(),
) -> Iterator[Outcome]:
    """Do the jobs in this process, in their order.

    Args:
        segmenter: the networks.
        jobs: the images.
        output: how results are written.
        show_progress: gives what is called with (slices done, slices in all) of a job.
    """
    for job in jobs:
        with show_progress(job) as progress:
            outcome = do_job(segmenter, job, output, progress)
        yield outcome


def _do_job(
    segmenter: Segmenter, job: SegmentationJob, output: OutputConfig, progress: Progress | None
) -> Outcome:
    image, paths = job.image, job.paths
    if there := _there(segmenter, job, output):
        return there
    check_writable(paths.mask.parent)
    result = segmenter.segment(image, progress)
    # Another run, or a person, may have written there meanwhile.
    if there := _there(segmenter, job, output):
        return there
    gray_matter_alone = output.tissues == "gm"
    write_outputs(result, paths, soft=output.soft, gray_matter_alone=gray_matter_alone, dicom=job.dicom)
    message, verdict = f"{paths.mask}: {_summary(result)}", result.quality.verdict
    return Outcome(job, "segmented", message, verdict, result.warnings)


def _there(segmenter: Segmenter, job: SegmentationJob, output: OutputConfig) -> Outcome | None:
    """The outcome of a job whose result stays as it is there; None if one is to be written.

    Raises:
        InputError: What is there is neither to be kept nor to be replaced, or is an input.
    """
    image, paths = job.image, job.paths
    gray_matter_alone, cord = output.tissues == "gm", segmenter.config.cord
    given = [cord] if isinstance(cord, Path) else []
    others = paths.of_cord(bool(given)) if segmenter.has_cord and not gray_matter_alone else ()
    check_inputs_stay([image, *given], (*paths.own, *others))
    existing = [path for path in (*paths.own, *others) if os.path.lexists(path)]
    if (output.resume or output.force) and existing and image.is_file():
        made_so = {"input_sha256": sha256_of(image), **output_kind(output.soft, gray_matter_alone)}
        like = {**segmenter.provenance, **made_so}
        if edited := edited_masks(paths, given):
            return _keep_edited(job, edited, like, output)
        record = finished_record(paths, like) if output.resume else None
        if record and paths.dicom.is_file() == bool(job.dicom):
            verdict = record["quality"]["verdict"]
            return Outcome(job, "skipped", f"{image}: finished before, skipped", verdict)
    is_remnant = output.resume and paths.is_exclusive and not paths.record.exists()
    if existing and not output.force and not is_remnant:
        made = ""
        if output.resume:
            changed = other_settings(paths, segmenter.provenance)
            made = " and was made in another way" + (f" (other {', '.join(changed)})" if changed else "")
        leave = ", or leave it with --tissues gm" if existing[0] in others else ""
        raise InputError(f"{existing[0]}: exists{made}; replace it with --force{leave}")
    return None


def _keep_edited(
    job: SegmentationJob, edited: EditedMasks, like: dict[str, Any], output: OutputConfig
) -> Outcome:
    """Measure masks that a person edited, unless they were; what was drawn by hand is never replaced."""
    image, paths, record = job.image, job.paths, edited.record
    masks = (*edited.changed, *edited.measured)
    names = ", ".join(path.name for path in masks)
    other = differences(record, like)
    again = "delete it and give --force to have the image segmented again"
    if "input_sha256" in other:
        raise InputError(f"{masks[0]}: edited by hand, and {image} has changed since; {again}")
    if record["output"] != "mask":
        raise InputError(f"{masks[0]}: edited by hand, but probabilities cannot be measured so; {again}")
    kept = f"{names}: edited by hand and kept, from a result with other {', '.join(other)}"
    warnings = (kept,) if other else ()
    if not edited.changed and output.resume:
        message = f"{image}: edited by hand and measured before, skipped"
        return Outcome(job, "skipped", message, record["quality"]["verdict"], warnings)
    cord = Path(record["settings"]["cord"]) if record["cord_sha256"] else paths.cord
    has_cord = record["output_tissues"] == "all" and len(record["tissues"]) > 1
    with unchanged(image, *masks):
        result = segmentation_of_edited(
            image,
            record,
            paths.mask,
            cord if has_cord else None,
            white_matter=paths.white_matter if paths.white_matter in edited.changed else None,
            uncertainty=paths.uncertainty if paths.uncertainty.is_file() else None,
        )
    write_outputs(result, paths, gray_matter_alone=not has_cord, dicom=job.dicom, edited=masks)
    message = f"{paths.mask}: edited by hand, measured: {_summary(result)}"
    return Outcome(job, "segmented", message, result.quality.verdict, (*warnings, *result.warnings))


def _summary(result: Segmentation) -> str:
    gray_mm2 = [area.area_mm2 for area in result.areas if area.n_voxels]
    cord_mm2 = [area.cord_area_mm2 for area in result.areas if area.cord_area_mm2 > 0]
    of_cord = "" if result.cord_voxels is None else f"cord in {len(cord_mm2)}, {_mean(cord_mm2)}; "
    return (
        f"gray matter in {len(gray_mm2)} of {len(result.areas)} slices, {_mean(gray_mm2)}, "
        f"{result.record['gray_matter_volume_mm3']:.0f} mm3; {of_cord}predicted DSC "
        f"{shown_dsc(result.quality.predicted_dsc)} ({result.quality.verdict}), {result.record['seconds']:.1f} s"
    )


def _mean(areas_mm2: Sequence[float]) -> str:
    return f"mean {fmean(areas_mm2) if areas_mm2 else 0.0:.1f} mm2"
