"""Does a cohort survive the loss of a worker, and what does the cluster gain over a plain loop?

Drawn subjects go through a local Ray cluster of two workers, one of which is killed when a third of the images is
done; every mask is compared with that of the loop. Both load the networks once per process; start-up is counted
and also shown without.

    python benchmarks/cohort.py [--subjects 200] [--workers 2] [--weights synthetic]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm.cohort import Outcome, OutputConfig, SegmentationJob, run_here, run_on_ray
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.outputs import OutputPaths
from keras_scgm.segmentation import SegmentationConfig, Segmenter


def draw(folder: Path, count: int) -> None:
    config = PhantomConfig(spacing_mm=0.5, matrix_size=100, n_slices=2)
    for seed in range(count):
        nib.save(draw_subject(config, seed).image, folder / f"sub-{seed:03d}_T2starw.nii.gz")


def jobs_into(folder: Path, images: list[Path]) -> list[SegmentationJob]:
    return [SegmentationJob(image, OutputPaths.for_input(image, folder)) for image in images]


def report(name: str, outcomes: Iterator[Outcome], started: float, kill_at: int = 0) -> list[Outcome]:
    """Prints the rate of outcomes; kills the worker of the `kill_at`-th."""
    done, first = [], 0.0
    for outcome in outcomes:
        done.append(outcome)
        first = first or time.perf_counter()
        if len(done) == kill_at:
            os.kill(outcome.pid, signal.SIGKILL)
    end = time.perf_counter()
    print(
        f"{name:28s} {len(done)} images in {end - started:.1f} s, {len(done) / (end - started):.2f}/s; "
        f"after the first {(len(done) - 1) / (end - first):.2f}/s",
        flush=True,
    )
    return done


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--weights", default="synthetic")
    arguments = parser.parse_args()
    settings = SegmentationConfig(keep_probabilities=False)
    folder = Path(tempfile.mkdtemp())
    try:
        draw(folder, arguments.subjects)
        images = sorted(folder.glob("*.nii.gz"))
        started = time.perf_counter()
        loop = jobs_into(folder / "loop", images)
        segmenter = Segmenter([arguments.weights], settings)
        report("plain loop", run_here(segmenter, loop, OutputConfig()), started)

        started = time.perf_counter()
        cluster = jobs_into(folder / "cluster", images)
        outcomes = run_on_ray(
            [arguments.weights], settings, cluster, OutputConfig(), workers=arguments.workers
        )
        kill_at = max(1, len(images) // 3)
        done = report(f"Ray, {arguments.workers} workers, 1 killed", outcomes, started, kill_at)

        once = len({outcome.job.image for outcome in done}) == len(done) == len(images)
        worked = [outcome for outcome in done if outcome.status != "failed"]
        same = [
            np.array_equal(*(np.asarray(nib.load(job.paths.mask).dataobj) for job in pair))
            for pair in zip(loop, cluster, strict=True)
        ]
        print(
            f"{len(worked)} of {len(images)} done, each image once: {once}, masks like the loop's: {sum(same)}; "
            f"{len({outcome.pid for outcome in done})} processes took part"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
