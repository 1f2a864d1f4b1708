"""Shape of gray matter in scans without labels and in drawings: the discs of its model fitted to masks, by level.

    python benchmarks/drawn_nodes.py scan.nii.gz rescan.nii.gz ...

In scans gray matter is what `--gray-matter` marks and the cord what `--cord` marks; drawings are cross-sections of
people, without brightness. Scans are of the neck, about 5 cm long from C1 on: the third of their slices at the superior
end is compared with C1 to C2, the others with C3 and with C4 to C5. The model's seven discs of half a section
(`keras_scgm.datasets.phantom.anatomy`) are fitted to every mask by least squares. Printed are means over scans (of the
means of their slices) and over drawings: u and v, distance from the cord's centre to the left and to the front as
shares of half of the cord's width and depth, and the radius in mm in a cord of 80 mm2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drawn_shapes import LEAST_PX, SPACING_MM, largest_piece, predict, scans_options, windows_of
from scipy.optimize import least_squares
from scipy.special import expit

from keras_scgm.datasets.phantom.anatomy import CordShape, Dials, coverage
from keras_scgm.prediction import Ensemble

DISCS = ("commissure", "its end", "ventral horn", "its corner", "neck", "dorsal horn", "its tip")
LEVELS = {"C1 to C2": (1.8, 0.67, 1.0), "C3": (3.1, 0.34, 0.67), "C4 to C5": (4.4, 0.0, 0.34)}
"""Level, and the part of a scan from its inferior end that is compared with it."""
AROUND_PX = 36
SOFT_MM = 0.08
FREEDOM = (0.5, 0.5, 0.35)
"""Standard deviation of the prior of u and v in mm and of the radius as natural logarithm; it keeps discs apart."""
POSE_FREEDOM = (0.5, 0.7, 0.15, 0.1, 0.1, 0.4)
"""The same of the shift in mm, the turn, and the asymmetries and crescent of `CordShape`."""
PRIOR_WEIGHT = 0.05


@dataclass(frozen=True)
class Section:
    """Gray matter (fractions, [x, y]) around the cord, places of pixels in mm; area, width and depth of the cord."""

    gray_matter: np.ndarray
    u: np.ndarray
    v: np.ndarray
    cord: tuple[float, float, float]

    @classmethod
    def of(cls, gray_matter: np.ndarray, cord: np.ndarray) -> "Section | None":
        """None where gray matter or cord are missing or at the border."""
        outline = largest_piece(cord > 0.5)
        if not outline.any():
            return None
        centre, size = np.argwhere(outline).mean(axis=0), np.ptp(np.argwhere(outline), axis=0) + 1
        corner = np.round(centre).astype(int) - AROUND_PX
        if corner.min() < 0 or (corner + 2 * AROUND_PX > gray_matter.shape).any():
            return None
        inner = tuple(slice(start, start + 2 * AROUND_PX) for start in corner)
        gray = (gray_matter * outline)[inner]
        if (gray > 0.5).sum() < LEAST_PX:
            return None
        u, v = (
            (start + np.arange(2 * AROUND_PX) - c) * SPACING_MM
            for start, c in zip(corner, centre, strict=True)
        )
        area, (width, depth) = outline.sum() * SPACING_MM**2, size * SPACING_MM
        return cls(gray, *np.meshgrid(u, v, indexing="ij"), (area, width, depth))

    def discs(self, start: CordShape) -> np.ndarray:
        """Fitted discs, (u, v, radius) as shares and mm of the module's docstring, [7, 3]."""
        scale = np.concatenate([np.tile(FREEDOM, 7), POSE_FREEDOM])

        def shape_of(numbers: np.ndarray) -> tuple[CordShape, np.ndarray]:
            moved, pose = np.split(numbers * scale, [21])
            moved = moved.reshape(7, 3)
            nodes = start.nodes + moved * (1, 1, 0)
            nodes[0, 0] = 0
            nodes[:, 2] = start.nodes[:, 2] * np.exp(moved[:, 2])
            return CordShape(start.level, start.contour, nodes, (pose[3], pose[4]), pose[5]), pose

        def residuals(numbers: np.ndarray) -> np.ndarray:
            shape, pose = shape_of(numbers)
            u, v, (cosine, sine) = self.u - pose[0], self.v - pose[1], (np.cos(pose[2]), np.sin(pose[2]))
            straight = shape.straighten(cosine * u + sine * v, cosine * v - sine * u)
            found = expit(-shape.gray_matter_distance(*straight) / SOFT_MM)
            off = (found - self.gray_matter).ravel() / np.sqrt(self.gray_matter.sum())
            return np.concatenate([off, PRIOR_WEIGHT * numbers])

        best = least_squares(residuals, np.zeros(scale.size), max_nfev=25, diff_step=1e-3)
        area, width, depth = self.cord
        return shape_of(best.x)[0].nodes / (width / 2, depth / 2, np.sqrt(area / 80))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = scans_options(__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=24, help="number of drawings of each level")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args(arguments)

    cord, gray_matter = Ensemble(options.cord), Ensemble(options.gray_matter)
    scans = [sections_of_scan(path, cord, gray_matter) for path in options.scans]
    print("level disc: u, v, radius in scans | in drawings")
    for name, (level, first, last) in LEVELS.items():
        start = CordShape.average(level).varied(Dials(np.zeros(64)))
        of_scans = [
            [section.discs(start) for place, section in scan if first <= place < last] for scan in scans
        ]
        seen = np.mean([np.mean(discs, axis=0) for discs in of_scans if len(discs) > 1], axis=0)
        rng = np.random.default_rng(options.seed)
        people = [drawn_section(level + rng.uniform(-0.4, 0.4), rng) for _ in range(options.slices)]
        drawn = np.mean([person.discs(start) for person in people if person], axis=0)
        for disc, a, b in zip(DISCS, seen, drawn, strict=True):
            print(f"{name} {disc}:", *(f"{x:.3f}" for x in a), "|", *(f"{x:.3f}" for x in b), flush=True)


def sections_of_scan(path: Path, cord: Ensemble, gray_matter: Ensemble) -> list[tuple[float, Section]]:
    """Slices that show both, each with its place in the scan, 0 at the inferior end and below 1 at the superior one."""
    windows = windows_of(path)
    masks = zip(predict(gray_matter, windows)[..., 0], predict(cord, windows)[..., 1], strict=True)
    sections = [Section.of(*pair) for pair in masks]
    return [(k / len(sections), section) for k, section in enumerate(sections) if section]


def drawn_section(level: float, rng: np.random.Generator) -> Section | None:
    axis = (np.arange(200) - 99.5) * SPACING_MM
    shape = CordShape.average(level).varied(Dials(rng.standard_normal(64)))
    u, v = shape.straighten(*np.meshgrid(axis, axis, indexing="ij"))
    outer = shape.cord_distance(u, v)
    inner = np.maximum(shape.gray_matter_distance(u, v), outer)
    return Section.of(coverage(inner, SPACING_MM), coverage(outer, SPACING_MM))


if __name__ == "__main__":
    main()
