"""How far networks can be trusted when an image is not what they were made from.

Every image is changed in one way at a time (resolution, noise, bias field, rotation, position, mirror image,
inverted contrast), segmented with the default settings, and scored against its mask, changed alike. One drawn
subject of each site of the challenge, and real volumes if they are given:

    python benchmarks/robustness.py --weights synthetic challenge large \\
        --volume t2s.nii.gz t2s_gmseg_manual.nii.gz --output robustness.csv
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter, rotate, zoom

from keras_scgm.datasets.phantom import SITES, draw_subject
from keras_scgm.dice import dice
from keras_scgm.files import write_rows
from keras_scgm.segmentation import SegmentationConfig, Segmenter

Arrays = tuple[np.ndarray, np.ndarray, tuple[float, ...]]
"""Image, fraction of gray matter, voxel size in mm; axial slices last."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", default=["synthetic"])
    parser.add_argument("--volume", nargs=2, action="append", default=[], metavar=("IMAGE", "MASK"))
    parser.add_argument("--output", type=Path, help="CSV file of all scores")
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args(arguments)

    drawn = [draw_subject(config, options.seed + site) for site, config in SITES.items()]
    groups = {
        "phantom": [arrays_of(subject.image, subject.mask) for subject in drawn],
        "real": [arrays_of(nib.load(image), nib.load(mask)) for image, mask in options.volume],
    }
    networks = {
        name: Segmenter(name, SegmentationConfig(keep_probabilities=False)) for name in options.weights
    }
    print(f"{'change':<18}{'images':<9}" + "".join(f"{name:>12}" for name in networks))
    rows = []
    for change, apply in CHANGES.items():
        for group, cases in groups.items():
            if not cases:
                continue
            row = {"change": change, "images": group}
            changed = [apply(*case, np.random.default_rng(options.seed)) for case in cases]
            for name, segmenter in networks.items():
                row[name] = float(np.mean([dice_of(segmenter, *case) for case in changed]))
            rows.append(row)
            scores = "".join(f"{row[name]:12.3f}" for name in networks)
            print(f"{change:<18}{group:<9}{scores}", flush=True)
    for group in dict.fromkeys(row["images"] for row in rows):
        means = [np.mean([row[name] for row in rows if row["images"] == group]) for name in networks]
        print(f"{'mean':<18}{group:<9}" + "".join(f"{mean:12.3f}" for mean in means))
    if options.output:
        write_rows(options.output, rows)


def arrays_of(image: nib.Nifti1Image, mask: nib.Nifti1Image) -> Arrays:
    """In the orientation RAS, whatever the file's."""
    image, mask = nib.as_closest_canonical(image), nib.as_closest_canonical(mask)
    truth = (np.asarray(mask.dataobj) > 0).astype(np.float32)
    return image.get_fdata(dtype=np.float32), truth, tuple(map(float, image.header.get_zooms()[:3]))


def dice_of(
    segmenter: Segmenter, image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]
) -> float:
    affine = np.diag([*spacing_mm, 1.0])
    found = np.asarray(segmenter.segment(nib.Nifti1Image(image.astype(np.float32), affine)).mask.dataobj) > 0
    return dice(found, truth > 0.5)


def gap(image: np.ndarray, truth: np.ndarray) -> float:
    """Difference of gray matter and what lies within 1 to 2 voxels around it."""
    inside = truth > 0.5
    around = gaussian_filter(inside.astype(np.float32), (1.5, 1.5, 0))
    return abs(float(image[inside].mean() - image[(around > 0.1) & ~inside].mean()))


def spaced(target_mm: float) -> Callable[..., Arrays]:
    """Voxels of the given width, with partial volume."""

    def apply(image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], rng: object) -> Arrays:
        factor = spacing_mm[0] / target_mm
        blur = 0.42 * np.sqrt(max(0.0, factor**-2 - 1))
        image, truth = (gaussian_filter(array, (blur, blur, 0)) for array in (image, truth))
        image, truth = (zoom(array, (factor, factor, 1), order=1) for array in (image, truth))
        return image, truth, (target_mm, target_mm, spacing_mm[2])

    return apply


def noisy(share: float) -> Callable[..., Arrays]:
    """Noise with a standard deviation of so much of the difference between gray and white matter."""

    def apply(
        image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], rng: np.random.Generator
    ) -> Arrays:
        sigma = share * gap(image, truth)
        return image + sigma * rng.standard_normal(image.shape, np.float32), truth, spacing_mm

    return apply


def biased(image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], rng: object) -> Arrays:
    """Twice as bright on one side and the back as on the other and the front."""
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape[:2])
    field = np.exp(0.35 * (x[:, None] - y[None, :]))
    return image * field[..., None], truth, spacing_mm


def turned(degrees: float) -> Callable[..., Arrays]:
    def apply(image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], rng: object) -> Arrays:
        image, truth = (
            rotate(array, degrees, axes=(0, 1), reshape=False, order=1, mode="mirror")
            for array in (image, truth)
        )
        return image, truth, spacing_mm

    return apply


def moved(mm: float) -> Callable[..., Arrays]:
    """The cord so far from the middle; what leaves on one side is mirrored in on the other."""

    def apply(image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], rng: object) -> Arrays:
        n = round(mm / spacing_mm[0])
        padded = (np.pad(array, ((n, 0), (n, 0), (0, 0)), mode="symmetric") for array in (image, truth))
        image, truth = (array[: array.shape[0] - n, : array.shape[1] - n] for array in padded)
        return image, truth, spacing_mm

    return apply


def mirrored(image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], rng: object) -> Arrays:
    return image[::-1].copy(), truth[::-1].copy(), spacing_mm


def inverted(image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], rng: object) -> Arrays:
    """Gray matter darker than white, as in some PSIR images."""
    return np.percentile(image, 99.5) - image, truth, spacing_mm


CHANGES: dict[str, Callable[..., Arrays]] = {
    "none": lambda image, truth, spacing_mm, rng: (image, truth, spacing_mm),
    "0.25 mm": spaced(0.25),
    "0.7 mm": spaced(0.7),
    "0.9 mm": spaced(0.9),
    "noise 0.5": noisy(0.5),
    "noise 1": noisy(1.0),
    "bias field": biased,
    "rotated 15 deg": turned(15.0),
    "rotated -30 deg": turned(-30.0),
    "10 mm off centre": moved(10.0),
    "mirrored": mirrored,
    "inverted": inverted,
}


if __name__ == "__main__":
    main()
