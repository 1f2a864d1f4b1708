"""Does the served model give the command's answer, and at what cost, whatever bytes it is sent?

Seeded mutations of NIfTI files: header fields, flipped, cut and appended bytes, other packings, byte orders,
orientations, voxel types, contents, shapes and spacings. Each is sent to the served model, in a process of its own, and
given to `keras_scgm.segment`: mask, verdict, reason, warnings and areas must be equal, or both must refuse. What
only a request is refused for (`DIFFERENCES`) is counted apart. Usage:

    python benchmarks/serving_fuzz.py [--models FOLDER] [--image FILE ...] [--mutations 1000] [--seed 0] [--seconds S]
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
from mutations import Mutator
from served_process import Answer, ServedProcess

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.errors import InputError
from keras_scgm.export.check import synthetic_image
from keras_scgm.export.saved_model import NIFTI_MODEL, export_saved_model
from keras_scgm.segmentation import Segmentation, SegmentationConfig, Segmenter

DIFFERENCES = {
    "unpacked bytes": "unpacks to more than",
    "slices": "axial slices, and a file of this size",
    "bytes of data": "MiB of data",
    "NIfTI-2": "NIfTI-2",
    "a stream with an end of zeros": "gzip data damaged",
}
"""What only a request is refused for -> part of the message."""

MAX_CPU_SECONDS, MAX_PEAK_BYTES, MEGABYTE = 25, 2.2e9, 1_000_000
N_DEAREST = 10


def synthetic_images() -> list[nib.Nifti1Image]:
    config = PhantomConfig(spacing_mm=0.5, matrix_size=80, n_slices=2, off_centre_mm=2)
    wide = PhantomConfig(spacing_mm=0.7, matrix_size=120, n_slices=1, off_centre_mm=12)
    return [draw_subject(config, seed=1).image, draw_subject(wide, seed=2).image]


def difference(answer: Answer, expected: Segmentation, folder: Path) -> str:
    """How a served answer differs from the command's; empty if it does not."""
    path = folder / "mask.nii"
    got = {name: values[0] for name, values in answer.outputs.items()}
    for output, voxels in (("mask_bytes", expected.mask_voxels), ("cord_bytes", expected.cord_voxels)):
        if voxels is None:
            continue
        expected.volume.write_result(path, voxels)
        if got[output] != path.read_bytes():
            served = np.asarray(nib.Nifti1Image.from_bytes(got[output]).dataobj)
            if served.shape == voxels.shape:
                return f"{np.count_nonzero(served != voxels)} voxels of {output}, or its header"
            return f"{output} of {served.shape}"
    texts = {
        "verdict": expected.quality.verdict,
        "reason": expected.quality.reason,
        "warnings": "\n".join(expected.warnings),
    }
    for name, text in texts.items():
        if got[name].decode() != text:
            return f"{name}: {got[name].decode()!r}, the command: {text!r}"
    # Probabilities round otherwise with the number of slices that a network computes at a time.
    columns = {"area_mm2": "area_mm2", "soft_area_mm2": "soft_area_mm2", "slice_noise": "noise"}
    if expected.cord_voxels is not None:
        columns |= {name: name for name in ("cord_area_mm2", "wm_area_mm2", "gm_cord_ratio")}
    for name, column in columns.items():
        areas = [getattr(row, column) for row in expected.areas]
        if not np.allclose(got[name][: got["n_slices"]], areas, rtol=1e-4, atol=1e-6, equal_nan=True):
            return f"{name}: {got[name]}, the command: {areas}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, help="folder of an export of the weights")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--image", type=Path, action="append", default=[], help="another image to begin with")
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600, help="stop after that long")
    parser.add_argument("--keep", type=Path, help="folder for the files that differ")
    arguments = parser.parse_args()

    images = [*synthetic_images(), *(nib.load(path) for path in arguments.image)]
    mutator, segmenter = (
        Mutator(images, arguments.seed),
        Segmenter(arguments.weights, SegmentationConfig(runtime="tensorflow")),
    )
    outcomes: Counter[str] = Counter()
    costs: list[tuple[Answer, int, str]] = []
    seconds = {"served": 0.0, "command": 0.0}
    faults = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = arguments.models or folder / "models"
        if not arguments.models:
            export_saved_model(arguments.weights, models)
        newest = max((models / NIFTI_MODEL).iterdir(), key=lambda path: int(path.name))
        path = folder / "image.nii"
        started = time.monotonic()
        with ServedProcess(newest, warm_up=(synthetic_image().to_bytes(),)) as served:
            for number in range(arguments.mutations):
                if time.monotonic() - started > arguments.seconds:
                    print(f"stopped after {number} mutations and {arguments.seconds:g} s")
                    break
                mutation = mutator.draw()
                path.write_bytes(mutation.data)
                before, refusal, expected = time.process_time(), "", None
                try:
                    expected = segmenter.segment(path)
                except InputError as error:
                    refusal = str(error)
                command_seconds = time.process_time() - before
                try:
                    answer = served.ask([mutation.data])
                except ChildProcessError as error:
                    answer = Answer(0, 0, f"ended: {error}")
                    outcome = "the server ended"
                else:
                    costs.append((answer, len(mutation.data), mutation.name))
                    outcome = _outcome(answer, expected, folder)
                if outcome == "equal":
                    seconds["served"] += answer.cpu_seconds
                    seconds["command"] += command_seconds
                outcomes[outcome.partition(":")[0]] += 1
                if outcome.startswith(("differs", "only", "the server")):
                    faults.append(f"{number} {mutation.name}: {outcome} | {answer.error} | {refusal}")
                    print(faults[-1], flush=True)
                    if arguments.keep:
                        arguments.keep.mkdir(exist_ok=True)
                        (arguments.keep / f"{arguments.seed}_{number}.nii").write_bytes(mutation.data)
                if number % 50 == 49:
                    print(
                        f"{number + 1} of {arguments.mutations}, {time.monotonic() - started:.0f} s",
                        flush=True,
                    )
    for outcome, count in outcomes.most_common():
        print(f"{count:5d} {outcome}")
    print(f"{len(faults)} faults")
    if seconds["command"]:
        print(f"processor time where equal, served / command: {seconds['served'] / seconds['command']:.2f}")
    _report_costs(costs)


