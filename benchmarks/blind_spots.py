"""Interpolation by the scanner, and weak ghosts: which masks are wrong, and does the verdict notice?

Each volume is changed in one way at a time and segmented with the default settings. k-space of every slice is cut to
that of larger voxels and filled with zeros, as scanners interpolate without a filter, or with one (Hann); a ghost is a
weaker copy of the slice, shifted along the posterior-anterior axis:

    python benchmarks/blind_spots.py --volume t2s.nii.gz t2s_gmseg_manual.nii.gz
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import nibabel as nib
import numpy as np

from keras_scgm import Segmenter
from keras_scgm.dice import dice
from keras_scgm.segmentation import SegmentationConfig

WRONG_DSC, WRONG_AREA = 0.7, 0.2
"""A slice is wrong as in `quality.py`: DSC below, or area off by a larger share."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volume", nargs=2, action="append", required=True, metavar=("IMAGE", "MASK"))
    options = parser.parse_args(arguments)
    segmenter = Segmenter(config=SegmentationConfig(keep_probabilities=False))
    print(
        f"{'volume':<24}{'change':<24}{'DSC':>6}{'area %':>8}  {'verdict':<8}{'predicted':>9}{'wrong':>7}"
        f"{'wrong, pass':>13}"
    )
    for image_path, mask_path in options.volume:
        image, mask = nib.load(image_path), np.asarray(nib.load(mask_path).dataobj) > 0.5
        canonical = nib.as_closest_canonical(image)
        spacing_mm = np.array(canonical.header.get_zooms()[:2])
        axis = int(np.argmax(nib.io_orientation(image.affine)[:, 0] == 1))
        for name, change in CHANGES.items():
            voxels = change(image.get_fdata(), float(spacing_mm[1]), axis)
            found = segmenter.segment(nib.Nifti1Image(voxels.astype(np.float32), image.affine))
            slices = [
                (np.asarray(found.mask.dataobj)[..., k] > 0, mask[..., k]) for k in range(mask.shape[2])
            ]
            verdicts = {area.slice: area.verdict for area in found.areas}
            wrong = [k for k, pair in enumerate(slices) if is_wrong(*pair)]
            passed = [k for k in wrong if verdicts[k] == "pass"]
            both = np.asarray(found.mask.dataobj) > 0
            bias = 100 * (both.sum() / mask.sum() - 1)
            print(
                f"{str(image_path).rpartition('/')[2][:22]:<24}{name:<24}{dice(both, mask):6.3f}{bias:+8.1f}  "
                f"{found.quality.verdict:<8}{found.quality.predicted_dsc:9.2f}{len(wrong):7}{len(passed):13}",
                flush=True,
            )


def is_wrong(found: np.ndarray, mask: np.ndarray) -> bool:
    if not mask.any():
        return False
    return dice(found, mask) < WRONG_DSC or abs(found.sum() / mask.sum() - 1) > WRONG_AREA


def interpolated(
    image: np.ndarray, spacing_mm: float, axis: int, acquired_mm: float, is_filtered: bool = False
) -> np.ndarray:
    """As if acquired with larger voxels and interpolated to this grid; image (i, j, slice)."""
    result = np.empty_like(image)
    kept = [np.abs(np.fft.fftfreq(n)) * acquired_mm / spacing_mm * 2 for n in image.shape[:2]]
    windows = [(along < 1) * (np.cos(np.pi / 2 * along) ** 2 if is_filtered else 1) for along in kept]
    for k in range(image.shape[2]):
        result[..., k] = np.abs(np.fft.ifft2(np.fft.fft2(image[..., k]) * np.outer(*windows)))
    return result


def ghosted(image: np.ndarray, spacing_mm: float, axis: int, strength: float, shift_mm: float) -> np.ndarray:
    return image + strength * np.roll(image, round(shift_mm / spacing_mm), axis=axis)


Change = Callable[[np.ndarray, float, int], np.ndarray]

CHANGES: dict[str, Change] = {
    "none": lambda image, *_: image,
    **{f"voxels of {mm:g} mm": partial(interpolated, acquired_mm=mm) for mm in (0.8, 1.0, 1.25)},
    **{
        f"{mm:g} mm, filtered": partial(interpolated, acquired_mm=mm, is_filtered=True)
        for mm in (0.8, 1.0, 1.25)
    },
    **{
        f"ghost of {share} %": partial(ghosted, strength=share / 100, shift_mm=7.6)
        for share in (20, 30, 40, 50)
    },
}


if __name__ == "__main__":
    main()
