"""Segments many images, one after the other in this process or on a Ray cluster (optional extra `ray`)."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from keras_scgm import checks
from keras_scgm.errors import InputError, NotAnImageError, log_traceback, one_line
from keras_scgm.files import check_writable, sha256_of
from keras_scgm.outputs import OutputPaths, finished_record, output_kind, write_outputs
from keras_scgm.pretrained import ensemble_members, resolve_weights
from keras_scgm.quality.verdicts import Verdict
from keras_scgm.segmentation import Progress, Segmentation, SegmentationConfig, Segmenter

RETRIES = 3
"""How often an image is tried again after its worker was lost; an image may be what kills them."""

CONNECT_SECONDS = 10.0

_PASSED_ON = ("KERAS_BACKEND", "KERAS_SCGM_HOME")


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
        pid: Number of the process that did it.
    """

    job: SegmentationJob
    status: Literal["segmented", "skipped", "failed"]
    message: str
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()
    pid: int = 0


ShowProgress = Callable[[SegmentationJob], AbstractContextManager[Progress | None]]


def do_job(
    segmenter: Segmenter, job: SegmentationJob, output: OutputConfig, progress: Progress | None = None
) -> Outcome:
    """Segment one image and write its results; whatever goes wrong is an outcome, not an exception."""
    try:
        return _do_job(segmenter, job, output, progress)
    except NotAnImageError as error:
        if job.is_named:
            return Outcome(job, "failed", f"error: {error}", pid=os.getpid())
        return Outcome(job, "skipped", f"{str(error).partition(';')[0]}; skipped", pid=os.getpid())
    except InputError as error:
        return Outcome(job, "failed", f"error: {error}", pid=os.getpid())
    # One image must not stop a cohort, whatever is wrong with it or with us.
    except Exception as error:
        return Outcome(job, "failed", f"error: {log_traceback(str(job.image), error)}", pid=os.getpid())


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


def run_on_ray(
    weights: Sequence[str | Path] | None,
    settings: SegmentationConfig,
    jobs: Sequence[SegmentationJob],
    output: OutputConfig,
    address: str | None = None,
    workers: int | None = None,
) -> Iterator[Outcome]:
    """Do the jobs on a Ray cluster, with one worker per processor core, in the order in which they finish.

    Images, results and weights files must have the same paths on every machine, as on a shared disk. A job
    whose worker is lost is done again by another. Results that were made the same way are never made
    again, unless `output.force`, so a run that was stopped goes on where it was.

    Args:
        weights: known names, files or cards of ensembles; None takes the default.
        settings: how the images are segmented.
        jobs: the images.
        output: how results are written.
        address: of the cluster's head, "auto" for the one this machine belongs to; None starts one on
            this machine for the length of the run.
        workers: at most so many; each loads the networks and takes one core and about 1 GB of memory.

    Raises:
        keras_scgm.errors.InputError: Ray is not installed, the cluster does not answer, or the weights cannot
            be had.
    """
    if find_spec("ray") is None:
        raise InputError("engine ray is not installed; pip install 'keras-scgm[ray]'")
    import ray

    if address not in (None, "auto", "local"):
        _check_answers(address)
    weights = [member for item in weights or () for member in ensemble_members(item)]
    for item in weights:
        resolve_weights(item)
    if isinstance(settings.cord, Path):
        settings = replace(settings, cord=settings.cord.absolute())
    places = [checks.path("weights", item) for item in weights]
    weights = [
        place.resolve() if place.is_file() else item for place, item in zip(places, weights, strict=True)
    ] or None
    output = replace(output, resume=not output.force)
    # One core per worker: more threads than cores only get in each other's way.
    environment = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address, runtime_env={"env_vars": environment}, log_to_driver=False, **here)
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at {address!r} ({one_line(error)}); give HOST:PORT of its head"
        ) from error
    try:
        n_workers = max(1, min(len(jobs), workers or len(jobs), int(ray.cluster_resources().get("CPU", 1))))
        remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)(_Worker)
        idle = [remote.remote(weights, settings, output) for _ in range(n_workers)]
        yield from _outcomes(idle, [_absolute(job) for job in jobs])
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself waits for a head that does not answer without an end."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError(f"no Ray cluster at {address!r} ({error}); give HOST:PORT of its head") from error


