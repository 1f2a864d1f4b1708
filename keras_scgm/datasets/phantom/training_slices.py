"""Draws slices and stacks of neighbouring slices for training, with the whole domain randomised.

The idea that a network trained on drawings of random contrast and resolution works on real images of any is
SynthSeg's (Billot et al., Med Image Anal 2023); here the anatomy is drawn as well.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from keras_scgm import checks
from keras_scgm.datasets.phantom.acquisition import (
    acquire,
    averaging_matrix,
    draw_scan,
    grid_points,
    resample_linear,
)
from keras_scgm.datasets.phantom.anatomy import FIRST_LEVEL, LAST_LEVEL, Dials, Floats
from keras_scgm.datasets.phantom.canvas import Pose
from keras_scgm.datasets.phantom.contrast import CONTRASTS, draw_tissues
from keras_scgm.datasets.phantom.drawing import Scene, draw_slice
from keras_scgm.datasets.phantom.fields import N_DIALS, shapes_along_cord

_FINEST_GRID_MM = 0.2
_MARGIN = 4
_LEVEL_MM = 18.0
"""Height of a vertebra with its disc in the neck, about. Thoracic ones are higher; the cord changes little there."""
_SLOPES = (0.05, 0.12)
"""Standard deviation of the cord's slope to the left and to the front: necks lean, and slices are not always axial."""
_MOVEMENT_MM = 0.25
"""Standard deviation of the cord's movement between slices."""


