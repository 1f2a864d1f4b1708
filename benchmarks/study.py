"""Does a study lose nothing with `kill -9`, and is it as fast as a plain loop in one process?

Drawn subjects in BIDS go through `keras-scgm study`: once in one process on all cores (the loop), once in a
process per core, whose main process is killed when half of the images are done; the same command then goes
on. Masks are compared, results counted, and the peak memory of the processes is that of the largest among
them.

    python benchmarks/study.py [--subjects 200] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject


def draw(folder: Path, count: int) -> None:
    """Subjects of 6 slices, some of 0.5 and some of 0.4 mm."""
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "drawn", "BIDSVersion": "1.10.0"}))
    rows = ["participant_id\tage"]
    for seed in range(count):
        config = PhantomConfig(spacing_mm=(0.5, 0.4)[seed % 2], matrix_size=120, n_slices=6)
        path = folder / f"sub-{seed:03d}/anat/sub-{seed:03d}_T2starw.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(draw_subject(config, seed).image, path)
        rows.append(f"sub-{seed:03d}\t{20 + seed % 60}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")


def command(raw: Path, output: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "keras_scgm", "study", str(raw), str(output), "participant", *options]


def memory_mb() -> float:
    """Peak resident memory of the largest process that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def timed(name: str, arguments: Sequence[str], images: int) -> str:
    started = time.perf_counter()
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    seconds = time.perf_counter() - started
    print(
        f"{name:40s} {seconds:7.1f} s, {images / seconds:.2f} images/s; {memory_mb():.0f} MB at most; {said}",
        flush=True,
    )
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where the files go; removed at the end without it")
    options = parser.parse_args(arguments)
    folder = options.folder or Path(tempfile.mkdtemp())
    raw, loop, cores, whole = (folder / name for name in ("raw", "loop", "cores", "whole"))
    try:
        raw.mkdir(parents=True)
        draw(raw, options.subjects)
        few = [
            "--participant-label",
            " ".join(f"{number:03d}" for number in range(max(2, options.subjects // 10))),
        ]
        timed(
            "one process, a tenth of the images",
            command(raw, folder / "few", "--workers", "1", *few),
            len(few[1].split()),
        )
        timed("one process, all cores", command(raw, loop, "--workers", "1"), options.subjects)
        timed("a process per core", command(raw, whole), options.subjects)

        killed = subprocess.Popen(
            command(raw, cores), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert killed.stdout is not None
        for _ in range(options.subjects // 2):
            killed.stdout.readline()
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        before = {path: path.stat().st_mtime_ns for path in cores.rglob("*_label-GM_mask.json")}
        timed("killed with -9 and resumed: the rest", command(raw, cores), options.subjects - len(before))
        again = sum(path.stat().st_mtime_ns != stamp for path, stamp in before.items())
        rows = (cores / "summary.tsv").read_text().splitlines()
        column = rows[0].split("\t").index("region")
        images = Counter(row.split("\t")[3] for row in rows[1:] if row.split("\t")[column] == "all")
        same = [
            np.array_equal(
                *(np.asarray(nib.load(place / path.relative_to(loop)).dataobj) for place in (loop, cores))
            )
            for path in loop.rglob("*_mask.nii.gz")
        ]
        print(
            f"{len(before)} finished before the kill, {again} of them done again; {len(images)} images in the summary, "
            f"{max(images.values())} row each; {sum(same)} of {len(same)} masks like those of one process"
        )
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