def _outcomes(idle: list[Any], jobs: Sequence[SegmentationJob]) -> Iterator[Outcome]:
    import ray

    waiting, running = deque(jobs), dict[Any, tuple[Any, SegmentationJob]]()
    while waiting or running:
        while idle and waiting:
            worker, job = idle.pop(), waiting.popleft()
            running[worker.do.remote(job)] = worker, job
        (finished, *_), _ = ray.wait(list(running))
        worker, job = running.pop(finished)
        idle.append(worker)
        try:
            yield ray.get(finished)
        except ray.exceptions.RayError as error:
            reason = str(error).splitlines()[0]
            yield Outcome(job, "failed", f"error: {job.image}: lost {RETRIES + 1} workers; last: {reason}")


class _Worker:
    """A process of the cluster; its networks are loaded with its first job, for which errors have a place."""

    def __init__(
        self, weights: Sequence[str | Path] | None, settings: SegmentationConfig, output: OutputConfig
    ) -> None:
        self._weights = weights
        self._settings = settings
        self._output = output
        self._segmenter: Segmenter | None = None

    def do(self, job: SegmentationJob) -> Outcome:
        try:
            self._segmenter = self._segmenter or Segmenter(self._weights, self._settings)
        except InputError as error:
            return Outcome(job, "failed", f"error: {error}", pid=os.getpid())
        return do_job(self._segmenter, job, self._output)


def _absolute(job: SegmentationJob) -> SegmentationJob:
    return replace(
        job,
        image=job.image.absolute(),
        paths=OutputPaths(job.paths.mask.absolute()),
        dicom=tuple(path.absolute() for path in job.dicom),
    )


def _do_job(
    segmenter: Segmenter, job: SegmentationJob, output: OutputConfig, progress: Progress | None
) -> Outcome:
    image, paths = job.image, job.paths
    is_given, gray_matter_alone = isinstance(segmenter.config.cord, Path), output.tissues == "gm"
    others = paths.of_cord(is_given) if segmenter.has_cord and not gray_matter_alone else ()
    existing = [path for path in (*paths.own, *others) if os.path.lexists(path)]
    if output.resume and existing and image.is_file():
        made_so = {"input_sha256": sha256_of(image), **output_kind(output.soft, gray_matter_alone)}
        record = finished_record(paths, {**segmenter.provenance, **made_so})
        if record and paths.dicom.is_file() == bool(job.dicom):
            verdict = record["quality"]["verdict"]
            return Outcome(job, "skipped", f"{image}: finished before, skipped", verdict, pid=os.getpid())
    if existing and not output.force:
        made = " and was made in another way" if output.resume else ""
        leave = ", or leave it with --tissues gm" if existing[0] in others else ""
        raise InputError(f"{existing[0]}: exists{made}; replace it with --force{leave}")
    check_writable(paths.mask.parent)
    result = segmenter.segment(image, progress)
    write_outputs(result, paths, soft=output.soft, gray_matter_alone=gray_matter_alone, dicom=job.dicom)
    message, verdict = f"{paths.mask}: {_summary(result)}", result.quality.verdict
    return Outcome(job, "segmented", message, verdict, result.warnings, os.getpid())


def _summary(result: Segmentation) -> str:
    with_some = [area.area_mm2 for area in result.areas if area.n_voxels]
    mean = sum(with_some) / len(with_some) if with_some else 0.0
    return (
        f"{len(with_some)} of {len(result.areas)} slices, mean area {mean:.1f} mm2, "
        f"volume {result.record['gray_matter_volume_mm3']:.0f} mm3, predicted DSC "
        f"{result.quality.predicted_dsc:.2f} ({result.quality.verdict}), {result.record['seconds']:.1f} s"
    )
