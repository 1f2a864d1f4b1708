"""Does a network that sees neighbouring slices segment volumes better than the network of single slices?

    python benchmarks/volumes_3d.py train OUT --steps 120
    python benchmarks/volumes_3d.py compare OUT --reference ../shared/reference

`train` trains `DilatedGMNet` and `DilatedGMNet3D` from the same weights, with the same settings and number of steps, on
drawn slices and on drawn stacks. `compare` segments whole volumes, drawn ones and real ones with manual masks, by the
weights both started from and by both networks:

- DSC of gray matter, and of the cord where there is a mask of it;
- consistency between neighbouring slices: mean change of the gray matter's area from a slice to the next, in percent,
  and mean change of the slice's DSC;
- processor seconds per slice, and peak memory of a process that segments 60 drawn slices.

All networks run on Keras, in whole windows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm.datasets.phantom import SITES, PhantomConfig, draw_subject
from keras_scgm.dice import dice
from keras_scgm.segmentation import SegmentationConfig, Segmenter

START = "synthetic"
NETWORKS = {"2-D": "DilatedGMNet", "3-D": "DilatedGMNet3D"}
MULTISITE = ("9584", "10063", "9709")

MEASURED_RUN = """
import resource, sys, time
from keras_scgm.segmentation import SegmentationConfig, Segmenter
segmenter = Segmenter(sys.argv[1], SegmentationConfig(runtime="keras"))
segmenter.segment(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""

Case = tuple[str, nib.Nifti1Image | Path, np.ndarray, np.ndarray | None]
"""Name, image, and its masks of gray matter and of the cord on its grid."""


def train(folder: Path, architectures: Sequence[str], steps: int, seed: int) -> None:
    from keras_scgm.training import PRESETS, SyntheticBatches, fine_tuned
    from keras_scgm.training import train as train_network

    epochs = 10
    for architecture in architectures:
        config = replace(
            fine_tuned(PRESETS["synthetic"], START, architecture),
            epochs=epochs,
            steps_per_epoch=steps // epochs,
            learning_rate=0.001,
            mixed_precision=True,
            seed=seed,
        )
        train_network(
            config, SyntheticBatches(config.window_px), folder / architecture, resume=True, verbose=2
        )


def drawn_cases(subjects: int, seed: int) -> Iterator[Case]:
    for site, config in SITES.items():
        for number in range(subjects):
            drawn = np.random.SeedSequence((seed, site, number)).generate_state(1)[0]
            subject = draw_subject(config, int(drawn))
            gray_matter, cord = (
                np.asarray(part.dataobj) > 0.5 for part in (subject.gray_matter, subject.cord)
            )
            yield f"drawn, site {site}", subject.image, gray_matter, cord


def real_cases(reference: Path) -> Iterator[Case]:
    def mask(path: Path) -> np.ndarray:
        return np.asarray(nib.load(path).dataobj) > 0.5

    invivo = reference / "invivo"
    yield (
        "t2s_uncropped",
        invivo / "t2s_uncropped.nii.gz",
        mask(invivo / "t2s_uncropped_gmseg_manual.nii.gz"),
        None,
    )
    for name in MULTISITE:
        scan, gray_matter, cord = (
            reference / "multisite" / f"{name}_{part}.nii.gz" for part in ("scan", "gm", "cord")
        )
        yield name, scan, mask(gray_matter), mask(cord)


def changes(gray_matter: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Mean change from a slice to the next of the area and of the true area, in percent, and of the DSC.

    Only neighbours that both have gray matter, in truth and as found, count.
    """
    found, true = (np.moveaxis(mask, 2, 0) for mask in (gray_matter, truth))
    areas = found.sum(axis=(1, 2)), true.sum(axis=(1, 2))
    here = (areas[0] > 0) & (areas[1] > 0)
    pairs = here[1:] & here[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        of_areas = [100 * np.abs(np.expm1(np.diff(np.log(area))))[pairs] for area in areas]
    scores = np.array(
        [dice(*case) if shown else np.nan for *case, shown in zip(found, true, here, strict=True)]
    )
    return float(of_areas[0].mean()), float(of_areas[1].mean()), float(np.abs(np.diff(scores))[pairs].mean())


def peak_gib(weights: str) -> float:
    """Of a process that segments 60 drawn slices."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cord.nii"
        image = draw_subject(PhantomConfig(n_slices=60, slice_thickness_mm=1.0), seed=0).image
        image.to_filename(path)
        command = [sys.executable, "-c", MEASURED_RUN, weights, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def compare(folder: Path, reference: Path | None, subjects: int, seed: int) -> None:
    weights = {"start": START}
    weights |= {name: str(folder / kind / "last.weights.h5") for name, kind in NETWORKS.items()}
    config = SegmentationConfig(keep_probabilities=False, runtime="keras")
    segmenters = {name: Segmenter(path, config) for name, path in weights.items()}
    cases = [*drawn_cases(subjects, seed), *(real_cases(reference) if reference else ())]
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for name, image, gray_matter, cord in cases:
        for network, segmenter in segmenters.items():
            started = time.process_time()
            result = segmenter.segment(image)
            seconds = (time.process_time() - started) / gray_matter.shape[2]
            found, found_cord = (np.asarray(mask.dataobj) > 0 for mask in (result.mask, result.cord))
            row = (
                dice(found, gray_matter),
                np.nan if cord is None else dice(found_cord, cord),
                *changes(found, gray_matter),
                seconds,
            )
            for group in {name, "drawn, all" if name.startswith("drawn") else "real, all"}:
                rows.setdefault((group, network), []).append(row)
    print("| volumes | network | DSC | DSC, cord | area change, % | true | DSC change | s per slice |")
    print("|---|---|---|---|---|---|---|---|")
    for (group, network), values in sorted(rows.items(), key=lambda item: item[0][0]):
        mean = np.mean(values, axis=0)
        cells = "{:.4f} | {:.4f} | {:.1f} | {:.1f} | {:.4f} | {:.2f}".format(*mean)
        print(f"| {group} | {network} | {cells.replace('nan', '')} |", flush=True)
    for name, path in weights.items():
        print(f"peak memory, {name}: {peak_gib(path):.2f} GiB", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--only", choices=NETWORKS.values(), help="train this network alone")
    parser.add_argument("--reference", type=Path, help="folder of the reference data, with real volumes")
    parser.add_argument("--subjects", type=int, default=2, help="drawn subjects of each site")
    parser.add_argument("--seed", type=int, default=20181)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.what == "train":
        architectures = [options.only] if options.only else [*NETWORKS.values()]
        train(options.folder, architectures, options.steps, options.seed)
    else:
        compare(options.folder, options.reference, options.subjects, options.seed)


if __name__ == "__main__":
    main()
