"""What the search of the cord costs on volumes where it is hard or in vain, times the run without a search.

The volumes: the image itself; padded with ten empty slices; padded with ten slices of noise; with the cord far off the
middle; with its spacing doubled; cut down to one slice; and a ball of smooth noise, like a brain, without any cord. The
run without a search keeps the windows in the middle of the field of view. Usage:

    python benchmarks/cord_search.py 9584_scan.nii.gz [--weights synthetic] [--turns 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from keras_scgm import SegmentationConfig, Segmenter
from keras_scgm.dice import dice

N_PADDED = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with_search = Segmenter(options.weights)
    without = Segmenter(options.weights, SegmentationConfig(window="center"))
    original = nib.load(options.image)
    n_slices = original.shape[2]
    reference = np.asarray(with_search.segment(original).mask_voxels)
    print(
        f"{'volume':20}{'shape':>16}{'without':>10}{'with':>8}{'ratio':>7}{'  DSC with the mask of the image'}"
    )
    for name, image in volumes(original).items():
        seconds = [[], []]
        for _ in range(options.turns):
            for times, segmenter in zip(seconds, (without, with_search), strict=True):
                result, spent = timed(segmenter.segment, image)
                times.append(spent)
        plain, searched = (min(times) for times in seconds)
        mask = np.asarray(result.mask_voxels)[..., :n_slices]
        if name == "off the middle":
            mask = np.roll(mask, [-step for step in off_the_middle(original.shape)], (0, 1))
        is_same_image = mask.shape == reference.shape and name != "spacing doubled"
        same = f"{dice(mask, reference):.4f}" if is_same_image else ""
        shape = " x ".join(map(str, image.shape))
        print(f"{name:20}{shape:>16}{plain:9.2f}s{searched:7.2f}s{searched / plain:7.2f}  {same}", flush=True)


def timed(call: Callable[[Any], Any], image: nib.Nifti1Image) -> tuple[Any, float]:
    """The result and the processor time, which other programs on the machine change less than the clock's."""
    started = time.process_time()
    return call(image), time.process_time() - started


def volumes(image: nib.Nifti1Image) -> dict[str, nib.Nifti1Image]:
    data, affine = np.asarray(image.dataobj, np.float32), image.affine
    rng = np.random.default_rng(0)
    empty = np.zeros((*data.shape[:2], N_PADDED), np.float32)
    doubled = affine.copy()
    doubled[:3, :2] *= 2
    rows, columns, depth = np.ogrid[-96:96, -96:96, -50:50:5]
    brain = 200 + 40 * gaussian_filter(rng.normal(size=(192, 192, 20)), (6, 6, 1)) * 30
    brain *= rows**2 + columns**2 + depth**2 < 85**2
    made = {
        "the image": (data, affine),
        "10 empty slices": (np.concatenate([data, empty], axis=2), affine),
        "10 slices of noise": (
            np.concatenate([data, np.abs(rng.normal(data.mean(), data.std(), empty.shape))], axis=2),
            affine,
        ),
        "off the middle": (np.roll(data, off_the_middle(data.shape), (0, 1)), affine),
        "spacing doubled": (data, doubled),
        "one slice": (data[:, :, :1], affine),
        "brain-like": (brain, np.diag([1.0, 1.0, 5.0, 1.0])),
    }
    return {
        name: nib.Nifti1Image(values.astype(np.float32), matrix) for name, (values, matrix) in made.items()
    }


def off_the_middle(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0] // 4, -(shape[1] // 5)


if __name__ == "__main__":
    main()
