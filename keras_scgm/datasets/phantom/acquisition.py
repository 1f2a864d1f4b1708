"""Simulates the acquisition of a drawn slice: sampling, partial volume, receive field, ghosts and noise.

The image is sampled with the point spread function of a truncated and apodised k-space, so that blur, partial
volume, Gibbs ringing and zero filling to a finer grid come from one separable operator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from keras_scgm.datasets.phantom.anatomy import Dials, Floats


@dataclass(frozen=True)
class Scan:
    """Settings of one acquisition.

    Args:
        acquired_mm: True resolution along both axes.
        grid_mm: Width of the pixels written to the file, at most the resolution (zero filling).
        noise: Standard deviation of the noise in both channels, in units of gray matter's brightness.
        apodisation: 0 leaves all ringing of the truncated k-space, 1 removes it (Hann window).
        slip_mm: Displacement of structures from front to back within the thickness of an oblique slice.
        bias: Strength of the smooth receive field, natural logarithm.
        slope: Its fall-off to the left and to the front, per 100 mm.
        ghost: Strength of the motion ghost along the phase axis; `ghost_mm` its distance.
        ghost_axis: 0 left-right, 1 front-back.
        spike: Strength of a stripe artefact from one bad point of k-space, mostly 0.
        gamma: Exponent on the brightness (scanner filters, window of the exporter).
        offset: Brightness added at the end (phase-sensitive images have no black background).
    """

    acquired_mm: tuple[float, float]
    grid_mm: float
    noise: float
    apodisation: float = 0.5
    slip_mm: float = 0.0
    bias: float = 0.0
    slope: tuple[float, float] = (0.0, 0.0)
    ghost: float = 0.0
    ghost_mm: float = 20.0
    ghost_axis: int = 1
    spike: float = 0.0
    gamma: float = 1.0
    offset: float = 0.0


def draw_scan(
    dials: Dials,
    *,
    acquired_mm: tuple[float, float],
    grid_mm: float,
    contrast_to_noise: float,
    gap: float,
    slice_thickness_mm: float,
    artefacts: float = 1.0,
) -> Scan:
    """Settings of one acquisition.

    Args:
        dials: Settings of the drawing.
        acquired_mm: True resolution along both axes.
        grid_mm: Width of the pixels written to the file.
        contrast_to_noise: Difference of gray and white matter over the noise.
        gap: Difference of gray and white matter, in units of gray matter's brightness.
        slice_thickness_mm: Slice thickness, which blurs from front to back where the cord is tilted.
        artefacts: 0 for none, 1 for as many as in clinical images.
    """
    tilt = dials.normal(0.0, 6.0) * math.pi / 180
    ghosts, spikes, curved, ringing = (dials.uniform(0.0, 1.0) for _ in range(4))
    return Scan(
        acquired_mm=acquired_mm,
        grid_mm=grid_mm,
        noise=min(abs(gap) / contrast_to_noise, 0.13),
        apodisation=dials.uniform(0.0, 0.7) if ringing > 0.3 * artefacts else 0.0,
        slip_mm=min(slice_thickness_mm * abs(math.tan(tilt)), 1.2),
        bias=artefacts * dials.uniform(0.0, 0.25),
        slope=(artefacts * dials.normal(0.0, 0.5), artefacts * dials.normal(-0.5, 0.8)),
        ghost=dials.log_uniform(0.02, 0.2) if ghosts < 0.3 * artefacts else 0.0,
        ghost_mm=dials.uniform(5.0, 60.0),
        ghost_axis=int(dials.uniform(0.0, 1.0) > 0.35),
        spike=dials.uniform(0.01, 0.06) if spikes < 0.02 * artefacts else 0.0,
        gamma=math.exp(dials.normal(0.0, 0.12)) if curved < 0.5 * artefacts else 1.0,
    )


def grid_points(n: int, spacing_mm: float) -> Floats:
    """Centres of n pixels in mm, the middle at 0."""
    return (np.arange(n) - (n - 1) / 2) * spacing_mm


def averaging_matrix(source_mm: Floats, target_mm: Floats, width_mm: float) -> Floats:
    """Operator from pixels at `source_mm` to their means over voxels at `target_mm`, [target, source] float32.

    Args:
        source_mm: Evenly spaced positions.
        target_mm: Positions.
        width_mm: Width of a voxel.
    """
    half_pixel, half_voxel = (source_mm[1] - source_mm[0]) / 2, width_mm / 2
    target = target_mm[:, None]
    overlap = np.minimum(source_mm + half_pixel, target + half_voxel)
    overlap = overlap - np.maximum(source_mm - half_pixel, target - half_voxel)
    weights = np.maximum(overlap, 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


_TABLE_STEPS = 256
_TABLE_REACH = 8


@lru_cache(maxsize=1)
def _point_spread_tables() -> tuple[Floats, Floats]:
    """Point spread of a rectangular k-space and the correction that makes it a Hann window, by distance."""
    t = np.arange(_TABLE_REACH * _TABLE_STEPS + 2) / _TABLE_STEPS
    window = np.clip(6 - t, 0, 1)
    plain = np.sinc(t)
    hann = 0.5 * plain + 0.25 * (np.sinc(t - 1) + np.sinc(t + 1))
    return (plain * window).astype(np.float32), (hann * window).astype(np.float32)


def _point_spread(offset_mm: Floats, resolution_mm: float, apodisation: float) -> Floats:
    """Point spread function of a k-space cut at the resolution and weighted between flat (0) and Hann (1).

    Its tails are cut after six pixels, where they no longer matter, so that the border casts no shadow.
    """
    plain, hann = _point_spread_tables()
    steps = np.abs(offset_mm * (_TABLE_STEPS / resolution_mm)) + 0.5
    index = np.minimum(steps, _TABLE_REACH * _TABLE_STEPS).astype(np.int32)
    return ((1 - apodisation) * plain + apodisation * hann)[index]


def sampling_matrix(
    source_mm: Floats, target_mm: Floats, resolution_mm: float, apodisation: float, box_mm: float = 0.0
) -> Floats:
    """Operator from pixels at `source_mm` to samples at `target_mm`, [target, source] float32, rows sum to 1.

    Args:
        source_mm: Evenly spaced positions.
        target_mm: Positions.
        resolution_mm: Resolution of the k-space; no finer than the source's own spacing is simulated.
        apodisation: 0 to 1.
        box_mm: Additional averaging over this width (slice thickness of an oblique slice).
    """
    spacing = float(source_mm[1] - source_mm[0])
    resolution = max(resolution_mm, spacing)
    offset = target_mm[:, None] - source_mm
    weights = _point_spread(offset, resolution, apodisation)
    if box_mm > 0.5 * spacing:
        shifts = np.linspace(-0.5, 0.5, 5) * box_mm
        weights = np.sum([_point_spread(offset + s, resolution, apodisation) for s in shifts], axis=0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


@lru_cache(maxsize=64)
def _linear_matrix(
    n_source: int, source_mm: float, n_target: int, target_mm: float, phase_mm: float
) -> Floats:
    """Linear interpolation between centred grids, edges repeated, [target, source] float32."""
    position = (grid_points(n_target, target_mm) - phase_mm) / source_mm + (n_source - 1) / 2
    position = np.clip(position, 0, n_source - 1)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(n_source)), 0).astype(np.float32)


def resample_linear(
    image: Floats, source_mm: float, size: int, target_mm: float, phase_mm: float = 0.0
) -> Floats:
    """Linear interpolation of a square image, its middle at `phase_mm`, to a centred grid, [size, size]."""
    matrix = _linear_matrix(image.shape[0], source_mm, size, target_mm, phase_mm)
    return matrix @ image @ matrix.T


def acquire(
    image: Floats,
    bias_field: Floats,
    spacing_mm: float,
    scan: Scan,
    *,
    shape: tuple[int, int],
    rng: np.random.Generator,
    phase_mm: float = 0.0,
) -> Floats:
    """Simulates the acquired image.

    Args:
        image: Drawn slice, [x, y].
        bias_field: Smooth field of unit variance on the same grid.
        spacing_mm: Pixel spacing of the drawn slice, mm.
        scan: Settings of the acquisition.
        shape: Pixels of the result, of width `scan.grid_mm`, centred on the drawn slice.
        rng: Random generator of the noise.
        phase_mm: Position of the middle of the result along both axes.

    Returns:
        Magnitude image, float32, [*shape].
    """
    points = [grid_points(n, spacing_mm) for n in image.shape]
    left, front = scan.slope
    gain = np.exp(scan.bias * bias_field + (left * points[0][:, None] + front * points[1]) / 100).astype(
        np.float32
    )
    seen = image * gain
    if scan.ghost:
        steps = round(scan.ghost_mm / spacing_mm)
        seen = seen + np.float32(scan.ghost) * np.roll(seen, steps, axis=scan.ghost_axis)
    targets = [grid_points(n, scan.grid_mm) + phase_mm for n in shape]
    boxes = (0.0, scan.slip_mm)
    first, second = (
        sampling_matrix(points[axis], targets[axis], scan.acquired_mm[axis], scan.apodisation, boxes[axis])
        for axis in (0, 1)
    )
    seen = first @ seen @ second.T
    real = _noise(rng, shape, scan) + seen
    imaginary = _noise(rng, shape, scan)
    result = np.sqrt(real * real + imaginary * imaginary)
    if scan.spike:
        wave = rng.uniform(-1.5, 1.5, 2)
        stripes = np.cos(wave[0] * np.arange(shape[0])[:, None] + wave[1] * np.arange(shape[1]))
        result += np.float32(scan.spike) * stripes.astype(np.float32)
    if scan.gamma != 1.0:
        result = np.maximum(result, 0.0) ** np.float32(scan.gamma)
    return result + np.float32(scan.offset)


def _noise(rng: np.random.Generator, shape: tuple[int, int], scan: Scan) -> Floats:
    """Gaussian noise of the acquired k-space, cut and weighted as the image is, on the written grid."""
    operators = [
        _noise_matrix(n, scan.grid_mm, resolution, scan.apodisation)
        for n, resolution in zip(shape, scan.acquired_mm, strict=True)
    ]
    acquired = rng.standard_normal([operator.shape[1] for operator in operators], dtype=np.float32)
    return np.float32(scan.noise) * (operators[0] @ acquired @ operators[1].T)


def _noise_matrix(n: int, grid_mm: float, resolution_mm: float, apodisation: float) -> Floats:
    """Operator from acquired to n written pixels, rows of unit norm, so that white noise keeps its variance."""
    source_mm = grid_points(math.ceil(n * grid_mm / resolution_mm) + 2, resolution_mm)
    weights = _point_spread(grid_points(n, grid_mm)[:, None] - source_mm, resolution_mm, apodisation)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
