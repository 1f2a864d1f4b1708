"""Axes along which halves of the gray matter are cut, against the axis about which gray matter is most symmetric.

    python benchmarks/cord_roll.py t2s.nii.gz unf01_T2star.nii.gz 9584_scan.nii.gz

Images are segmented with `mirror`, so that the network treats left and right alike. Angles are in degrees from the
patient's axes; the last line has the root mean square of the differences, also that of the patient's axes themselves.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from keras_scgm.morphometry.patient_axes import axial_steps_mm, plane_axes, slice_normal
from keras_scgm.morphometry.tissue_areas import halving_axes
from keras_scgm.nifti import volume_from_image
from keras_scgm.segmentation import SegmentationConfig, Segmenter

ANGLES_DEG = np.arange(-20, 20.01, 0.5)
OFFSETS_MM = np.arange(-0.5, 0.51, 0.25)
REACH_MM, STEP_MM = 9.0, 0.25


def centred(slices: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Centre in voxels and covariance of every section."""
    places = [np.argwhere(section) for section in slices]
    return [at.mean(axis=0) for at in places], np.array([np.cov(at.T, bias=True) for at in places])


def asymmetry(gray: np.ndarray, center: np.ndarray, to_voxels: np.ndarray, angle_deg: float) -> float:
    """Share of a section that its mirror image about a turned axis does not cover, for the best place of the axis."""
    at = np.arange(-REACH_MM, REACH_MM + STEP_MM, STEP_MM)
    left, front = np.meshgrid(at, at, indexing="ij")
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    shares = []
    for offset in OFFSETS_MM:
        turned = np.stack([(left + offset) * cosine - front * sine, (left + offset) * sine + front * cosine])
        places = np.tensordot(to_voxels, turned, 1) + center[:, np.newaxis, np.newaxis]
        values = map_coordinates(gray.astype(float), places, order=1)
        shares.append(np.abs(values - values[::-1]).sum() / (2 * values.sum()))
    return min(shares)


def rolls_deg(image: str, segmenter: Segmenter) -> tuple[float, float]:
    """Angle of the cord's axes, and of the axis of best symmetry of the gray matter."""
    result = segmenter.segment(image)
    volume = volume_from_image(result.mask)
    gray, cord = (
        np.asarray(volume.axial_slices(np.asarray(mask.dataobj), 0, volume.n_slices)) > 0
        for mask in (result.mask, result.cord)
    )
    both = gray.any(axis=(1, 2)) & cord.any(axis=(1, 2))
    centers, covariances = centred(cord[both])
    steps_mm = axial_steps_mm(volume)
    patient = plane_axes(slice_normal(steps_mm)) @ steps_mm[:2].T
    turn = halving_axes(steps_mm, covariances) @ np.linalg.inv(patient)
    of_cord = math.degrees(math.atan2(turn[0, 1], turn[0, 0]))
    to_voxels = np.linalg.inv(patient)
    shares = [
        sum(
            asymmetry(section, center, to_voxels, angle)
            for section, center in zip(gray[both], centers, strict=True)
        )
        for angle in ANGLES_DEG
    ]
    return of_cord, float(ANGLES_DEG[int(np.argmin(shares))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--weights", default="synthetic")
    arguments = parser.parse_args()
    segmenter = Segmenter(arguments.weights, SegmentationConfig(mirror=True))
    pairs = []
    for image in arguments.images:
        pairs.append(rolls_deg(image, segmenter))
        print(f"{Path(image).name}: cord {pairs[-1][0]:.1f}, gray matter {pairs[-1][1]:.1f}", flush=True)
    of_cord, of_gray = np.array(pairs).T
    rms = [np.sqrt(np.mean(np.square(difference))) for difference in (of_cord - of_gray, of_gray)]
    print(f"root mean square from the gray matter: cord {rms[0]:.1f}, patient {rms[1]:.1f}")


if __name__ == "__main__":
    main()
