"""How much of a window does the network need? DSC with the masks of whole windows, and the time.

The network sees 50 x 50 mm, of which gray matter and cord take 15 mm. Slices are normalised in their whole windows and
then cut down around the cord, or the gray matter of networks that know nothing else; outside there is none. In one half
of the rows the network gets the part and nothing else, in the other the pooled features of the whole window, too, as in
`keras_scgm.runtimes.region_of_interest`.

    python benchmarks/smaller_windows.py IMAGE [IMAGE ...] [--weights synthetic challenge large] [--subjects 4]

Drawn subjects are added to the images.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_scgm.datasets.phantom import SITES, draw_subject
from keras_scgm.dice import dice_of_counts
from keras_scgm.localization import windows_on_cord
from keras_scgm.nifti import read_volume, volume_from_image
from keras_scgm.prediction import Ensemble
from keras_scgm.slices import read_windows
from keras_scgm.volume import Volume

SIZES = (176, 152, 144, 136, 128, 120, 112)
POOLED = ("the part", "the whole window")


def read_volumes(images: list[Path], subjects: int) -> Iterator[Volume]:
    yield from map(read_volume, images)
    sites = list(SITES.values())
    for seed in range(subjects):
        yield volume_from_image(draw_subject(sites[seed % len(sites)], seed=seed + 900).image)


def cut(slices: np.ndarray, centers: np.ndarray, size: int) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """Square parts of slices around centers, moved inwards where they would reach over the end."""
    starts = np.clip(np.rint(centers - (size - 1) / 2).astype(int), 0, slices.shape[1] - size)
    regions = [(slice(row, row + size), slice(column, column + size)) for row, column in starts]
    return np.stack([one[region] for one, region in zip(slices, regions, strict=True)]), regions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--weights", nargs="+", default=["synthetic"])
    parser.add_argument("--subjects", type=int, default=4)
    arguments = parser.parse_args()
    volumes = list(read_volumes(arguments.images, arguments.subjects))
    print(f"{len(volumes)} volumes, {sum(volume.n_slices for volume in volumes)} slices")
    head = (
        "weights",
        "tissue",
        "pooled over",
        "part, pixels",
        "time",
        "DSC, mean",
        "lowest volume",
        "lowest slice",
    )
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in arguments.weights:
        network = Ensemble(name)
        cases = [(pooled, size) for pooled in POOLED for size in SIZES]
        volume_scores: dict[tuple[str, int], list[np.ndarray]] = {case: [] for case in cases}
        slice_scores: dict[tuple[str, int], list[np.ndarray]] = {case: [] for case in cases}
        seconds, whole_seconds = dict.fromkeys(cases, 0.0), 0.0
        for volume in volumes:
            windows = windows_on_cord(volume, network.config, network.predict)
            slices = read_windows(volume, windows.geometry, windows.statistics, 0, volume.n_slices)
            started = time.perf_counter()
            expected = network.predict(slices) > np.float32(network.thresholds)
            whole_seconds += time.perf_counter() - started
            present = expected.any(axis=(1, 2))[:, -1]
            slices, expected = slices[present], expected[present]
            centers = np.array([np.argwhere(mask[..., -1]).mean(axis=0) for mask in expected])
            for case in cases:
                pooled, size = case
                parts, regions = cut(slices, centers, size)
                given = (slices, parts) if pooled == POOLED[1] else (parts,)
                started = time.perf_counter()
                found = network.predict.probabilities(*given) > np.float32(network.thresholds)
                seconds[case] += (time.perf_counter() - started) / len(slices) * volume.n_slices
                masks = np.zeros_like(expected)
                for mask, region, part in zip(masks, regions, found, strict=True):
                    mask[region] = part
                counts = np.count_nonzero([masks & expected, masks, expected], axis=(2, 3))
                volume_scores[case].append(dice_of_counts(*counts.sum(axis=1)))
                # A slice of which both show nothing agrees.
                slice_scores[case].append(np.nan_to_num(dice_of_counts(*counts), nan=1))
        for (number, tissue), case in itertools.product(enumerate(network.tissues), cases):
            of_volumes = np.array(volume_scores[case])[:, number]
            of_slices = np.concatenate(slice_scores[case])[:, number]
            print(
                f"| {name} | {tissue.replace('_', ' ')} | {case[0]} | {case[1]} | {seconds[case] / whole_seconds:.2f} "
                f"| {np.mean(of_volumes):.4f} | {min(of_volumes):.4f} | {min(of_slices):.3f} |"
            )


if __name__ == "__main__":
    main()