def _outcome(answer: Answer, expected: Segmentation | None, folder: Path) -> str:
    if expected is None:
        return "both refuse" if answer.error else "only the command refuses"
    if answer.error:
        known = next((name for name, part in DIFFERENCES.items() if part in answer.error), None)
        return f"refused as a request, {known}" if known else "only the server refuses"
    different = difference(answer, expected, folder)
    return f"differs: {different}" if different else "equal"


def _report_costs(costs: list[tuple[Answer, int, str]]) -> None:
    def line(cost: tuple[Answer, int, str]) -> str:
        answer, size, name = cost
        return f"{answer.cpu_seconds:7.2f} CPU s {answer.peak_bytes / 1e9:6.2f} GB {size:9d} bytes  {name}"

    small = [cost for cost in costs if cost[1] <= MEGABYTE]
    print(f"dearest of {len(small)} requests of at most 1 MB, by processor time")
    for cost in sorted(small, key=lambda cost: -cost[0].cpu_seconds)[:N_DEAREST]:
        print(line(cost))
    print("by memory")
    for cost in sorted(small, key=lambda cost: -cost[0].peak_bytes)[:3]:
        print(line(cost))
    print("per byte")
    for cost in sorted(small, key=lambda cost: -cost[0].cpu_seconds / max(cost[1], 1))[:3]:
        print(line(cost))
    over = [c for c in small if c[0].cpu_seconds > MAX_CPU_SECONDS or c[0].peak_bytes > MAX_PEAK_BYTES]
    print(f"{len(over)} requests of at most 1 MB over {MAX_CPU_SECONDS} CPU s or {MAX_PEAK_BYTES / 1e9:g} GB")


if __name__ == "__main__":
    main()
