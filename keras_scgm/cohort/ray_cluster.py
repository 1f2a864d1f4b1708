"""Jobs on a Ray cluster (optional extra `ray`)."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras_scgm.cohort.jobs import Outcome, OutputConfig, SegmentationJob
from keras_scgm.cohort.workers import ONE_THREAD, RETRIES, Worker, found_weights
from keras_scgm.errors import InputError, one_line
from keras_scgm.files import remove_staging
from keras_scgm.segmentation import SegmentationConfig

CONNECT_SECONDS = 10.0

_PASSED_ON = ("KERAS_BACKEND", "KERAS_SCGM_HOME")


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
        workers: at most so many; each loads the networks and takes one core and 0.3 to 0.7 GB of memory.

    Raises:
        keras_scgm.errors.InputError: Ray is not installed, the cluster does not answer, or the weights cannot
            be had.
    """
    if find_spec("ray") is None:
        raise InputError("engine ray is not installed; pip install 'keras-scgm[ray]'")
    import ray

    if address not in (None, "auto", "local"):
        _check_answers(address)
    weights = found_weights(weights)
    if isinstance(settings.cord, Path):
        settings = replace(settings, cord=settings.cord.absolute())
    output = replace(output, resume=not output.force)
    environment = ONE_THREAD | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, runtime_env={"env_vars": environment}, log_to_driver=False, **here)
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at {address!r} ({one_line(error)}); give HOST:PORT of its head"
        ) from error
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler would end this process without a word.
        signal.signal(signal.SIGTERM, on_sigterm)
    running: dict[Any, tuple[Any, SegmentationJob]] = {}
    try:
        n_workers = max(1, min(len(jobs), workers or len(jobs), int(ray.cluster_resources().get("CPU", 1))))
        remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)(Worker)
        idle = [remote.remote(weights, settings, output) for _ in range(n_workers)]
        yield from _outcomes(idle, running, [_absolute(job) for job in jobs])
    finally:
        ray.shutdown()
        for _, job in running.values():
            remove_staging(job.paths.folder)


def _check_answers(address: str) -> None:
    """Ray itself waits for a head that does not answer without an end."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError(f"no Ray cluster at {address!r} ({error}); give HOST:PORT of its head") from error


def _outcomes(
    idle: list[Any], running: dict[Any, tuple[Any, SegmentationJob]], jobs: Sequence[SegmentationJob]
) -> Iterator[Outcome]:
    import ray

    waiting = deque(jobs)
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


def _absolute(job: SegmentationJob) -> SegmentationJob:
    return replace(
        job,
        image=job.image.absolute(),
        paths=replace(job.paths, mask=job.paths.mask.absolute()),
        dicom=tuple(path.absolute() for path in job.dicom),
    )