@dataclass(frozen=True)
class DomainConfig:
    """Ranges that `draw_slices` and `draw_stacks` draw from.

    Args:
        spacing_mm: Native in-plane resolution, lowest and highest. Native grids below 0.2 mm are
            simulated at 0.2 mm, where linear resampling leaves about the same noise.
        slice_thickness_mm: Lowest and highest; in a stack also the distance between slices.
        contrast_to_noise: Gray-white difference over the noise, lowest and highest; three times that ex vivo.
        off_centre_mm: Largest distance of the cord from the middle along both axes.
        rotation_deg: Largest rotation.
        empty: Share of slices, or of stacks, without gray matter. In as many further stacks the cord ends.
        diseased: Share of slices, or of stacks, of cords with lesions, a cavity or compression.
        contrast_weights: Share of every contrast of `CONTRASTS`, in that order.
        region_weights: Share of cervical, thoracic and lumbar slices.

    Raises:
        InputError: A field breaks its rule.
    """

    spacing_mm: tuple[float, float] = (0.1, 0.9)
    slice_thickness_mm: tuple[float, float] = (1.0, 8.0)
    contrast_to_noise: tuple[float, float] = (1.8, 25.0)
    off_centre_mm: float = 12.0
    rotation_deg: float = 25.0
    empty: float = 0.07
    diseased: float = 0.0
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
            diseased=checks.number(0, 1),
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
        Slices (arbitrary brightness, not normalised), masks of gray matter and masks of the cord, all float32
        [n, size, size], axes to the left and to the front. As people mark voxels of the acquired image, a mask is 1
        where the tissue fills more than half of a voxel around the pixel, with edges a pixel wide. The gray matter is
        part of the cord.

    >>> slices, gray_matter, cord = draw_slices(2, seed=0, size=64)
    >>> slices.shape, gray_matter.dtype
    ((2, 64, 64), dtype('float32'))
    """
    stacks = _drawn(n, 1, seed, size, spacing_mm, config, start)
    slices, gray_matter, cord = stacks[:, :, 0]
    return slices, gray_matter, cord


def draw_stacks(
    n: int,
    n_slices: int,
    seed: int,
    *,
    size: int = 200,
    spacing_mm: float = 0.25,
    config: DomainConfig | None = None,
    start: int = 0,
) -> tuple[Floats, Floats, Floats]:
    """Draws stacks of neighbouring slices for training on the network's grid.

    The slices of a stack are those of one person in one scan: the same contrast, resolution, field of view and
    thickness, which is also the distance between them. Along the cord its level, place and shape change as in
    `draw_subject`, and the noise is new. Slices follow each other from the inferior to the superior end.

    Stack i of a seed is always the same, whatever n and start are. A stack of one slice is a slice of `draw_slices`.

    Args:
        n: Number of stacks.
        n_slices: Slices of a stack.
        seed: Any non-negative integer.
        size: Pixels along both sides.
        spacing_mm: Width of a pixel.
        config: Ranges; the default covers all contrasts and resolutions.
        start: Number of the first stack.

    Returns:
        As `draw_slices`, float32 [n, n_slices, size, size].

    >>> stacks, gray_matter, cord = draw_stacks(2, 3, seed=0, size=64)
    >>> stacks.shape
    (2, 3, 64, 64)
    """
    n_slices = checks.integer(1)("n_slices", n_slices)
    stacks, gray_matter, cord = _drawn(n, n_slices, seed, size, spacing_mm, config, start)
    return stacks, gray_matter, cord


def _drawn(
    n: int, n_slices: int, seed: int, size: int, spacing_mm: float, config: DomainConfig | None, start: int
) -> Floats:
    """Brightness, gray matter and cord of stacks, [3, n, n_slices, size, size]."""
    n, seed = checks.integer(1)("n", n), checks.integer(0)("seed", seed)
    size, start = checks.integer(16)("size", size), checks.integer(0)("start", start)
    spacing_mm = checks.number(0.05, 2)("spacing_mm", spacing_mm)
    config = checks.settings(DomainConfig)("config", config)
    drawn = np.empty((3, n, n_slices, size, size), np.float32)
    for i in range(n):
        rng = np.random.default_rng((seed, start + i))
        drawn[:, i] = _draw_one(config, n_slices, size, spacing_mm, rng)
    return drawn


def _draw_one(
    config: DomainConfig, n_slices: int, size: int, spacing_mm: float, rng: np.random.Generator
) -> Floats:
    """Brightness, gray matter and cord of a stack, [3, n_slices, size, size]."""
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

    tissues = draw_tissues(contrast, dials)
    native = dials.log_uniform(*config.spacing_mm)
    aspect, uneven, filled = dials.uniform(1.0, 1.5), dials.chance(0.3), dials.chance(0.5)
    grid = max(native / dials.uniform(1.1, 2.2) if filled else native, _FINEST_GRID_MM)
    acquired = (native, native * aspect) if uneven and native < 0.6 else (native, native)
    contrast_to_noise = dials.log_uniform(*config.contrast_to_noise) * (3.0 if bare else 1.0)
    thickness_mm = dials.uniform(*config.slice_thickness_mm)
    scan = draw_scan(
        dials,
        acquired_mm=acquired,
        grid_mm=grid,
        contrast_to_noise=contrast_to_noise,
        gap=tissues["gray_matter"] - tissues["white_matter"],
        slice_thickness_mm=thickness_mm,
    )
    if contrast in ("psir", "random"):
        scan = replace(scan, offset=dials.uniform(0.0, 0.4))
    scene = Scene(
        20.9 if missing and not far_away else max(1.0, level),
        cord=not missing or far_away,
        bare=bare,
        diseased=dials.chance(config.diseased),
    )

    drawn = size + 2 * _MARGIN
    n_native = math.ceil(size * spacing_mm / grid) + 1
    phase = grid * dials.uniform(-0.5, 0.5)
    brightness = np.float32(dials.log_uniform(20.0, 1000.0))
    lost = round(0.5 * size * (1 - field_of_view)) if small else 0
    own = rng.standard_normal(N_DIALS, dtype=np.float32)
    shapes = itertools.repeat(own) if n_slices == 1 else shapes_along_cord(own, thickness_mm, rng)
    places = _places(rng, n_slices, thickness_mm, config.empty if scene.cord and not bare else 0.0)
    points, voxel_mm = grid_points(drawn, spacing_mm), max(grid, spacing_mm)
    average = averaging_matrix(points, points, voxel_mm)
    stack = np.empty((3, n_slices, size, size), np.float32)
    for k, place in enumerate(places):
        drawing = draw_slice(
            place.scene(scene),
            tissues,
            next(shapes),
            shape=(drawn, drawn),
            spacing_mm=spacing_mm,
            pose=Pose(left + place.left_mm, front + place.front_mm, math.radians(turn)),
            rng=rng,
        )
        seen = acquire(
            drawing.image, drawing.bias, spacing_mm, scan, shape=(n_native, n_native), rng=rng, phase_mm=phase
        )
        inner = slice(_MARGIN, -_MARGIN)
        stack[0, k] = resample_linear(seen, grid, size, spacing_mm, phase) * brightness
        for mask, fraction in zip(stack[1:, k], (drawing.gray_matter, drawing.cord), strict=True):
            mask[:] = _marked(average @ fraction @ average.T, voxel_mm / spacing_mm)[inner, inner]
    if lost:
        kept = slice(lost, size - lost)
        stack = np.pad(stack[..., kept, kept], ((0, 0), (0, 0), (lost, lost), (lost, lost)), "reflect")
    return stack


def _marked(fraction: Floats, width_px: float) -> Floats:
    """What people mark: 1 where a tissue fills more than half of the voxel around a pixel.

    Args:
        fraction: Share of that voxel that is of the tissue.
        width_px: Width of a voxel, pixels: the edge is made so many times steeper, to be a pixel wide.
    """
    return np.clip((fraction - 0.5) * np.float32(width_px) + 0.5, 0.0, 1.0)


@dataclass(frozen=True)
class _Place:
    """How a slice of a stack differs from the middle of it: levels up, and mm to the left and to the front."""

    levels: float = 0.0
    left_mm: float = 0.0
    front_mm: float = 0.0
    past_cord: bool = False

    def scene(self, middle: Scene) -> Scene:
        if self.past_cord:
            return replace(middle, level=LAST_LEVEL, cord=False)
        return replace(middle, level=min(LAST_LEVEL, max(FIRST_LEVEL, middle.level - self.levels)))


def _places(rng: np.random.Generator, n_slices: int, distance_mm: float, ends: float) -> list[_Place]:
    """The slices of a stack from the inferior end; for a single slice, nothing is drawn."""
    if n_slices == 1:
        return [_Place()]
    dials = Dials(rng.standard_normal(4))
    left, front = dials.normal(0.0, _SLOPES[0]), dials.normal(0.0, _SLOPES[1])
    n_past = math.ceil(dials.uniform(0, n_slices - 1)) if dials.chance(ends) else 0
    moved_mm = rng.normal(0.0, _MOVEMENT_MM, (n_slices, 2))
    heights_mm = (np.arange(n_slices) - (n_slices - 1) / 2) * distance_mm
    return [
        _Place(
            levels=height / _LEVEL_MM,
            left_mm=left * height + moved_mm[k, 0],
            front_mm=front * height + moved_mm[k, 1],
            past_cord=k < n_past,
        )
        for k, height in enumerate(heights_mm.tolist())
    ]
