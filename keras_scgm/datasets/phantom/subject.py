"""Draws whole subjects: volumes with gray matter, cord, levels and disagreeing raters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from keras_scgm import checks
from keras_scgm.datasets.phantom.acquisition import acquire, averaging_matrix, draw_scan, grid_points
from keras_scgm.datasets.phantom.anatomy import FIRST_LEVEL, LAST_LEVEL, Dials, Floats
from keras_scgm.datasets.phantom.canvas import Pose
from keras_scgm.datasets.phantom.contrast import CONTRASTS, draw_tissues
from keras_scgm.datasets.phantom.drawing import Scene, draw_slice
from keras_scgm.datasets.phantom.fields import N_DIALS, shapes_along_cord, spline_field

Range = tuple[float, float]


@dataclass(frozen=True)
class PhantomConfig:
    """Settings of `draw_subject`.

    Args:
        spacing_mm: In-plane width of a voxel.
        slice_thickness_mm: Distance between slices, and their thickness.
        matrix_size: Voxels to the left and to the front.
        n_slices: Axial slices, from the lower to the upper level.
        contrast: One of `CONTRASTS`.
        levels: Lower and upper end as vertebral levels, 1 (C1) to 21 (L2), lower end first.
        gray_over_white: Range of gray over white matter brightness as drawn, of which texture, blur and partial
            volume leave about two thirds; None takes what the contrast has.
        contrast_to_noise: Range of gray-white difference over noise.
        zero_filling: Range of true resolution over `spacing_mm`.
        off_centre_mm: Largest distance of the cord from the middle of the picture along both axes.
        drift: Shift of the cord to the side and to the front along it, 0 for none, 1 for that of a neck in a scanner.
        rotation_deg: Largest in-plane rotation of the body.
        tilt_deg: Largest obliquity of the affine.
        artefacts: 0 for none, 1 for as many as in clinical images.

    Raises:
        InputError: A field breaks its rule.
    """

    spacing_mm: float = 0.5
    slice_thickness_mm: float = 5.0
    matrix_size: int = 128
    n_slices: int = 10
    contrast: str = "t2star"
    levels: Range = (7.0, 2.0)
    gray_over_white: Range | None = None
    contrast_to_noise: Range = (2.0, 6.0)
    zero_filling: Range = (1.0, 1.2)
    off_centre_mm: float = 4.0
    drift: float = 1.0
    rotation_deg: float = 6.0
    tilt_deg: float = 8.0
    artefacts: float = 0.5

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            spacing_mm=checks.number(0.05, 2),
            slice_thickness_mm=checks.number(0.05, 30),
            matrix_size=checks.integer(16, 2048),
            n_slices=checks.integer(1),
            contrast=checks.one_of(CONTRASTS),
            levels=checks.several(
                checks.number(FIRST_LEVEL, LAST_LEVEL), "two numbers from 1 (C1) to 21 (L2)", length=2
            ),
            gray_over_white=checks.optional(checks.interval(above=0)),
            contrast_to_noise=checks.interval(above=0),
            zero_filling=checks.interval(1, 4),
            off_centre_mm=checks.number(0),
            drift=checks.number(0, 1),
            rotation_deg=checks.number(0, 180),
            tilt_deg=checks.number(0, 45),
            artefacts=checks.number(0, 1),
        )
        if self.levels[0] < self.levels[1]:
            checks.refuse("levels", "the lower end and then the upper end, such as (7, 2)", self.levels)


_T2STAR = PhantomConfig(gray_over_white=(1.25, 1.5))

SITES: Mapping[int, PhantomConfig] = {
    1: replace(_T2STAR, spacing_mm=0.5, matrix_size=100, n_slices=8, contrast_to_noise=(8.0, 14.0)),
    2: replace(
        _T2STAR, spacing_mm=0.5, matrix_size=160, n_slices=10, contrast_to_noise=(7.0, 12.0), artefacts=0.8
    ),
    3: replace(
        _T2STAR,
        spacing_mm=0.25,
        slice_thickness_mm=2.5,
        matrix_size=200,
        n_slices=14,
        contrast_to_noise=(8.0, 14.0),
        zero_filling=(1.8, 2.2),
    ),
    4: replace(
        _T2STAR,
        spacing_mm=0.3,
        matrix_size=200,
        n_slices=10,
        contrast_to_noise=(6.0, 12.0),
        zero_filling=(1.8, 2.2),
    ),
}
"""The four sites of the SCGM challenge (Prados et al., NeuroImage 2017): resolution and slice thickness are
theirs, the field of view is smaller than theirs to keep drawing quick. Every site has one protocol, so contrast
varies less between its subjects than `draw_tissues` lets it; contrast and noise of site 1, measured by
`benchmarks/phantom_realism.py`, come near those of a real volume of 0.5 mm."""


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """A drawn subject. Images share one grid; axes run to the left, to the front and up.

    Args:
        image: Acquired volume, float32.
        gray_matter: Fraction of gray matter in every voxel, 0 to 1, float32.
        cord: Fraction of cord in every voxel, 0 to 1, float32.
        mask: Binary mask, uint8, 1 where gray matter fills more than half of the voxel.
        levels: Vertebral level of every slice.
        config: Settings of the drawing.
        seed: Seed of the drawing.
    """

    image: nib.Nifti1Image
    gray_matter: nib.Nifti1Image
    cord: nib.Nifti1Image
    mask: nib.Nifti1Image
    levels: tuple[int, ...]
    config: PhantomConfig
    seed: int

    def raters(self, n: int = 4, *, white_matter: bool = False) -> list[nib.Nifti1Image]:
        """Masks of n simulated raters who disagree at the contour of the gray matter only.

        Raters differ by a constant bias, a smooth deviation of the contour, and noise of single voxels.

        Args:
            n: Number of raters, at least 1.
            white_matter: Whether to mark the rest of the cord with 2, as in the challenge.
        """
        n, white_matter = checks.integer(1)("n", n), checks.flag("white_matter", white_matter)
        fraction = np.asarray(self.gray_matter.dataobj)
        cord = np.asarray(self.cord.dataobj)
        sigma = max(0.2, 0.35 * self.config.spacing_mm) / self.config.spacing_mm
        soft = gaussian_filter(fraction, (sigma, sigma, 0))
        masks = []
        for child in np.random.SeedSequence((self.seed, 77)).spawn(n):
            rng = np.random.default_rng(child)
            shape = (fraction.shape[0], fraction.shape[1])
            bias, smooth_std, noise_std = rng.normal(0.0, 0.08), 0.22, 0.10
            threshold = np.empty_like(soft)
            for z in range(soft.shape[2]):
                knots = rng.standard_normal([int(m * self.config.spacing_mm / 1.5) + 4 for m in shape])
                threshold[..., z] = (
                    0.42 + bias + smooth_std * spline_field(knots, shape, self.config.spacing_mm, 1.5)
                )
            threshold += noise_std * rng.standard_normal(soft.shape, dtype=np.float32)
            gray = soft > np.clip(threshold, 0.12, 0.8)
            labels = gray.astype(np.uint8)
            if white_matter:
                labels[(cord > 0.5) & ~gray] = 2
            masks.append(_nifti(labels, self.image.affine))
        return masks


def draw_subject(config: PhantomConfig, seed: int, *, scan_number: int = 0) -> PhantomSubject:
    """Draws one subject; the same arguments give the same bytes.

    Args:
        config: Resolution, extent, contrast.
        seed: Any non-negative integer.
        scan_number: Any non-negative integer; scans of one seed, from 1, differ in texture, noise and artefacts.

    >>> subject = draw_subject(PhantomConfig(matrix_size=64, n_slices=2), seed=1)
    >>> subject.image.shape, subject.levels
    ((64, 64, 2), (7, 2))
    """
    checks.instance(PhantomConfig)("config", config)
    seed, scan_number = checks.integer(0)("seed", seed), checks.integer(0)("scan_number", scan_number)
    anatomy = rng = np.random.default_rng(np.random.SeedSequence(seed))
    own = anatomy.standard_normal(N_DIALS, dtype=np.float32)
    settings = Dials(anatomy.standard_normal(64))
    if scan_number:
        rng = np.random.default_rng(np.random.SeedSequence((seed, scan_number)))
    tissues = draw_tissues(config.contrast, settings)
    if config.gray_over_white:
        tissues["white_matter"] = 1 / settings.log_uniform(*config.gray_over_white)
    gap = tissues["gray_matter"] - tissues["white_matter"]
    resolution = config.spacing_mm * settings.uniform(*config.zero_filling)
    scan = draw_scan(
        settings,
        acquired_mm=(resolution, resolution),
        grid_mm=config.spacing_mm,
        contrast_to_noise=settings.log_uniform(*config.contrast_to_noise),
        gap=gap,
        slice_thickness_mm=config.slice_thickness_mm,
        artefacts=config.artefacts,
    )
    if config.contrast == "psir":
        scan = replace(scan, offset=settings.uniform(0.1, 0.4))
    brightness = settings.log_uniform(50.0, 800.0)
    reach = config.off_centre_mm
    left, front, rotation = (
        settings.uniform(-reach, reach),
        settings.uniform(-reach, reach),
        settings.normal(),
    )
    drift_left, drift_front = settings.normal(0.0, 0.03), settings.normal(0.0, 0.06)
    tilts = settings.normal(0.0, 0.4), settings.normal(0.0, 0.4)

    fine_mm = min(0.25, config.spacing_mm)
    n_fine = math.ceil((config.matrix_size + 2) * config.spacing_mm / fine_mm)
    shape = (config.matrix_size, config.matrix_size)
    average = averaging_matrix(
        grid_points(n_fine, fine_mm), grid_points(config.matrix_size, config.spacing_mm), config.spacing_mm
    )
    volume, gray_matter, cord = (np.empty((*shape, config.n_slices), np.float32) for _ in range(3))
    levels = np.linspace(*config.levels, config.n_slices)
    shapes = shapes_along_cord(own, config.slice_thickness_mm, anatomy)
    for z, level in enumerate(levels):
        height_mm = (z - (config.n_slices - 1) / 2) * config.slice_thickness_mm
        drawing = draw_slice(
            Scene(float(level), bare=config.contrast == "exvivo"),
            tissues,
            next(shapes),
            shape=(n_fine, n_fine),
            spacing_mm=fine_mm,
            pose=Pose(
                left + config.drift * drift_left * height_mm,
                front + config.drift * drift_front * height_mm,
                math.radians(config.rotation_deg) * rotation / 2.5,
            ),
            rng=rng,
        )
        volume[..., z] = acquire(drawing.image, drawing.bias, fine_mm, scan, shape=shape, rng=rng)
        gray_matter[..., z] = average @ drawing.gray_matter @ average.T
        cord[..., z] = average @ drawing.cord @ average.T
    affine = _affine(config, [math.radians(config.tilt_deg * tilt) for tilt in tilts])
    return PhantomSubject(
        image=_nifti(volume * np.float32(brightness), affine),
        gray_matter=_nifti(gray_matter, affine),
        cord=_nifti(cord, affine),
        mask=_nifti((gray_matter > 0.5).astype(np.uint8), affine),
        levels=tuple(round(float(level)) for level in levels),
        config=config,
        seed=seed,
    )


def _affine(config: PhantomConfig, tilts: list[float]) -> Floats:
    """Axes to the left, the front and up, tilted about left-right and front-back, centre at 0."""
    (cos_a, sin_a), (cos_b, sin_b) = ((math.cos(t), math.sin(t)) for t in tilts)
    about_left = np.array([[1, 0, 0], [0, cos_a, -sin_a], [0, sin_a, cos_a]])
    about_front = np.array([[cos_b, 0, sin_b], [0, 1, 0], [-sin_b, 0, cos_b]])
    zooms = np.diag([-config.spacing_mm, config.spacing_mm, config.slice_thickness_mm])
    affine = np.eye(4)
    affine[:3, :3] = about_left @ about_front @ zooms
    middle = np.array([config.matrix_size - 1, config.matrix_size - 1, config.n_slices - 1]) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def _nifti(data: np.ndarray, affine: Floats) -> nib.Nifti1Image:
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    return image
