"""Cord and gray matter in scans without labels and in drawings: sizes as networks mark them, and what surrounds them.

    python benchmarks/drawn_shapes.py scan.nii.gz rescan.nii.gz ...

The cord is what `--cord` marks, the gray matter what `--gray-matter` marks, in scans and drawings alike, so that what a
network marks too large or too small is the same in both. The last row is the truth of the drawings. Extents are shares
of the cord's: `width` and `depth` of all gray matter from right to left and from back to front, `back` and `front` how
far it reaches from the cord's centre, `spread` half the distance of the tips of its dorsal horns, `horn_mm` the width
of a dorsal horn, `middle_mm` the thickness of the commissure. `medial` and `lateral` are the brightness of white
matter 0.75 to 1.25 mm from the dorsal horns, towards and away from the midline, and percentiles are of the brightness
6 to 25 mm from the cord, all relative to gray matter's. `DSC` is that of the gray matter in drawings with the truth.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

from keras_scgm.datasets.phantom import CONTRASTS, DomainConfig, draw_slices
from keras_scgm.dice import dice
from keras_scgm.nifti import read_volume
from keras_scgm.prediction import Ensemble
from keras_scgm.slices import SliceConfig, SliceGeometry, measure_intensities, read_windows

SPACING_MM = 0.25
LIKE_SCANS = DomainConfig(
    spacing_mm=(0.4, 0.7),
    contrast_to_noise=(8.0, 20.0),
    off_centre_mm=5.0,
    rotation_deg=5.0,
    empty=0.0,
    contrast_weights=tuple(float(name == "t2star") for name in CONTRASTS),
    region_weights=(1.0, 0.0, 0.0),
)
LEAST_PX = 60
WIDEST_HORN_PX = 8
BESIDE_PX = np.array([3, 4, 5])
DEEP_MM = 0.8
BATCH = 8


def main(arguments: Sequence[str] | None = None) -> None:
    parser = scans_options(__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=60, help="number of drawings")
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args(arguments)

    marks_cord, marks_gray_matter = Ensemble(options.cord), Ensemble(options.gray_matter)
    everything = []
    for scan in options.scans:
        windows = windows_of(scan)
        marked = predict(marks_gray_matter, windows)[..., 0], predict(marks_cord, windows)[..., 1]
        rows = [*measure_all(windows, *marked)]
        report(scan.name.removesuffix(".nii.gz"), rows)
        everything += rows
    report("all scans", everything)

    images, gray_matter, cord = draw_slices(options.slices, options.seed, config=LIKE_SCANS)
    images -= images.mean(axis=(1, 2), keepdims=True)
    images /= images.std(axis=(1, 2), keepdims=True)
    marked = predict(marks_gray_matter, images)[..., 0]
    report("drawn, as marked", [*measure_all(images, marked, cord)])
    report("drawn, truth", [*measure_all(images, gray_matter, cord)])
    scores = [dice(a > 0.5, b > 0.5) for a, b in zip(marked, gray_matter, strict=True)]
    print(f"DSC of {options.gray_matter}: mean {np.mean(scores):.3f}, median {np.median(scores):.3f}")


def scans_options(description: str) -> argparse.ArgumentParser:
    """Options of a comparison of scans with drawings: the scans, and the weights that mark both."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--cord", default="synthetic", help="weights that mark the cord")
    parser.add_argument("--gray-matter", default="large", help="weights that mark gray matter")
    return parser


def windows_of(path: Path) -> np.ndarray:
    """Normalized windows of a scan's slices from the inferior end, [slice, x, y]."""
    volume = read_volume(path)
    geometry = SliceGeometry.centered(volume, SliceConfig())
    statistics = measure_intensities(volume, geometry)
    return read_windows(volume, geometry, statistics, 0, volume.n_slices)[..., 0]


def predict(network: Ensemble, windows: np.ndarray) -> np.ndarray:
    parts = [windows[start : start + BATCH, ..., np.newaxis] for start in range(0, len(windows), BATCH)]
    return np.concatenate([network.predict(part) for part in parts])


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """Largest connected piece of a mask, its holes filled; nothing of an empty mask."""
    pieces, count = label(mask)
    if not count:
        return mask
    return binary_fill_holes(pieces == 1 + np.argmax(np.bincount(pieces[pieces > 0])[1:]))


