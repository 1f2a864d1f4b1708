"""What disease does to masks: lesions, compression and a cavity, put into real volumes.

Each volume is changed in one way at a time in every slice, segmented with the default settings, and scored against its
manual mask, changed alike. A lesion leaves the mask as it is; what a cavity covers is no gray matter.

    python benchmarks/disease.py --weights synthetic large --volume t2s.nii.gz t2s_gm.nii.gz t2s_cord.nii.gz \\
        --output disease.csv
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from blind_spots import is_wrong
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates

from keras_scgm.dice import dice
from keras_scgm.files import write_rows
from keras_scgm.segmentation import Segmenter

Slice = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image, gray matter and cord, [x, y], axes to the right and to the front."""
Change = Callable[[Slice, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Image and gray matter after the change, from a slice with gray matter and its spacing (x, y) in mm."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", default=["synthetic"])
    parser.add_argument(
        "--volume", nargs=3, action="append", required=True, metavar=("IMAGE", "GRAY_MATTER", "CORD")
    )
    parser.add_argument("--output", type=Path, help="CSV file of all scores")
    options = parser.parse_args(arguments)

    volumes = [tuple(map(read, paths)) for paths in options.volume]
    segmenters = {name: Segmenter(name) for name in options.weights}
    print(
        f"{'change':<22}{'weights':<12}{'DSC':>6}{'lowest':>8}{'area':>8}{'slices':>8}{'wrong':>7}{'pass':>6}{'both':>6}"
    )
    rows = []
    for change, apply in CHANGES.items():
        changed = [changed_volume(apply, *volume) for volume in volumes]
        for name, segmenter in segmenters.items():
            row = {"change": change, "weights": name, **scores(segmenter, changed)}
            rows.append(row)
            print(
                f"{change:<22}{name:<12}{row['dsc']:6.3f}{row['lowest_dsc']:8.3f}{row['area_bias_percent']:7.1f}%"
                f"{row['slices']:8d}{row['wrong']:7d}{row['passed']:6d}{row['wrong_and_passed']:6d}",
                flush=True,
            )
    if options.output:
        write_rows(options.output, rows)


def read(path: str) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.load(path))


def changed_volume(
    apply: Change, image: nib.Nifti1Image, gray_matter: nib.Nifti1Image, cord: nib.Nifti1Image
) -> tuple[nib.Nifti1Image, np.ndarray]:
    """The volume with every slice that has gray matter changed, and its gray matter."""
    voxels = np.array(image.dataobj, np.float32)
    truth, inside = (np.asarray(mask.dataobj) > 0 for mask in (gray_matter, cord))
    spacing_mm = np.array(image.header.get_zooms()[:2])
    for z in np.flatnonzero(truth.any(axis=(0, 1))):
        one = voxels[..., z].copy(), truth[..., z].copy(), inside[..., z]
        voxels[..., z], truth[..., z] = apply(one, spacing_mm)
    return nib.Nifti1Image(voxels, image.affine), truth


def scores(segmenter: Segmenter, volumes: list[tuple[nib.Nifti1Image, np.ndarray]]) -> dict[str, float | int]:
    of_volumes, of_slices, biases, n_passed, n_wrong, n_both = [], [], [], 0, 0, 0
    for image, truth in volumes:
        result = segmenter.segment(image)
        found = np.asarray(result.mask.dataobj) > 0
        of_volumes.append(dice(found, truth))
        biases.append(100 * (found.sum() / truth.sum() - 1))
        for z in np.flatnonzero(truth.any(axis=(0, 1))):
            of_slices.append(dice(found[..., z], truth[..., z]))
            wrong = is_wrong(found[..., z], truth[..., z])
            passed = result.quality.slices[z].verdict == "pass"
            n_passed += passed
            n_wrong += wrong
            n_both += wrong and passed
    return {
        "dsc": float(np.mean(of_volumes)),
        "lowest_dsc": float(np.min(of_volumes)),
        "area_bias_percent": float(np.mean(biases)),
        "worst_slice_dsc": float(np.min(of_slices)),
        "slices": len(of_slices),
        "wrong": n_wrong,
        "passed": n_passed,
        "wrong_and_passed": n_both,
    }


