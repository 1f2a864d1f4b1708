"""Jobs in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from keras_scgm.cohort.jobs import Outcome, OutputConfig, SegmentationJob
from keras_scgm.cohort.workers import ONE_THREAD, RETRIES, Worker, found_weights
from keras_scgm.files import remove_staging
from keras_scgm.runtimes.threads import available_cores
from keras_scgm.segmentation import SegmentationConfig


def run_on_cores(
    weights: Sequence[str | Path] | None,
    settings: SegmentationConfig,
    jobs: Sequence[SegmentationJob],
    output: OutputConfig,
    workers: int | None = None,
) -> Iterator[Outcome]:
    """Do the jobs in processes of this machine with one thread each, in the order in which they finish.

    A job whose process is lost is done again by a new one. The processes end with this one, even if it is killed.

    Args:
        weights: Known names, files or cards of ensembles; None takes the default.
        settings: How the images are segmented.
        jobs: The images.
        output: How results are written.
        workers: At most so many processes, by default one for each core that this process may use; each
            loads the networks and takes 0.3 to 0.7 GB of memory.

    Raises:
        keras_scgm.errors.InputError: The weights cannot be had.
    """
    arguments = found_weights(weights), settings, output
    count = max(1, min(len(jobs), workers or available_cores()))
    waiting, losses = deque(jobs), Counter[Path]()
    running: dict[Connection, tuple[_Process, SegmentationJob]] = {}
    idle = [_Process(*arguments) for _ in range(count)]
    try:
        while waiting or running:
            while idle and waiting:
                process, job = idle.pop(), waiting.popleft()
                running[process.connection] = process, job
                process.give(job)
            ready = wait(list(running))
            for connection in [one for one in running if one in ready]:
                process, job = running.pop(connection)
                try:
                    outcome = process.connection.recv()
                except (EOFError, OSError):
                    losses[job.image] += 1
                    process.end()
                    idle.append(_Process(*arguments))
                    if losses[job.image] <= RETRIES:
                        waiting.appendleft(job)
                        continue
                    lost = f"lost {RETRIES + 1} processes, perhaps for lack of memory; give fewer workers"
                    outcome = Outcome(job, "failed", f"error: {job.image}: {lost}")
                else:
                    idle.append(process)
                yield outcome
    finally:
        for process in [*idle, *(process for process, _ in running.values())]:
            process.end()
        for _, job in running.values():
            remove_staging(job.paths.folder)


class _Process:
    """A process of this machine with a worker, which ends when its connection or this process does."""

    def __init__(
        self, weights: Sequence[str | Path] | None, settings: SegmentationConfig, output: OutputConfig
    ) -> None:
        # A fork while threads compute may hang.
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, weights, settings, output), daemon=True)
        with _interrupts_blocked():
            self._process.start()
        other.close()

    def give(self, job: SegmentationJob) -> None:
        # If the process is gone, reading its answer will tell.
        with suppress(OSError):
            self.connection.send(job)

    def end(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.join()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that start within never see a Ctrl-C; it is for this process, which ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its start unblocks the signal in some versions of Python.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, *of_worker: Any) -> None:
    os.environ.update(ONE_THREAD)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker(*of_worker)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(worker.do(job))


def _end_with_parent() -> None:
    """An image that is half done when a run is killed must not get in the way of the run that goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
