"""What the uncertainty of a result costs, and whether it predicts the error.

Time: the same volume with 0, 2 and 10 passes in turn, start-up not included. Error: synthetic subjects with known
truth, each as it is, with noise and with motion, and real volumes with a manual mask; Spearman's correlation over
slices in which gray matter was found. `--dropout` adds Monte-Carlo dropout (Gal and Ghahramani 2016) for networks
that have dropout. Usage:

    python benchmarks/uncertainty.py [--weights synthetic challenge] [--volume t2s.nii.gz t2s_gm.nii.gz] [--dropout]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
from damages import copies
from quality import TEST_SUBJECTS, draw_case
from scipy.stats import spearmanr

from keras_scgm import Segmentation, SegmentationConfig, Segmenter
from keras_scgm.datasets.phantom import SITES, draw_subject
from keras_scgm.dice import dice
from keras_scgm.localization import Predict
from keras_scgm.uncertainty import Variation

DAMAGES = ("noise", "motion")


@dataclass(frozen=True)
class Case:
    """One image and its gray matter.

    Args:
        source: Group of images it belongs to.
        damage: What was done to it.
        image: The image.
        truth: Mask of the gray matter, in the order of the file.
    """

    source: str
    damage: str
    image: nib.Nifti1Image
    truth: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", nargs="+", default=["synthetic", "challenge"])
    parser.add_argument(
        "--volume", nargs=2, action="append", default=[], metavar=("IMAGE", "MASK"), type=Path
    )
    parser.add_argument("--subjects", type=int, default=12, help="synthetic subjects")
    parser.add_argument("--first", type=int, default=TEST_SUBJECTS[0], help="number of the first of them")
    parser.add_argument("--passes", nargs="+", type=int, default=[2, 10])
    parser.add_argument("--turns", type=int, default=3, help="of the time measurement; 0 leaves it out")
    parser.add_argument("--dropout", action="store_true", help="compare with Monte-Carlo dropout")
    options = parser.parse_args()
    if options.turns:
        print_times(options.weights, options.passes, options.turns)
    if options.subjects or options.volume:
        print_correlations(options)


def print_times(weights: Sequence[str], passes: Sequence[int], turns: int) -> None:
    """Wall and processor time beside those of the plain run."""
    image = draw_subject(SITES[1], seed=900).image
    print(f"{image.shape[2]} slices, {turns} turns\n")
    print(
        "| weights | passes | wall time / plain | processor time / plain | passes + 1 |\n|---|---|---|---|---|"
    )
    for name in weights:
        segmenters = {n: Segmenter(name, SegmentationConfig(uncertainty_passes=n)) for n in (0, *passes)}
        for segmenter in segmenters.values():
            segmenter.segment(image)
        seconds: dict[int, list[tuple[float, float]]] = {n: [] for n in segmenters}
        for _ in range(turns):
            for n, segmenter in segmenters.items():
                started = time.perf_counter(), time.process_time()
                segmenter.segment(image)
                seconds[n].append((time.perf_counter() - started[0], time.process_time() - started[1]))
        for n in passes:
            wall, processor = np.median(np.divide(seconds[n], seconds[0]), axis=0)
            print(f"| `{name}` | {n} | {wall:.2f} | {processor:.2f} | {n + 1} |", flush=True)
    print()


def print_correlations(options: argparse.Namespace) -> None:
    """Spearman's correlation of what is known of a slice with its error."""
    print(
        "| weights | method | passes | images | slices | DSC | uncertainty, 1 - DSC | uncertainty, area error "
        "| SD of area, area error | predicted DSC, 1 - DSC |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    all_cases = list(cases(options))
    for name in options.weights:
        for n in options.passes:
            settings = SegmentationConfig(uncertainty_passes=n, keep_probabilities=False)
            segmenter = Segmenter(name, settings)
            plain = [segmenter.segment(case.image) for case in all_cases]
            print_rows(name, "augmentation", n, all_cases, plain, plain)
            if options.dropout and name != "synthetic":
                segmenter = Segmenter(name, replace(settings, window="center"))
                dropout = replace(
                    segmenter.networks.predict, compute=dropout_predictor(name), takes_regions=False
                )
                segmenter.networks.members = (dropout,)
                with patch.object(Variation, "draw", lambda seed, number: Variation()):
                    sampled = [segmenter.segment(case.image) for case in all_cases]
                print_rows(name, "dropout", n, all_cases, plain, sampled)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Synthetic subjects, then the real volumes."""
    for subject in range(options.first, options.first + options.subjects):
        for damage, image, truth in copies(*draw_case(subject), (7, subject), DAMAGES):
            yield Case("synthetic", damage, image, truth[..., 0])
    for image, mask in options.volume:
        yield Case(image.name, "none", nib.load(image), np.asarray(nib.load(mask).dataobj) > 0)


def dropout_predictor(name: str) -> Predict:
    """The network with its dropout on and its batch normalization as at inference; different at each call."""
    import keras
    import tensorflow as tf

    from keras_scgm.models import load_network

    model, _ = load_network(name)
    for layer in model.layers:
        # A frozen BatchNormalization keeps its moving statistics even with training=True.
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    compiled = tf.function(lambda slices: model(slices, training=True))
    return lambda slices, _=None: np.concatenate([compiled(tf.constant(one[np.newaxis])) for one in slices])


def print_rows(
    name: str,
    method: str,
    passes: int,
    all_cases: Sequence[Case],
    results: Sequence[Segmentation],
    sampled: Sequence[Segmentation],
) -> None:
    """One row per group of images; `sampled` gives the uncertainty, `results` the masks."""
    rows = [row for case in zip(all_cases, results, sampled, strict=True) for row in slice_rows(*case)]
    groups = {
        "synthetic, all": ("synthetic", ("none", *DAMAGES)),
        "synthetic, undamaged": ("synthetic", ("none",)),
    }
    groups |= {case.source: (case.source, ("none",)) for case in all_cases if case.source != "synthetic"}
    for title, (source, damages) in groups.items():
        part = np.array([row[2:] for row in rows if row[0] == source and row[1] in damages])
        if not len(part):
            continue
        error, area_error, uncertainty, area_sd, predicted = part.T
        figures = [
            1 - error.mean(),
            spearmanr(uncertainty, error).statistic,
            spearmanr(uncertainty, area_error).statistic,
            spearmanr(area_sd, area_error).statistic,
            spearmanr(1 - predicted, error).statistic,
        ]
        shown = " | ".join(f"{figure:.2f}" for figure in figures)
        print(f"| `{name}` | {method} | {passes} | {title} | {len(part)} | {shown} |", flush=True)


def slice_rows(case: Case, result: Segmentation, sampled: Segmentation) -> Iterator[tuple[str | float, ...]]:
    """Source, damage, 1 - DSC, area error, uncertainty, SD of area and predicted DSC of slices with gray matter."""
    volume = result.volume
    found, truth = (volume.axial_view(array).astype(bool) for array in (result.mask_voxels, case.truth))
    std = volume.axial_view(sampled.uncertainty_voxels)
    areas = {area.slice: area for area in result.areas}
    spreads = {area.slice: area for area in sampled.areas}
    for k in range(volume.n_slices):
        index = volume.stored_slice_index(k)
        area, n_found, n_true = areas[index], found[..., k].sum(), truth[..., k].sum()
        if not n_found:
            continue
        error = 1 - dice(found[..., k], truth[..., k])
        area_error = abs(int(n_found) - int(n_true)) * volume.voxel_area_mm2
        uncertainty = std[..., k].sum(dtype=float) * volume.voxel_area_mm2 / area.soft_area_mm2
        yield (
            case.source,
            case.damage,
            error,
            area_error,
            uncertainty,
            spreads[index].area_sd_mm2,
            area.predicted_dsc,
        )


if __name__ == "__main__":
    main()