def lesion(across: float, ahead: float, gaps: float, radius_mm: float = 1.6) -> Change:
    """A disc in white matter, so many gaps between gray and white matter from the latter's brightness.

    Its centre lies so many halves of the cord's width and depth from the cord's centre.
    """

    def apply(one: Slice, spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, gray_matter, cord = one
        off_mm = offsets_mm(cord, spacing_mm, (across, ahead))
        opacity = ramp(radius_mm - np.hypot(*off_mm), 0.8) * gaussian_filter(cord.astype(np.float32), 0.4)
        white = image[cord & ~binary_dilation(gray_matter)].mean()
        value = white + gaps * (image[gray_matter].mean() - white)
        noise = image - gaussian_filter(image, 1.0)
        return image + opacity * (value + noise - image), gray_matter

    return apply


def cavity(radius_mm: float) -> Change:
    """An ellipse as bright as fluid in the middle of the cord, half as wide again as the radius to either side."""

    def apply(one: Slice, spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, gray_matter, cord = one
        x_mm, y_mm = offsets_mm(cord, spacing_mm)
        opacity = ramp(radius_mm - np.hypot(x_mm / 1.5, y_mm), 0.6)
        fluid = 1.6 * image[gray_matter].mean()
        return image + opacity * (fluid - image), gray_matter & (opacity < 0.5)

    return apply


def squeezed(share: float) -> Change:
    """The cord so much less deep, and what surrounds it stretched to fill the room."""

    def apply(one: Slice, spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, gray_matter, cord = one
        x_mm, y_mm = offsets_mm(cord, spacing_mm)
        half_x, half_y = half_mm(cord, spacing_mm)
        reach = 3 * half_y
        knee = 1.1 * share * half_y
        far = np.abs(y_mm)
        source = np.interp(far, (0.0, knee, reach), (0.0, knee / share, reach))
        source = np.where(far < reach, source, far)
        beside = np.exp(-((x_mm / (2 * half_x)) ** 4))
        y_source = y_mm + beside * np.sign(y_mm) * (source - far)
        middle = np.argwhere(cord).mean(axis=0)
        places = [axis / mm + at for axis, mm, at in zip((x_mm, y_source), spacing_mm, middle, strict=True)]
        image, gray_matter = (
            map_coordinates(array.astype(np.float32), places, order=1, mode="nearest")
            for array in (image, gray_matter)
        )
        return image, gray_matter > 0.5

    return apply


def half_mm(cord: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Half of the cord's width and depth, mm."""
    return np.ptp(np.argwhere(cord) * spacing_mm, axis=0) / 2


def offsets_mm(
    cord: np.ndarray, spacing_mm: np.ndarray, shares: tuple[float, float] = (0.0, 0.0)
) -> Iterator[np.ndarray]:
    """Distances along x and y from a place in the cord, mm, [x, y] each."""
    middle = np.argwhere(cord).mean(axis=0) * spacing_mm + np.multiply(shares, half_mm(cord, spacing_mm))
    return (axis * mm - at for axis, mm, at in zip(np.indices(cord.shape), spacing_mm, middle, strict=True))


def ramp(inside_mm: np.ndarray, width_mm: float) -> np.ndarray:
    return np.clip(inside_mm / width_mm + 0.5, 0.0, 1.0)


LATERAL, DORSAL = (0.65, -0.1), (0.0, -0.6)
CHANGES: dict[str, Change] = {
    "none": lambda one, spacing_mm: one[:2],
    **{
        f"lesion {where}, {gaps:g}": lesion(*place, gaps)
        for where, place in (("lateral", LATERAL), ("dorsal", DORSAL))
        for gaps in (0.6, 1.0, 1.5, 3.0)
    },
    **{f"squeezed to {share:g}": squeezed(share) for share in (0.8, 0.65, 0.5)},
    **{f"cavity of {radius_mm:g} mm": cavity(radius_mm) for radius_mm in (0.6, 1.0)},
}


if __name__ == "__main__":
    main()
