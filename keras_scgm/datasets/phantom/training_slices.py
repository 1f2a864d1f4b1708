"""Draws slices for training, with the whole domain randomised.

The idea that a network trained on drawings of random contrast and resolution works on real images of any is
SynthSeg's (Billot et al., Med Image Anal 2023); here the anatomy is drawn as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from keras_scgm import checks
from keras_scgm.datasets.phantom.acquisition import acquire, draw_scan, resample_linear
from keras_scgm.datasets.phantom.anatomy import Dials, Floats
from keras_scgm.datasets.phantom.canvas import Pose
from keras_scgm.datasets.phantom.contrast import CONTRASTS, draw_tissues
from keras_scgm.datasets.phantom.drawing import Scene, draw_slice
from keras_scgm.datasets.phantom.fields import N_DIALS

_FINEST_GRID_MM = 0.2
_MARGIN = 4


@dataclass(frozen=True)
class DomainConfig:
    """Ranges that `draw_slices` draws from.

    Attributes:
        spacing_mm: Native in-plane resolution, lowest and highest. Native grids below 0.2 mm are
            simulated at 0.2 mm, where linear resampling leaves about the same noise.
        slice_thickness_mm: Lowest and highest.
        contrast_to_noise: Gray-white difference over the noise, lowest and highest; three times that ex vivo.
        off_centre_mm: Largest distance of the cord from the middle along both axes.
        rotation_deg: Largest rotation.
        empty: Share of slices without gray matter.
        contrast_weights: Share of every contrast of `CONTRASTS`, in that order.
        region_weights: Share of cervical, thoracic and lumbar slices.
    """

    spacing_mm: tuple[float, float] = (0.1, 0.9)
    slice_thickness_mm: tuple[float, float] = (1.0, 8.0)
    contrast_to_noise: tuple[float, float] = (1.8, 25.0)
    off_centre_mm: float = 12.0
    rotation_deg: float = 25.0
    empty: float = 0.07
    contrast_weights: tuple[float, ...] = (0.45, 0.1, 0.1, 0.08, 0.27)
    region_weights: tuple[float, float, float] = (0.76, 0.12, 0.12)

    def __post_init__(self) -> None:
        range_mm = checks.interval(above=0)
        shares = {"contrast_weights": len(CONTRASTS), "region_weights": 3}
        checks.check_fields(
            self,
            spacing_mm=range_mm,
            slice_thickness_mm=range_mm,
            contrast_to_noise=checks.interval(above=0),
            off_centre_mm=checks.number(0),
            rotation_deg=checks.number(0, 180),
            empty=checks.number(0, 1),
            **{
                name: checks.several(checks.number(0), f"{count} shares of at least 0", length=count)
                for name, count in shares.items()
            },
        )
        for name in shares:
            if not sum(getattr(self, name)):
                checks.refuse(name, "shares that are not all 0", getattr(self, name))


def draw_slices(
    n: int,
    seed: int,
    *,
    size: int = 200,
    spacing_mm: float = 0.25,
    config: DomainConfig | None = None,
    start: int = 0,
) -> tuple[Floats, Floats, Floats]:
    """Draws training slices on the network's grid.

    Slice i of a seed is always the same, whatever n and start are, so that processes can share the work.

    Args:
        n: Number of slices.
        seed: Any non-negative integer.
        size: Pixels along both sides.
        spacing_mm: Width of a pixel.
        config: Ranges; the default covers all contrasts and resolutions.
        start: Number of the first slice.

    Returns:
        Slices (arbitrary brightness, not normalised), fractions of gray matter and fractions of cord (0 to 1), all
        float32 [n, size, size], axes to the left and to the front. The gray matter is part of the cord.

    >>> slices, gray_matter, cord = draw_slices(2, seed=0, size=64)
    >>> slices.shape, gray_matter.dtype
    ((2, 64, 64), dtype('float32'))
    """
    n, seed = checks.integer(1)("n", n), checks.integer(0)("seed", seed)
    size, start = checks.integer(16)("size", size), checks.integer(0)("start", start)
    spacing_mm = checks.number(0.05, 2)("spacing_mm", spacing_mm)
    checks.optional(checks.instance(DomainConfig, "a DomainConfig"))("config", config)
    config = config or DomainConfig()
    drawn = np.empty((3, n, size, size), np.float32)
    for i in range(n):
        rng = np.random.default_rng((seed, start + i))
        drawn[:, i] = _draw_one(config, size, spacing_mm, rng)
    slices, gray_matter, cord = drawn
    return slices, gray_matter, cord


def _draw_one(
    config: DomainConfig, size: int, spacing_mm: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    dials = Dials(rng.standard_normal(96))
    contrast = str(rng.choice(CONTRASTS, p=np.divide(config.contrast_weights, sum(config.contrast_weights))))
    region = int(rng.choice(3, p=np.divide(config.region_weights, sum(config.region_weights))))
    level = (dials.uniform(0.7, 8.2), dials.uniform(8.0, 17.5), dials.uniform(17.5, 20.8))[region]
    missing, far_away = dials.chance(config.empty), dials.chance(0.4)
    reach = config.off_centre_mm
    left, front = (min(reach, max(-reach, dials.normal(0.0, 0.45 * reach))) for _ in range(2))
    small, field_of_view = dials.chance(0.1), dials.uniform(0.62, 0.98)
    if small:
        # The missing border is mirrored, as before inference; the cord itself must not be.
        room = max(0.0, 0.5 * size * spacing_mm * field_of_view - 11.0)
        left, front = (min(room, max(-room, shift)) for shift in (left, front))
    if missing and far_away:
        front += math.copysign(size * spacing_mm * 0.5 + 12.0, front)
    wide_turn = dials.chance(0.3)
    turn = dials.uniform(-config.rotation_deg, config.rotation_deg) if wide_turn else dials.normal(0.0, 4.0)
    turn = max(-config.rotation_deg, min(config.rotation_deg, turn))
    bare = contrast == "exvivo" or (contrast == "random" and dials.chance(0.12))
    scene = Scene(20.9 if missing and not far_away else max(1.0, level), not missing or far_away, bare)

    tissues = draw_tissues(contrast, dials)
    native = dials.log_uniform(*config.spacing_mm)
    aspect, uneven, filled = dials.uniform(1.0, 1.5), dials.chance(0.3), dials.chance(0.4)
    grid = max(native / 2 if filled else native, _FINEST_GRID_MM)
    acquired = (native, native * aspect) if uneven and native < 0.6 else (native, native)
    scan = draw_scan(
        dials,
        acquired_mm=acquired,
        grid_mm=grid,
        contrast_to_noise=dials.log_uniform(*config.contrast_to_noise) * (3.0 if bare else 1.0),
        gap=tissues["gray_matter"] - tissues["white_matter"],
        slice_thickness_mm=dials.uniform(*config.slice_thickness_mm),
    )
    if contrast in ("psir", "random"):
        scan = replace(scan, offset=dials.uniform(0.0, 0.4))

    drawn = size + 2 * _MARGIN
    drawing = draw_slice(
        scene,
        tissues,
        rng.standard_normal(N_DIALS, dtype=np.float32),
        shape=(drawn, drawn),
        spacing_mm=spacing_mm,
        pose=Pose(left, front, math.radians(turn)),
        rng=rng,
    )
    n_native = math.ceil(size * spacing_mm / grid) + 1
    phase = grid * dials.uniform(-0.5, 0.5)
    seen = acquire(
        drawing.image, drawing.bias, spacing_mm, scan, shape=(n_native, n_native), rng=rng, phase_mm=phase
    )
    image = resample_linear(seen, grid, size, spacing_mm, phase)
    gray_matter, cord = (
        part[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] for part in (drawing.gray_matter, drawing.cord)
    )
    if small:
        lost = round(0.5 * size * (1 - field_of_view))
        image, gray_matter, cord = (
            np.pad(a[lost : size - lost, lost : size - lost], lost, "reflect")
            for a in (image, gray_matter, cord)
        )
    return image * np.float32(dials.log_uniform(20.0, 1000.0)), gray_matter, cord