def measure_all(windows: np.ndarray, gray_matter: np.ndarray, cord: np.ndarray) -> Iterator[dict[str, float]]:
    """Measurements of the slices that show both."""
    for window, gray, whole in zip(windows, gray_matter > 0.5, cord > 0.5, strict=True):
        outline = largest_piece(whole)
        if not outline.any():
            continue
        distance = distance_transform_edt(~outline) * SPACING_MM
        gray &= distance < 0.5
        if gray.sum() >= LEAST_PX:
            yield measure(window, gray, outline, distance)


def measure(window: np.ndarray, gray: np.ndarray, cord: np.ndarray, distance: np.ndarray) -> dict[str, float]:
    """Sizes of one slice, axes to the left and to the front."""
    inside = np.argwhere(cord) * SPACING_MM
    right_left, back_front = np.ptp(inside, axis=0)
    u, v = (np.argwhere(gray) * SPACING_MM - inside.mean(axis=0)).T
    u = u - np.median(u)
    middle = np.abs(u) < 0.2
    tips = v < v.min() + 0.6
    heights = np.arange(v.min() + 0.75, v.min() + 2.6, SPACING_MM)
    horns = [np.count_nonzero(np.abs(v - height) < 0.125) * SPACING_MM / 2 for height in heights]
    air = window.min()
    brightness = (window - air) / (np.median(window[gray]) - air)
    around = brightness[(distance > 6) & (distance < 25)]
    medial, lateral = beside_horns(brightness, gray, cord)
    return {
        "cord_mm2": float(cord.sum() * SPACING_MM**2),
        "RL_mm": float(right_left),
        "AP_mm": float(back_front),
        "gm_mm2": float(gray.sum() * SPACING_MM**2),
        "width": float(np.ptp(u) / right_left),
        "depth": float(np.ptp(v) / back_front),
        "back": float(-v.min() / back_front),
        "front": float(v.max() / back_front),
        "spread": float(np.abs(u[tips]).mean() / right_left),
        "horn_mm": float(np.mean(horns)),
        "middle_mm": np.count_nonzero(middle) / max(1, len(np.unique(u[middle]))) * SPACING_MM,
        "medial": medial,
        "lateral": lateral,
        **{f"p{share}": float(np.percentile(around, share)) for share in (5, 25, 50, 75, 95)},
    }


def beside_horns(brightness: np.ndarray, gray: np.ndarray, cord: np.ndarray) -> tuple[float, float]:
    """Mean brightness of white matter on both sides of the dorsal horns, medial first; NaN where there is none."""
    deep = distance_transform_edt(cord) * SPACING_MM > DEEP_MM
    white = deep & (distance_transform_edt(~gray) * SPACING_MM > 0.5)
    midline = np.median(np.argwhere(gray)[:, 0])
    medial, lateral = [], []
    for row in range(gray.shape[1]):
        runs, count = label(gray[:, row])
        if count != 2:
            continue
        right, left = np.flatnonzero(runs == 1), np.flatnonzero(runs == 2)
        if max(right.size, left.size) > WIDEST_HORN_PX or not right[-1] < midline < left[0]:
            continue
        for found, columns in (
            (medial, [*(right[-1] + BESIDE_PX), *(left[0] - BESIDE_PX)]),
            (lateral, [*(right[0] - BESIDE_PX), *(left[-1] + BESIDE_PX)]),
        ):
            found += [brightness[column, row] for column in columns if white[column, row]]
    return float(np.mean(medial or [np.nan])), float(np.mean(lateral or [np.nan]))


def report(name: str, rows: Sequence[dict[str, float]]) -> None:
    """Means and standard deviations over the slices, as a line of a table."""
    if not rows:
        print(f"{name}: nothing marked")
        return
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    cells = " ".join(
        f"{key} {np.nanmean(values):.2f} ({np.nanstd(values):.2f})" for key, values in columns.items()
    )
    print(f"{name} [{len(rows)}] {cells}", flush=True)


if __name__ == "__main__":
    main()
