"""Where the outline of the cord lies between the cord and the fluid, in the cord found and in manual masks.

Along rays from the centre of the cord, brightness rises from the white matter to the fluid. Blur and partial volume
leave the surface at half the rise, whatever the voxel size; the distance from there to the outline is positive where
the outline is further out. Rays without fluid at least half as bright again as the white matter are left out. Drawn
subjects, whose surface is known, come first and show what the method itself is off by:

    python benchmarks/cord_edges.py --volume 9584_scan.nii.gz 9584_cord.nii.gz
"""

import argparse
from collections.abc import Iterator, Sequence

import nibabel as nib
import numpy as np
from scipy.ndimage import center_of_mass, map_coordinates

from keras_scgm import Segmenter
from keras_scgm.datasets.phantom import SITES, draw_subject

STEP_MM = 0.05
REACH_MM = 15.0
N_RAYS = 72
WHITE_MATTER_MM = (0.9, 1.6)
"""Distances inside the outline between which the median is the brightness of white matter."""
FLUID_MM = 1.5
"""Distance outside the outline up to which the fluid is looked for."""
LEAST_RISE = 1.5


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volume", nargs=2, action="append", default=[], metavar=("IMAGE", "CORD"))
    options = parser.parse_args(arguments)
    segmenter = Segmenter()
    subjects = [draw_subject(config, seed=seed) for config in SITES.values() for seed in (1, 2)]
    images = [subject.image for subject in subjects]
    print(f"{'volume':<24}{'cord':<8}{'rays':>6}{'mean, mm':>10}{'SD, mm':>8}{'area, mm2':>11}")
    report("drawn, 8 subjects", "found", images, [segmenter.segment(image).cord for image in images])
    report("drawn, 8 subjects", "true", images, [subject.cord for subject in subjects])
    for image_path, cord_path in options.volume:
        name, image = image_path.rpartition("/")[2][:22], nib.load(image_path)
        report(name, "found", [image], [segmenter.segment(image).cord])
        report(name, "manual", [image], [nib.load(cord_path)])


def report(name: str, kind: str, images: Sequence[nib.Nifti1Image], cords: Sequence[nib.Nifti1Image]) -> None:
    distances, areas = [], []
    for image, mask in zip(
        map(nib.as_closest_canonical, images), map(nib.as_closest_canonical, cords), strict=True
    ):
        spacing_mm = np.array(image.header.get_zooms()[:2])
        voxels, inside = image.get_fdata(), mask.get_fdata() > 0.5
        for z in np.flatnonzero(inside.any((0, 1))):
            distances.extend(beyond_half_rise(voxels[..., z], inside[..., z], spacing_mm))
            areas.append(inside[..., z].sum() * spacing_mm.prod())
    print(
        f"{name:<24}{kind:<8}{len(distances):6}{np.mean(distances):+10.3f}{np.std(distances):8.3f}{np.mean(areas):11.1f}",
        flush=True,
    )


def beyond_half_rise(pixels: np.ndarray, cord: np.ndarray, spacing_mm: np.ndarray) -> Iterator[float]:
    """Distances in mm from half of the rise outward to the outline of the cord, one for every ray that has both."""
    angles = np.arange(N_RAYS) * 2 * np.pi / N_RAYS
    distance_mm = np.arange(0, REACH_MM, STEP_MM)
    directions = np.stack([np.cos(angles), np.sin(angles)]) / spacing_mm[:, None]
    points = np.array(center_of_mass(cord))[:, None, None] + directions[..., None] * distance_mm
    brightness = map_coordinates(pixels, points, order=1, mode="nearest")
    inside = map_coordinates(cord.astype(float), points, order=1) > 0.5
    near, far = (round(mm / STEP_MM) for mm in WHITE_MATTER_MM)
    for ray, within in zip(brightness, inside, strict=True):
        outline = int(np.flatnonzero(within).max(initial=0))
        if outline <= far:
            continue
        white_matter = np.median(ray[outline - far : outline - near])
        rise = ray[outline - near : outline + round(FLUID_MM / STEP_MM)]
        below = np.flatnonzero(rise[: rise.argmax() + 1] < (white_matter + rise.max()) / 2)
        if below.size and rise.max() >= LEAST_RISE * white_matter:
            yield (near - below[-1]) * STEP_MM


if __name__ == "__main__":
    main()
