"""Drawn images compared with real ones: slices, brightness, contrast and noise of gray and white matter.

    python benchmarks/phantom_realism.py --volume t2s.nii.gz t2s_gmseg_manual.nii.gz --output realism.png

Contrast is the brightness of gray over white matter less 1, white matter being a rim of 1 mm around the gray. Noise
is a standard deviation as a share of gray matter's brightness: in real images that of the air in the corners, which
several coils may make lower than in the cord; in drawn ones that of the difference from the same drawing without
noise, around the cord.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation, zoom

from keras_scgm.datasets.phantom import SITES, PhantomConfig, draw_subject

SHOWN = 6
HALF_WIDTH_MM = 25.0
SUBJECTS = 6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volume", nargs=2, action="append", required=True, metavar=("IMAGE", "MASK"))
    parser.add_argument("--output", type=Path, default=Path("phantom_realism.png"))
    options = parser.parse_args(arguments)

    rows = {
        f"real {index}": [(nib.load(image), nib.load(mask), noise_in_air(nib.load(image)))]
        for index, (image, mask) in enumerate(options.volume, start=1)
    }
    for site, config in SITES.items():
        rows[f"drawn, site {site}"] = [drawn(config, 100 * site + number) for number in range(SUBJECTS)]

    figure = Figure(figsize=(2 * (SHOWN + 2), 2 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), SHOWN + 2)
    print(f"{'images':<16}{'contrast':>10}{'noise':>10}{'contrast / noise':>18}")
    for line, (name, volumes) in zip(grid, rows.items(), strict=True):
        windows, figures = [], []
        for image, mask, noise in volumes:
            window, measured = examine(nib.as_closest_canonical(image), nib.as_closest_canonical(mask), noise)
            windows.extend(window)
            figures.append(measured)
        contrast, noise, ratio = np.mean(np.concatenate(figures), axis=0)
        print(f"{name:<16}{contrast:10.3f}{noise:10.3f}{ratio:18.2f}")
        picks = np.linspace(0, len(windows) - 1, SHOWN).astype(int)
        for axes, pick in zip(line[:SHOWN], picks, strict=True):
            axes.imshow(windows[pick].T, origin="lower", cmap="gray", vmin=-2, vmax=3)
            axes.set_axis_off()
        line[0].set_title(name, loc="left", fontsize=9)
        line[SHOWN].hist(np.ravel(windows), bins=60, range=(-3, 4), density=True, color="#2563eb")
        line[SHOWN].set_yticks([])
        line[SHOWN].set_title("brightness (z-score)", fontsize=8)
        points = np.concatenate(figures)
        line[SHOWN + 1].plot(points[:, 0], points[:, 2], ".", color="#dc2626", markersize=3)
        line[SHOWN + 1].set(xlim=(-0.05, 0.35), ylim=(0, 20))
        line[SHOWN + 1].set_title("contrast / noise over contrast", fontsize=8)
    figure.savefig(options.output, dpi=80, metadata={"Software": None})


def noise_in_air(image: nib.Nifti1Image) -> float:
    """Of the magnitude image's Gaussian noise before the magnitude was taken; middle of the four corners."""
    values = nib.as_closest_canonical(image).get_fdata(dtype=np.float32)
    x, y = (length // 10 for length in values.shape[:2])
    corners = (values[:x, :y], values[:x, -y:], values[-x:, :y], values[-x:, -y:])
    return float(np.median([np.sqrt(np.mean(corner**2) / 2) for corner in corners]))


def drawn(config: PhantomConfig, seed: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image, float]:
    """A subject, a rater's mask, and the noise around the cord."""
    subject = draw_subject(config, seed)
    silent = draw_subject(replace(config, contrast_to_noise=(1e6, 1e6)), seed)
    noise = np.asarray(subject.image.dataobj) - np.asarray(silent.image.dataobj)
    around = binary_dilation(np.asarray(subject.cord.dataobj) > 0.5, iterations=5)
    return subject.image, subject.raters(1)[0], float(noise[around].std())


def examine(
    image: nib.Nifti1Image, mask: nib.Nifti1Image, noise: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Windows of a volume, z-scored together, and (contrast, noise, contrast / noise) of its slices."""
    values, gray = image.get_fdata(dtype=np.float32), np.asarray(mask.dataobj) == 1
    spacing_mm = image.header.get_zooms()
    fine = zoom(values, (spacing_mm[0] / 0.25, spacing_mm[1] / 0.25, 1), order=1)
    half = round(HALF_WIDTH_MM / 0.25)
    x, y = (length // 2 for length in fine.shape[:2])
    fine = fine[max(0, x - half) : x + half, max(0, y - half) : y + half]
    fine = (fine - fine.mean()) / fine.std()

    rim = max(1, round(1.0 / spacing_mm[0]))
    measured = []
    for z in range(values.shape[2]):
        if gray[..., z].sum() * spacing_mm[0] * spacing_mm[1] < 6:
            continue
        white = binary_dilation(gray[..., z], iterations=rim) & ~gray[..., z]
        bright, dark = values[..., z][gray[..., z]].mean(), values[..., z][white].mean()
        measured.append((bright / dark - 1, noise / bright, (bright - dark) / noise))
    return list(np.moveaxis(fine, 2, 0)), np.array(measured)


if __name__ == "__main__":
    main()
