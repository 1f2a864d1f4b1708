"""Areas perpendicular to the cord, of drawn cords that are tilted in their slices, against those of the drawing.

    python benchmarks/tilted_cord.py --weights synthetic --seeds 1 2 3 --output tilted.csv

A section drawn on a grid of 0.25 mm is that of a straight body, which slices of a volume cut at an angle: sampled from
front to back across their thickness, then scanned with blur and noise. No mask is given. Areas are means over slices,
in percent of the area drawn; those of the true masks of the same volumes are beside them, which are what the voxels
and the thickness of slices leave.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import map_coordinates

from keras_scgm.datasets.phantom.acquisition import acquire, draw_scan, grid_points
from keras_scgm.datasets.phantom.anatomy import Dials
from keras_scgm.datasets.phantom.canvas import Pose
from keras_scgm.datasets.phantom.contrast import draw_tissues
from keras_scgm.datasets.phantom.drawing import Scene, draw_slice
from keras_scgm.datasets.phantom.fields import N_DIALS
from keras_scgm.files import write_rows
from keras_scgm.morphometry import cross_sections
from keras_scgm.nifti import volume_from_image
from keras_scgm.segmentation import Segmenter

FINE_MM = 0.25
SUBSLICES = 8
TILTS_DEG = (0.0, 15.0, 30.0)


@dataclass(frozen=True)
class TiltedCord:
    """A drawn volume; images have axes to the left, the front and up.

    Args:
        image: The acquired volume.
        gray_matter: Fraction of gray matter in every voxel.
        cord: Fraction of cord in every voxel.
        gray_matter_mm2: Area of gray matter in the section perpendicular to the cord.
        cord_mm2: Area of the cord in it.
    """

    image: nib.Nifti1Image
    gray_matter: nib.Nifti1Image
    cord: nib.Nifti1Image
    gray_matter_mm2: float
    cord_mm2: float


def draw_tilted_cord(
    tilt_deg: float,
    seed: int,
    level: float = 5.0,
    spacing_mm: float = 0.5,
    slice_mm: float = 2.5,
    n_slices: int = 12,
    matrix_size: int = 128,
) -> TiltedCord:
    """Draws a straight cord of one section, tilted to the front.

    Args:
        tilt_deg: Angle between the cord and the normal of the slices.
        seed: Seed of shape, contrast and noise; the tilt changes none of them.
        level: Vertebral level of the section.
        spacing_mm: Width of a voxel.
        slice_mm: Distance of slices, and their thickness.
        n_slices: Number of slices.
        matrix_size: Voxels to the left and to the front.
    """
    rng = np.random.default_rng(seed)
    dials = Dials(rng.standard_normal(64))
    tissues = draw_tissues("t2star", dials)
    tissues["white_matter"] = 1 / dials.log_uniform(1.25, 1.5)
    n_fine = math.ceil((matrix_size * spacing_mm + n_slices * slice_mm) / FINE_MM)
    drawing = draw_slice(
        Scene(level),
        tissues,
        rng.standard_normal(N_DIALS, dtype=np.float32),
        shape=(n_fine, n_fine),
        spacing_mm=FINE_MM,
        pose=Pose(),
        rng=rng,
    )
    scan = draw_scan(
        dials,
        acquired_mm=(spacing_mm, spacing_mm),
        grid_mm=spacing_mm,
        contrast_to_noise=8.0,
        gap=tissues["gray_matter"] - tissues["white_matter"],
        slice_thickness_mm=0.0,
        artefacts=0.0,
    )
    n_plane = math.ceil((matrix_size + 2) * spacing_mm / FINE_MM)
    shape = (matrix_size, matrix_size)
    image, gray_matter, cord = (np.empty((*shape, n_slices), np.float32) for _ in range(3))
    for k, height_mm in enumerate(grid_points(n_slices, slice_mm)):
        planes = [
            _cut(plane, tilt_deg, float(height_mm), slice_mm, n_plane)
            for plane in (drawing.image, drawing.gray_matter, drawing.cord)
        ]
        image[..., k] = acquire(planes[0], np.zeros_like(planes[0]), FINE_MM, scan, shape=shape, rng=rng)
        gray_matter[..., k], cord[..., k] = (_average(plane, spacing_mm, matrix_size) for plane in planes[1:])
    affine = np.diag([-spacing_mm, spacing_mm, slice_mm, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(image.shape) - 1) / 2)
    return TiltedCord(
        *(nib.Nifti1Image(voxels, affine) for voxels in (image * np.float32(200), gray_matter, cord)),
        gray_matter_mm2=float(drawing.gray_matter.sum(dtype=float)) * FINE_MM**2,
        cord_mm2=float(drawing.cord.sum(dtype=float)) * FINE_MM**2,
    )


def _cut(section: np.ndarray, tilt_deg: float, height_mm: float, slice_mm: float, n: int) -> np.ndarray:
    """Mean of a straight body with this section over the thickness of a slice, on a fine grid in its plane."""
    tilt = math.radians(tilt_deg)
    at_mm = grid_points(n, FINE_MM)
    total = np.zeros((n, n), np.float32)
    for offset_mm in grid_points(SUBSLICES, slice_mm / SUBSLICES):
        # Place of the slice's points in the section, along the cord.
        front_mm = at_mm * math.cos(tilt) - (height_mm + offset_mm) * math.sin(tilt)
        index = np.meshgrid(at_mm / FINE_MM, front_mm / FINE_MM, indexing="ij")
        middle = (section.shape[0] - 1) / 2
        total += map_coordinates(section, np.stack(index) + middle, order=1, mode="nearest")
    return total / SUBSLICES


def _average(plane: np.ndarray, spacing_mm: float, n: int) -> np.ndarray:
    factor = round(spacing_mm / FINE_MM)
    margin = (len(plane) - n * factor) // 2
    inner = plane[margin : margin + n * factor, margin : margin + n * factor]
    return inner.reshape(n, factor, n, factor).mean(axis=(1, 3))


def true_areas(drawn: TiltedCord) -> dict[str, float]:
    """Areas of the true masks, in percent of those drawn."""
    gray_matter, cord = (
        volume_from_image(nib.Nifti1Image((np.asarray(image.dataobj) > 0.5).astype(np.uint8), image.affine))
        for image in (drawn.gray_matter, drawn.cord)
    )
    return _percent(drawn, cross_sections(gray_matter, cord))


def found_areas(drawn: TiltedCord, segmenter: Segmenter) -> dict[str, float]:
    """Areas of a segmentation of the image alone, in percent of those drawn."""
    return _percent(drawn, segmenter.segment(drawn.image).areas)


def _percent(drawn: TiltedCord, rows: Sequence) -> dict[str, float]:
    return {
        "angle_deg": float(np.nanmean([row.cord_angle_deg for row in rows])),
        "cord": 100 * float(np.nanmean([row.cord_perpendicular_mm2 for row in rows])) / drawn.cord_mm2,
        "gray_matter": 100
        * float(np.nanmean([row.gm_perpendicular_mm2 for row in rows]))
        / drawn.gray_matter_mm2,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--slice-mm", type=float, default=2.5)
    parser.add_argument("--output", type=Path, help="CSV file of all areas")
    options = parser.parse_args(arguments)
    segmenter = Segmenter(options.weights)
    rows = []
    print(f"{'seed':>4} {'tilt':>5}   {'angle, cord and gray matter: true masks':<42}{'segmented':<30}")
    for seed in options.seeds:
        for tilt_deg in TILTS_DEG:
            drawn = draw_tilted_cord(tilt_deg, seed, slice_mm=options.slice_mm)
            cells: dict[str, float] = {"seed": seed, "tilt_deg": tilt_deg}
            text = f"{seed:>4} {tilt_deg:>5.0f}   "
            for name, found in (("true", true_areas(drawn)), ("found", found_areas(drawn, segmenter))):
                cells |= {f"{name}_{key}": value for key, value in found.items()}
                text += f"{found['angle_deg']:6.1f} {found['cord']:9.1f} {found['gray_matter']:9.1f}{'':<16}"
            rows.append(cells)
            print(text, flush=True)
    if options.output:
        write_rows(options.output, rows)


if __name__ == "__main__":
    main()
